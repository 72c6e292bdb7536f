"""Policies: every path that is written or renamed is resolved and permitted, at every entrance; doubt means no."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import click
import pytest

from firesteel.conf.errors import FiresteelError, NotAllowed
from firesteel.conf.identity import os_user
from firesteel.jobs.cli.main import COMMANDS, cli, invoke
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.publish import policy as module
from firesteel.pipelines.publish.audit import read_audit
from firesteel.pipelines.publish.cancel import cancel
from firesteel.pipelines.publish.dead_letters import prune_dead_letters
from firesteel.pipelines.publish.heartbeat import RunHeartbeat
from firesteel.pipelines.publish.lease import LeaseRecord, write_lease
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.policy import Request, authorise, authorise_writes, policies
from firesteel.pipelines.publish.process import machine_id
from firesteel.pipelines.publish.quarantine import prune_quarantine
from firesteel.pipelines.publish.recover import recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.result import Counts
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
from support.specs import FixedBackend, example, example_with

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


# Every writer

NAME, HELD, DEAD, OPEN = "flight_delay_scores", "2013-06-02", "2013-06-03", "2013-06-04"
WRITERS = {
    "run": "run {spec} --start 2013-06-05",
    "run, registered": "run {spec} --start 2013-06-05 --run-id new",
    "run, sample": "run {spec} --start 2013-06-05 --sample 1%",
    "apply": "apply {folder}/plan.json",
    "backfill": "backfill {spec} --start 2013-06-05 --end 2013-06-06",
    "backfill, registered": "backfill {spec} --start 2013-06-05 --end 2013-06-06 --run-id new",
    "submit": "submit {spec} --start 2013-06-05 --run",
    "submit, registered": "submit {spec} --start 2013-06-05 --run --run-id new",
    "plan": "plan {spec} --start 2013-06-05",
    "recover": "recover {spec}",
    "recover, owner": "recover {spec} --take-ownership",
    "rollback": "rollback {spec} --interval 2013-06-01",
    "cancel": "cancel held {spec} --no-signal",
    "dead-letter replay": "dead-letter replay {spec} --interval 2013-06-01",
}
"""Commands that write to the storage or to a sink, or make a plan for one. A word with a comma is a variant of one command."""
READERS = {
    "validate": "validate {spec}",
    "explain": "explain {spec}",
    "diff": "diff {spec} {spec}",
    "status": "status {spec}",
    "status, run": "status {spec} --start 2013-06-01 --end 2013-06-04 --run held",
    "history": "history {spec}",
    "quarantine ls": "quarantine ls {spec}",
    "dead-letter ls": "dead-letter ls {spec}",
    "dead-letter show": "dead-letter show run-1 {spec}",
    "audit ls": "audit ls {spec}",
    "audit head": "audit head {spec}",
    "audit verify": "audit verify {spec}",
    "schema": "schema",
    "report": "report",
}
"""Commands that must work for a user who may not write, and that change nothing in the storage."""
ELSEWHERE = {
    "init": "writes a new project",
    "pack": "writes an archive of the environment",
    "data-docs": "writes pages beside a report of this machine",
    "doctor": "probes the storage below a folder of its own",
    "test": "runs cases in a temporary folder",
    "show": "prints rows",
}
"""Commands that do not write to the storage or to a sink, and take too long for this test."""


def commands() -> set[str]:
    """Return all commands with their groups, as a user types them."""
    found, context = set[str](), click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        inner = command.list_commands(context) if isinstance(command, click.Group) else []
        found |= {f"{name} {part}" for part in inner} or {name}
    return found


def test_each_command_is_a_writer_or_a_reader():
    tested = {name.partition(",")[0] for name in (*WRITERS, *READERS)}
    assert tested | ELSEWHERE.keys() == commands()
    assert not tested & ELSEWHERE.keys()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A spec with something to do for each command: a published, a held and a dead interval, and an open dead letter."""
    monkeypatch.setattr(module, "SITE", tmp_path / "no-site-policy.yaml")
    monkeypatch.chdir(tmp_path)
    root = f"file://{tmp_path}/data"
    write_days(tmp_path / "data", [INTERVAL, "2013-06-05"])
    spec = example_with(tmp_path / "p", {"root:    {type: uri,": f'root:    {{type: uri, default: "{root}",'})
    plan = Pipeline.load(spec, backend=FixedBackend()).plan("2013-06-05")
    (tmp_path / "plan.json").write_text(plan.to_json())
    store = StateStore.of(plan)
    uri = plan.sinks[0].path
    with Transaction.begin(store, SINK, uri, INTERVAL, attempt_of("run-1")) as transaction:
        stage(transaction, store.storage, STAGED)
        transaction.publish(DIRECTORIES, Counts(10, 9, dead_letter=1))
    dead_letters = f"{store.base}/dead_letter/{plan.score_step.name}/{INTERVAL}/run-1.jsonl"
    store.storage.create(dead_letters, b'{"row": {}, "error": "E", "message": "m", "model_version": "7"}\n')
    dead = LeaseRecord(1, attempt_of("dead"), "run", 60.0, machine_id(), os.getpid(), "0")
    write_lease(SinkInterval(store, SINK, DEAD), dead)
    with Transaction.begin(store, SINK, uri, HELD, attempt_of("held")):
        yield tmp_path, spec
        monkeypatch.delenv(module.VARIABLE, raising=False)


def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "policy.yaml", '{sink: "**", storage: "**", users: [somebody-else]}')
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "policy.yaml"))


def stored(tmp_path: Path) -> dict[str, bytes]:
    """Return the folders and files of storage and sink, without heartbeats and refusals, which the audit log records."""
    return {
        str(path.relative_to(tmp_path)): path.read_bytes() if path.is_file() else b""
        for path in sorted((tmp_path / "data").rglob("*"))
        if path.suffix != ".beat" and path.parent.name != "audit"
    }


@pytest.mark.parametrize("command", WRITERS)
def test_a_writer_asks_the_policy_before_it_writes(project, monkeypatch, command, capsys):
    tmp_path, spec = project
    before = stored(tmp_path)
    refuse(tmp_path, monkeypatch)
    assert invoke(WRITERS[command].format(spec=spec, folder=tmp_path).split()) == 8
    assert "FS7601" in capsys.readouterr().err
    assert stored(tmp_path) == before


@pytest.mark.parametrize("command", READERS)
def test_a_reader_needs_no_policy_and_writes_nothing(project, monkeypatch, command, capsys):
    tmp_path, spec = project
    before = stored(tmp_path)
    refuse(tmp_path, monkeypatch)
    assert invoke(READERS[command].format(spec=spec, folder=tmp_path).split()) != 8
    assert "FS76" not in capsys.readouterr().err
    assert stored(tmp_path) == before


CHANGES = {
    "create": lambda storage, folder: storage.create(f"{folder}/new", b"evil"),
    "replace": lambda storage, folder: storage.replace(f"{folder}/part-0", b"evil"),
    "rename to": lambda storage, folder: storage.rename(f"{storage.mine}/file", f"{folder}/new"),
    "rename from": lambda storage, folder: storage.rename(f"{folder}/part-0", f"{folder}/new"),
    "mkdirs": lambda storage, folder: storage.mkdirs(f"{folder}/new"),
    "delete": lambda storage, folder: storage.delete(f"{folder}/part-0"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("by", ["path", "link in the storage", "link in the sink"])
def test_a_state_store_changes_nothing_that_no_rule_allows(policy, prod, tmp_path, by, change):
    store, folder = area_of(dev_of(tmp_path)), str(prod / "origin=EWR")
    store.storage.mine = f"{store.base}/mine"
    store.storage.create(f"{store.storage.mine}/file", b"mine")
    if by != "path":
        place = "_firesteel/heartbeat" if by == "link in the storage" else "scores/dt=1"
        link(tmp_path, place, prod / "origin=EWR")
        folder = f"{tmp_path}/dev/{place}"
    before = content(tmp_path)
    with pytest.raises(NotAllowed, match="FS7601"):
        CHANGES[change](store.storage, folder)
    assert content(tmp_path) == before


def test_a_state_store_changes_what_a_rule_allows(policy, tmp_path):
    storage = area_of(dev_of(tmp_path)).storage
    for place in ("scores/x/f", "_firesteel/a/f"):
        path = f"{tmp_path}/dev/{place}"
        storage.create(path, b"")
        storage.replace(path, b"1")
        storage.rename(path, f"{path}2")
        storage.mkdirs(path)
        assert storage.delete(path)


@pytest.mark.parametrize("kind", ["heartbeat", "lease", "journal", "dead_letter", "quarantine", "ledger"])
def test_heartbeats_cancelling_and_retention_follow_no_link_out_of_the_storage(policy, prod, tmp_path, kind):
    """The link comes when the run has begun."""
    root = dev_of(tmp_path)
    store = area_of(root)
    with (
        contextlib.suppress(FiresteelError),
        Transaction.begin(store, SINK, sink_of(root), INTERVAL, attempt_of("run-1")),
    ):
        link(tmp_path, f"_firesteel/{kind}", prod)
        before = content(prod)
        for act in (
            lambda: RunHeartbeat(store, "run-1").__enter__(),
            lambda: cancel(store, (SINK,), "run-1", who="me", signal=False),
            lambda: prune_dead_letters(store, 0.0, now_s=1e10),
            lambda: prune_quarantine(store, 0.0, now_s=1e10),
        ):
            with contextlib.suppress(FiresteelError):
                act()
    assert content(prod) == before


@pytest.mark.parametrize(
    ("rule", "storage", "allowed"),
    [
        ('sink: "file:///a/scores"', "/a/_firesteel", True),
        ('sink: "file:///a/scores"', "/a/_firesteel/x/y", True),
        ('sink: "file:///a/scores"', "/a/b/_firesteel", False),
        ('sink: "file:///a/scores"', "/a/scores", True),
        ('sink: "file:///a/scores"', "/a/state", False),
        ('sink: "file:///a/*"', "/a/_firesteel", True),
        ('sink: "file:///a/*/scores"', "/a/b/_firesteel", True),
        ('sink: "file:///a/*/scores"', "/a/b/c/_firesteel", False),
        ('sink: "file:///a/**"', "/a/b/c/_firesteel/x", True),
        ('sink: "file:///a/**"', "/b/_firesteel", False),
        ('sink: "**"', "/b/_firesteel", True),
        ('sink: "file:///scores"', "/_firesteel", True),
        ('sink: "file:///a/scores", storage: "file:///s/*"', "/s/x", True),
        ('sink: "file:///a/scores", storage: "file:///s/*"', "/a/_firesteel", False),
    ],
)
def test_a_storage_is_allowed_where_a_rule_allows_it_for_some_sink(policy, rule, storage, allowed):
    write(policy, f'{{{rule}, users: ["{ME}"], pipelines: [p], profiles: [prod]}}')
    for pipeline, profile, expected in (("p", "prod", allowed), ("q", "prod", False), ("p", "dev", False)):
        request = Request.of(pipeline, profile, "", f"file://{storage}")
        code = contextlib.nullcontext() if expected else pytest.raises(NotAllowed, match="FS7601")
        with code:
            authorise_writes(request, [f"file://{storage}/lease/file"], policies())


SOURCES = [*Path(__file__).parents[2].glob("*/src/firesteel/**/*.py")]
OTHER_PLACES = {
    "demo/flights.py": "the data of the demo",
    "tracking/hdfs_artifacts.py": "MLflow's artifacts",
    "lineage/transport.py": "the folder of lineage events",
    "publish/state_store.py": "changes the storage of its caller",
    "run/direct.py": "changes the storage of its caller",
}


def test_no_other_code_changes_a_storage_that_it_opened_itself():
    """A storage of `locate` asks no policy; that of a StateStore does."""
    change = re.compile(r"storage(\(\))?\.(create|replace|rename|mkdirs|delete)\(")
    opened = {
        "/".join(path.parts[-2:])
        for path in SOURCES
        if "storage/" not in str(path.relative_to(path.parents[2]))
        and re.search(r"\blocate\(", text := path.read_text(encoding="utf-8"))
        and change.search(text)
    }
    assert opened == OTHER_PLACES.keys()


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
