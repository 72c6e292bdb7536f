"""Expected against found rows, and how the difference is shown."""

from __future__ import annotations

import json
from decimal import Decimal

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import RuntimeFault, SpecErrors, Where
from firesteel.jobs.testing.bind import Expectation
from firesteel.jobs.testing.compare import compare, unexpected_dead_letters
from firesteel.jobs.testing.matching import match
from firesteel.jobs.testing.model import Expected
from firesteel.jobs.testing.result import CaseResult, GateDifference, exit_code
from firesteel.jobs.testing.rows import RawCell, RawRow
from firesteel.jobs.testing.show import as_dict, report
from firesteel.jobs.testing.table import Table
from firesteel.jobs.testing.values import same

WHERE = Where("tests/a.yaml", 9, 7)
COLUMNS = (("id", "string"), ("p", "double"), ("price", "decimal(6,2)"))
TABLE = Table(COLUMNS, (("a", 0.1, Decimal("1.50")), ("b", 0.2, None), ("c", None, Decimal("3.00"))))


def expectation(rows, key=("id",), relation="scored", **options):
    raw = None
    if rows is not None:
        raw = tuple(RawRow({name: RawCell(value, WHERE) for name, value in row.items()}, WHERE) for row in rows)
    return Expectation(relation, Expected(rows=rows, **options), raw, key, WHERE)


def kinds(difference):
    return [row.kind for row in difference.rows]


def test_rows_match_in_any_order_over_the_columns_that_are_named():
    assert compare(expectation([{"id": "c"}, {"id": "a"}, {"id": "b"}]), TABLE) is None
    assert compare(expectation([{"id": "b", "p": 0.2}, {"id": "a", "p": 0.1 + 1e-12}, {"id": "c"}]), TABLE) is None


def test_a_column_that_one_row_names_is_null_in_the_others():
    found = compare(expectation([{"id": "a", "p": 0.1}, {"id": "b"}, {"id": "c"}]), TABLE)
    assert found.summary == "3 rows expected, 3 found: 1 differs"
    assert found.rows[0].expected == ("b", None)
    assert found.rows[0].found == ("b", 0.2)


def test_columns_all_expects_null_in_columns_that_are_not_named():
    rows = [{"id": "a", "p": 0.1}, {"id": "b", "p": 0.2}, {"id": "c"}]
    assert compare(expectation(rows), TABLE) is None
    found = compare(expectation(rows, columns="all"), TABLE)
    assert [row.equal for row in found.rows] == [(True, True, False), (True, True, False)]


def test_columns_all_leaves_out_what_differs_in_every_run():
    table = Table((*COLUMNS, ("_run_id", "string")), (("a", 0.1, None, "test"),))
    assert compare(expectation([{"id": "a", "p": 0.1}], columns="all"), table) is None


def test_missing_and_unexpected_rows_are_told_from_rows_that_differ():
    found = compare(expectation([{"id": "a", "p": 0.9}, {"id": "b", "p": 0.2}, {"id": "x", "p": 0.5}]), TABLE)
    assert found.summary == "3 rows expected, 3 found: 1 differs, 1 missing, 1 unexpected"
    assert kinds(found) == ["differs", "missing", "unexpected"]


def test_without_a_key_the_likest_rows_are_compared():
    rows = [{"id": "a", "p": 0.1, "price": 1.5}, {"id": "b", "p": 0.2, "price": 2}, {"id": "z", "p": 9, "price": 9}]
    found = compare(expectation(rows, key=()), TABLE)
    assert [(row.kind, (row.expected or row.found)[0]) for row in found.rows] == [
        ("differs", "b"),
        ("missing", "z"),
        ("unexpected", "c"),
    ]


def test_equal_rows_count_as_often_as_they_stand():
    twice = Table((("id", "string"),), (("a",), ("a",)))
    assert compare(expectation([{"id": "a"}, {"id": "a"}]), twice) is None
    assert compare(expectation([{"id": "a"}]), twice).summary == "1 row expected, 2 found: 1 unexpected"


def test_order_given_holds_rows_to_their_places():
    rows = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert compare(expectation(rows, order="given"), TABLE) is None
    assert "the same rows in another order" in compare(expectation(rows[::-1], order="given"), TABLE).summary
    assert kinds(compare(expectation(rows[:2], order="given"), TABLE)) == ["unexpected"]


def test_a_count_alone_is_a_count_and_none_shows_the_rows_that_are_there():
    assert compare(expectation(None, count=3), TABLE) is None
    assert compare(expectation(None, count=4), TABLE).summary == "4 rows expected, 3 found"
    assert kinds(compare(expectation(None, count=0), TABLE)) == ["unexpected"] * 3
    assert kinds(compare(expectation([]), TABLE)) == ["unexpected"] * 3
    assert compare(expectation([]), Table(COLUMNS, ())) is None
    assert "count 2 expected" in compare(expectation([{"id": each} for each in "abc"], count=2), TABLE).summary


def test_types_that_only_spark_knows_are_checked_when_it_has_said_them():
    with pytest.raises(SpecErrors) as caught:
        compare(expectation([{"id": 3, "q": 1}]), TABLE)
    assert [error.code for error in caught.value.errors] == ["FS1010", "FS1102"]


def test_dead_letters_that_nobody_spoke_of_are_a_difference():
    assert unexpected_dead_letters(Table((("error", "string"),), ()), WHERE) is None
    found = unexpected_dead_letters(Table((("error", "string"),), (("ValueError",),)), WHERE)
    assert found.summary == "the model failed on 1 row, and the case has no `dead_letter`"


def test_within_a_tolerance_the_largest_matching_is_found():
    # 0.0 is near 0.9 alone; 1.5 is near both: taking 0.9 for 1.5 first would leave 0.0 without a partner.
    def near(one, other):
        return same(one, other, 0) or abs(one - other) <= 1

    assert len(match([(1.5,), (0.0,)], [(0.9,), (2.0,)], near)) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(allow_nan=True, width=16))), st.randoms())
def test_any_order_of_the_same_rows_matches_whole(rows, random):
    shuffled = random.sample(rows, len(rows))
    found = match(rows, shuffled, lambda one, other: same(one, other, 0))
    assert len(found) == len(rows) == len(set(found.values()))


def test_a_failure_is_shown_row_by_row(golden):
    rows = [{"id": "a", "p": 0.9, "price": 1.5}, {"id": "b", "p": 0.2}, {"id": "x", "p": 0.5, "price": "2.25"}]
    result = CaseResult(
        "prices are exact",
        WHERE,
        0.25,
        (compare(expectation(rows), TABLE), compare(expectation(None, count=4, relation="sink:scores"), TABLE)),
        (
            GateDifference(
                "output_ok", WHERE, "pass expected, but it fails: expect_column_values_to_not_be_null on p: 1 null"
            ),
        ),
        description="What the price is made of.",
    )
    golden("case_failure.txt", click.unstyle("\n".join(report(result))) + "\n")


def test_an_error_of_a_case_is_shown_with_its_code():
    error = RuntimeFault("FS9002", "the Spark job failed.", hint="The driver's log has the trace.")
    lines = report(CaseResult("a case", WHERE, 0.25, errors=(error,)))
    assert lines[-1] == "  FS9002 the Spark job failed. The driver's log has the trace."


def test_long_differences_are_cut_and_json_has_all_of_them():
    table = Table((("id", "int"),), tuple((number,) for number in range(50)))
    result = CaseResult("many", WHERE, 0.25, (compare(expectation([], key=()), table),))
    assert "       ... and 30 more" in report(result)
    found = json.loads(as_dict([result]))
    assert len(found["cases"][0]["differences"][0]["rows"]) == 50
    assert (found["failed"], found["exit_code"], found["cases"][0]["state"]) == (1, 2, "failed")


def test_the_exit_code_tells_a_failed_case_from_a_machine_that_failed():
    difference = compare(expectation([]), TABLE)
    passed, failed = CaseResult("a", WHERE, 0), CaseResult("b", WHERE, 0, (difference,))
    broken = CaseResult("c", WHERE, 0, errors=(RuntimeFault("FS9002", "the Spark job failed."),))
    assert [exit_code(each) for each in ([passed], [passed, failed], [failed, broken])] == [0, 2, 1]
