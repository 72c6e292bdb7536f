"""Models of remote stores: a plan downloads each once, and a deleted version is applied from its copy, whatever the cache has."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from firesteel.conf.errors import ModelError, PlanDrift
from firesteel.jobs.tracking import artifacts, fetch_pinned, model_copies, resolve_model
from firesteel.jobs.tracking.artifacts import cache_folder
from firesteel.jobs.tracking.connect import connect
from firesteel.jobs.tracking.model_copies import copies_folder, keep_copies, restore_copy
from firesteel.pipelines.plan.model import ModelPlan
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.udfs.digest import digest_of
from support.artifact_stores import STORES, count_downloads, save_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model")


@dataclass
class Registered:
    """A registered model whose version 1 is in a remote store, and the downloads that MLflow was asked for."""

    uri: str
    name: str
    run_id: str
    downloads: list[str]

    @property
    def client(self):
        return connect(self.uri)

    def plan(self, version: str = "/1") -> ModelPlan:
        resolved = resolve_model(
            "delay",
            f"models:/{self.name}{version}",
            method="predict",
            trust_formats=("skops",),
            max_size=None,
            tracking_uri=self.uri,
        )
        assert digest_of(resolved.folder).hex == resolved.plan.digest
        return resolved.plan

    def upload(self, folder: Path) -> None:
        self.client.log_artifacts(self.run_id, str(folder), "model")


@pytest.fixture(params=["S3", "HDFS"])
def registered(request, tmp_path, monkeypatch, model_folder) -> Iterator[Registered]:
    with _registered(request.param, request, tmp_path, monkeypatch, model_folder) as model:
        yield model


@pytest.fixture
def on_s3(request, tmp_path, monkeypatch, model_folder) -> Iterator[Registered]:
    with _registered("S3", request, tmp_path, monkeypatch, model_folder) as model:
        yield model


@contextmanager
def _registered(kind, request, tmp_path, monkeypatch, model_folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(artifacts, "_TEMPORARY", {})
    with STORES[kind](request, tmp_path, monkeypatch) as store:
        name = f"delay-{secrets.token_hex(3)}"
        client = connect(store.uri)
        experiment = client.create_experiment(name, artifact_location=store.root or None)
        run = client.create_run(experiment)
        client.create_registered_model(name)
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_registered_model_alias(name, "champion", "1")
        model = Registered(store.uri, name, run.info.run_id, count_downloads(monkeypatch))
        model.upload(model_folder)
        yield model


@pytest.fixture
def states(tmp_path) -> StateStore:
    return StateStore.at(f"file://{tmp_path}/state", "delays", "prod")


def test_a_plan_downloads_a_model_once(registered):
    first = registered.plan()
    assert len(registered.downloads) == 1
    assert registered.plan() == first
    assert registered.plan("@champion").digest == first.digest
    assert fetch_pinned(first, registered.uri).name == first.digest
    assert len(registered.downloads) == 1


def test_a_plan_downloads_a_model_again_that_was_replaced_in_its_place(registered, tmp_path):
    first = registered.plan()
    other = save_model(tmp_path / "other", label=2.0)  # the same names, and sizes but for MLmodel
    registered.upload(other)
    second = registered.plan()
    assert second.digest == digest_of(other).hex != first.digest
    with (other / "model.skops").open("ab") as file:
        file.write(b"longer")
    registered.upload(other)
    third = registered.plan()
    assert third.digest == digest_of(other).hex
    assert len({first.digest, second.digest, third.digest}) == len(registered.downloads) == 3


def test_apply_refuses_files_that_were_replaced_after_the_plan(on_s3, tmp_path):
    plan = on_s3.plan()
    on_s3.upload(save_model(tmp_path / "other", label=2.0))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ModelError, match="FS3011"):
        fetch_pinned(plan, on_s3.uri)


def _index(tmp_path: Path) -> Path:
    (index,) = (tmp_path / "cache" / "firesteel" / "sources").iterdir()
    return index


DAMAGE = {
    "lost": lambda tmp_path, digest: _index(tmp_path).unlink(),
    "cut short": lambda tmp_path, digest: _index(tmp_path).write_text('{"fingerprint": '),
    "no object": lambda tmp_path, digest: _index(tmp_path).write_text("[]"),
    "writable by others": lambda tmp_path, digest: _index(tmp_path).chmod(0o666),
    "of another user": lambda tmp_path, digest: os.chown(_index(tmp_path), 12345, 12345),
    "no models": lambda tmp_path, digest: shutil.rmtree(cache_folder()),
    "a changed model": lambda tmp_path, digest: (cache_folder() / digest / "model.skops").write_bytes(b"changed"),
}


def test_an_index_that_cannot_be_trusted_costs_a_download(on_s3, tmp_path):
    plan = on_s3.plan()
    for number, (kind, damage) in enumerate(DAMAGE.items(), 2):
        damage(tmp_path, plan.digest)
        assert on_s3.plan() == plan, kind
        assert len(on_s3.downloads) == number, kind
    assert on_s3.plan() == plan
    assert len(on_s3.downloads) == number, "the last index is used"


DELETED = {
    "the version, planned by version": ("/1", lambda model: model.client.delete_model_version(model.name, "1")),
    "the version, planned by alias": ("@champion", lambda model: model.client.delete_model_version(model.name, "1")),
    "the model, planned by version": ("/1", lambda model: model.client.delete_registered_model(model.name)),
    "the model, planned by alias": ("@champion", lambda model: model.client.delete_registered_model(model.name)),
}


@pytest.mark.parametrize("deleted", DELETED)
def test_a_deleted_version_is_applied_from_its_copy_and_only_from_it(on_s3, states, tmp_path, caplog, deleted):
    version, delete = DELETED[deleted]
    plan = on_s3.plan(version)
    folder = fetch_pinned(plan, on_s3.uri, states)
    delete(on_s3)
    warnings = []
    with pytest.raises(PlanDrift, match=r"FS6002 .*no longer in the registry, and the storage has no copy"):
        fetch_pinned(plan, on_s3.uri, states, warnings.append)
    with pytest.raises(PlanDrift, match="FS6002"):
        fetch_pinned(plan, on_s3.uri)
    keep_copies(states, {plan.digest: folder})
    for number, cache in enumerate(("kept", "lost"), 1):
        if cache == "lost":
            shutil.rmtree(tmp_path / "cache")
        applied = fetch_pinned(plan, on_s3.uri, states, warnings.append)
        assert digest_of(applied).hex == plan.digest
        assert len(warnings) == number
        assert [path.name for path in cache_folder().iterdir()] == [plan.digest], "nothing half done stays"
    assert "is no longer in the registry: the run uses the copy in the storage" in warnings[0]
    assert len(set(warnings)) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_copy_does_not_hide_that_an_alias_has_moved_or_was_deleted(on_s3, states):
    plan = on_s3.plan("@champion")
    keep_copies(states, {plan.digest: fetch_pinned(plan, on_s3.uri)})
    source = on_s3.client.get_model_version(on_s3.name, "1").source
    on_s3.client.create_model_version(on_s3.name, source)
    on_s3.client.delete_registered_model_alias(on_s3.name, "champion")
    with pytest.raises(PlanDrift, match="@champion no longer exists"):
        fetch_pinned(plan, on_s3.uri, states)
    on_s3.client.set_registered_model_alias(on_s3.name, "champion", "2")
    on_s3.client.delete_model_version(on_s3.name, "1")
    with pytest.raises(PlanDrift, match="@champion is now v2"):
        fetch_pinned(plan, on_s3.uri, states)


@pytest.mark.parametrize(
    ("part", "code"),
    [(b"no archive", "FS6002"), (b"", "FS6002"), (None, "FS3011")],
    ids=["text", "empty", "other bytes"],
)
def test_a_damaged_copy_is_not_used(on_s3, states, tmp_path, part, code):
    plan = on_s3.plan()
    keep_copies(states, {plan.digest: fetch_pinned(plan, on_s3.uri)})
    on_s3.client.delete_model_version(on_s3.name, "1")
    copy = Path(copies_folder(states), plan.digest, "0000.tar")
    text = copy.read_bytes()
    copy.write_bytes(part if part is not None else text.replace(b"flavors", b"FLAVORS"))
    with pytest.raises((PlanDrift, ModelError), match=code):
        fetch_pinned(plan, on_s3.uri, states)


@pytest.mark.parametrize("where", ["local", "HDFS"])
@pytest.mark.parametrize("part", [64 << 20, 20_480])
def test_a_copy_has_the_bytes_and_old_copies_go(request, states, tmp_path, monkeypatch, part, where):
    monkeypatch.setattr(model_copies, "_PART", part)
    if where == "HDFS":
        hdfs = request.getfixturevalue("hdfs_env")
        states = StateStore.at(f"{hdfs.uri}/copies/{secrets.token_hex(4)}", "delays", "prod")
    folders = {}
    for number in range(8):
        folder = tmp_path / str(number)
        (folder / "deep" / "é: x").mkdir(parents=True)
        (folder / "deep" / "é: x" / ("n" * 200)).write_bytes(secrets.token_bytes(50_000))
        (folder / "empty").touch()
        folders[digest_of(folder).hex] = folder
    digests = list(folders)
    keep_copies(states, {digests[0]: folders[digests[0]], digests[1]: folders[digests[1]]})
    for digest in digests[2:]:
        keep_copies(states, {digest: folders[digest], digests[0]: folders[digests[0]]})
    names = {copy.name for copy in states.storage.list(copies_folder(states))}
    assert digests[0] in names, "a current model stays, however old"
    assert digests[-1] in names
    assert len(names) == model_copies.EARLIER_COPIES + 2
    for digest in names:
        target = tmp_path / f"restored-{digest}"
        assert restore_copy(states, digest, target, 1 << 20)
        assert digest_of(target).hex == digest
    (gone,) = set(digests) - names
    assert not restore_copy(states, gone, tmp_path / "none", 1 << 20)


def test_a_storage_that_cannot_be_written_costs_the_copy_only(tmp_path, caplog, model_folder):
    (tmp_path / "state").touch()
    states = StateStore.at(f"file://{tmp_path}/state", "delays", "prod")
    keep_copies(states, {"0" * 64: model_folder})
    assert "the storage has no copy of the models of this run" in caplog.text


@pytest.mark.parametrize("cache", ["a file", "below a file", "a broken link", "/proc/none"])
def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(on_s3, tmp_path, monkeypatch, caplog, cache):
    path = tmp_path / "bad"
    if cache == "a broken link":
        path.symlink_to("/proc/none")
    elif cache != "/proc/none":
        path.touch()
    folder = {"below a file": path / "x", "/proc/none": Path("/proc/none")}.get(cache, path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    plan = on_s3.plan()
    with caplog.at_level(logging.WARNING):
        applied = fetch_pinned(plan, on_s3.uri)
    assert digest_of(applied).hex == plan.digest
    assert applied.parent.stat().st_mode & 0o777 == 0o700
    assert len(on_s3.downloads) == 1, "apply finds what the plan has downloaded"
    assert f"the model cache {folder}/firesteel/models is not writable" in caplog.text
    assert "Set XDG_CACHE_HOME" in caplog.text


def test_a_read_only_cache_serves_the_models_that_it_has(on_s3, tmp_path, monkeypatch):
    plan = on_s3.plan()
    folder = cache_folder() / plan.digest
    real = os.open

    def read_only(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(cache_folder())):
            raise OSError(30, "Read-only file system", str(path))  # root writes where permissions forbid it
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    assert on_s3.plan() == plan
    assert fetch_pinned(plan, on_s3.uri) == folder
    assert len(on_s3.downloads) == 1
