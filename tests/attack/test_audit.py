"""The published data, the ledger or the audit log is changed behind firesteel's back: `audit verify` names what was changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from firesteel.conf.errors import StorageError
from firesteel.jobs.cli.main import invoke
from firesteel.pipelines.publish.audit import append_refusal, entry_of, head, verify, verify_heads
from firesteel.pipelines.publish.ledger import read_record
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.publish.verify import check_dead_letters, verify_excluded, verify_files
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.open import locate
from support.publishing import (
    COUNTS,
    INTERVAL,
    NEW,
    OLD,
    PLANNED,
    SINK,
    area_of,
    attempt_of,
    edit,
    publish,
    put,
    recover_all,
    sink_of,
    stage,
    visible,
)
from support.specs import EXAMPLE

FILE = "dt=2013-06-01/origin=EWR/part-0"


class Store:
    def __init__(self, path: Path) -> None:
        self.path, self.root = path, f"file://{path}"
        self.sink = path / "scores"

    def entry(self, number: int) -> Path:
        return self.path / "_firesteel" / "audit" / f"{number:010d}.json"

    def record(self, token: int) -> Path:
        return self.path / "_firesteel" / "ledger" / "test" / SINK / INTERVAL / f"{token:010d}.json"

    def problems(self) -> list[str]:
        return [
            *verify(area_of(self.root), (SINK,)),
            *verify_files(area_of(self.root), {SINK: sink_of(self.root)}).problems,
        ]

    def chain_again(self) -> None:
        """Recompute the chain, as a person does who knows how."""
        previous, number = "", 1
        while self.entry(number).exists():
            edit(self.entry(number), previous=previous)
            previous = hashlib.sha256(self.entry(number).read_bytes()).hexdigest()
            number += 1


@pytest.fixture
def store(tmp_path) -> Store:
    """Three publishes; the last one is what readers see."""
    store = Store(tmp_path)
    publish(store.root, "r1", {path: text for path, text in OLD.items() if "05-30" not in path})
    publish(store.root, "r2", NEW)
    publish(store.root, "r3", NEW)
    assert store.problems() == []
    return store


def test_a_file_changed_to_other_bytes_of_the_same_length_and_time(store):
    file = store.sink / FILE
    state = file.stat()
    file.write_text("N" + file.read_text()[1:])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    (problem,) = store.problems()
    assert FILE in problem
    assert "was changed: its SHA-256 differs" in problem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.write_text("longer than it was"), f"{FILE} was changed: it has 18 bytes"),
        (lambda file: file.unlink(), f"{FILE} was lost"),
        (lambda file: file.rename(file.with_name("part-7")), f"{FILE} was lost"),
        (lambda file: file.with_name("part-7").write_text("more"), "part-7 was added"),
        (
            lambda file: (file.parent / "deeper").mkdir() or (file.parent / "deeper" / "f").write_text("x"),
            "deeper/f was added",
        ),
    ],
    ids=["longer", "lost", "renamed", "added", "added below"],
)
def test_a_file_of_the_sink(store, change, said):
    change(store.sink / FILE)
    assert any(said in problem for problem in store.problems())


def test_two_files_that_are_exchanged(store):
    one, two = store.sink / "dt=2013-06-01/origin=EWR/part-0", store.sink / "dt=2013-06-01/origin=LGA/part-0"
    assert one.stat().st_size == two.stat().st_size, "their lengths do not tell"
    spare = store.path / "spare"
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    assert len(store.problems()) == 2


def test_files_in_a_partition_that_nobody_published_are_listed_apart(store):
    (store.sink / "dt=2099-01-01").mkdir()
    (store.sink / "dt=2099-01-01" / "part-0").write_text("x")
    found = verify_files(area_of(store.root), {SINK: sink_of(store.root)})
    assert (found.problems, found.unpublished) == ((), ("scores: dt=2099-01-01/part-0",))


FIELDS = (
    "user",
    "host",
    "at",
    "plan_hash",
    "run_id",
    "files",
    "files_digest",
    "policy",
    "action",
    "record",
    "pipeline",
)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("number", [1, 3], ids=["in the middle", "at the tail"])
def test_an_edited_entry_of_a_recomputed_chain(store, field, number):
    edit(store.entry(number), **{field: 99 if field == "files" else "other"})
    store.chain_again()
    assert any("differs from its entry" in problem for problem in store.problems())


def test_a_cut_tail(store):
    store.entry(3).unlink()
    assert store.problems() == [f"{SINK} {INTERVAL}: the publish of token 3 has no entry"]


def test_an_entry_that_is_taken_out_of_a_recomputed_chain(store):
    for number in (2, 3):
        if number < 3:
            body = json.loads(store.entry(number + 1).read_bytes())["body"]
            edit(store.entry(number), **body)
        else:
            store.entry(number).unlink()
    store.chain_again()
    assert store.problems() == [f"{SINK} {INTERVAL}: the publish of token 2 has no entry"]


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": {"scored": 7}},
        {"partitions": []},
        {"files": []},
        {"state": "failed"},
        {"user": "somebody"},
        {"plan_hash": "other"},
        {"policy": "none"},
        {"profiles": [], "error": "x"},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("token", [1, 3])
def test_an_edited_ledger_record_with_the_right_checksum(store, changes, token):
    edit(store.record(token), **changes)
    assert any("ledger" in problem for problem in store.problems())


def refuse(store: Store) -> None:
    place = SinkInterval(area_of(store.root), SINK, INTERVAL)
    entry = entry_of(read_record(place, 1))
    append_refusal(place, replace(entry, token=0, action="refused", user="eve"))


def test_the_tail_that_a_kept_head_names(store):
    """A refusal has no ledger record: without a kept head, its removal is not seen."""
    refuse(store)
    kept = head(area_of(store.root)) + "\n"
    publish(store.root, "r4", NEW)
    assert verify_heads(area_of(store.root), kept, "heads") == []

    for path in (store.entry(5), store.entry(4)):
        path.unlink()
    for path in (store.path / "_firesteel").rglob("0000000004*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    (problem,) = verify_heads(area_of(store.root), kept, "heads")
    assert problem == "entry 4 was removed: line 1 of heads names it"


@pytest.mark.parametrize("number", [1, 4])
def test_an_edit_before_a_kept_head_with_a_recomputed_chain(store, number):
    refuse(store)
    kept = head(area_of(store.root)) + "\n"
    refuse(store)
    edit(store.entry(number), user="nobody")
    store.chain_again()
    (problem,) = verify_heads(area_of(store.root), kept, "heads")
    assert "entry 4 or an earlier one was edited" in problem


@pytest.mark.parametrize("line", ["", "4", "x y", "4 abc", "-1 " + "0" * 64, "4 " + "G" * 64])
def test_a_file_of_heads_that_is_none(store, line):
    with pytest.raises(StorageError, match=r"FS8006.*heads:2"):
        verify_heads(area_of(store.root), f"{head(area_of(store.root))}\n{line}\n", "heads")


def test_a_lost_ledger_record(store):
    store.record(2).unlink()
    assert any("ledger cannot be read" in problem for problem in store.problems())


def test_a_damaged_ledger_record_does_not_hide_what_else_is_wrong(store):
    with Transaction.begin(
        area_of(store.root), SINK, sink_of(store.root), "2013-05-29", attempt_of("x")
    ) as transaction:
        stage(transaction, area_of(store.root).storage, {"dt=2013-05-29/part-0": "a"})
        transaction.publish(("dt=2013-05-29",), COUNTS)
    store.record(3).write_bytes(b"")
    (store.sink / "dt=2013-05-29" / "part-0").write_text("b")
    problems = "\n".join(store.problems())
    assert "dt=2013-05-29/part-0 was changed" in problems
    assert "the ledger cannot be read" in problems


LETTERS = "dead_letter/score/2013-06-01/r4.jsonl"
QUARANTINED = "quarantine/rows/interval=2013-06-01/run_id=r4/part-0"
NEVER = {SINK: (None, None)}


def excluding(store: Store, *, fail: bool = False) -> None:
    """Publish with a dead letter and quarantined rows, or fail after they were written."""
    area = area_of(store.root)
    with (
        contextlib.suppress(RuntimeError),
        Transaction.begin(area, SINK, sink_of(store.root), INTERVAL, attempt_of("r4")) as transaction,
    ):
        stage(transaction, area.storage, NEW)
        for path in (LETTERS, QUARANTINED):
            area.storage.create(f"{area.base}/{path}", b"rows")
        area.storage.create(f"{area.base}/{QUARANTINED.rpartition('/')[0]}/_SUCCESS", b"")
        transaction.record_excluded(f"{area.base}/{LETTERS}")
        transaction.record_excluded(f"{area.base}/{QUARANTINED.rpartition('/')[0]}")
        if fail:
            raise RuntimeError
        transaction.publish(PLANNED, Counts(rows_in=12, scored=10, dead_letter=1, quarantined=1))


def excluded_problems(store: Store, keep=NEVER, now_s: float = 2e9) -> list[str]:
    return verify_excluded(area_of(store.root), keep, now_s=now_s)


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("path", [LETTERS, QUARANTINED])
@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda file: file.unlink(), "was lost"),
        (lambda file: file.write_text("raws"), "was changed: its SHA-256"),
        (lambda file: file.write_text("more rows"), "was changed: it has 9 bytes"),
        (lambda file: file.unlink() or os.mkfifo(file), "was changed: it has 0 bytes"),
    ],
)
def test_dead_letters_and_quarantined_rows_that_are_changed_are_named(store, path, act, said, fail):
    excluding(store, fail=fail)
    assert excluded_problems(store) == []
    act(store.path / "_firesteel" / path)
    (problem,) = excluded_problems(store)
    assert f"{SINK} {INTERVAL}: {path} {said}" in problem


def test_dead_letters_that_are_added_to_a_run_are_named(store):
    excluding(store)
    forged = [LETTERS.replace("r4", "r3"), LETTERS.replace("score", "other"), f"{QUARANTINED}1"]
    for path in forged:
        file = store.path / "_firesteel" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("rows")
    problems = excluded_problems(store)
    assert {problem.split()[2] for problem in problems} == {*forged}
    assert all("was added: run" in problem for problem in problems)


def test_changed_and_added_dead_letters_are_not_replayed(store):
    excluding(store)
    area = area_of(store.root)
    path, forged = f"{area.base}/{LETTERS}", f"{area.base}/{LETTERS.replace('score', 'other')}"
    check_dead_letters(area, SINK, INTERVAL, [path])
    area.storage.create(forged, b"rows")
    with pytest.raises(StorageError, match=r"FS8006.*other/2013-06-01/r4.jsonl was added: no run wrote it"):
        check_dead_letters(area, SINK, INTERVAL, [path, forged])
    area.storage.replace(path, b"raws")
    with pytest.raises(StorageError, match=r"FS8006.*score/2013-06-01/r4.jsonl was changed"):
        check_dead_letters(area, SINK, INTERVAL, [path])


def test_excluded_rows_that_retention_has_deleted_are_not_lost(store):
    excluding(store)
    for path in (LETTERS, QUARANTINED):
        (store.path / "_firesteel" / path).unlink()
    started_s = datetime.fromisoformat(attempt_of("r4").started_at).timestamp()
    keep = {SINK: (100.0, 200.0)}
    assert len(excluded_problems(store, keep, started_s + 99)) == 2
    assert len(excluded_problems(store, keep, started_s + 101)) == 1
    assert excluded_problems(store, keep, started_s + 201) == []


def test_the_audit_log_covers_the_digests_of_dead_letters(store):
    excluding(store)
    assert store.problems() == []
    digest = area_of(store.root).storage.checksum(str(store.path / "_firesteel" / LETTERS), 4)
    files = json.loads(store.record(4).read_bytes())["body"]["excluded"]
    assert digest in {file["digest"] for file in files}
    edit(store.record(4), excluded=[file | {"digest": "SHA-256:00"} for file in files])
    assert [problem for problem in store.problems() if "token 4 differs from its entry" in problem]


def stopped_at(kind: str) -> Callable[[str], None]:
    def act(root: str) -> None:
        def stop(event):
            if event.kind == kind:
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            publish(root, "r4", {FILE: "fourth"}, on_event=stop)
        recover_all(root)

    return act


def append(root: str) -> None:
    with Transaction.begin(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("r4")) as transaction:
        stage(transaction, area_of(root).storage, {"dt=2013-06-01/origin=EWR/part-4": "more"})
        transaction.append(("dt=2013-06-01/origin=EWR",), COUNTS)


def fail(root: str) -> None:
    with Transaction.begin(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("r4")) as transaction:
        transaction.fail("a gate")


def back(root: str) -> None:
    rollback(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("back"))


@pytest.mark.parametrize(
    "act",
    [
        append,
        fail,
        back,
        lambda root: (append(root), back(root)),
        *map(stopped_at, ("journaled", "partition_retired", "partition_published", "ledgered", "cleaned")),
    ],
    ids=["append", "fail", "rollback", "both", "journaled", "retired", "moved in", "ledgered", "cleaned"],
)
def test_what_firesteel_does_is_no_problem(store, act):
    act(store.root)
    assert store.problems() == []


def test_a_rollback_to_the_data_before_the_first_publish_is_no_problem(tmp_path):
    store = Store(tmp_path)
    put(store.root, OLD)
    publish(store.root, "r1", NEW)
    back(store.root)
    assert store.problems() == []


def test_the_command_line_says_what_was_changed(tmp_path, capsys):
    """`audit verify` and `audit head` of the example, over its own layout of the storage."""
    root = f"file://{tmp_path}"
    storage, base = locate(f"{root}/_firesteel/flight_delay_scores")
    store = StateStore(storage, base, "flight_delay_scores", "default")
    with Transaction.begin(store, SINK, f"{root}/scores", INTERVAL, attempt_of("r1")) as transaction:
        stage(transaction, storage, {FILE: "new"})
        transaction.publish(("dt=2013-06-01/origin=EWR",), COUNTS)
    words = [str(EXAMPLE / "pipeline.yaml"), "--param", f"root={root}"]
    assert invoke(["audit", "head", *words]) == 0
    heads = tmp_path / "heads"
    heads.write_text(capsys.readouterr().out)
    assert invoke(["audit", "verify", *words, "--heads", str(heads)]) == 0
    assert "1 entry: the log, the ledger and the files of the sinks agree." in capsys.readouterr().out

    (tmp_path / "scores" / FILE).write_text("old")
    heads.write_text(heads.read_text().replace("1 ", "2 "))
    assert invoke(["audit", "verify", *words, "--heads", str(heads), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert f"{FILE} was changed" in result["wrong"][0]
    assert result["wrong"][1].startswith("entry 2 was removed")


def test_a_sink_that_has_moved_is_compared_with_the_publishes_to_its_location(tmp_path):
    root_uri = f"file://{tmp_path}"
    store = area_of(root_uri)
    publish(root_uri, "r1", NEW)
    moved = f"{root_uri}/moved"
    with Transaction.begin(store, SINK, moved, "2013-06-02", attempt_of("r2")) as transaction:
        store.storage.create(f"{transaction.staging_path}/dt=2013-06-02/part-0", b"rows")
        transaction.publish(("dt=2013-06-02",), Counts())
    assert verify_files(store, {SINK: moved}).problems == ()
    assert verify_files(store, {SINK: sink_of(root_uri)}).problems == ()
    (tmp_path / "moved/dt=2013-06-02/part-0").write_bytes(b"ROWS")
    assert len(verify_files(store, {SINK: moved}).problems) == 1


@pytest.mark.parametrize("change", ["same length", "longer", "lost"])
def test_a_rollback_restores_no_version_that_was_changed(tmp_path, change):
    root = f"file://{tmp_path}"
    publish(root, "r1", NEW)
    publish(root, "r2", {FILE: "second"})
    version = next(path for path in (tmp_path / "_firesteel" / "versions").rglob("part-0") if "EWR" in str(path))
    text = version.read_text()
    if change == "lost":
        version.unlink()
    else:
        version.write_text(text[::-1] if change == "same length" else f"{text} and more")
    before = visible(root)
    with pytest.raises(StorageError, match="FS8010.*is not the file that run r1 published"):
        rollback(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("back"))
    assert visible(root) == before
    version.write_text(text)
    rollback(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("back"))
    assert visible(root) == NEW
