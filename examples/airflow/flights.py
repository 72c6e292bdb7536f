"""The flights pipeline in Airflow: one DAG scores each day when its data is ready, the other backfills 2013 with one plan.

Set the path of firesteel in `[firesteel] command` of Airflow's configuration (AIRFLOW__FIRESTEEL__COMMAND), and the folder of
the project in FLIGHTS.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, AssetAlias, CronDataIntervalTimetable

from firesteel_airflow import FiresteelOperator, backfill_group

SPEC = os.path.join(os.environ.get("FLIGHTS", "/opt/flights"), "pipeline.yaml")  # noqa: PTH118 - Airflow runs this line at each parse

with DAG(
    "flight_delay_scores",
    # With this timetable, `data_interval_start` is the day that has just ended. With a plain cron string, it is the day that begins.
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="America/New_York"),
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    end_date=datetime(2013, 12, 31, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    doc_md=__doc__,
):
    FiresteelOperator(
        task_id="score",
        spec=SPEC,
        arguments={"cutoff": "{{ var.value.get('flights_cutoff', '0.5') }}"},
        deferrable=True,
        retries=5,
        retry_delay=timedelta(minutes=5),
        not_ready="reschedule",
        not_ready_delay=timedelta(minutes=15),
        outlets=[Asset("flight_delay_scores"), AssetAlias("flight_delay_partitions")],
    )

with DAG("flight_delay_backfill", schedule=None, start_date=datetime(2013, 1, 1, tzinfo=UTC), doc_md=__doc__):
    backfill_group("scores_2013", spec=SPEC, start="2013-01-01", end="2013-12-31", every="month", at_once=2, retries=2)
