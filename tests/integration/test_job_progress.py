"""Progress within an interval, from the jobs of a real Spark."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from firesteel.jobs.run.job_progress import report_progress

pytestmark = pytest.mark.integration


def held(folder: str):
    """Tasks 0 and 1 wait for the file `0`, tasks 2 and 3 for `1`."""

    def hold(index: int) -> int:
        deadline = time.monotonic() + 60
        while not Path(folder, str(index // 2)).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return index

    return hold


def test_tasks_are_told_while_they_run_and_the_callers_job_group_stands_afterwards(spark, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "firesteel.jobs.run.job_progress")
    context = spark.sparkContext
    context.setJobGroup("mine", "my jobs")
    told = []

    def on_event(event):
        told.append((event.kind, event.interval, event.facts["done"], event.facts["known"]))
        (tmp_path / str(event.facts["done"] // 2)).touch()

    try:
        with report_progress(spark, "2024-01-01", lambda _: None):  # the same interval before
            context.parallelize(range(6), 6).count()
        with report_progress(spark, "2024-01-01", on_event, every_s=0.02):
            found = context.parallelize(range(4), 4).map(held(str(tmp_path))).collect()
        assert found == [0, 1, 2, 3]
        assert told[0] == ("tasks", "2024-01-01", 0, 4)
        assert ("tasks", "2024-01-01", 2, 4) in told
        assert context.getLocalProperty("spark.jobGroup.id") == "mine"
        assert context.getLocalProperty("spark.job.description") == "my jobs"
        assert len(context.statusTracker().getJobIdsForGroup("mine")) == 0
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
        context.setLocalProperty("spark.job.description", None)
