"""Suites of Great Expectations in files beside the spec."""

from __future__ import annotations

import json
import textwrap

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.pipelines.plan.fingerprint import code_parts
from firesteel.pipelines.spec.load import load_spec
from support.specs import example_with

INLINE = """    expect:
      - {type: expect_column_values_to_be_unique, column: flight_id}
      - {type: expect_column_values_to_not_be_null, column: dep_delay, mostly: 0.8, severity: warning}
"""
# As Great Expectations 1.24 writes it.
SUITE = {
    "expectations": [
        {
            "id": "2a6c8964-ade5-49b2-95f7-14aba73c410b",
            "kwargs": {"column": "flight_id"},
            "meta": {"owner": "ann"},
            "notes": "the key",
            "severity": "critical",
            "type": "expect_column_values_to_be_unique",
        },
        {
            "id": "63e1995c-634c-431a-ab9c-8816702bc9d3",
            "kwargs": {"column": "dep_delay", "mostly": 0.8},
            "meta": {},
            "severity": "info",
            "type": "expect_column_values_to_not_be_null",
        },
    ],
    "id": "fb518d8b-e989-4992-8e77-6f1b88a243d6",
    "meta": {"great_expectations_version": "1.24.1"},
    "name": "flights",
    "notes": None,
}


def load(folder, suite=SUITE, gate="    suite: suites/flights.json\n"):
    path = example_with(folder, {INLINE: gate})
    (folder / "suites").mkdir(exist_ok=True)
    text = suite if isinstance(suite, str) else json.dumps(suite, indent=2)
    (folder / "suites" / "flights.json").write_text(text, encoding="utf-8")
    return load_spec(path, params={"root": "file:///x"})


def expectations(loaded, gate="input_ok"):
    assert loaded.errors == (), [str(error) for error in loaded.errors]
    return [(each.type, each.severity, each.arguments) for each in loaded.spec.gates[gate].expect]


def test_a_suite_stands_for_its_expectations(tmp_path):
    loaded = load(tmp_path)
    unique, not_null = expectations(loaded)
    assert unique == (
        "expect_column_values_to_be_unique",
        "critical",
        {"column": "flight_id", "notes": "the key"},
    )
    assert not_null == ("expect_column_values_to_not_be_null", "warning", {"column": "dep_delay", "mostly": 0.8})
    assert loaded.canonical.gates == loaded.spec.gates


def test_a_suite_has_the_hash_of_the_same_expectations_inline_whatever_people_note(tmp_path):
    spec = load_spec(example_with(tmp_path / "inline", {}), params={"root": "file:///x"})
    assert code_parts(load(tmp_path / "suite").canonical, {}) == code_parts(spec.canonical, {})
    other = json.loads(json.dumps(SUITE).replace("0.8", "0.9"))
    assert code_parts(load(tmp_path / "other", other).canonical, {}) != code_parts(spec.canonical, {})


@pytest.mark.parametrize("indent", ["\t", None])
def test_tabs_and_one_line_are_json_and_expectations_of_the_spec_come_after(tmp_path, indent):
    text = json.dumps(SUITE, indent=indent)
    more = "    suite: suites/flights.json\n    expect: [{type: expect_table_row_count_to_equal, value: 3}]\n"
    assert [kind for kind, _, _ in expectations(load(tmp_path, text, more))] == [
        "expect_column_values_to_be_unique",
        "expect_column_values_to_not_be_null",
        "expect_table_row_count_to_equal",
    ]


def test_suites_of_before_1_0_are_read(tmp_path):
    old = {
        "expectation_suite_name": "flights",
        "expectations": [
            {
                "expectation_type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "dep_delay", "result_format": "BASIC", "batch_id": "x", "catch_exceptions": False},
                "meta": {},
            }
        ],
    }
    assert expectations(load(tmp_path, old)) == [
        ("expect_column_values_to_not_be_null", "critical", {"column": "dep_delay"})
    ]


def _with_kwargs(**kwargs):
    return {"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": kwargs}]}


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        (
            "{",
            "FS1002 suites/flights.json:1:2  suite `suites/flights.json` is not valid JSON: Expecting property name enclosed in double quotes.",
        ),
        ("[]", "FS1002 suites/flights.json:1:1  the file is not a mapping"),
        ({"name": "x"}, "FS1005 suites/flights.json:1:1  `expectations` is missing in suite `suites/flights.json`."),
        ({"expectations": []}, "FS1005 suites/flights.json:1:1  `expectations` is missing"),
        ({"expectations": [{"kwargs": {}}]}, "FS1005 suites/flights.json:3:5  `type` is missing"),
        (
            _with_kwargs(column={"$PARAMETER": "c"}),
            "FS1004 suites/flights.json:6:9  expect_column_values_to_not_be_null: `column` is a suite parameter",
        ),
        (
            '{"expectations": [1, 1], "expectations": []}',
            "FS1011 suites/flights.json:1:26  duplicate key `expectations`",
        ),
    ],
)
def test_what_is_wrong_with_a_suite_is_said_with_its_place(tmp_path, suite, expected):
    found = [str(error) for error in load(tmp_path, suite).errors]
    assert any(each.startswith(expected) for each in found), found


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("    suite: ../x.json\n", "FS1015 pipeline.yaml:{line}:5  suite `../x.json` is outside the spec's folder."),
        ("    suite: nope.json\n", "FS1001 pipeline.yaml:{line}:5  suite `nope.json` cannot be read: No such file"),
        (
            "    suit: suites/flights.json\n",
            "FS1003 pipeline.yaml:{line}:5  unknown key `suit` in gates.input_ok. Did you mean",
        ),
        ("", "FS1004 pipeline.yaml:{line}:3  `gates.input_ok`: a gate needs expectations: add `expect` or `suite`"),
    ],
)
def test_a_gate_that_names_no_suite_or_another_is_told(tmp_path, gate, expected):
    try:
        errors = load(tmp_path, gate=gate).errors
    except SpecErrors as error:
        errors = error.errors
    found = [str(each) for each in errors]
    text = (tmp_path / "pipeline.yaml").read_text().splitlines()
    line = next(n for n, each in enumerate(text, 1) if each.startswith(gate.rstrip() or "  input_ok:"))
    assert any(each.startswith(expected.format(line=line)) for each in found), textwrap.indent("\n".join(found), "  ")
