"""Any single file of the state is damaged, cut, lost, or exchanged for another: the rows are right, or an error of ours says what is wrong."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError, StorageError
from firesteel.jobs.cli.main import invoke
from firesteel.pipelines.publish import sink_records
from firesteel.pipelines.publish.audit import read_audit
from firesteel.pipelines.publish.envelope import decode
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import leftovers, recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.publish.status import interval_status
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.read import current_files
from firesteel.pipelines.storage.open import locate
from support.publishing import (
    COUNTS,
    INTERVAL,
    NEW,
    OLD,
    SINK,
    Driver,
    area_of,
    attempt_of,
    edit,
    publish,
    recover_all,
    sink_of,
    stage,
    visible,
)
from support.specs import EXAMPLE

OTHER = "2013-05-30"
OTHER_ROWS = {"dt=2013-05-30/origin=EWR/part-0": "untouched"}
# Names are unique to a run, as Spark's are.
FIRST = {path.replace("part-", "first-"): text for path, text in OLD.items() if path not in OTHER_ROWS}
NEXT = {"dt=2013-06-01/origin=EWR/part-9": "next"}
FLIPS = 4
"""Sampled bits per file and state; `decode` is tried with every bit."""


def before(root: str) -> None:
    """Two intervals with a publish each."""
    publish(root, "r1", FIRST)
    with Transaction.begin(area_of(root), SINK, sink_of(root), OTHER, attempt_of("other")) as transaction:
        stage(transaction, area_of(root).storage, OTHER_ROWS)
        transaction.publish(("dt=2013-05-30",), COUNTS)


def published(root: str) -> None:
    publish(root, "r2", NEW)


def failed(root: str) -> None:
    with Transaction.begin(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("r2")) as transaction:
        transaction.fail("a gate")


def dead_at(event: int) -> Callable[[str], None]:
    def die(root: str) -> None:
        status, _ = Driver(root, "r2", signal="SIGKILL", at_event=event).run()
        assert status == -signal.SIGKILL

    return die


def abandoned(root: str) -> None:
    def stop(event):
        if event.kind == "partition_published":
            raise OSError("stop")

    with pytest.raises(OSError, match="stop"):
        publish(root, "r2", NEW, on_event=stop)


STATES = {
    "published": published,
    "failed": failed,
    "leased": dead_at(0),
    "journaled": dead_at(1),
    "mid-swap": dead_at(3),
    "abandoned": abandoned,
    "ledgered": dead_at(8),
}


@pytest.fixture(scope="module", params=STATES)
def store(request, tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("state") / "root"
    root = f"file://{path}"
    before(root)
    STATES[request.param](root)
    saved = path.with_name("saved")
    shutil.copytree(path, saved, symlinks=True)
    store = Store(path, saved)
    store.expected = store.outcome()
    assert "error" not in store.expected
    if request.param == "journaled":
        # Nothing was moved yet: without its journal, the attempt is one that never decided to publish.
        store.fresh()
        (path / "_firesteel" / "journal" / "test" / SINK / INTERVAL / "0000000002.json").unlink()
        store.undone = store.outcome()
        assert "error" not in store.undone
        assert store.undone["recovered visible"] == FIRST | OTHER_ROWS
    return store


class Store:
    """A store in one state, which `fresh` brings back."""

    expected: dict[str, object]
    undone: dict[str, object] | None = None

    def __init__(self, path: Path, saved: Path) -> None:
        self.path, self.saved, self.root = path, saved, f"file://{path}"

    def fresh(self) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(self.saved, self.path, symlinks=True)

    def files(self) -> list[Path]:
        """All state files, relative to the root."""
        kinds = ("lease", "journal", "ledger", "audit")
        paths = (path for kind in kinds for path in (self.saved / "_firesteel" / kind).rglob("*.json"))
        others = (self.saved / "_firesteel" / "owner.json", self.saved / "scores" / "_current")
        return [path.relative_to(self.saved) for path in [*sorted(paths), *others]]

    def markers(self) -> list[Path]:
        paths = (path for path in (self.saved / "_firesteel" / "lease").rglob("0*.*") if path.is_dir())
        return [path.relative_to(self.saved) for path in sorted(paths)]

    def outcome(self) -> dict[str, object]:
        """What people and readers get: after a recovery, and after one more publish. Only errors of ours may stop it."""
        found: dict[str, object] = {}
        with within(20):
            for interval in (INTERVAL, OTHER):
                try:
                    recover(area_of(self.root), SINK, sink_of(self.root), interval)
                except FiresteelError as error:
                    assert error.hint or error.code != "FS8006"
                    found["error"] = str(error)
            found |= self.facts("recovered")
            try:
                publish(self.root, "next", NEXT)
            except FiresteelError as error:
                found["error"] = str(error)
            found |= self.facts("next")
            leftovers_or_error(self.root)
        return found

    def facts(self, when: str) -> dict[str, object]:
        store, facts = area_of(self.root), dict[str, object]()
        try:
            for interval in (INTERVAL, OTHER):
                history = [record for record in Ledger(store).history(SINK, interval) if record.state == "published"]
                facts[f"{when} {interval} published"] = [
                    record.run_id for record in sorted(history, key=lambda record: record.token)
                ]
            interval_status(store, {SINK: sink_of(self.root)}, (INTERVAL, OTHER), "")
            read_audit(store)
            files = current_files(sink_of(self.root), timeout_s=0)
            facts[f"{when} read"] = {file: Path(file.removeprefix("file://")).read_text() for file in sorted(files)}
        except FiresteelError as error:
            facts["error"] = str(error)
        else:
            facts[f"{when} visible"] = visible(self.root)
        return facts

    def check(self, what: str) -> None:
        outcome = self.outcome()
        if "error" not in outcome:
            assert outcome in (self.expected, self.undone), what
            return
        # What an error stopped may be missing or as it was before, but is not wrong.
        for name, value in outcome.items():
            if "published" in name or "read" in name:
                allowed = [
                    self.expected[name],
                    self.expected[name.replace("next", "recovered", 1)],
                    *self.earlier(name),
                ]
                assert value in allowed, f"{what}: {name}: {value}\n{outcome['error']}"

    def earlier(self, name: str) -> list[object]:
        """What was right before the attempt."""
        read = {f"{sink_of(self.root)}/{path}": text for path, text in sorted((FIRST | OTHER_ROWS).items())}
        return [["r1"] if INTERVAL in name else ["other"]] if "published" in name else [read]


def leftovers_or_error(root: str) -> None:
    try:
        leftovers(area_of(root), SINK)
    except FiresteelError as error:
        assert error.code == "FS8006"


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail what loops."""

    def stop(*_):
        raise AssertionError(f"still busy after {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def test_a_flipped_bit_anywhere(store):
    draw = random.Random(7)
    for file in store.files():
        size = (store.saved / file).stat().st_size
        for _ in range(FLIPS):
            store.fresh()
            bit = draw.randrange(size * 8)
            data = bytearray((store.path / file).read_bytes())
            data[bit // 8] ^= 1 << bit % 8
            (store.path / file).write_bytes(data)
            store.check(f"bit {bit} of {file}")


def test_a_file_that_is_cut(store):
    for file in store.files():
        size = (store.saved / file).stat().st_size
        for length in (0, 77, size - 1):
            store.fresh()
            os.truncate(store.path / file, length)
            store.check(f"{file} cut to {length} bytes")


def test_a_file_that_is_lost(store):
    for file in store.files():
        store.fresh()
        (store.path / file).unlink()
        store.check(f"{file} lost")
    for marker in store.markers():
        store.fresh()
        shutil.rmtree(store.path / marker)
        store.check(f"{marker} lost")


def test_two_files_that_are_exchanged(store):
    pairs = list(itertools.combinations(store.files(), 2))
    # All pairs of one token, or of one kind and interval; the others are told apart in the same way.
    near = [pair for pair in pairs if pair[0].name == pair[1].name or pair[0].parent == pair[1].parent]
    for one, two in {*near, *random.Random(7).sample(pairs, 10)}:
        store.fresh()
        spare = store.path / "spare"
        (store.path / one).rename(spare)
        (store.path / two).rename(store.path / one)
        spare.rename(store.path / two)
        store.check(f"{one} and {two} exchanged")


def test_every_bit_counts(tmp_path):
    """No bit of a file is without its checksum: not those of the checksum itself, nor white space."""
    root = f"file://{tmp_path}"
    publish(root, "r1", NEW)
    for kind in ("lease", "audit"):
        (path,) = (tmp_path / "_firesteel" / kind).rglob("*.json")
        data = path.read_bytes()
        identity = {"kind": "audit", "number": 1} if kind == "audit" else identity_of(kind)
        assert decode(TypeAdapter(dict), data, str(path), identity, "") is not None
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(StorageError, match="FS8006"):
                decode(TypeAdapter(dict), bytes(changed), str(path), identity, "")


def identity_of(kind: str) -> dict[str, str | int]:
    return {"kind": kind, "profile": "test", "sink": SINK, "interval": INTERVAL, "token": 1}


def test_a_dangling_link_as_the_next_audit_entry_stops_and_does_not_spin(tmp_path):
    root = f"file://{tmp_path}"
    publish(root, "r1", NEW)
    STATES["journaled"](root)
    link = tmp_path / "_firesteel" / "audit" / "0000000002.json"
    link.symlink_to(tmp_path / "nowhere")
    with within(20):
        for _ in range(2):
            with pytest.raises(StorageError, match=r"0000000002\.json"):
                recover_all(root)
    link.unlink()
    assert recover_all(root).state == "published"


def test_a_lost_folder_of_leases_is_named_and_recover_repairs_it(tmp_path):
    root = f"file://{tmp_path}"
    before(root)
    STATES["mid-swap"](root)
    shutil.rmtree(tmp_path / "_firesteel" / "lease" / "test" / SINK / INTERVAL)
    with pytest.raises(StorageError, match=r"FS8006.*firesteel recover"):
        publish(root, "next", NEXT)
    assert INTERVAL in leftovers(area_of(root), SINK)
    assert recover_all(root).run_id == "r2"
    assert visible(root) == NEW | OTHER_ROWS
    assert publish(root, "next", NEXT).token > 2


def test_a_lost_ledger_record_is_named_and_recover_writes_it_again(tmp_path):
    root = f"file://{tmp_path}"
    publish(root, "r1", FIRST)
    record = publish(root, "r2", NEW)
    (tmp_path / "_firesteel" / "ledger" / "test" / SINK / INTERVAL / "0000000002.json").unlink()
    with pytest.raises(StorageError, match=r"FS8006.*firesteel recover"):
        Ledger(area_of(root)).latest(SINK, INTERVAL)
    assert leftovers(area_of(root), SINK) == (INTERVAL,)
    recover_all(root)
    assert Ledger(area_of(root)).latest(SINK, INTERVAL) == record


def test_status_does_not_show_an_older_publish_for_one_that_the_ledger_lost(tmp_path):
    root = f"file://{tmp_path}"
    publish(root, "r1", FIRST)
    publish(root, "r2", NEW)
    (tmp_path / "_firesteel" / "ledger" / "test" / SINK / INTERVAL / "0000000002.json").unlink()
    with pytest.raises(StorageError, match=r"FS8006.*token 2.*firesteel recover"):
        interval_status(area_of(root), {SINK: sink_of(root)}, (INTERVAL,), "")


def test_a_lost_journal_of_a_swap_is_not_taken_for_one_that_was_never_written(tmp_path):
    root = f"file://{tmp_path}"
    before(root)
    STATES["mid-swap"](root)
    (tmp_path / "_firesteel" / "journal" / "test" / SINK / INTERVAL / "0000000003.json").unlink(missing_ok=True)
    (tmp_path / "_firesteel" / "journal" / "test" / SINK / INTERVAL / "0000000002.json").unlink(missing_ok=True)
    with pytest.raises(StorageError, match=r"FS8006.*missing"):
        recover_all(root)
    assert list((tmp_path / "_firesteel" / "staging").rglob("part-*")), "nothing was discarded"


def test_a_ledger_record_that_restores_its_own_future_is_no_endless_story(tmp_path):
    root = f"file://{tmp_path}"
    publish(root, "r1", FIRST)
    publish(root, "r2", NEW)
    rollback(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("back"))
    edit(tmp_path / "_firesteel" / "ledger" / "test" / SINK / INTERVAL / "0000000003.json", restores=3)
    with pytest.raises(StorageError, match="FS8006.*contradicts itself"):
        Ledger(area_of(root)).history(SINK)


def test_one_interval_that_cannot_be_recovered_does_not_stop_the_others(tmp_path, capsys):
    """The command of the hint, over the example's own layout of the storage."""
    root = f"file://{tmp_path}"
    storage, base = locate(f"{root}/_firesteel/flight_delay_scores")
    store = StateStore(storage, base, "flight_delay_scores", "default")
    days = ("2013-06-01", "2013-06-02", "2013-06-03")

    def stop(event):
        if event.kind == "journaled":
            raise OSError("stop")

    for day in days:
        with (
            pytest.raises(OSError, match="stop"),
            Transaction.begin(store, SINK, f"{root}/scores", day, attempt_of(f"r-{day}"), on_event=stop) as transaction,
        ):
            stage(transaction, storage, {f"dt={day}/part-0": "new"})
            transaction.publish((f"dt={day}",), COUNTS)
    folder = tmp_path / "_firesteel" / "flight_delay_scores"
    (folder / "journal" / "default" / SINK / days[0] / "0000000001.json").write_bytes(b"")
    lease = folder / "lease" / "default" / SINK / days[1]
    shutil.rmtree(lease / "0000000001.abandoned")
    (lease / "0000000001.json").write_bytes(b"")
    assert invoke(["recover", str(EXAMPLE / "pipeline.yaml"), "--param", f"root={root}"]) == 1
    out, err = capsys.readouterr()
    assert "r-2013-06-03" in out
    assert err.count("FS8006") == 2
    assert all(f"{day}/0000000001.json" in err for day in days[:2])
    assert (tmp_path / "scores" / f"dt={days[2]}" / "part-0").read_text() == "new"


def test_the_pointers_of_two_sinks_that_are_exchanged(tmp_path):
    root, other = f"file://{tmp_path}", f"file://{tmp_path}/other"
    publish(root, "r1", FIRST)
    publish(other, "r2", FIRST)
    one, two, spare = (tmp_path / name for name in ("scores/_current", "other/scores/_current", "spare"))
    (tmp_path / "link").symlink_to(tmp_path / "scores")
    assert len(current_files(f"{root}/link")) == len(FIRST), "a link to the sink is the sink"
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    for sink in (sink_of(root), sink_of(other), f"{root}/link"):
        with pytest.raises(StorageError, match=r"FS8006.*belongs to another place"):
            current_files(sink, timeout_s=0)


def _packed(body: bytes) -> bytes:
    return hashlib.sha256(body).digest() + body


@pytest.mark.parametrize(
    "body",
    [
        b"not compressed",
        zlib.compress(b"ab"),
        zlib.compress(b"\0\0\0\4null"),
        zlib.compress(b"\0\0\0\x09[[1,2,3]]"),
        zlib.compress(b'\0\0\0\x11["a","b","c",1]'),
        zlib.compress(b'\0\0\0\x0e[[[],1,1,"a"]]'),
        zlib.compress(b"\0\x0f\0\0" + b"[" * 0xF0000),
        zlib.compress(b"\xff\xff\xff\xff"),
        zlib.compress(bytes(1 << 20)),
        zlib.compress(b"\0\0\0\2[]")[:-3],
    ],
)
def test_an_index_with_the_right_checksum_and_any_content_changes_no_result(tmp_path, monkeypatch, body):
    monkeypatch.setattr(sink_records, "INDEX_FROM", 1)
    monkeypatch.setattr(sink_records, "_SPARE_BYTES", 1 << 16)
    root = f"file://{tmp_path}"
    publish(root, "r1", NEW)
    index = Path(SinkRecords(area_of(root), SINK).index_path)
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_bytes(_packed(body))
    (record,) = SinkRecords(area_of(root), SINK).all()
    assert record.run_id == "r1"


def test_an_index_whose_bytes_are_no_record_is_not_an_error_of_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_records, "INDEX_FROM", 1)
    root = f"file://{tmp_path}"
    publish(root, "r1", NEW)
    index = Path(SinkRecords(area_of(root), SINK).index_path)
    index.parent.mkdir(parents=True, exist_ok=True)
    file = next((tmp_path / "_firesteel" / "ledger").rglob("*.json"))
    status = area_of(root).storage.status(str(file))
    head = json.dumps([[INTERVAL, 1, status.length, status.modified_ms]]).encode()
    index.write_bytes(_packed(zlib.compress(len(head).to_bytes(4, "big") + head + bytes(status.length))))
    (record,) = SinkRecords(area_of(root), SINK).all()
    assert record.run_id == "r1"
