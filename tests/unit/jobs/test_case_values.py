"""Values of a test as people write them: exact, or refused with what fits."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.jobs.testing.values import from_text, same, show, to_value


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("int", 7, 7),
        ("bigint", 2**53 + 1, 2**53 + 1),
        ("double", 3, 3.0),
        ("float", 0.1, 0.10000000149011612),  # what a float of 32 bits holds
        ("string", "007", "007"),
        ("boolean", True, True),
        ("date", "2013-06-01", date(2013, 6, 1)),
        ("timestamp", "2013-06-01T05:30:00", datetime(2013, 6, 1, 5, 30, tzinfo=UTC)),
        ("timestamp", "2013-06-01 07:30:00+02:00", datetime(2013, 6, 1, 5, 30, tzinfo=UTC)),
        ("timestamp_ntz", "2013-06-01T05:30:00.25", datetime.fromisoformat("2013-06-01T05:30:00.250")),
        ("decimal(5,2)", 12.3, Decimal("12.30")),
        (
            "decimal(38,18)",
            "12345678901234567890.123456789012345678",
            Decimal("12345678901234567890.123456789012345678"),
        ),
        ("binary", "0xcafe", b"\xca\xfe"),
        ("array<array<int>>", [[1, None], []], [[1, None], []]),
        ("struct<a:int>", {"a": 1}, {"a": 1}),
    ],
)
def test_a_value_becomes_exactly_what_the_column_holds(kind, raw, value):
    found = to_value(kind, raw)
    assert (found, type(found)) == (value, type(value))
    assert to_value(kind, None) is None


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        ("int", 3.5, "expected a whole number, found 3.5"),
        ("int", True, "expected a whole number, found True"),
        ("int", "3", "expected a whole number, found '3'"),
        ("tinyint", 128, "128 does not fit into tinyint"),
        ("double", "3", "expected a number, found '3'"),
        ("float", 1e300, "1e+300 does not fit into float"),
        ("string", 17, 'expected text, found 17; write "17"'),
        ("string", ["a"], "expected text, found list"),
        ("boolean", 1, "expected true or false, found 1"),
        ("date", "1.6.2013", "expected a date like 2013-06-01, found '1.6.2013'"),
        ("date", 20130601, "expected a date like 2013-06-01, found 20130601"),
        ("timestamp", "noon", "expected a time like 2013-06-01T05:30:00Z, found 'noon'"),
        ("timestamp_ntz", "2013-06-01T05:30:00Z", "without an offset"),
        ("decimal(5,2)", 1.234, "1.234 has more than 2 digits after the point"),
        ("decimal(5,2)", 1000, "1000 does not fit into decimal(5,2)"),
        ("decimal(5,2)", "NaN", "expected a number, found 'NaN'"),
        ("decimal(38,18)", 0.12345678901234568, 'keeps 15 digits; write "0.12345678901234568" in quotes'),
        ("binary", "cafes", "expected bytes in hex"),
        ("array<int>", 3, "expected a list, found 3"),
        ("array<int>", [1, "x"], "expected a whole number, found 'x'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_fits(kind, raw, message):
    with pytest.raises(ValueError) as caught:
        to_value(kind, raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "7", 7),
        ("double", "nan", None),
        ("boolean", "TRUE", True),
        ("string", "7", "7"),
        ("decimal(30,2)", "1234567890123456789012345678.90", Decimal("1234567890123456789012345678.90")),
        ("array<int>", "[1, 2]", [1, 2]),
        ("date", "2013-06-01", date(2013, 6, 1)),
    ],
)
def test_a_csv_cell_is_read_as_its_column_wants(kind, text, value):
    found = from_text(kind, text)
    assert found == value or (value is None and found != found)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("int", "3.5", "expected a whole number, found '3.5'"),
        ("int", "99999999999", "99999999999 does not fit into int"),
        ("double", "x", "expected a number, found 'x'"),
        ("boolean", "yes", "expected true or false, found 'yes'"),
        ("array<int>", "1,2", "expected a JSON list"),
    ],
)
def test_a_csv_cell_that_does_not_fit_is_refused(kind, text, message):
    with pytest.raises(ValueError) as caught:
        from_text(kind, text)
    assert message in str(caught.value)


def test_floats_are_one_within_the_tolerance_and_all_else_only_when_equal():
    assert same(0.1 + 0.2, 0.3, 1e-9)
    assert same(1e12, 1e12 + 1, 1e-9)
    assert not same(0.3, 0.3001, 1e-9)
    assert not same(0.1 + 0.2, 0.3, 0)
    assert same(float("nan"), float("nan"), 0)
    assert not same(None, float("nan"), 1)
    assert same([1.0, None], [1.0 + 1e-12, None], 1e-9)
    assert not same([1.0], [1.0, 1.0], 1e-9)
    assert not same(1, True, 1)
    assert not same(Decimal("1.0"), 1.0, 1)


def test_what_differs_looks_different():
    values = [None, "null", "", " ", "1", 1, True, "true", "a ", "a", 1.5, Decimal("1.50"), b"a", ["a", None], "it's\n"]
    assert len({show(value) for value in values}) == len(values)
    assert show(datetime(2013, 6, 1, 5, 30, tzinfo=UTC)) == "2013-06-01T05:30:00Z"
    assert show(datetime.fromisoformat("2013-06-01T05:30:00.250")) == "2013-06-01T05:30:00.250000"
    assert show(Decimal("1E+3").quantize(Decimal(1))) == "1000"


@given(st.decimals(-(10**8), 10**8, places=4, allow_nan=False))
def test_every_decimal_that_fits_comes_back_whole(number):
    assert to_value("decimal(20,6)", str(number)) == number
    assert to_value("decimal(20,6)", show(to_value("decimal(20,6)", str(number)))) == number


@given(st.text())
def test_text_never_becomes_anything_but_a_value_or_a_refusal(text):
    for kind in (
        "int",
        "double",
        "boolean",
        "date",
        "timestamp",
        "timestamp_ntz",
        "binary",
        "decimal(9,2)",
        "array<int>",
    ):
        try:
            from_text(kind, text)
        except ValueError as error:
            assert str(error)
