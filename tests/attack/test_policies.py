"""Policies: every path that is written or renamed is resolved and permitted, at every entrance; doubt means no."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firesteel.conf.errors import NotAllowed
from firesteel.conf.identity import os_user
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.publish import policy as module
from firesteel.pipelines.publish.audit import read_audit
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.policy import Request, authorise, policies
from firesteel.pipelines.publish.recover import recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.transaction import Transaction
from support.data import write_days
from support.publishing import (
    COUNTS,
    INTERVAL,
    NEW,
    OLD,
    SINK,
    area_of,
    attempt_of,
    edit,
    publish,
    put,
    sink_of,
    stage,
    visible,
)
from support.specs import FixedBackend, example

ME = os_user()
PARTITION = f"dt={INTERVAL}"
STAGED = {f"{PARTITION}/origin=EWR/part-0": "evil", f"{PARTITION}/origin=JFK/part-0": "evil"}
DIRECTORIES = tuple(sorted({path.rpartition("/")[0] for path in STAGED}))


def write(path: Path, *rules: str) -> None:
    body = "".join(f"  - {rule}\n" for rule in rules)
    path.write_text(f"policy_version: 1\nallow:\n{body}" if rules else "policy_version: 1\nallow: []\n")
    path.chmod(0o644)


@pytest.fixture
def policy(tmp_path, monkeypatch) -> Path:
    """A policy that allows the sink below `dev`; `prod` is what it guards."""
    monkeypatch.setattr(module, "SITE", tmp_path / "no-site-policy.yaml")
    monkeypatch.setenv("FIRESTEEL_POLICY", str(tmp_path / "policy.yaml"))
    allow_dev(tmp_path / "policy.yaml")
    return tmp_path / "policy.yaml"


def allow_dev(policy: Path, *more: str) -> None:
    write(policy, f'{{sink: "{sink_of(dev_of(policy.parent))}", users: ["{ME}"]}}', *more)


def dev_of(tmp_path: Path) -> str:
    return f"file://{tmp_path}/dev"


@pytest.fixture
def prod(tmp_path) -> Path:
    """The partition of another pipeline."""
    folder = tmp_path / "prod" / "scores" / PARTITION
    for origin in ("EWR", "JFK"):
        (folder / f"origin={origin}").mkdir(parents=True)
        (folder / f"origin={origin}" / "part-0").write_text("precious")
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def link(tmp_path: Path, path: str, target: Path) -> None:
    """Replace a path below `dev` by a link, keeping what was there aside."""
    place = tmp_path / "dev" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(place.with_name(f".{place.name}-aside"))
    place.symlink_to(target, target_is_directory=True)


def run(root: str, run_id: str = "evil", store: StateStore | None = None, **more) -> None:
    store = store or area_of(root)
    with Transaction.begin(store, SINK, sink_of(root), INTERVAL, attempt_of(run_id), **more) as transaction:
        stage(transaction, store.storage, STAGED)
        transaction.publish(DIRECTORIES, COUNTS)


def append(root: str) -> None:
    with Transaction.begin(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("evil")) as transaction:
        stage(transaction, area_of(root).storage, {f"{DIRECTORIES[0]}/part-new": "evil"})
        transaction.append(DIRECTORIES, COUNTS)


def replay(root: str) -> None:
    onto = Ledger(area_of(root)).published(SINK, INTERVAL)
    with Transaction.begin(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("evil")) as transaction:
        stage(transaction, area_of(root).storage, {f"{DIRECTORIES[0]}/part-new": "evil"})
        transaction.add_replayed(DIRECTORIES, onto, COUNTS, ("run-1",))


def revert(root: str) -> None:
    rollback(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("evil"))


@pytest.mark.parametrize("entrance", [run, append, replay, revert])
def test_a_partition_that_is_a_link_leads_no_publish_out_of_the_sink(policy, prod, tmp_path, entrance):
    root = dev_of(tmp_path)
    put(root, OLD)
    publish(root, "run-1", NEW)
    before = content(prod)
    link(tmp_path, f"scores/{PARTITION}", prod)
    with pytest.raises(NotAllowed, match=f"FS7601 .*where a link leads from .*/dev/scores/{PARTITION}"):
        entrance(root)
    assert content(prod) == before
    assert read_audit(area_of(root))[-1].action == "refused"


@pytest.mark.parametrize(
    "path",
    [
        "scores",
        f"scores/{PARTITION}",
        "_firesteel",
        "_firesteel/staging",
        "_firesteel/versions/test",
        "_firesteel/audit",
    ],
)
def test_a_link_at_any_place_of_the_sink_and_the_storage_is_refused(policy, prod, tmp_path, path):
    link(tmp_path, path, prod)
    before = content(prod)
    with pytest.raises(NotAllowed, match="FS7601"):
        run(dev_of(tmp_path))
    assert content(prod) == before, "not even the refusal is written there"


@pytest.mark.parametrize("moment", ["leased", "journaled", "partition_published"])
def test_a_link_that_comes_while_a_run_works_is_refused(policy, prod, tmp_path, moment):
    root = dev_of(tmp_path)
    put(root, OLD)
    before = content(prod)

    def on_event(event):
        if event.kind == moment and not (tmp_path / "dev" / "scores" / PARTITION).is_symlink():
            link(tmp_path, f"scores/{PARTITION}", prod)

    with pytest.raises(NotAllowed, match="FS7601"):
        run(root, on_event=on_event)
    with pytest.raises(NotAllowed, match="FS7601"):
        run(root, "again")
    assert content(prod) == before


def test_a_link_to_a_place_that_the_policy_allows_is_followed(policy, prod, tmp_path):
    allow_dev(policy, f'{{sink: "file://{tmp_path}/prod/scores", users: ["{ME}"]}}')
    link(tmp_path, f"scores/{PARTITION}", prod)
    run(dev_of(tmp_path))
    assert set(content(prod).values()) == {"evil"}


class Stopped(Exception):
    """The driver dies here."""


def journaled(root: str, store: StateStore | None = None) -> Path:
    """A run that dies behind its journal; the file of the journal."""
    store = store or area_of(root)

    def die(event):
        if event.kind == "journaled":
            raise Stopped

    with pytest.raises(Stopped):
        run(root, store=store, on_event=die)
    return Path(SinkInterval(store, SINK, INTERVAL).file("journal", 1))


def recover_it(root: str) -> None:
    recover(area_of(root), SINK, sink_of(root), INTERVAL)


@pytest.mark.parametrize("entrance", [recover_it, run, revert])
def test_a_forged_journal_replaces_nothing_that_its_reader_may_not_replace(policy, prod, tmp_path, entrance):
    root = dev_of(tmp_path)
    put(root, OLD)
    journal = journaled(root)
    edit(journal, sink_path=str(prod.parent))
    before = content(prod)
    for _ in range(2):
        with pytest.raises(NotAllowed, match="FS7601"):
            entrance(root)
        assert content(prod) == before


@pytest.mark.parametrize("entrance", [recover_it, run])
def test_a_recovery_asks_the_policy_of_today(policy, tmp_path, entrance):
    root = dev_of(tmp_path)
    put(root, OLD)
    journaled(root)
    write(policy)
    before = visible(root)
    with pytest.raises(NotAllowed, match="FS7601"):
        entrance(root)
    assert visible(root) == before
    allow_dev(policy)
    entrance(root)
    assert visible(root) == before | STAGED


@pytest.mark.parametrize("storage", ["prod/scores", "prod", "prod/_firesteel", "dev/state", "dev"])
def test_storage_is_asked_for_and_nothing_is_written_there(policy, prod, tmp_path, storage):
    root = dev_of(tmp_path)
    store = StateStore.at(f"file://{tmp_path}/{storage}", "flight_delay_scores", "test")
    said = r"FS7601 .* with `storage` .* Use a storage in `_firesteel` beside the sink"
    before = content(tmp_path)
    with pytest.raises(NotAllowed, match=said):
        run(root, store=store)
    assert content(tmp_path) == before
    write(policy, '{sink: "**", users: ["*"]}')
    journaled(root, store)
    allow_dev(policy)
    before = content(tmp_path)
    with pytest.raises(NotAllowed, match=said):
        recover(store, SINK, sink_of(root), INTERVAL)
    assert content(tmp_path) == before


def test_a_rule_says_where_the_storage_may_be(policy, tmp_path):
    sink, storage = sink_of(dev_of(tmp_path)), f"file://{tmp_path}/state/flights"
    request = Request(ME, "p", "prod", sink, storage)
    with pytest.raises(NotAllowed, match="FS7601"):
        authorise(request)
    write(policy, f'{{sink: "{sink}", storage: "file://{tmp_path}/state/*", users: ["{ME}"]}}')
    assert authorise(request).endswith("rule 1")
    beside = Request(ME, "p", "prod", sink, f"{dev_of(tmp_path)}/_firesteel")
    with pytest.raises(NotAllowed, match="FS7601"):
        authorise(beside)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_rule_does_not_follow_a_link_that_another_user_can_change(policy, prod, tmp_path):
    rules = (f'{{sink: "{sink_of(dev_of(tmp_path))}", storage: "**", users: ["{ME}"]}}',)
    write(policy, *rules)
    link(tmp_path, "scores", prod.parent)
    run(dev_of(tmp_path))  # a link of the policy's owner, in a folder of theirs
    before = content(prod)
    os.chown(tmp_path / "dev", 65534, 65534)
    with pytest.raises(NotAllowed, match="FS7601"):
        run(dev_of(tmp_path))
    os.chown(tmp_path / "dev", 0, 0)
    os.lchown(tmp_path / "dev" / "scores", 65534, 65534)
    with pytest.raises(NotAllowed, match="FS7601"):
        run(dev_of(tmp_path))
    assert content(prod) == before


def test_a_run_asks_for_every_interval_before_it_starts(policy, prod, tmp_path):
    days = [INTERVAL, "2013-06-02"]
    write_days(tmp_path / "dev", days)
    path = example(tmp_path / "p")
    plan = Pipeline.load(path, params={"root": dev_of(tmp_path)}, backend=FixedBackend()).plan(*days)
    link(tmp_path, "scores/dt=2013-06-02", prod)
    told = []
    with pytest.raises(NotAllowed, match="dev/scores/dt=2013-06-02"):
        run_plan(plan, on_event=told.append, runs=tmp_path / "runs")
    assert told == []


def a_dangling_link(site: Path) -> None:
    site.symlink_to(site.with_name("nowhere"))


def a_link_to_itself(site: Path) -> None:
    site.symlink_to(site)


def a_folder_that_is_a_dangling_link(site: Path) -> None:
    site.parent.rmdir()
    site.parent.symlink_to("nowhere")


def a_folder_that_is_a_file(site: Path) -> None:
    site.parent.rmdir()
    site.parent.write_text("")


def a_link_through_an_open_folder(site: Path) -> None:
    good, shared = site.with_name("good.yaml"), site.parent.parent / "shared"
    write(good, '{sink: "**", users: ["*"]}')
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "policy.yaml").symlink_to(good)
    site.symlink_to(shared / "policy.yaml")


def with_mode(mode: int):
    def make(site: Path) -> None:
        write(site, '{sink: "**", users: ["*"]}')
        site.parent.chmod(mode)

    return make


def in_a_folder_of_another_user(site: Path) -> None:
    write(site, '{sink: "**", users: ["*"]}')
    os.chown(site.parent, 65534, 65534)


DOUBTFUL = {
    "dangling link": a_dangling_link,
    "link to itself": a_link_to_itself,
    "folder is a dangling link": a_folder_that_is_a_dangling_link,
    "folder is a file": a_folder_that_is_a_file,
    "folder": lambda site: site.mkdir(),
    "FIFO": os.mkfifo,
    "empty": lambda site: write(site) or site.write_text(""),
    "folder that all can write to": with_mode(0o777),
    "folder that the group can write to": with_mode(0o775),
    "link through an open folder": a_link_through_an_open_folder,
    "folder of another user": in_a_folder_of_another_user,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_policy_in_doubt_lets_nobody_publish(tmp_path, make):
    if make is in_a_folder_of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    site = tmp_path / "etc" / "policy.yaml"
    site.parent.mkdir(mode=0o755)
    make(site)
    with pytest.raises(NotAllowed, match="FS7602"):
        policies({}, site)


def test_no_policy_is_no_policy_and_a_private_one_is_read(tmp_path):
    site = tmp_path / "etc" / "policy.yaml"
    assert policies({}, site) == ()
    site.parent.mkdir()
    assert policies({}, site) == ()
    write(site, '{sink: "**", users: ["*"]}')
    assert len(policies({}, site)) == 1
    site.parent.chmod(0o1777)  # sticky: only the owner of the file can replace it
    assert len(policies({}, site)) == 1
    (tmp_path / "link.yaml").symlink_to(site)
    assert len(policies({}, tmp_path / "link.yaml")) == 1
