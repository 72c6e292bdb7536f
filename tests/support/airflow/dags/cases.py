"""The DAGs of the tests: one a claim. FIRESTEEL_TEST_SPECS names a folder of projects."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, AssetAlias

from firesteel_airflow import FiresteelOperator, backfill_group

SPECS = Path(os.environ["FIRESTEEL_TEST_SPECS"])
QUICK = {"retry_delay": timedelta(seconds=1), "poll_interval": 1.0}


def spec(name: str) -> str:
    return str(SPECS / name / "pipeline.yaml")


def dag(name: str) -> DAG:
    return DAG(name, schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), catchup=False)


with dag("deferred"):
    score = FiresteelOperator(
        task_id="score", spec=spec("plain"), conn_id="spark_small", deferrable=True,
        outlets=[Asset("scores", uri="file:///scores"), AssetAlias("score_partitions")], **QUICK,
    )  # fmt: skip
    score >> FiresteelOperator(task_id="again", spec=spec("plain"), conn_id="spark_small", **QUICK)

with dag("refused"):
    FiresteelOperator(task_id="score", spec=spec("refused"), retries=3, **QUICK)

with dag("not_ready"):
    FiresteelOperator(
        task_id="score", spec=spec("not_ready"), retries=100, **{**QUICK, "retry_delay": timedelta(seconds=5)}
    )
    FiresteelOperator(
        task_id="later",
        spec=spec("not_ready"),
        interval="2024-01-09",
        not_ready="reschedule",
        not_ready_delay=timedelta(hours=1),
    )

with dag("killed"):
    FiresteelOperator(task_id="score", spec=spec("killed"), retries=3, **QUICK)

with dag("ended"):
    FiresteelOperator(task_id="score", spec=spec("ended"), kill_timeout=60.0, **QUICK)

with dag("two_days"):
    backfill_group(
        "scores",
        spec=spec("two_days"),
        start="2024-01-01",
        end="2024-01-02",
        every="day",
        at_once=2,
        folder=str(SPECS),
        **QUICK,
    )
