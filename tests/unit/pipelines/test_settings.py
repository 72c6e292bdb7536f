"""Spark settings that lose rows are refused, and those that a run takes over change none."""

from __future__ import annotations

import json

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.settings import (
    FIXED,
    changes_results,
    differs_by_operator,
    is_inherited,
    loses_rows,
)
from support.specs import FixedBackend, example

CONFIGURED = 'configuration: {spark.sql.shuffle.partitions: "4"}'


def pipeline(folder, settings: dict[str, str]) -> Pipeline:
    path = example(folder, **{CONFIGURED: f"configuration: {json.dumps(settings)}"})
    return Pipeline.load(path, params={"root": f"file://{folder}"}, backend=FixedBackend())


def errors(folder, settings: dict[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(SpecErrors) as caught:
        pipeline(folder, settings)
    return [(error.code, error.what) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spark.sql.files.ignoreCorruptFiles", "true"),
        ("spark.sql.files.ignoreMissingFiles", " TRUE"),
        ("spark.sql.files.ignoredPathSegmentRegex", "part-0"),
        ("spark.sql.caseSensitive", "true"),
        ("spark.sql.legacy.timeParserPolicy", "LEGACY"),
        ("spark.sql.legacy.parquet.datetimeRebaseModeInRead", "LEGACY"),
        ("spark.sql.legacy.castComplexTypesToString.enabled", "true"),
        ("spark.sql.parquet.datetimeRebaseModeInRead", "LEGACY"),
        ("spark.sql.parquet.int96RebaseModeInRead", "EXCEPTION"),
        ("spark.sql.parquet.int96TimestampConversion", "true"),
        ("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MILLIS"),
        ("spark.sql.timestampType", "TIMESTAMP_NTZ"),
        ("spark.sql.variable.substitute", "true"),
        ("spark.files.ignoreCorruptFiles", "true"),
        ("spark.hadoop.mapreduce.input.pathFilter.class", "a.Filter"),
        ("spark.hadoop.parquet.read.bad.record.threshold", "0.5"),
        ("spark.executor.extraJavaOptions", "-Xss4m -Duser.language=tr"),
        ("spark.executorEnv.JAVA_TOOL_OPTIONS", "-Duser.country=TR"),
        ("spark.executorEnv.LC_ALL", "tr_TR.UTF-8"),
    ],
)
def test_a_setting_that_loses_rows_is_refused_at_its_line(tmp_path, key, value):
    (found,) = errors(tmp_path, {key: value})
    assert found[0] == "FS1022"
    assert found[1].startswith(f"configuration.{key} is {value}")
    with pytest.raises(SpecErrors, match=r"FS1022 pipeline\.yaml:\d+:\d+ "):
        pipeline(tmp_path, {key: value})


@pytest.mark.parametrize("zone", ["Seattle", "PST", "+2", "America/new_york!"])
def test_a_session_time_zone_that_is_none_is_refused(tmp_path, zone):
    ((code, what),) = errors(tmp_path, {"spark.sql.session.timeZone": zone})
    assert (code, what) == ("FS1004", f"configuration.spark.sql.session.timeZone is {zone}, which is not a time zone.")


@pytest.mark.parametrize(
    "settings",
    [
        {"spark.sql.session.timeZone": "America/New_York"},
        {"spark.sql.session.timeZone": "-03:30"},
        {"spark.sql.ansi.enabled": "false", "spark.sql.mapKeyDedupPolicy": "LAST_WIN"},
        {"spark.sql.caseSensitive": "False", "spark.files.ignoreMissingFiles": "false"},
        {"spark.hadoop.parquet.block.size": "1048576"},
        {"spark.executor.extraJavaOptions": "-Duser.timezone=UTC", "spark.executorEnv.LC_ALL": "en_US.UTF-8"},
        {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"},
    ],
)
def test_other_settings_are_the_users(tmp_path, settings):
    pipeline(tmp_path, settings)


def test_settings_that_change_rows_are_in_the_hash_and_no_others(tmp_path):
    def code_hash(name: str, settings: dict[str, str]) -> str:
        return pipeline(tmp_path / name, settings).sketch().code_hash

    plain = code_hash("plain", {})
    for number, settings in enumerate(
        (
            {"spark.sql.files.maxPartitionBytes": "1m"},
            {"spark.sql.shuffle.partitions": "7"},
            {"spark.executor.memory": "2g"},
        )
    ):
        assert code_hash(f"same{number}", settings) == plain, settings
    for number, settings in enumerate(
        ({"spark.sql.session.timeZone": "Asia/Tokyo"}, {"spark.sql.ansi.enabled": "false"})
    ):
        assert code_hash(f"other{number}", settings) != plain, settings


def test_no_setting_of_files_that_is_unknown_counts_as_performance():
    assert changes_results("spark.sql.files.ignoreCorruptFiles")
    assert changes_results("spark.sql.files.somethingNew")
    assert not changes_results("spark.sql.files.openCostInBytes")


def test_a_run_takes_over_from_the_machine_only_what_changes_no_row():
    assert all(not is_inherited(key) for key in (*FIXED, "spark.sql.ansi.enabled", "spark.sql.session.timeZone"))
    assert all(
        is_inherited(key) for key in ("spark.executor.memory", "spark.sql.catalog.x", "spark.sql.adaptive.enabled")
    )
    assert loses_rows("spark.files.ignoreMissingFiles", "true")
    assert not loses_rows("spark.files.ignoreMissingFiles", "False")


def test_settings_that_the_direct_operator_does_not_know_are_named():
    assert differs_by_operator({"spark.sql.session.timeZone": "Asia/Tokyo", "spark.sql.shuffle.partitions": "2"}) == ""
    assert differs_by_operator({"spark.sql.mapKeyDedupPolicy": "LAST_WIN"}) == "spark.sql.mapKeyDedupPolicy"
