"""Attacks on the identity of a sink: what a run believes of a sink is what is there, and one owner publishes to it."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from firesteel.conf.errors import FiresteelError, GateFailed, LeaseConflict, SpecErrors, StorageError
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.run.backfill import skip_published
from firesteel.jobs.run.interval_context import IntervalContext, Skip
from firesteel.jobs.run.stages import CheckLedger
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.events import ignore
from firesteel.pipelines.plan.model import IntervalPlan, SinkOutput
from firesteel.pipelines.publish.cancel import cancel
from firesteel.pipelines.publish.dead_letters import dead_letters
from firesteel.pipelines.publish.journal import read_journal
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.permit import permit
from firesteel.pipelines.publish.quarantine import quarantine_path, quarantined
from firesteel.pipelines.publish.recover import leftovers, person, recover, restore_marker
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.publish.status import interval_status
from firesteel.pipelines.publish.swap import swap
from firesteel.pipelines.publish.transaction import Attempt, StateStore, Transaction
from firesteel.pipelines.publish.transfer import transfer
from firesteel.pipelines.read import current_files
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.pipelines.storage.open import locate
from support.data import write, write_days
from support.specs import FixedBackend, example_with

DAY, NEXT = "2013-06-01", "2013-06-02"
MOVED = {
    "params:": "params:\n  out: {type: uri, required: true}",
    "path: ${param.root}/scores": "path: ${param.out}/scores",
}
APPENDS = {"mode: replace_partitions": "mode: append_once"}
Content = dict[str, str]
T = TypeVar("T")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_days(tmp_path / "data", [DAY, NEXT])
    return tmp_path / "data"


def pipeline_of(root: Path, changes: dict[str, str] | None = None, *, profile: str = "", **params: str) -> Pipeline:
    path = example_with(root.parent / "project", changes or {})
    where = {"root": f"file://{root}", **params}
    return Pipeline.load(path, params=where, backend=FixedBackend(), **({"profile": profile} if profile else {}))


def store_of(plan: Plan) -> StateStore:
    return StateStore.at(plan.storage, plan.pipeline, plan.profile)


def begin(plan: Plan, interval: IntervalPlan, run_id: str, **options) -> Transaction:
    attempt = Attempt(run_id, interval.plan_hash, "ann", "host", "2013-06-02", hash_inputs=interval.hash_inputs)
    return Transaction.begin(store_of(plan), "scores", plan.sinks[0].path, interval.id, attempt, **options)


def publish(plan: Plan, run_id: str = "r1", *, text: str = "rows", **options) -> None:
    """Publish a file in each partition of each interval that is to be scored."""
    for interval in plan.intervals:
        if interval.action != "score":
            continue
        with begin(plan, interval, run_id, **options) as transaction:
            for directory in interval.outputs[0].directories:
                path = f"{transaction.staging_path}/{directory}/{run_id}.parquet"
                locate(plan.storage)[0].create(path, text.encode())
            act = transaction.append if plan.sinks[0].mode == "append_once" else transaction.publish
            act(interval.outputs[0].directories, Counts())


def take(pipeline: Pipeline) -> list[str]:
    """What `firesteel recover --take-ownership` does first."""
    plan = pipeline.loaded.spec
    store = StateStore.at(plan.storage, plan.name, pipeline.loaded.profile)
    return transfer(store, {name: sink.path for name, sink in plan.sinks.items()}, person("transfer"))


def files_below(plan: Plan, kind: str) -> list[str]:
    folder = Path(plan.storage.removeprefix("file://"), kind, plan.profile)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def sink_of(plan: Plan) -> Path:
    return Path(plan.sinks[0].path.removeprefix("file://"))


def data_in(plan: Plan) -> Content:
    sink = sink_of(plan)
    return {str(path.relative_to(sink)): path.read_text() for path in sorted(sink.rglob("*.parquet"))}


def decisions(plan: Plan) -> list[tuple[str, str]]:
    return [(interval.action, interval.reason.partition(":")[0].partition(" (")[0]) for interval in plan.intervals]


def check_ledger(plan: Plan, interval: IntervalPlan) -> Skip | None:
    """What the first stage of a run says of an interval; it needs no session."""
    attempt = Attempt("r", interval.plan_hash, "ann", "host", "2013-06-02")
    context = IntervalContext(None, plan, interval, {}, attempt, lambda _: None, None)
    return CheckLedger(plan.sinks[0]).run(context)


SKIP = ("skip", "already published with the same plan hash")
GONE = ("score", "published files are missing")


class TestFilesAreThere:
    """An interval is skipped only if the files that its record names are in the sink."""

    def test_a_sink_that_was_moved_is_filled_again(self, root: Path) -> None:
        here, there = f"file://{root}/here", f"file://{root}/there"
        publish(pipeline_of(root, MOVED, out=here).plan(DAY))
        plan = pipeline_of(root, MOVED, out=there).plan(DAY)
        assert decisions(plan) == [("score", "published to another location")]
        assert f"{root}/here/scores" in plan.intervals[0].reason
        assert check_ledger(plan, plan.intervals[0]) is None
        publish(plan, "r2")
        assert len(data_in(plan)) == 3
        assert decisions(pipeline_of(root, MOVED, out=there).plan(DAY)) == [SKIP]

    def test_marks_and_rows_of_one_location_say_nothing_of_another(self, root: Path) -> None:
        """The spec moves its sink from A to B and back. B is published, suspect, has dead letters and quarantined rows."""
        here, there = (pipeline_of(root, MOVED, out=f"file://{root}/{name}") for name in ("here", "there"))
        publish(here.plan(DAY), "a")
        plan = there.plan(DAY)
        publish(plan, "b")
        store = store_of(plan)
        for run in "ab":
            row = json.dumps({"row": {}, "error": "E", "message": "", "model_version": ""})
            store.storage.create(f"{store.base}/dead_letter/scored/{DAY}/{run}.jsonl", row.encode())
            store.storage.create(quarantine_path(store, "flights", DAY, run) + "/part.parquet", b"")
        audit = plan.intervals[0]
        with begin(plan, audit, "wrong") as transaction:
            transaction.fail("FS7001 gate output_ok fails.", action="audit")

        def state(pipeline: Pipeline) -> tuple[bool, list[str], list[str], list[str]]:
            sinks = pipeline.loaded.sink_uris
            location = canonical(sinks["scores"])
            suspect = {
                bool(Ledger(store).suspect("scores", DAY, location)),
                bool(SinkRecords(store, "scores").suspect(location)),
                bool(interval_status(store, sinks, (DAY,), "")["intervals"][0]["suspect"]),
            }
            assert len(suspect) == 1
            return (
                suspect.pop(),
                [file.run_id for file in dead_letters(store, sinks) if file.open],
                [rows.run_id for rows in quarantined(store, sinks) if rows.state == "active"],
                [Path(file).stem for file in current_files(sinks["scores"], [DAY])][:1],
            )

        assert state(here) == (False, ["a"], ["a"], ["a"])
        assert state(there) == (True, ["b"], ["b"], ["b"])
        assert current_files(here.loaded.sink_uris["scores"], refuse_suspect=True)
        with pytest.raises(GateFailed, match="FS7006"):
            current_files(there.loaded.sink_uris["scores"], refuse_suspect=True)
        publish(here.plan(DAY, force=True), "a2")  # does not clear the mark of the other location
        assert state(there) == (True, ["b"], ["b"], ["b"])
        assert state(here)[1:] == ([], [], ["a2"])

    def test_a_link_that_moves_moves_the_sink(self, root: Path) -> None:
        for name in ("here", "there"):
            (root / name).mkdir()
        (root / "link").symlink_to(root / "here")
        pipeline = pipeline_of(root, MOVED, out=f"file://{root}/link")
        publish(pipeline.plan(DAY))
        assert decisions(pipeline.plan(DAY)) == [SKIP]
        assert decisions(pipeline_of(root, MOVED, out=f"file://{root}/here/").plan(DAY)) == [SKIP]
        (root / "link").unlink()
        (root / "link").symlink_to(root / "there")
        assert decisions(pipeline.plan(DAY)) == [("score", "published to another location")]

    def test_a_rollback_does_not_use_the_versions_of_another_location(self, root: Path) -> None:
        here, there = f"file://{root}/here", f"file://{root}/there"
        plan = pipeline_of(root, MOVED, out=here).plan(DAY)
        publish(plan)
        publish(pipeline_of(root, MOVED, out=here).plan(DAY, force=True), "r2")
        moved = pipeline_of(root, MOVED, out=there).plan(DAY)
        attempt = Attempt("back", "", "ann", "host", "2013-06-02")
        with pytest.raises(StorageError, match="FS8010"):
            rollback(store_of(moved), "scores", moved.sinks[0].path, DAY, attempt)
        assert not sink_of(moved).exists()
        assert set(data_in(plan)) == {f"dt={DAY}/origin={name}/r2.parquet" for name in ("EWR", "JFK", "LGA")}

    @pytest.mark.parametrize("harm", ["partition", "day", "file", "length", "sink"])
    def test_what_is_gone_is_scored_again(self, root: Path, harm: str) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY, NEXT)
        publish(plan)
        assert decisions(pipeline.plan(DAY, NEXT)) == [SKIP, SKIP]
        file = sink_of(plan) / f"dt={DAY}/origin=JFK/r1.parquet"
        if harm == "file":
            file.unlink()
        elif harm == "length":
            file.write_text("row")
        else:
            shutil.rmtree({"partition": file.parent, "day": file.parent.parent, "sink": sink_of(plan)}[harm])
        again = pipeline.plan(DAY, NEXT)
        assert decisions(again) == [GONE, GONE if harm == "sink" else SKIP]
        assert f"dt={DAY}/origin=" in again.intervals[0].reason
        assert check_ledger(again, again.intervals[0]) is None
        resumed = skip_published(plan)  # the stored plan of a backfill
        assert [interval.action for interval in resumed.intervals] == [action for action, _ in decisions(again)]
        publish(again, "r2")
        assert decisions(pipeline.plan(DAY, NEXT)) == [SKIP, SKIP]
        assert isinstance(check_ledger(plan, plan.intervals[0]), Skip)

    def test_appended_files_that_are_gone_are_an_error_and_a_rollback_repairs_it(self, root: Path) -> None:
        pipeline = pipeline_of(root, APPENDS)
        plan = pipeline.plan(DAY)
        publish(plan)
        shutil.rmtree(sink_of(plan) / f"dt={DAY}/origin=JFK")
        for attack in (lambda: pipeline.plan(DAY), lambda: check_ledger(plan, plan.intervals[0])):
            with pytest.raises(StorageError, match=r"FS8013.*origin=JFK/r1.parquet") as caught:
                attack()
            assert f"firesteel rollback --interval {DAY} --sink scores" in caught.value.hint
        attempt = Attempt("back", "", "ann", "host", "2013-06-02")
        rollback(store_of(plan), "scores", plan.sinks[0].path, DAY, attempt)
        assert data_in(plan) == {}
        publish(pipeline.plan(DAY), "r2")
        assert len(data_in(plan)) == 3

    def test_a_rollback_to_nothing_is_not_filled_behind_its_back(self, root: Path) -> None:
        """The plan says that the interval changed, as before; it does not call the rolled-back files missing."""
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        publish(plan)
        rollback(store_of(plan), "scores", plan.sinks[0].path, DAY, Attempt("back", "", "ann", "host", "2013-06-02"))
        ((action, reason),) = decisions(pipeline.plan(DAY))
        assert (action, reason) == ("score", "changed since it was published")

    def test_a_plan_over_many_intervals_lists_the_sink_once(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        days = [f"2013-06-{day:02d}" for day in range(1, 21)]
        write_days(root, days, rows=1)
        pipeline = pipeline_of(root)
        publish(pipeline.plan(days[0], days[-1]))
        sink, scans = str(sink_of(pipeline.plan(DAY))), []
        scan = LocalStorage.scan

        def counted(self, paths):
            scans.append([path for path in paths if path.startswith(sink)])
            return scan(self, paths)

        monkeypatch.setattr(LocalStorage, "scan", counted)
        assert decisions(pipeline.plan(days[0], days[-1])) == [SKIP] * 20
        assert [len(paths) for paths in scans if paths] == [60]


class TestUnfinished:
    """The next run completes what a killed one has journaled, whatever its plan says."""

    @pytest.mark.parametrize(
        ("mode", "kind"),
        [
            *(("replace", kind) for kind in ("journaled", "partition_retired", "partition_published", "ledgered")),
            *(("append", kind) for kind in ("journaled", "partition_published", "ledgered")),
        ],
    )
    def test_a_forced_rerun_that_died_while_it_published_is_planned(self, root: Path, kind: str, mode: str) -> None:
        pipeline = pipeline_of(root, APPENDS if mode == "append" else {})
        plan = pipeline.plan(DAY)
        publish(plan)
        if mode == "append":  # another plan of the interval: the same one is never appended twice
            write_days(root, [DAY], rows=21)

        def stop(event):
            if event.kind == kind:
                raise OSError("killed")

        forced = pipeline.plan(DAY, force=True)
        with pytest.raises(OSError, match="killed"):
            publish(forced, "r2", on_event=stop)
        again = pipeline.plan(DAY)
        if kind == "ledgered":  # only the clean-up is left
            assert decisions(again) in ([SKIP], [("skip", "this plan is already appended")])
            return
        assert decisions(again) == [("score", "a run ended before it had published all files")]
        assert [interval.action for interval in skip_published(forced).intervals] == ["score"]
        with begin(again, again.intervals[0], "r3"):  # as a run does, before its first stage
            assert check_ledger(again, again.intervals[0]) == Skip("published meanwhile by run r2")
        names = {name.rpartition("/")[2] for name in data_in(plan)}
        assert names == ({"r1.parquet", "r2.parquet"} if mode == "append" else {"r2.parquet"})
        assert pipeline.plan(DAY).intervals[0].action == "skip"

    def test_a_live_publish_is_not_unfinished(self, root: Path) -> None:
        pipeline = pipeline_of(root)
        publish(pipeline.plan(DAY))
        seen = []

        def look(event):
            if event.kind == "journaled":
                seen.extend(decisions(pipeline.plan(DAY)))

        publish(pipeline.plan(DAY, force=True), "r2", on_event=look)
        assert seen == [SKIP]

    def test_an_attempt_that_died_before_its_journal_changes_no_plan(self, root: Path) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        publish(plan)
        transaction = begin(plan, plan.intervals[0], "r2")
        transaction._lease.abandon()  # a killed driver, without the wait for its lease
        assert decisions(pipeline.plan(DAY)) == [SKIP]
        assert recover(store_of(plan), "scores", plan.sinks[0].path, DAY).state == "died"
        assert Ledger(store_of(plan)).published("scores", DAY).run_id == "r1"


class TestOnePartitionOneInterval:
    """An output partition belongs to one interval; another one cannot replace its rows."""

    def test_a_whole_plan_is_checked(self, root: Path) -> None:
        """`validate` looks at examples only: the 30th and the 31st of January are both February 28th a month later."""
        later = {'select: {dt: "${interval.ds}", origin': 'select: {dt: "${interval.ds} + 1mo", origin'}
        write_days(root, ["2013-01-29", "2013-01-30", "2013-01-31", "2013-02-28"])
        pipeline = pipeline_of(root, later)
        assert pipeline.plan("2013-01-30").intervals[0].outputs[0].directories[0].startswith("dt=2013-02-28")
        with pytest.raises(SpecErrors, match=r"2013-01-30 and 2013-01-31 both replace dt=2013-02-28/origin=") as caught:
            pipeline.plan("2013-01-30", "2013-01-31")
        assert caught.value.errors[0].code == "FS1004"

    @pytest.mark.parametrize(
        ("mine", "theirs"),
        [(("dt=1",), ("dt=1",)), (("dt=1/o=A",), ("dt=1",)), (("dt=0", "dt=1"), ("dt=2", "dt=1"))],
    )
    def test_the_ledger_knows_the_owner(self, root: Path, mine: tuple[str, ...], theirs: tuple[str, ...]) -> None:
        plan = pipeline_of(root).plan(DAY, NEXT)
        first, second = (
            replace(interval, outputs=(SinkOutput("scores", directories),))
            for interval, directories in zip(plan.intervals, (mine, theirs), strict=True)
        )
        publish(replace(plan, intervals=(first,)), "mine")
        before = data_in(plan)
        for _ in range(2):
            with pytest.raises(StorageError, match=rf"FS8014.*belongs to the interval {DAY}.*run mine") as caught:
                publish(replace(plan, intervals=(second,)), "theirs")
            assert f"firesteel rollback --interval {DAY}" in caught.value.hint
        assert data_in(plan) == before
        assert [record.state for record in Ledger(store_of(plan)).history("scores", NEXT)] == ["failed", "failed"]
        assert not list(Path(plan.storage.removeprefix("file://"), "journal").rglob(f"{NEXT}/*"))
        publish(replace(plan, intervals=(first,)), "again")
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"again.parquet"}

    def test_rows_that_nobody_published_are_replaced_as_before(self, root: Path) -> None:
        plan = pipeline_of(root).plan(DAY, NEXT)
        old = sink_of(plan) / f"dt={NEXT}/origin=JFK/by-hand.parquet"
        old.parent.mkdir(parents=True)
        old.write_text("old")
        publish(plan)
        assert len(data_in(plan)) == 6
        assert not old.exists()

    def test_a_partition_that_was_rolled_back_is_free(self, root: Path) -> None:
        plan = pipeline_of(root).plan(DAY, NEXT)
        first, second = plan.intervals
        second = replace(second, outputs=first.outputs)
        publish(replace(plan, intervals=(first,)))
        rollback(store_of(plan), "scores", plan.sinks[0].path, DAY, Attempt("back", "", "ann", "host", "2013-06-02"))
        publish(replace(plan, intervals=(second,)), "theirs")
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"theirs.parquet"}

    def test_an_interval_of_an_earlier_unit_is_removed_by_the_command_that_the_error_names(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daily = pipeline_of(root).plan(DAY)
        hour = replace(daily.intervals[0], id=f"{DAY}T05")  # as published with `unit: hour`
        publish(replace(daily, intervals=(hour,)), "hour")
        with pytest.raises(StorageError, match=rf"FS8014.*belongs to the interval {DAY}T05") as caught:
            publish(daily, "day")
        command = caught.value.hint.partition("`firesteel ")[2].partition("`")[0].split()
        spec = str(root.parent / "project" / "pipeline.yaml")
        assert invoke([command[0], spec, *command[1:], "--param", f"root=file://{root}"]) == 0, capsys.readouterr()
        publish(daily, "day")
        assert {name.rpartition("/")[2] for name in data_in(daily)} == {"day.parquet"}


def files_under(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*") if path.is_file()}


class TestOneOwner:
    """A sink belongs to one storage, pipeline and profile, and a storage to one pipeline."""

    PROFILES = {"profiles:\n": "profiles:\n  other: {resources: {executors: {min: 0, max: 2, cores: 1, memory: 1g}}}\n"}
    STORAGES = {
        "params:": "params:\n  records: {type: uri, required: true}",
        "storage: ${param.root}/_firesteel/flight_delay_scores": "storage: ${param.records}",
    }

    def rivals(self, root: Path, what: str) -> tuple[Pipeline, Pipeline]:
        if what == "profile":
            return pipeline_of(root, self.PROFILES), pipeline_of(root, self.PROFILES, profile="other")
        if what == "storage":
            records = [f"file://{root}/{name}" for name in ("a", "b")]
            return tuple(pipeline_of(root, self.STORAGES, records=uri) for uri in records)
        renamed = pipeline_of(root, {"name: flight_delay_scores": "name: other_scores"})
        return pipeline_of(root), renamed

    @pytest.mark.parametrize("what", ["profile", "storage", "pipeline"])
    def test_a_second_owner_is_refused_until_it_takes_ownership(self, root: Path, what: str) -> None:
        mine, theirs = self.rivals(root, what)
        plan, unaware = mine.plan(DAY), theirs.plan(DAY)
        publish(plan, "mine")
        before, leases = data_in(plan), files_below(plan, "lease")
        for attack in (lambda: theirs.plan(DAY), lambda: publish(unaware, "theirs")):
            with pytest.raises(StorageError, match="FS8012") as caught:
                attack()
            assert "firesteel recover --take-ownership" in caught.value.hint
        assert data_in(plan) == before
        assert files_below(plan, "lease") == leases
        assert files_below(unaware, "journal") == (files_below(plan, "journal") if what == "pipeline" else [])

        changes = take(theirs)
        assert len(changes) == (2 if what == "pipeline" else 1)
        assert take(theirs) == []
        publish(theirs.plan(DAY), "theirs")
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"theirs.parquet"}
        assert decisions(theirs.plan(DAY)) == [SKIP]
        for attack in (lambda: mine.plan(DAY), lambda: publish(plan, "back")):
            with pytest.raises(StorageError, match="FS8012"):
                attack()
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"theirs.parquet"}

        take(mine)
        ((action, reason),) = decisions(mine.plan(DAY))
        assert action == "score", reason  # its old files are gone, whatever its ledger says
        publish(mine.plan(DAY), "again")
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"again.parquet"}

    @pytest.mark.parametrize("what", ["profile", "storage"])
    def test_of_two_owners_at_once_one_publishes(self, root: Path, what: str) -> None:
        """Both hold a lease and have staged; the marker is created exclusively, before the first journal."""
        plans = [pipeline.plan(DAY) for pipeline in self.rivals(root, what)]
        barrier, outcomes = threading.Barrier(2), dict[int, str]()

        def drive(number: int) -> None:
            plan = plans[number]
            interval = plan.intervals[0]
            directories = interval.outputs[0].directories
            try:
                with begin(plan, interval, f"r{number}") as transaction:
                    for directory in directories:
                        path = f"{transaction.staging_path}/{directory}/r{number}.parquet"
                        locate(plan.storage)[0].create(path, b"rows")
                    barrier.wait(30)
                    transaction.publish(directories, Counts())
                outcomes[number] = "published"
            except StorageError as error:
                outcomes[number] = error.code

        threads = [threading.Thread(target=drive, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes.values()) == ["FS8012", "published"]
        winner = next(number for number, outcome in outcomes.items() if outcome == "published")
        assert {name.rpartition("/")[2] for name in data_in(plans[0])} == {f"r{winner}.parquet"}
        assert files_below(plans[1 - winner], "journal") == []
        assert decisions([*self.rivals(root, what)][winner].plan(DAY)) == [SKIP]

    NESTED = {
        "a sink in a partition": ("scores/dt=2013-06-01/origin=JFK/x", "a"),
        "a sink at a partition": ("scores/dt=2013-06-01", "a"),
        "a storage in a partition": ("b", "scores/dt=2013-06-01"),
        "a sink in retained versions": ("a/versions/prod/scores/2013-06-01/0000000001/data/dt=2013-06-01", "b"),
        "a storage in a storage": ("b", "a/ledger"),
    }

    def nested(self, root: Path, sink: str, storage: str) -> Pipeline:
        changes = {
            "name: flight_delay_scores": "name: other_scores",
            "path: ${param.root}/scores": "path: ${param.target}",
            "params:": "params:\n  records: {type: uri, required: true}\n  target: {type: uri, required: true}",
            "storage: ${param.root}/_firesteel/flight_delay_scores": "storage: ${param.records}",
        }
        return pipeline_of(root, changes, target=f"file://{root}/{sink}", records=f"file://{root}/{storage}")

    @pytest.mark.parametrize("what", NESTED)
    @pytest.mark.parametrize("linked", [False, True])
    def test_nothing_is_published_inside_the_sink_or_the_storage_of_another(
        self, root: Path, what: str, linked: bool
    ) -> None:
        mine = pipeline_of(root, self.STORAGES, records=f"file://{root}/a")
        publish(mine.plan(DAY), "mine")
        (root / "link").symlink_to(root)
        sink, storage = (f"link/{path}" if linked else path for path in self.NESTED[what])
        theirs = self.nested(root, sink, storage if what.startswith("a storage") else "c")
        before = files_under(root)
        with pytest.raises(StorageError, match=r"FS8012.*is inside the (sink|storage)"):
            theirs.plan(DAY)
        assert files_under(root) == before

    def test_a_sink_that_comes_into_a_sink_after_the_plan_publishes_nothing(self, root: Path) -> None:
        mine = pipeline_of(root, self.STORAGES, records=f"file://{root}/a")
        theirs = self.nested(root, "scores/dt=2013-06-01", "c").plan(DAY)
        publish(mine.plan(DAY), "mine")
        before = files_under(root)
        with pytest.raises(StorageError, match="FS8012"):
            publish(theirs, "theirs")
        assert files_under(root) == before

    def test_a_partition_that_has_another_sink_is_not_replaced(self, root: Path) -> None:
        mine = pipeline_of(root, self.STORAGES, records=f"file://{root}/a").plan(DAY)
        publish(self.nested(root, "scores/dt=2013-06-01/origin=JFK/x", "c").plan(DAY), "theirs")
        before = files_under(root / "scores")
        with pytest.raises(StorageError, match="FS8012"):
            publish(mine, "mine")
        assert files_under(root / "scores") - {f"{root}/scores/_current"} == before

    def test_a_hidden_folder_of_a_sink_may_have_a_sink(self, root: Path) -> None:
        publish(pipeline_of(root, self.STORAGES, records=f"file://{root}/a").plan(DAY), "mine")
        theirs = self.nested(root, "scores/_other", "scores/_firesteel").plan(DAY)
        publish(theirs, "theirs")
        assert decisions(self.nested(root, "scores/_other", "scores/_firesteel").plan(DAY)) == [SKIP]

    def test_files_of_other_programs_with_the_names_of_markers_are_no_owners(self, root: Path) -> None:
        for name in ("_current", "owner.json"):
            (root / name).write_text("{}")
        publish(pipeline_of(root).plan(DAY), "mine")
        assert decisions(pipeline_of(root).plan(DAY)) == [SKIP]

    def test_ownership_that_moves_during_a_run_stops_it_before_its_journal(self, root: Path) -> None:
        mine, theirs = self.rivals(root, "storage")
        plan = mine.plan(DAY)
        publish(plan, "mine")
        store = store_of(plan)
        with pytest.raises(StorageError, match="FS8012"), begin(plan, plan.intervals[0], "late") as transaction:
            transaction._lease.abandon()  # it counts as dead
            take(theirs)
            publish(theirs.plan(DAY), "theirs")
            transaction.publish((f"dt={DAY}/origin=JFK",), Counts())
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"theirs.parquet"}
        assert Ledger(store).latest("scores", DAY).state == "died"

    def test_a_live_owner_keeps_its_sink(self, root: Path) -> None:
        mine, theirs = self.rivals(root, "profile")
        plan = mine.plan(DAY)
        publish(plan, "mine")
        with begin(plan, plan.intervals[0], "again"), pytest.raises(LeaseConflict, match="FS7501"):
            take(theirs)
        assert decisions(mine.plan(DAY)) == [SKIP]

    def test_what_the_old_owner_left_is_completed_before_the_sink_changes_hands(self, root: Path) -> None:
        mine, theirs = self.rivals(root, "storage")
        plan = mine.plan(DAY)
        publish(plan, "mine")

        def stop(event):
            if event.kind == "partition_retired":
                raise OSError("killed")

        with pytest.raises(OSError, match="killed"):
            publish(mine.plan(DAY, force=True), "half", on_event=stop)
        take(theirs)
        assert set(data_in(plan)) == {f"dt={DAY}/origin={name}/half.parquet" for name in ("EWR", "JFK", "LGA")}

    def test_a_storage_that_was_moved_goes_on_after_a_transfer(self, root: Path) -> None:
        """Its journals must not be finished by two copies of the storage."""
        mine, theirs = self.rivals(root, "storage")
        plan, moved = mine.plan(DAY), theirs.plan(DAY)
        publish(plan, "mine")

        def stop(event):
            if event.kind == "journaled":
                raise OSError("killed")

        with pytest.raises(OSError, match="killed"):
            publish(mine.plan(DAY, force=True), "half", on_event=stop)
        (root / "a").rename(root / "b")
        with pytest.raises(StorageError, match="FS8012"):
            recover(store_of(moved), "scores", moved.sinks[0].path, DAY)
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"mine.parquet"}
        take(theirs)
        assert recover(store_of(moved), "scores", moved.sinks[0].path, DAY).state == "published"
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"half.parquet"}
        assert decisions(theirs.plan(DAY)) == [SKIP]

    def test_a_link_to_the_storage_is_the_same_storage(self, root: Path) -> None:
        mine, theirs = self.rivals(root, "storage")
        publish(mine.plan(DAY), "mine")
        (root / "b").symlink_to(root / "a")
        assert decisions(theirs.plan(DAY)) == [SKIP]

    def test_two_pipelines_do_not_share_a_storage(self, root: Path) -> None:
        """`rollback` of one published the rows of the other, with exit 0."""
        mine = pipeline_of(root, MOVED, out=f"file://{root}/here")
        renamed = {"name: flight_delay_scores": "name: other_scores", **MOVED}
        theirs = pipeline_of(root, renamed, out=f"file://{root}/there")
        plan, other = mine.plan(DAY), theirs.plan(DAY)
        publish(plan, "mine")
        publish(mine.plan(DAY, force=True), "again")
        attempt = Attempt("back", "", "ann", "host", "2013-06-02")
        for attack in (
            lambda: theirs.plan(DAY),
            lambda: publish(other, "theirs"),
            lambda: rollback(store_of(other), "scores", other.sinks[0].path, DAY, attempt),
            lambda: recover(store_of(other), "scores", other.sinks[0].path, DAY),
            lambda: cancel(store_of(other), ("scores",), "again", who="ann", signal=False),
        ):
            with pytest.raises(StorageError, match=r"FS8012.*belongs to the pipeline flight_delay_scores"):
                attack()
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"again.parquet"}
        assert data_in(other) == {}

    def test_readers_do_not_see_the_marker(self, root: Path) -> None:
        import pyarrow as pa
        import pyarrow.dataset as ds

        plan = pipeline_of(root).plan(DAY)
        publish(plan)
        write(sink_of(plan) / f"dt={DAY}/origin=JFK/r1.parquet", pa.table({"x": [1]}))
        for name in ("EWR", "LGA"):
            (sink_of(plan) / f"dt={DAY}/origin={name}/r1.parquet").unlink()
        assert (sink_of(plan) / "_current").is_file()
        assert ds.dataset(sink_of(plan), partitioning="hive").to_table()["x"].to_pylist() == [1]

    def test_the_command_transfers(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mine, _ = self.rivals(root, "profile")
        publish(mine.plan(DAY), "mine")
        spec = str(root.parent / "project" / "pipeline.yaml")
        words = ["recover", spec, "--param", f"root=file://{root}", "--profile", "other"]
        assert invoke([*words, "--take-ownership"]) == 0
        assert (
            "scores belonged to the sink scores of pipeline flight_delay_scores, profile default"
            in capsys.readouterr().out
        )
        with pytest.raises(StorageError, match="FS8012"):
            mine.plan(DAY)


class TestOneFileSystem:
    """What a swap cannot rename is refused before the lease, and wedges no interval."""

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Iterator[Path]:
        """A folder on another file system."""
        here = tmp_path.stat().st_dev
        others = [Path(path) for path in ("/dev/shm", "/tmp", "/var/tmp", str(Path.cwd()))]
        other = next((path for path in others if path.is_dir() and path.stat().st_dev != here), None)
        if other is None:
            pytest.skip("this machine has one file system")
        with tempfile.TemporaryDirectory(dir=other) as folder:
            yield Path(folder)

    @pytest.mark.parametrize("what", ["sink", "a link to the sink", "staging", "versions", "parent"])
    def test_another_file_system_is_refused_before_the_lease(self, root: Path, elsewhere: Path, what: str) -> None:
        out = elsewhere if what == "sink" else root / "out"
        if what == "parent":  # of a sink that does not exist yet
            (root / "out").symlink_to(elsewhere)
        plan = pipeline_of(root, MOVED, out=f"file://{out}").plan(DAY)
        storage = Path(plan.storage.removeprefix("file://"))
        if what == "a link to the sink":
            out.mkdir()
            (out / "scores").symlink_to(elsewhere)
        if what in {"staging", "versions"}:
            storage.mkdir(parents=True)
            (storage / what).symlink_to(elsewhere)
        for _ in range(2):
            with pytest.raises(StorageError, match="FS8008") as caught:
                publish(plan)
            assert caught.value.hint.startswith("Put the sink and `storage` in one file system")
        assert not (storage / "lease").exists()
        assert not (storage / "journal").exists()
        assert not list(elsewhere.rglob("*probe*"))
        assert not list(root.rglob("*probe*"))

        if what != "sink":  # a spec with one file system goes on
            link = {"parent": out, "a link to the sink": out / "scores"}.get(what, storage / what)
            link.unlink()
            publish(plan)
            assert len(data_in(plan)) == 3

    def test_nothing_of_a_probe_is_left(self, root: Path) -> None:
        plan = pipeline_of(root).plan(DAY, NEXT)
        publish(plan)
        assert not list(root.rglob("*probe*"))


class TestHalfDeletedState:
    """Whatever file or folder of the state is deleted: the next run works, or names the command after which it works."""

    @pytest.mark.parametrize(
        "kind", ["before the journal", "journaled", "partition_retired", "partition_published", "ledgered"]
    )
    def test_each_file_and_folder_in_turn(self, root: Path, tmp_path: Path, kind: str) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        expires = {"lease_ttl_s": 0.1}  # a lease without its mark is held until then
        publish(plan, **expires)
        publish(pipeline.plan(DAY, force=True), "r2", **expires)

        if kind == "before the journal":
            forced = pipeline.plan(DAY, force=True)
            transaction = begin(forced, forced.intervals[0], "r3", **expires)
            transaction._lease.abandon()
            path = f"{transaction.staging_path}/dt={DAY}/origin=JFK/r3.parquet"
            locate(plan.storage)[0].create(path, b"rows")
        else:
            self.die(pipeline, kind, **expires)
        places = {"_firesteel": root / "_firesteel", "scores": root / "scores"}
        for name, place in places.items():
            shutil.copytree(place, tmp_path / "copy" / name)
        paths = [
            path
            for place in places.values()
            for path in (place, *sorted(place.rglob("*")))
            if not (
                path.is_dir() and [child.is_dir() for child in path.iterdir()] == [True]
            )  # its child is in the list
        ]
        assert len(paths) > 30
        time.sleep(0.2)
        for path in paths:
            for name, place in places.items():
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(tmp_path / "copy" / name, place)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.do(plan, path, lambda: self.run_once(pipeline))
            self.check(pipeline, plan, path)

    def test_a_rollback_without_its_journal_names_the_command_that_helps(self, root: Path) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        publish(plan)
        shutil.rmtree(Path(plan.storage.removeprefix("file://"), "journal"))
        with pytest.raises(StorageError, match=r"FS8010.*journal of run r1 was deleted") as caught:
            rollback(store_of(plan), "scores", plan.sinks[0].path, DAY, person("rollback"))
        assert "`firesteel run --force`" in caught.value.hint
        publish(pipeline.plan(DAY, force=True), "r2")
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"r2.parquet"}

    def test_a_swap_whose_new_files_are_gone_leaves_the_old_ones(self, root: Path) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        publish(plan)
        before = data_in(plan)
        self.die(pipeline, "journaled")
        shutil.rmtree(Path(plan.storage.removeprefix("file://"), "staging"))
        self.recover(plan)
        record = Ledger(store_of(plan)).latest("scores", DAY)
        assert (record.run_id, record.state) == ("r3", "died")
        assert "staged files were deleted, such as dt=2013-06-01/origin=EWR/r3.parquet (3 in all)" in record.error
        assert data_in(plan) == before
        assert decisions(pipeline.plan(DAY)) == [SKIP]
        assert leftovers(store_of(plan), "scores") == ()
        publish(pipeline.plan(DAY, force=True), "r4")  # and the driver, which was only paused, continues
        interval = SinkInterval(store_of(plan), "scores", DAY)
        sink_path = sink_of(plan).as_posix()
        swap(permit(interval, sink_path, person("zombie")), read_journal(interval, 2), ignore)
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"r4.parquet"}
        assert len(data_in(plan)) == 3

    def test_rows_of_a_complete_swap_are_not_moved_to_a_version_that_was_deleted(self, root: Path) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        publish(plan)
        self.die(pipeline, "partition_published")
        (slot,) = Path(plan.storage.removeprefix("file://"), "versions").rglob("origin=*")
        shutil.rmtree(slot)
        self.recover(plan)
        assert {name.rpartition("/")[2] for name in data_in(plan)} == {"r3.parquet"}
        assert len(data_in(plan)) == 3

    def test_the_command_restores_the_marker_and_only_of_a_sink_with_a_publish(self, root: Path, capsys) -> None:
        pipeline = pipeline_of(root)
        plan = pipeline.plan(DAY)
        recover_command = ["recover", str(root.parent / "project" / "pipeline.yaml"), "--param", f"root=file://{root}"]
        assert invoke(recover_command) == 0
        assert not sink_of(plan).exists()
        publish(plan)
        marker = sink_of(plan) / "_current"
        content = marker.read_bytes()
        marker.unlink()
        with pytest.raises(StorageError, match=r"FS8003.*no file _current.*`firesteel recover`"):
            current_files(plan.sinks[0].path, timeout_s=0)
        assert invoke(recover_command) == 0, capsys.readouterr().err
        assert marker.read_bytes() == content
        assert len(current_files(plan.sinks[0].path, timeout_s=0)) == 3

    def die(self, pipeline: Pipeline, kind: str, **options) -> None:
        """Publish the interval again as run r3, which is killed after an event."""

        def stop(event):
            if event.kind == kind:
                raise OSError("killed")

        with pytest.raises(OSError, match="killed"):
            publish(pipeline.plan(DAY, force=True), "r3", on_event=stop, **options)

    def do(self, plan: Plan, path: Path, action: Callable[[], T]) -> T:
        """Act; if that fails, do what the hint says, and act again."""
        try:
            return action()
        except FiresteelError as error:
            assert "`firesteel recover`" in error.hint, (path, error)
            if "Without one, delete" in error.hint:  # there is no backup
                shutil.rmtree(error.hint.partition(" delete ")[2].partition(" ")[0])
            self.recover(plan)
            return action()

    def run_once(self, pipeline: Pipeline) -> None:
        """As `firesteel run` does; the first stage skips what was published meanwhile."""
        plan = pipeline.plan(DAY)
        (interval,) = plan.intervals
        if interval.action == "skip":
            return
        with begin(plan, interval, "next") as transaction:
            if check_ledger(plan, interval):
                return
            for directory in interval.outputs[0].directories:
                locate(plan.storage)[0].create(f"{transaction.staging_path}/{directory}/next.parquet", b"rows")
            transaction.publish(interval.outputs[0].directories, Counts())

    def recover(self, plan: Plan) -> None:
        """As `firesteel recover`."""
        for interval in leftovers(store_of(plan), "scores"):
            recover(store_of(plan), "scores", plan.sinks[0].path, interval)
        restore_marker(store_of(plan), "scores", plan.sinks[0].path)

    def check(self, pipeline: Pipeline, plan: Plan, path: Path) -> None:
        """The sink has one complete publish, and takes further ones, which can be undone."""
        assert decisions(self.do(plan, path, lambda: pipeline.plan(DAY))) == [SKIP], path
        assert len(self.do(plan, path, lambda: current_files(plan.sinks[0].path, timeout_s=0))) == 3, path
        record = Ledger(store_of(plan)).published("scores", DAY, canonical(plan.sinks[0].path))
        assert set(data_in(plan)) == {file.path for file in record.files}, path
        assert {file.path.rpartition("/")[2] for file in record.files} == {f"{record.run_id}.parquet"}, path
        self.do(plan, path, lambda: publish(pipeline.plan(DAY, force=True), "later"))
        assert set(data_in(plan)) == {f"dt={DAY}/origin={name}/later.parquet" for name in ("EWR", "JFK", "LGA")}, path
        rollback(store_of(plan), "scores", plan.sinks[0].path, DAY, person("rollback"))
        assert set(data_in(plan)) == {file.path for file in record.files}, path
        assert leftovers(store_of(plan), "scores") == (), path
