"""What the plan says of reading, against what Spark does."""

from __future__ import annotations

import re

import pytest

from firesteel.jobs.spark.explain import physical_plan
from support.runs import DAY

pytestmark = pytest.mark.integration


def test_spark_reads_the_columns_that_the_plan_says_and_pushes_its_filters(project, spark):
    plan = project.pipeline().plan(DAY)
    text = physical_plan(plan, plan.intervals[0], spark)
    schemas = [set(re.findall(r"(\w+):", line)) for line in re.findall(r"ReadSchema: struct<(.*?)>", text)]
    flights, weather = (set(source.read) for source in plan.sources)
    assert [flights >= schemas[0], weather >= schemas[1]] == [True, True]
    promised = {column.name for source in plan.sources for column in source.columns if not column.nullable}
    assert (flights | weather) - (schemas[0] | schemas[1]) <= promised, "what is read for its promise alone"
    assert "PushedFilters: [IsNotNull(distance), GreaterThanOrEqual(distance,0)" in text
    assert "MapInArrow" in text
    assert "BroadcastHashJoin" in text
    assert any("weather" in reason and "broadcast" in reason for reason in plan.resources.reasons)
