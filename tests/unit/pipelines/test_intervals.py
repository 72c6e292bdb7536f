"""Intervals: names, time zones, ranges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import SpecError
from firesteel.pipelines.plan.intervals import shifted, slots, value_range
from firesteel.pipelines.spec.model import Interval


@pytest.mark.parametrize(
    ("unit", "start", "end", "ids"),
    [
        ("day", "2013-02-27", "2013-03-01", ["2013-02-27", "2013-02-28", "2013-03-01"]),
        ("month", "2013-12", "2014-01", ["2013-12", "2014-01"]),
        ("hour", "2013-06-01T22", "2013-06-02T00", ["2013-06-01T22", "2013-06-01T23", "2013-06-02T00"]),
    ],
)
def test_intervals_run_from_start_to_end_both_included(unit, start, end, ids):
    made = slots(Interval(column="dt", unit=unit, begin="2013-01-01"), start, end)
    assert [slot.id for slot in made] == ids


def test_days_of_a_zone_with_dst_are_23_and_25_hours_long():
    spring, autumn = (
        slots(Interval(column="dt", begin="2013-01-01", timezone="America/New_York"), day, day)[0]
        for day in ("2013-03-10", "2013-11-03")
    )
    assert [(slot.end.timestamp() - slot.start.timestamp()) / 3600 for slot in (spring, autumn)] == [23, 25]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2013-06-02", "2013-06-01"),
        ("yesterday", "2013-06-01"),
        ("2012-01-01", "2013-06-01"),
        ("2013-02-30", "2013-03-01"),
    ],
)
def test_wrong_intervals_are_named(start, end):
    with pytest.raises(SpecError, match="FS1014"):
        slots(Interval(column="dt", begin="2013-01-01"), start, end)


def test_lookback_plans_the_intervals_before_too():
    made = slots(Interval(column="dt", begin="2013-01-01", lookback=2), "2013-01-02", "2013-01-02")
    assert [slot.id for slot in made] == ["2013-01-01", "2013-01-02"]


@pytest.mark.parametrize(
    ("unit", "instant", "name"),
    [
        ("day", "2013-05-31 22:00:00+00:00", "2013-06-01"),  # midnight in Berlin, as Airflow writes it
        ("day", "2013-05-31T22:00:00Z", "2013-06-01"),
        ("day", "2013-06-01T00:00:00+02:00", "2013-06-01"),
        ("day", "2013-06-01T00:00:00", "2013-06-01"),
        ("hour", "2013-05-31T22:30:00+00:00", "2013-06-01T00"),
        ("month", "2013-05-31T22:00:00+00:00", "2013-06"),
        ("month", "2013-06-15T12:00:00", "2013-06"),
    ],
)
def test_a_time_with_an_offset_is_an_instant_and_names_the_interval_of_the_zone(unit, instant, name):
    made = slots(Interval(column="dt", unit=unit, begin="2013-01-01", timezone="Europe/Berlin"), instant, instant)
    assert [slot.id for slot in made] == [name]


def _hours(first, last, zone):
    made = slots(Interval(column="dt", unit="hour", begin="2013-01-01", timezone=zone), first, last)
    return [(slot.id, (slot.end - slot.start.astimezone(UTC)) / timedelta(hours=1)) for slot in made]


def test_the_hour_that_a_clock_shows_twice_is_one_interval_of_two_hours():
    assert _hours("2013-11-03T00", "2013-11-03T02", "America/New_York") == [
        ("2013-11-03T00", 1),
        ("2013-11-03T01", 2),
        ("2013-11-03T02", 1),
    ]


def test_the_hour_that_daylight_saving_skips_is_no_interval():
    assert [name for name, _ in _hours("2013-03-10T01", "2013-03-10T03", "America/New_York")] == [
        "2013-03-10T01",
        "2013-03-10T03",
    ]
    with pytest.raises(SpecError, match=r"FS1014.*2013-03-10T02 does not exist in America/New_York"):
        _hours("2013-03-10T02", "2013-03-10T02", "America/New_York")


def test_a_zone_that_moves_by_half_an_hour_has_a_half_hour():
    assert _hours("2013-10-06T01", "2013-10-06T03", "Australia/Lord_Howe") == [
        ("2013-10-06T01", 1),
        ("2013-10-06T02", 0.5),
        ("2013-10-06T03", 1),
    ]


def test_a_day_that_a_zone_skipped_is_no_interval():
    made = slots(Interval(column="dt", begin="2011-01-01", timezone="Pacific/Apia"), "2011-12-29", "2011-12-31")
    assert [slot.id for slot in made] == ["2011-12-29", "2011-12-31"]


@given(
    zone=st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    unit=st.sampled_from(["hour", "day", "month"]),
    start=st.datetimes(datetime.fromisoformat("2012-01-01"), datetime.fromisoformat("2014-01-01")),
    days=st.integers(0, 40),
)
def test_intervals_cover_time_without_gap_or_overlap(zone, unit, start, days):
    interval = Interval(column="dt", unit=unit, begin="2010-01-01", timezone=zone)
    try:
        made = slots(interval, start.isoformat()[:13], (start + timedelta(days=days)).isoformat()[:13])
    except SpecError as error:
        assert "does not exist in" in error.what
        return
    assert all(one.end.timestamp() == two.start.timestamp() for one, two in pairwise(made))
    assert len({slot.id for slot in made}) == len(made)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2013-06-02 - 1d", "2013-06-01"),
        ("2013-06-02T01 - 3h", "2013-06-01T22"),
        ("2013-06-02T01 + 1d", "2013-06-03T01"),
        ("2013-03-31 - 1mo", "2013-02-28"),
        ("2013-01 - 2mo", "2012-11"),
        ("JFK", "JFK"),
    ],
)
def test_a_value_may_be_moved(text, value):
    assert shifted(text) == value


@pytest.mark.parametrize(
    "text", ["2013-06-02 - 1h", "2013-06 + 1d", "9999-12-31 + 1d", "0001-01 - 1mo", "2013-02-30 + 1d"]
)
def test_a_value_that_cannot_be_moved_is_named(text):
    with pytest.raises(ValueError, match=r"adds|calendar|day is out of range|unconverted|does not match|range"):
        shifted(text)


def test_ranges_go_by_the_form_of_their_ends():
    assert value_range("2013-06-01T22", "2013-06-02T00") == ("2013-06-01T22", "2013-06-01T23", "2013-06-02T00")
    assert value_range("2012-12", "2013-01") == ("2012-12", "2013-01")
    for first, last in (("2013-06-01", "2013-06"), ("2013-06-02", "2013-06-01"), ("JFK", "LGA")):
        with pytest.raises(ValueError, match=r"range|not a date"):
            value_range(first, last)


def test_a_lookback_beyond_begin_stops_there_and_beyond_the_calendar_is_an_error():
    made = slots(Interval(column="dt", begin="2013-01-01", lookback=100_000), "2013-01-02", "2013-01-02")
    assert len(made) == 2
    with pytest.raises(SpecError, match="FS1014"):
        slots(Interval(column="dt", begin="2013-01-01", lookback=10**9), "2013-01-02", "2013-01-02")
