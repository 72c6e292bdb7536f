"""Locations: no spelling of a path hides that a sink, its sources and the storage overlap."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import SpecError, SpecErrors, StorageError
from firesteel.conf.hadoop import site_xml
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.submit.result_store import ResultStore
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.overlaps import check_overlaps
from firesteel.pipelines.publish.cleanup import prune_versions
from firesteel.pipelines.publish.dead_letters import prune_dead_letters
from firesteel.pipelines.publish.heartbeat import RunHeartbeat
from firesteel.pipelines.publish.quarantine import prune_quarantine
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.identity import Location
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.pipelines.storage.open import locate
from support.data import write_days
from support.publishing import INTERVAL, SINK, area_of
from support.sample_run import published, sample_plan, sample_result
from support.specs import FixedBackend, example_with

DAY = "2013-06-01"
FLIGHTS = "    path: ${param.root}/flights\n"
SCORES = "    path: ${param.root}/scores\n"
STORAGE = "storage: ${param.root}/_firesteel/flight_delay_scores"


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """A folder with links to itself and to its content."""
    root = tmp_path_factory.mktemp("places")
    (root / "data" / "in" / "dt=1").mkdir(parents=True)
    (root / "link").symlink_to(root / "data", target_is_directory=True)
    (root / "data" / "deep").symlink_to("../link/in")
    (root / "loop").symlink_to(root)
    (root / "ahead").symlink_to(root / "data" / "new")  # nothing is there yet
    return root


def loaded(folder: Path, root: Path, *, flights: str = "", scores: str = "", storage: str = "") -> Pipeline:
    changes = {
        FLIGHTS: f"    path: {flights}\n" if flights else FLIGHTS,
        SCORES: f"    path: {scores}\n" if scores else SCORES,
        STORAGE: f"storage: {storage}" if storage else STORAGE,
    }
    path = example_with(folder, changes)
    return Pipeline.load(path, params={"root": f"file://{root}"}, backend=FixedBackend())


def refused(folder: Path, root: Path, **paths: str) -> list[SpecError]:
    with pytest.raises(SpecErrors) as raised:
        loaded(folder, root, **paths)
    assert {error.code for error in raised.value.errors} == {"FS1025"}, raised.value
    return list(raised.value.errors)


OVERLAPS = {
    "the sink is its source": {"scores": "file://{root}/flights"},
    "the sink is inside its source": {"scores": "file://{root}/flights/scores"},
    "the sink is in a partition of its source": {"scores": "file://{root}/flights/_dt=1/scores"},
    "the sink contains its source": {"scores": "file://{root}"},
    "the sink is the other source": {"scores": "file://{root}/weather"},
    "the sink is storage": {"scores": "file://{root}/_firesteel/flight_delay_scores"},
    "the sink is inside storage": {"scores": "file://{root}/_firesteel/flight_delay_scores/_scores"},
    "the sink is among the dead letters": {"scores": "file://{root}/_firesteel/flight_delay_scores/dead_letter/x"},
    "the sink contains storage": {"storage": "file://{root}/scores/state"},
    "storage is inside a source": {"storage": "file://{root}/flights/state"},
    "storage contains everything": {"storage": "file://{root}"},
    "a source is inside storage": {"flights": "file://{root}/_firesteel/flight_delay_scores/quarantine/flights"},
    "a source is a staging folder": {"flights": "file://{root}/_firesteel/flight_delay_scores/staging"},
}


@pytest.mark.parametrize("paths", OVERLAPS.values(), ids=OVERLAPS)
def test_locations_that_overlap_are_an_error_of_the_spec(tmp_path, paths):
    errors = refused(tmp_path / "p", tmp_path, **{key: uri.format(root=tmp_path) for key, uri in paths.items()})
    for error in errors:
        assert error.where is not None
        assert error.hint.startswith("Move `")


APART = {
    "the example": {},
    "names with a common start": {"scores": "file://{root}/flights_scores", "storage": "file://{root}/scor"},
    "storage hidden in a source": {"storage": "file://{root}/flights/_firesteel"},
    "storage hidden in the sink": {"storage": "file://{root}/scores/.firesteel"},
    "storage above the sources' parent, beside it": {"storage": "file://{root}/../state"},
    "one source inside another": {"flights": "file://{root}/weather/flights"},
    "both sources are one": {"flights": "file://{root}/weather"},
    "another file system": {"flights": "hdfs://nn/{root}/scores"},
}


@pytest.mark.parametrize("paths", APART.values(), ids=APART)
def test_ordinary_set_ups_go_on_working(tmp_path, paths):
    uris = {key: uri.format(root=tmp_path / "data").replace("data/../", "") for key, uri in paths.items()}
    assert loaded(tmp_path / "p", tmp_path / "data", **uris).name == "flight_delay_scores"


LINKS = {"data": ("data", "link", "loop/data", "loop/loop/link"), "in": ("in", "deep")}


@st.composite
def spellings(draw, root: Path) -> str:
    """A URI of ROOT/data/in."""
    parts = [*str(root).strip("/").split("/"), draw(st.sampled_from(LINKS["data"])), draw(st.sampled_from(LINKS["in"]))]
    slashes = [draw(st.sampled_from(["/", "//", "/./", "///"])) for _ in parts]
    scheme = "".join(draw(st.sampled_from([char, char.upper()])) for char in "file")
    start = draw(st.sampled_from([":", "://", "://localhost"]))
    end = draw(st.sampled_from(["", "/", "//", "/.", "/./"]))
    path = "".join(f"{slash}{part}" for slash, part in zip(slashes, parts, strict=True))
    return f"{scheme}{start}/{path.lstrip('/')}{end}"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_spelling_of_a_local_path_has_one_identity(places, data):
    location = Location.of(data.draw(spellings(places)))
    assert location == Location.of(f"file://{places}/data/in")
    assert location.below(Location.of(f"file://{places}/link")) == "in"
    assert Location.of(f"file://{places}/data/deep/dt=1").below(location) == "dt=1"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_spelling_of_its_source_is_a_sink(places, tmp_path, data):
    uri = data.draw(spellings(places).filter(lambda uri: "://" in uri))  # a spec asks for `://` in any case
    refused(tmp_path / "p", tmp_path, scores=uri, flights=f"file://{places}/data/in")


def test_a_link_to_a_folder_that_does_not_exist_yet_is_followed(places, tmp_path):
    refused(tmp_path / "p", tmp_path, scores=f"file://{places}/ahead", flights=f"file://{places}/data/new")


HADOOP = {
    "fs.defaultFS": "hdfs://ns",
    "dfs.nameservices": "ns, other",
    "dfs.ha.namenodes.ns": "a,b",
    "dfs.namenode.rpc-address.ns.a": "nn-a.example.org:8020",
    "dfs.namenode.rpc-address.ns.b": "nn-b.example.org:9000",
    "dfs.namenode.rpc-address.other": "nn-c.example.org:8020",
}
AUTHORITIES = ["", "ns", "nn-a.example.org", "nn-a.example.org:8020", "nn-b.example.org:9000", "nn-a.example.org.:8020"]


@pytest.fixture
def hadoop(tmp_path, monkeypatch) -> None:
    (tmp_path / "core-site.xml").write_text(site_xml(HADOOP))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    authority=st.sampled_from(AUTHORITIES),
    upper=st.booleans(),
    user=st.sampled_from(["", "ann@"]),
    slashes=st.sampled_from(["/", "//", "/./"]),
    end=st.sampled_from(["", "/", "/."]),
)
def test_every_spelling_of_an_hdfs_path_has_one_identity(hadoop, authority, upper, user, slashes, end):
    named = f"{user}{authority.upper() if upper else authority}" if authority else ""
    scheme = "HDFS" if upper else "hdfs"
    assert str(Location.of(f"{scheme}://{named}/ml{slashes}scores{end}")) == "hdfs://ns/ml/scores"


@pytest.mark.parametrize("uri", ["hdfs://other/ml/scores", "hdfs://nn-b.example.org/ml/scores", "hdfs://ns/ML/scores"])
def test_other_hdfs_paths_have_other_identities(hadoop, uri):
    assert str(Location.of(uri)) != "hdfs://ns/ml/scores"


UNCLEAR = [
    "hdfs://nn:08020/ml/scores",
    "hdfs://nn:/ml/scores",
    "hdfs://nn:8020 /ml/scores",
    "hdfs://n%6E/ml/scores",
    "hdfs://nn\u3002/ml/scores",
    "hdfs://nn/.reserved/.inodes/16386/scores",
    "hdfs://nn//./.reserved/raw/ml/scores",
]


@pytest.mark.parametrize("uri", UNCLEAR)
def test_a_spelling_that_names_a_path_only_for_hdfs_is_refused(tmp_path, uri):
    for read in (Location.of, locate):
        with pytest.raises(StorageError, match="FS8005"):
            read(uri)
    path = example_with(tmp_path, {SCORES: f"    path: '{uri}'\n"})
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, params={"root": "hdfs://nn/ml"}, backend=FixedBackend())
    assert "FS8005" in {error.code for error in caught.value.errors}


@pytest.mark.cluster
def test_a_reserved_path_is_another_name_of_an_hdfs_folder(hdfs_env):
    """Why FS8005 refuses it."""
    storage, path = locate(f"{hdfs_env.uri}/reserved")
    storage.create(f"{path}/file", b"x")
    assert storage.read(f"/.reserved/raw{path}/file") == b"x"


def planned(tmp_path: Path):
    root = tmp_path / "data"
    write_days(root, [DAY])
    return root, loaded(tmp_path / "p", root).plan(DAY)


@pytest.mark.parametrize("name", ["scores", "_firesteel"])
def test_a_link_that_came_after_the_plan_is_found_before_the_transaction(tmp_path, name):
    root, plan = planned(tmp_path)
    check_overlaps(plan, plan.intervals[0])
    target = root / "flights"
    (root / name).symlink_to(target if name == "scores" else target / f"dt={DAY}")
    with pytest.raises(SpecError, match="FS1025"):
        check_overlaps(plan, plan.intervals[0])


@pytest.mark.parametrize("what", ["a partition", "a file"])
def test_an_input_that_is_a_link_into_the_sink_is_found(tmp_path, what):
    root, plan = planned(tmp_path)
    old = root / "flights" / f"dt={DAY}" / "origin=JFK"
    old = next(old.glob("*.parquet")) if what == "a file" else old
    new = root / "scores" / f"dt={DAY}" / "origin=JFK"
    new.parent.mkdir(parents=True)
    shutil.move(old, new)
    old.symlink_to(new)
    with pytest.raises(SpecError, match="is inside `sinks.scores.path`"):
        check_overlaps(plan, plan.intervals[0])


def test_an_input_partition_on_another_disk_goes_on_working(tmp_path):
    root, plan = planned(tmp_path)
    old, new = root / "flights" / f"dt={DAY}" / "origin=JFK", tmp_path / "disk" / "origin=JFK"
    new.parent.mkdir(parents=True)
    shutil.move(old, new)
    old.symlink_to(new)
    check_overlaps(plan, plan.intervals[0])


def test_a_run_does_not_replace_its_input_by_scores(project, spark, runs, tmp_path):
    plan = project.pipeline().plan(DAY)
    root = Path(project.root.removeprefix("file://"))
    before = {path: path.read_bytes() for path in (root / "flights").rglob("*") if path.is_file()}
    (root / "scores").symlink_to(root / "flights", target_is_directory=True)
    result = run_plan(plan, spark=spark, runs=runs)
    assert (result.state, "FS1025" in result.error) == ("failed", True)
    assert {path: path.read_bytes() for path in (root / "flights").rglob("*") if path.is_file()} == before


def _prune_heartbeats(store, now_s):
    heartbeat = RunHeartbeat(store, "r")
    heartbeat._prune(int(now_s * 1000))


CLEAN_UPS = {
    "dead_letter": lambda store, now_s: prune_dead_letters(store, 1, now_s=now_s),
    "quarantine": lambda store, now_s: prune_quarantine(store, 1, now_s=now_s),
    "heartbeat": _prune_heartbeats,
    "trash": lambda store, _: prune_versions(SinkInterval(store, SINK, INTERVAL), 1, 1),
}


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("kind", CLEAN_UPS)
def test_a_link_in_the_storage_leads_no_clean_up_to_other_files(tmp_path, kind, depth):
    root = f"file://{tmp_path}/root"
    store, parts = area_of(root), ("a", "b", "c")
    if kind == "heartbeat":
        parts = ("test", "r1", "x")
    if kind == "trash":
        parts = ("test", SINK, INTERVAL)
    precious = tmp_path / "precious"
    for target in (precious, precious / "x", precious / "x" / "x", precious / "x" / "x" / "x"):
        target.mkdir()
        (target / "file").write_text("precious")
    before = sorted(precious.rglob("*"))
    place = Path(store.base, kind, *parts[:depth])
    place.parent.mkdir(parents=True)
    place.symlink_to(precious)
    CLEAN_UPS[kind](store, time.time() + 10 * 365 * 86400)
    assert sorted(precious.rglob("*")) == before


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe"])
def test_a_link_in_the_storage_leads_no_write_to_other_files(tmp_path, kind):
    """The names of heartbeats and indexes are known before firesteel writes them."""
    precious, beat = tmp_path / "precious", tmp_path / "0000000001.beat"
    precious.write_text("precious")
    if kind == "link":
        beat.symlink_to(precious)
    elif kind == "dangling link":
        beat.symlink_to(tmp_path / "new")
    elif kind == "hard link":
        beat.hardlink_to(precious)
    else:
        os.mkfifo(beat)
    with pytest.raises(StorageError, match="FS8002"):
        LocalStorage().replace(str(beat), b"")
    assert precious.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    beat.unlink()
    LocalStorage().replace(str(beat), b"longer")
    LocalStorage().replace(str(beat), b"a")
    assert beat.read_bytes() == b"a"


@pytest.mark.parametrize("run_id", ["../../outside", "{tmp_path}/outside", "", ".", ".."])
def test_the_result_of_a_driver_names_no_folder_outside_of_the_reports(tmp_path, run_id):
    """The result waits in the storage for the machine that submitted the run."""
    plan = sample_plan(root=f"file://{tmp_path}/data")
    results = ResultStore.of(plan, "S1")
    result = replace(sample_result(plan, (published(plan, 1),)), run_id=run_id.format(tmp_path=tmp_path))
    results.storage.create(f"{results.folder}/report.html", b"forged")
    results.storage.create(f"{results.folder}/result.json", result.to_json().encode())
    with pytest.raises(StorageError, match="FS8006"):
        results.fetch(tmp_path / "a" / "runs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_clean_ups_delete_what_is_old_in_a_storage_behind_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    store = area_of(f"file://{tmp_path}/root")
    for kind in ("dead_letter", "quarantine"):
        Path(store.base, kind, "a", "b", "c").mkdir(parents=True)
        CLEAN_UPS[kind](store, time.time() + 10)
        assert list(Path(store.base, kind, "a", "b").iterdir()) == []
