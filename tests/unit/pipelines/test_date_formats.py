"""Formats of dates: in references to the interval, in `partitions` of a source and in `partition_by` of a sink."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import SpecError, SpecErrors
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.intervals import fill, formatted_values, selected_values, slots
from firesteel.pipelines.planner.outputs import added_values
from firesteel.pipelines.spec.date_formats import DIRECTIVES, check_date_format, split_format, type_of_format
from firesteel.pipelines.spec.model import Interval, Range, Source
from support.specs import FixedBackend, example_with

ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
FORMATS = st.lists(st.sampled_from([*DIRECTIVES, "-", "/", "t"]), min_size=1, max_size=4).map("".join)


def slot_of(unit: str, start: str, zone: str = "UTC"):
    return slots(Interval(unit=unit, begin="2000-01-01", timezone=zone), start, start)[0]


@given(
    FORMATS.filter(lambda text: any(text.count(directive) for directive in DIRECTIVES[:-1])),
    st.sampled_from(["hour", "day", "month"]),
    st.sampled_from(ZONES),
    st.integers(0, 24 * 365 * 25),
)
def test_a_format_has_the_values_that_a_clock_shows_in_the_interval(format_, unit, zone, hours):
    at = datetime(2005, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    try:
        slot = slot_of(unit, at.strftime("%Y-%m-%dT%H"), zone)
    except SpecError:
        return  # daylight saving time skips this hour
    quarters = int((slot.end - slot.start.astimezone(UTC)).total_seconds() // 900)
    start = slot.start.astimezone(UTC)
    clock = [(start + timedelta(minutes=15 * count)).astimezone(ZoneInfo(zone)) for count in range(quarters)]
    assert formatted_values(format_, slot) == tuple(dict.fromkeys(time.strftime(format_) for time in clock))


@given(st.sampled_from([text for text in DIRECTIVES if text != "%%"]), st.dates())
def test_a_type_keeps_every_value_of_its_format(directive, day):
    text = day.strftime(directive)
    if type_of_format(directive) == "int":
        assert str(int(text)) == text or directive in {"%Y", "%G"}  # Linux writes the year 999 with three digits


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${interval.ds_nodash}", "20240229"),
        ("${interval.start:%Y%m%d}", "20240229"),
        ("${interval.end:%Y/%-m/%-d}", "2024/3/1"),
        ("${interval.ds - 7d}", "2024-02-22"),
        ("${interval.ds_nodash-1mo}", "20240129"),
        ("${interval.start + 1mo:%Y%m}", "202403"),
        ("${interval.start - 1h:%H}", "23"),
        ("week ${interval.start:%G-W%V} ${interval.id}", "week 2024-W09 2024-02-29"),
        ("${interval.ds} - 1d", "2024-02-28"),
    ],
)
def test_a_reference_has_an_offset_and_a_format(template, value):
    assert fill(template, slot_of("day", "2024-02-29")) == value


@pytest.mark.parametrize("day", [f"2023-{month:02}-{calendar.monthrange(2023, month)[1]}" for month in range(1, 13)])
def test_an_offset_goes_by_the_calendar_as_behind_the_reference(day):
    slot = slot_of("day", day)
    for step in ("+ 1d", "- 1d", "+ 1mo", "- 13mo", "+ 400d"):
        assert fill(f"${{interval.ds {step}}}", slot) == fill(f"${{interval.ds}} {step}", slot)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("${interval.dsx}", "is not defined"),
        ("${interval.ds - 7w}", "is not defined"),
        ("${interval.ds:%Y}", "has a format, which only `start` and `end` can have"),
        ("${interval.start:%Q}", "has the unknown directive `%Q`"),
        ("${interval.start:%B}", "has the unknown directive `%B`"),
        ("${interval.start:2013}", "has no directive"),
    ],
)
def test_a_wrong_reference_is_named(tmp_path, reference, problem):
    found = errors_of(tmp_path, {'select: {dt: "${interval.ds}"}': f'select: {{dt: "{reference}"}}'})
    assert [error.code for error in found] == ["FS1007"]
    assert problem in str(found[0])
    assert found[0].where.line == 29


@pytest.mark.parametrize(("unit", "reference"), [("day", "ds - 1h"), ("month", "id - 1d"), ("month", "ds - 3h")])
def test_an_offset_is_not_finer_than_its_value(unit, reference):
    with pytest.raises(ValueError, match="no hours|finer"):
        fill(f"${{interval.{reference}}}", slot_of(unit, "2024-02-01"))


def test_a_format_stands_for_a_type_and_a_select():
    source = Source(path="file:///x", partitions={"year": "%Y", "month": "int %m", "day": "%d", "origin": "string"})
    assert source.partitions == {"year": "int", "month": "int", "day": "string", "origin": "string"}
    chosen = {column: selected_values(select, slot_of("day", "2024-02-09")) for column, select in source.select.items()}
    assert chosen == {"year": ("2024",), "month": ("02",), "day": ("09",)}


def test_a_range_has_the_format_of_its_column():
    select = {"dt": {"from": "${interval.ds - 2d}", "to": "${interval.ds}"}}
    source = Source(path="file:///x", partitions={"dt": "%Y%m%d"}, select=select)
    assert isinstance(source.select["dt"], Range)
    assert selected_values(source.select["dt"], slot_of("day", "2024-03-01")) == ("20240228", "20240229", "20240301")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%Y-%m-%d", ("date", "%Y-%m-%d")),
        ("%Y%m%d%H", ("int", "%Y%m%d%H")),
        ("%-m", ("int", "%-m")),
        ("%m", ("string", "%m")),
        ("%G-W%V", ("string", "%G-W%V")),
        ("int %m", ("int", "%m")),
        ("string %Y", ("string", "%Y")),
        ("integer %m", ("int", "%m")),
        ("LONG %Y%m%d", ("bigint", "%Y%m%d")),
    ],
)
def test_the_type_of_a_format(text, expected):
    assert split_format(text) == expected


@pytest.mark.parametrize("text", ["integers %m", "x%", "%Y %"])
def test_what_is_no_type_or_format_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a column type|unknown directive|has no directive"):
        split_format(text)


@pytest.mark.parametrize("text", ["%", "%-", "%Y%", "%y", "%%", "%-Y", "%s", "int %q", "%é"])
def test_an_unknown_directive_is_refused(text):
    with pytest.raises(ValueError, match=r"unknown directive|has no directive"):
        split_format(text)
    if " " not in text:
        with pytest.raises(ValueError, match=r"unknown directive|has no directive"):
            check_date_format(text)


def test_an_alias_of_a_type_in_a_sink_is_the_type(tmp_path):
    changes = {"partition_by: [dt, origin]": 'partition_by: [{day: "integer %Y%m%d"}, origin]', "column: dt, ": ""}
    pipeline = Pipeline.load(example_with(tmp_path, changes), params={"root": "file:///data"}, backend=FixedBackend())
    slot = slot_of("day", "2024-02-09")
    assert added_values(pipeline.loaded, "scores", slot) == (("day", "20240209"),)
    assert pipeline.sketch().sinks[0].columns[-2].type == "int"


def errors_of(folder, changes, sql=None):
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(example_with(folder, changes, sql), params={"root": "file:///data"})
    return caught.value.errors


DAILY = "partition_by: [dt, origin]"


@pytest.mark.parametrize(
    ("changes", "code", "problem"),
    [
        ({DAILY: 'partition_by: [{day: "%Y%Q"}, origin]'}, "FS1004", "unknown directive `%Q`"),
        (
            {DAILY: 'partition_by: [{hour: "%Y%m%d%H"}, origin]', "column: dt, ": ""},
            "FS1004",
            "`hour` has 24 values for one interval",
        ),
        ({DAILY: 'partition_by: [{month: "%Y%m"}, origin]', "column: dt, ": ""}, "FS1004", "both replace month=201301"),
        (
            {DAILY: 'partition_by: [{p_delay: "%Y%m%d"}]', "column: dt, ": ""},
            "FS1013",
            "`p_delay` is a column of scored",
        ),
        ({DAILY: 'partition_by: [{Origin: "%Y%m%d"}]', "column: dt, ": ""}, "FS1013", "`Origin` is a column of scored"),
        ({DAILY: 'partition_by: [{day: "date %Y%m%d"}]', "column: dt, ": ""}, "FS1004", "`day`: `20130101` has no day"),
        (
            {DAILY: 'partition_by: [{day: "%Y%m%d"}, origin]'},
            "FS1004",
            "starts with `day`, which is not the interval's",
        ),
        ({"partitions: {dt: date}": 'partitions: {dt: "%Y%m%D"}'}, "FS1004", "unknown directive `%D`"),
        ({"partitions: {dt: date}": "partitions: {dt: %Y%m%d}"}, "FS1002", 'Put the text in quotes, such as "%Y%m%d".'),
    ],
)
def test_a_wrong_format_is_one_error_with_its_place(tmp_path, changes, code, problem):
    errors = errors_of(tmp_path, changes)
    assert [error.code for error in errors] == [code], errors
    assert problem in str(errors[0])
    assert errors[0].where.line


@pytest.mark.parametrize(
    ("select", "refused"),
    [
        ("${interval.ds}", False),
        ("${interval.start:%Y-%m-%d}", False),
        ("${interval.ds - 1d}", True),
        ("${interval.ds-1d}", True),
        ("${interval.ds} - 1d", True),
        ("${interval.end:%Y-%m-%d}", True),
        ("2013-01-01", True),
    ],
)
def test_a_format_in_a_sink_replaces_no_other_date_of_a_source(tmp_path, select, refused):
    flights = 'select: {dt: "${interval.ds}", origin'
    changes = {flights: flights.replace("${interval.ds}", select), DAILY: 'partition_by: [{dt: "%Y%m%d"}]'}
    path = example_with(tmp_path, changes)
    if not refused:
        Pipeline.load(path, params={"root": "file:///data"}, backend=FixedBackend())
        return
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, params={"root": "file:///data"})
    assert [error.code for error in caught.value.errors] == ["FS1013"]


def test_a_source_needs_a_select_or_a_format(tmp_path):
    errors = errors_of(
        tmp_path, {'partitions: {dt: date}\n    select: {dt: "${interval.ds}"}': "partitions: {dt: date}"}
    )
    assert [error.code for error in errors] == ["FS1004"]
    assert "a source needs `select`, or a format of dates" in str(errors[0])
