"""What the executors of a run did, from the events that Spark wrote, whole or cut off."""

from __future__ import annotations

import json
from dataclasses import asdict

import pyarrow as pa
import pytest

from firesteel.conf.errors import StorageError
from firesteel.jobs.report.executors import draw_count, draw_executors, draw_stages, summary
from firesteel.jobs.report.page import executors_of
from firesteel.jobs.report.write import render
from firesteel.jobs.timeline.build import MAX_SPANS, executor_use
from firesteel.jobs.timeline.eventlog import EventLog, local_event_log, read_events
from firesteel.jobs.tracking.metrics import run_metrics
from firesteel.pipelines.result import ExecutorUse
from support.sample_run import published, sample_plan, sample_result

T0 = 1_795_680_000_000
IDLE = "Executor decommission: spark scale down"


def ms(seconds):
    return T0 + round(seconds * 1000)


class Log:
    """Writes events as Spark does."""

    def __init__(self):
        self.events = [{"Event": "SparkListenerLogStart"}, self._at("ApplicationStart", 0)]

    def _at(self, kind, seconds, **fields):
        return {"Event": f"SparkListener{kind}", "Timestamp": ms(seconds), **fields}

    def added(self, seconds, name, cores=1):
        info = {"Host": "127.0.0.1", "Total Cores": cores}
        self.events.append(self._at("ExecutorAdded", seconds, **{"Executor ID": name, "Executor Info": info}))

    def removed(self, seconds, name, reason=IDLE):
        self.events.append(self._at("ExecutorRemoved", seconds, **{"Executor ID": name, "Removed Reason": reason}))

    def job(self, seconds, *stages, **properties):
        ids = [stage for stage, _ in stages]
        self.events.append(
            {
                "Event": "SparkListenerJobStart",
                "Submission Time": ms(seconds),
                "Stage IDs": ids,
                "Properties": properties,
            }
        )
        for stage, tasks in stages:
            info = {"Stage ID": stage, "Stage Attempt ID": 0, "Number of Tasks": tasks, "Submission Time": ms(seconds)}
            self.events.append({"Event": "SparkListenerStageSubmitted", "Stage Info": info})

    def task(self, start, stop, executor, stage=0, failed=False):
        head = {"Stage ID": stage, "Stage Attempt ID": 0}
        info = {"Launch Time": ms(start), "Executor ID": executor, "Finish Time": 0, "Failed": False}
        self.events.append((start, {"Event": "SparkListenerTaskStart", **head, "Task Info": info}))
        done = {**info, "Finish Time": ms(stop), "Failed": failed}
        metrics = {"Task Executor Metrics": {"JVMHeapMemory": 1}, "Task Metrics": {}}
        self.events.append((stop, {"Event": "SparkListenerTaskEnd", **head, "Task Info": done, **metrics}))

    def done(self, seconds, stage, tasks, begin):
        info = {
            "Stage ID": stage,
            "Stage Attempt ID": 0,
            "Stage Name": "collect at /a/b/job.py:108",
            "Number of Tasks": tasks,
        }
        info |= {"Submission Time": ms(begin), "Completion Time": ms(seconds)}
        self.events.append({"Event": "SparkListenerStageCompleted", "Stage Info": info})

    def end(self, seconds):
        self.events.append(self._at("ApplicationEnd", seconds))

    def sorted(self):
        """In the order in which Spark would have written them."""
        placed, at = [], 0.0
        for each in self.events:
            at, event = each if isinstance(each, tuple) else (at, each)
            if not isinstance(each, tuple) and "Timestamp" in event:
                at = (event["Timestamp"] - T0) / 1000
            if "Submission Time" in event:
                at = (event["Submission Time"] - T0) / 1000
            if "Stage Info" in event and "Completion Time" in event["Stage Info"]:
                at = (event["Stage Info"]["Completion Time"] - T0) / 1000
            placed.append((at, event))
        return [event for _, event in sorted(placed, key=lambda pair: pair[0])]

    def lines(self):
        return b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in self.sorted())


def bursty():
    """One executor; four tasks at 10 s, of which one runs; a second executor at 13 s, idle from 20 s, gone at 25 s; the end at 30 s."""
    log = Log()
    log.added(2, "0")
    log.job(10, (0, 4), **{"firesteel.interval": "2024-01-01"})
    log.task(10, 16, "0")
    log.added(13, "1")
    log.task(14, 20, "1")
    log.task(16, 22, "0")
    log.task(22, 24, "0")
    log.done(24, 0, 4, 10)
    log.removed(25, "1")
    log.end(30)
    return log


def test_executors_come_work_and_go():
    use = executor_use(bursty().sorted())
    assert (use.seconds, use.peak, use.tasks, use.lost) == (30.0, 2, 4, 0)
    assert use.executor_seconds == 28 + 12
    assert use.utilisation == pytest.approx((6 + 6 + 6 + 2) / 40)
    assert use.scale_out_s == (4.0,)  # tasks waited from 10 s, and one began on a new executor at 14 s
    assert use.scale_in_s == (5.0,)
    first, second = use.executors
    assert (first.id, first.added_s, first.removed_s, first.why, first.busy) == ("0", 2.0, None, "", ((10.0, 24.0),))
    assert (second.removed_s, second.why, second.reason, second.idle_s) == (25.0, "idle", IDLE, 5.0)
    assert [(stage.id, stage.interval, stage.begin_s, stage.end_s, stage.tasks) for stage in use.stages] == [
        (0, "2024-01-01", 10.0, 24.0, 4)
    ]


def test_a_wait_counts_once_however_many_executors_answer_it():
    log = Log()
    log.added(1, "0")
    log.job(2, (0, 6))
    log.task(2, 20, "0")
    for second, name in ((5, "1"), (6, "2"), (7, "3")):
        log.added(second, name)
        log.task(second + 0.5, 20, name)
    log.job(40, (1, 3))
    log.task(40, 50, "0", stage=1)
    log.task(40, 50, "1", stage=1)
    log.task(40, 50, "2", stage=1)
    use = executor_use(log.sorted())
    assert use.scale_out_s == (3.5,)
    assert use.peak == 4


def test_an_executor_that_is_lost_is_no_scaling_in():
    log = Log()
    log.added(1, "0")
    log.job(2, (0, 1))
    log.task(2, 4, "0", failed=True)
    log.removed(4, "0", "Command exited with code 137")
    log.added(8, "1")
    log.task(9, 12, "1")
    log.removed(20, "1", "Executor decommission: spark scale down")
    log.end(21)
    use = executor_use(log.sorted())
    assert [(executor.why, executor.idle_s) for executor in use.executors] == [("lost", 0.0), ("idle", 8.0)]
    assert (use.lost, use.scale_in_s) == (1, (8.0,))
    assert use.scale_out_s == (5.0,)  # its task waits again from 4 s on


def test_of_another_ones_session_only_the_time_of_the_run_counts():
    log = bursty()
    use = executor_use(log.sorted(), since_ms=ms(15), until_ms=ms(26))
    assert (use.seconds, use.executor_seconds) == (10.0, 10 + 10)
    assert use.executors[0].added_s == 0.0


def test_cores_and_cpus_of_a_task_count():
    log = Log()
    log.added(0, "driver", cores=4)
    log.job(0, (0, 2))
    log.task(0, 10, "driver")
    log.task(0, 10, "driver")
    log.end(10)
    assert executor_use(log.sorted()).utilisation == 0.5
    assert executor_use(log.sorted(), task_cpus=2).utilisation == 1.0


def test_a_million_short_tasks_leave_a_record_of_bounded_size():
    log = Log()
    log.added(0, "0")
    log.job(0, (0, 3000))
    for number in range(3000):
        log.task(number, number + 0.5 + (number % 100 == 0) * 0.4, "0")
    use = executor_use(log.sorted())
    (life,) = use.executors
    assert len(life.busy) <= MAX_SPANS
    assert (life.tasks, life.busy[0][0], life.busy[-1][1]) == (3000, 0.0, 2999.5)
    assert life.task_s == pytest.approx(3000 * 0.5 + 30 * 0.4)
    assert len(str(draw_count(use, "x", 900))) < 40_000


def test_no_executor_no_timeline():
    assert executor_use([]) is None
    assert executor_use(Log().sorted()) is None


@pytest.fixture
def stored(tmp_path):
    """The log in three rolled files, the tenth last; the last one is cut off in mid-frame."""
    folder = tmp_path / "with space" / "eventlog_v2_app-1"
    folder.mkdir(parents=True)
    lines = bursty().lines().splitlines(keepends=True)
    thirds = [b"".join(lines[:5]), b"".join(lines[5:12]), b"".join(lines[12:])]
    for number, part in zip((1, 2, 10), thirds, strict=True):
        with pa.output_stream(str(folder / f"events_{number}_app-1.zstd"), compression="zstd") as sink:
            sink.write(part)
    (folder / "appstatus_app-1").touch()
    return tmp_path / "with space"


def test_rolled_and_compressed_files_are_read_in_order(stored):
    found = list(EventLog(f"file://{stored}", "app-1").events())
    assert executor_use(found) == executor_use(bursty().sorted())
    assert {event["Event"] for event in found} >= {"SparkListenerTaskEnd", "SparkListenerStageCompleted"}
    assert not any("Task Metrics" in event for event in found)  # nine tenths of a log


@pytest.mark.parametrize("kept", [10, 300, -1])
def test_a_log_that_ends_anywhere_is_read_as_far_as_it_goes(stored, kept):
    last = stored / "eventlog_v2_app-1" / "events_10_app-1.zstd"
    last.write_bytes(last.read_bytes()[:kept])
    use = executor_use(EventLog(f"file://{stored}", "app-1").events())
    assert use.tasks <= 4
    assert use.executors[0].added_s == 2.0


def test_one_plain_file_of_a_running_application(tmp_path):
    (tmp_path / "app-1.inprogress").write_bytes(bursty().lines()[:-40])
    use = executor_use(EventLog(f"file://{tmp_path}", "app-1").events())
    assert (use.tasks, use.peak) == (4, 2)


def test_a_codec_of_sparks_own_is_named():
    with pytest.raises(StorageError, match="FS8006.*a compression codec that only Spark supports"):
        list(read_events(b"x", "events_1_app-1.lz4"))


def test_the_settings_name_a_folder_that_is_there(tmp_path):
    settings = local_event_log(tmp_path / "a b" / "events")
    assert settings["spark.eventLog.dir"] == (tmp_path / "a b" / "events").as_uri()
    assert (tmp_path / "a b" / "events").is_dir()


def test_terminal_mlflow_and_report_say_the_same():
    use = executor_use(bursty().sorted())
    assert summary(use) == (
        "peak 2 executors, 40 s of executor time, 50 % utilisation; scale-out within 4.0 s; 1 idle executor released "
        "within 5.0 s"
    )
    plan = sample_plan(1)
    result = sample_result(plan, (published(plan, 1),), executors=use)
    metrics = run_metrics(result)
    assert {name: metrics[name] for name in ("executor_seconds", "executor_utilisation", "executors_peak")} == {
        "executor_seconds": 40.0,
        "executor_utilisation": 0.5,
        "executors_peak": 2.0,
    }
    assert (metrics["seconds_to_scale_out"], metrics["seconds_to_scale_in"]) == (4.0, 5.0)
    page = render(result, plan)
    assert "at most 4.0 s" in page
    assert f"idle: {IDLE}" in page
    assert json.loads(result.to_json())["executors"]["stages"][0]["interval"] == "2024-01-01"
    assert "Executors" not in render(sample_result(plan, (published(plan, 1),)), plan).split("<main")[1]


def test_pictures_stay_within_their_frames():
    use = executor_use(bursty().sorted())
    many = ExecutorUse(**{**{name: getattr(use, name) for name in asdict(use)}, "executors": use.executors * 30})
    for width in (340, 900):
        for draw in (draw_count, draw_executors, draw_stages):
            assert f'viewBox="0 0 {width} ' in str(draw(many, "k", width))
    shown = executors_of(sample_result(sample_plan(1), (), executors=many))
    assert "28 more executors are not drawn" in shown.pictures[1][3]
