"""References to the interval: resolved in `select` and `args`, refused everywhere else; templates fit what they fill."""

from __future__ import annotations

import itertools
import re
from datetime import date, datetime
from pathlib import Path

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.conf.partitions import is_selectable, parse_selected, value_text
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.intervals import fill, first_slots
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.planner.diff import diff
from firesteel.pipelines.spec.load import load_spec
from firesteel.pipelines.spec.model import Interval
from support.data import write_days
from support.specs import FixedBackend, example_with

ARGS = 'args: {min_distance: "${param.min_distance}"}'
DAYS = ["2013-06-01", "2013-06-02"]


def load(folder: Path, changes=None, sql=None, root="file:///data", **params) -> Pipeline:
    path = example_with(folder, changes or {}, sql)
    return Pipeline.load(path, params={"root": root, **params}, backend=FixedBackend())


def errors_of(folder: Path, changes=None, sql=None, **params) -> list[str]:
    try:
        load(folder, changes, sql, **params)
    except SpecErrors as error:
        return str(error).splitlines()
    return []


def with_args(text: str) -> dict[str, str]:
    return {ARGS: ARGS.replace("}", f", {text}}}", 1) if "}" not in ARGS[:-1] else ARGS[:-1] + f", {text}}}"}


@pytest.fixture
def data(tmp_path) -> str:
    write_days(tmp_path / "data", DAYS)
    return f"file://{tmp_path}/data"


# where they are refused


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("path: ${param.root}/scores", "path: ${param.root}/${interval.ds}", "sinks.scores.path"),
        ("path: ${param.root}/weather", 'path: "${param.root}/w/${interval.ds}"', "sources.weather.path"),
        ("storage: ${param.root}/_firesteel", "storage: ${param.root}/${interval.id}", "storage"),
        ('p_delay: "double from [1]"', 'p_delay: "double from ${interval.ds}"', "steps.scored.score.output.p_delay"),
        ("uri: models:/flight_delay@champion", 'uri: "models:/flight_delay@${interval.ds}"', "models.delay.uri"),
        ("column: flight_id}", 'column: "${interval.ds}"}', "gates.input_ok.expect.0.column"),
        ("max_value: 1}", 'max_value: "${interval.hour}"}', "gates.output_ok.expect.1.max_value"),
        ('partitions: "4"', 'partitions: "${interval.hour}"', "configuration.spark.sql.shuffle.partitions"),
        ("experiment: /batch/flight_delay", 'experiment: "/batch/${interval.ds}"', "tracking.mlflow.experiment"),
        ("owner: ml-ops@example.org", 'owner: "${interval.ds}"', "owner"),
        ("begin: 2013-01-01", 'begin: "${interval.ds}"', "interval.begin"),
        ("marker: _SUCCESS}\n    on", 'marker: "_${interval.ds}"}\n    on', "sources.flights.ready.marker"),
        ("sql_file: sql/features.sql", 'sql_file: "sql/${interval.ds}.sql"', "steps.features.sql_file"),
        ("key: [flight_id]", 'key: ["${interval.ds}"]', "sources.flights.key.0"),
    ],
)
def test_a_reference_to_the_interval_is_refused_where_it_is_not_resolved(tmp_path, old, new, place):
    (error,) = errors_of(tmp_path, {old: new})
    assert re.match(
        rf"FS1019 pipeline\.yaml:\d+:\d+  `\$\{{interval\.\w+\}}` is not allowed in `{re.escape(place)}`", error
    )


@pytest.mark.parametrize(
    "text", ["${interval.ds}", "${param.min_distance}", "${env:HOME}", "${nothing}", "${interval.ds"]
)
def test_no_reference_stands_in_the_sql_of_a_file(tmp_path, text):
    (error,) = errors_of(tmp_path, sql={"WHERE f.distance": f"WHERE f.dt = '{text}' AND f.distance"})
    assert error.startswith("FS1019 sql/features.sql:16:15  `${")
    assert "is not allowed in SQL" in error


@pytest.mark.parametrize(
    ("reference", "arg"), [("${interval.ds}", "ds"), ("${param.min_distance}", "min_distance"), ("${env:HOME}", "home")]
)
def test_no_reference_stands_in_inline_sql_and_the_hint_binds_it(tmp_path, reference, arg):
    sql = f"{{sql: \"SELECT flight_id, dt FROM flights WHERE origin = '{reference}'\"}}"
    found = errors_of(tmp_path, {"steps:\n": f"steps:\n  one: {sql}\n"})
    (error,) = found
    assert error.startswith("FS1019 pipeline.yaml:42:9")
    assert f'args: {{{arg}: "{reference}"}}' in error
    assert f":{arg} in the SQL, without quotes" in error


def test_a_reference_in_an_expression_of_features_is_refused(tmp_path):
    (error,) = errors_of(tmp_path, {"features: signature": "features: {dep_hour: \"'${interval.hour}'\"}"})
    assert error.startswith("FS1019 pipeline.yaml:47:18")


def test_the_sql_around_a_reference_is_checked_too(tmp_path):
    found = errors_of(tmp_path, sql={"WHERE f.distance": "WHERE f.dt = '${interval.ds}' AND f.distanc"})
    assert [error[:6] for error in found] == ["FS1019", "FS2004"]


def test_the_declaration_of_a_param_holds_no_reference(tmp_path):
    found = errors_of(tmp_path, {"default: [JFK, LGA, EWR]": 'default: ["${env:HOME}"]'})
    assert found == [
        "FS1019 pipeline.yaml:10:44  `${env:HOME}` is not allowed in the declaration of a param. Write it where the param is used."
    ]


def test_a_key_holds_no_reference(tmp_path):
    found = errors_of(tmp_path, {"configuration: {": 'configuration: {"spark.${param.root}": x, '})
    assert [error[:6] for error in found] == ["FS1019"]


def test_a_params_value_that_looks_like_a_reference_is_no_path(tmp_path):
    found = errors_of(tmp_path, root="file:///data/${interval.ds}")
    assert len(found) == 4
    assert all(error.startswith("FS1019") and "are data" in error for error in found)


def test_a_description_may_say_what_it_likes(tmp_path):
    load(tmp_path, {"description: The probability": "description: By ${interval.ds} the probability"})


# where they are resolved


def test_args_are_filled_for_each_interval_and_pinned_in_the_plan(tmp_path, data):
    text = (
        'day: "${interval.ds}", before: "${interval.ds} - 1d", list: ["${interval.id}", x], said: "on ${interval.ds}"'
    )
    sql = {"WHERE f.distance": "WHERE f.dt = :day AND :before <> :said AND array_contains(:list, 'x') AND f.distance"}
    plan = load(tmp_path, with_args(text), sql, root=data).plan(*DAYS)
    assert [dict(interval.args)["features"] for interval in plan.intervals] == [
        (
            ("before", before),
            ("day", day),
            ("list", [day, "x"]),
            ("min_distance", 0),
            ("said", f"on {day}"),
        )
        for before, day in (("2013-05-31", "2013-06-01"), ("2013-06-01", "2013-06-02"))
    ]
    assert Plan.from_json(plan.to_json()) == plan
    step = plan.steps[0]
    assert dict(plan.intervals[1].bound(step).args)["day"] == "2013-06-02"
    assert dict(step.args)["day"] == "${interval.ds}", "the step itself is of no interval"
    assert not any(":day" in text or "2013" in text for source in plan.sources for text in source.filters)


def test_what_args_are_bound_to_is_in_the_hash(tmp_path, data):
    sql = {"WHERE f.distance": "WHERE f.flight_id <> :at AND f.distance"}
    plans = [
        load(tmp_path / str(number), {**with_args(text), **more}, sql, root=data).plan(DAYS[0])
        for number, (text, more) in enumerate(
            [
                ('at: "${interval.start}"', {}),
                ('at: "${interval.end}"', {}),
                ('at: "${interval.start}"', {"timezone: UTC": "timezone: Europe/Berlin"}),
                ('at: "${interval.start}"', {"owner: ml-ops": "owner: other"}),
            ]
        )
    ]
    hashes = [plan.intervals[0].plan_hash for plan in plans]
    assert len(set(hashes[:3])) == 3
    assert hashes[3] == hashes[0]
    assert dict(plans[0].intervals[0].hash_inputs)["args"] != dict(plans[2].intervals[0].hash_inputs)["args"]
    assert any("args:" in change.words for change in diff(plans[0], plans[2]).changes)
    plain = load(tmp_path / "plain", root=data).plan(DAYS[0])
    assert "args" not in dict(plain.intervals[0].hash_inputs), (
        "where no arg refers to the interval, hashes are as they were"
    )


def test_the_value_of_a_location_is_in_the_hash_where_it_is_bound(tmp_path, data):
    sql = {"WHERE f.distance": "WHERE f.flight_id <> :at AND f.distance"}
    codes = [
        load(tmp_path / str(n), with_args('at: "${param.root}"'), sql, root=root).sketch().code_hash
        for n, root in enumerate(("file:///one", "file:///two"))
    ]
    assert codes[0] != codes[1]


@pytest.mark.parametrize("value", ["${interval.ds}", "$${x}", "${", "$${interval.ds}", "$$${interval.ds}", "plain"])
def test_a_params_value_is_bound_as_it_is(tmp_path, data, value):
    changes = with_args('tail: "${param.tail}", day: "${interval.ds}"')
    changes["origins: {type"] = "tail: {type: string}\n  origins: {type"
    sql = {"WHERE f.distance": "WHERE f.flight_id <> :tail AND f.dt = :day AND f.distance"}
    plan = load(tmp_path, changes, sql, root=data, tail=value).plan(DAYS[0])
    assert dict(plan.intervals[0].bound(plan.steps[0]).args)["tail"] == value


def test_an_escaped_reference_is_text(tmp_path, data):
    changes = with_args('one: "$${interval.ds}", two: "$${interval.ds} ${interval.ds}"')
    sql = {"WHERE f.distance": "WHERE f.flight_id <> :one AND f.flight_id <> :two AND '$${x}' <> '' AND f.distance"}
    plan = load(tmp_path, changes, sql, root=data).plan(DAYS[0])
    bound = plan.intervals[0].bound(plan.steps[0])
    assert dict(bound.args)["one"] == "${interval.ds}"
    assert dict(bound.args)["two"] == "${interval.ds} 2013-06-01"
    assert "'${x}'" in bound.sql


@pytest.mark.parametrize(
    "text",
    [
        "${interval.start} - 1d",
        "${interval.ds} - 1w",
        "${interval.ds} + 2",
        "${interval.ds} - 3 days",
        "${interval.ds} - 1h",
    ],
)
def test_arithmetic_that_cannot_be_done_is_an_error(tmp_path, text):
    sql = {"WHERE f.distance": "WHERE f.flight_id <> :at AND f.distance"}
    (error,) = errors_of(tmp_path, with_args(f'at: "{text}"'), sql)
    assert error.startswith("FS1004 pipeline.yaml:42")


def test_a_mapping_cannot_be_bound(tmp_path):
    sql = {"WHERE f.distance": "WHERE f.flight_id <> :at AND f.distance"}
    (error,) = errors_of(tmp_path, with_args("at: {a: 1}"), sql)
    assert "a mapping cannot be bound" in error


def test_items_of_a_selected_list_are_computed_as_well(tmp_path, data):
    changes = {
        'weather\n    partitions: {dt: date}\n    select: {dt: "${interval.ds}"}': (
            'weather\n    partitions: {dt: date}\n    select: {dt: ["${interval.ds} - 1d", "${interval.ds}"]}'
        )
    }
    plan = load(tmp_path, changes, root=data).plan(DAYS[1])
    assert plan.intervals[0].inputs[1].directories == ("dt=2013-06-01", "dt=2013-06-02")


# templates and types

TYPES = [
    "string",
    "int",
    "bigint",
    "tinyint",
    "date",
    "timestamp",
    "timestamp_ntz",
    "boolean",
    "double",
    "decimal(10,2)",
]
TEMPLATES = [
    "${interval.ds}", "${interval.id}", "${interval.hour}", "${interval.start}", "${interval.end}", "${interval.ds} - 1d",
    "2013-02-30", "05", "300", "true", "JFK", "1.5", "x${interval.ds}",
]  # fmt: skip


def is_a(kind: str, text: str) -> bool:
    """Python's own opinion."""
    readers = {"date": date.fromisoformat, "double": float, "decimal(10,2)": float, "boolean": {"true": 1}.__getitem__,
               "timestamp": datetime.fromisoformat, "timestamp_ntz": datetime.fromisoformat}  # fmt: skip
    if kind == "string":
        return True
    try:
        if kind in readers:
            readers[kind](text)
            return True
        limit = {"tinyint": 7, "int": 31, "bigint": 63}[kind]
        return -(2**limit) <= int(text) < 2**limit
    except (ValueError, KeyError):
        return False


@pytest.mark.parametrize("unit", ["hour", "day", "month"])
def test_what_a_template_gives_is_a_value_of_a_type_as_python_reads_it(unit):
    slot = first_slots(Interval(column="dt", unit=unit, begin="2013-01-01"))[0]
    for kind, template in itertools.product(TYPES, TEMPLATES):
        value = fill(template, slot)
        if kind.startswith("decimal"):
            continue  # Spark takes a text with another number of digits for another value
        if kind in ("date", "timestamp", "timestamp_ntz", "boolean") and value in (
            "2013-01",
            "2013-01-01T00",
            "05",
            "300",
        ):
            continue  # Spark reads more than Python does, or Python more than Spark
        expected = is_a(kind, value) and not (
            kind.startswith("timestamp") and "+" in value
        )  # no directory has an offset
        assert is_selectable(value, kind) == expected, (kind, template, value)


@pytest.mark.parametrize(
    ("kind", "template"),
    [
        ("int", "${interval.ds}"), ("bigint", "${interval.start}"), ("date", "${interval.hour}"), ("boolean", "${interval.ds}"),
        ("timestamp", "${interval.hour}"), ("date", "JFK"), ("int", "99999999999"), ("double", "${interval.ds} - 1d"), ("date", "2013-02-30"),
        ("array<int>", "1"),
    ],
)  # fmt: skip
def test_a_template_is_refused_where_it_is_no_value_of_the_partitions_type(tmp_path, kind, template):
    for number, select in enumerate((f'"{template}"', f'["{template}", "{template}"]')):
        changes = {
            "partitions: {dt: date, origin: string}": f"partitions: {{dt: date, origin: '{kind}'}}",
            'origin: "${param.origins}"}': f"origin: {select}}}",
        }
        (error,) = errors_of(tmp_path / str(number), changes)
        assert re.match(r"FS1004 pipeline\.yaml:1[89]:", error), error


@pytest.mark.parametrize("text", ["2013-06-01 05:00:00", "2013-06-01T05:00:00.123", "2013-06-01"])
def test_a_timestamp_may_be_written_as_spark_reads_it(text):
    assert is_selectable(text, "timestamp")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2013-06", "date"), ("2013", "timestamp"), ("2013-06-01T05:00:00Z", "timestamp"), ("1.5", "decimal(5,2)"),
        ("yes", "boolean"), ("nan", "double"), ("x", "binary"),
    ],
)  # fmt: skip
def test_what_would_match_no_or_another_partition_is_not_selectable(text, kind):
    assert not is_selectable(text, kind)


def test_a_null_partition_can_be_selected_and_is_named_as_spark_names_it():
    assert parse_selected("__HIVE_DEFAULT_PARTITION__", "int") is None
    assert value_text(None) == "__HIVE_DEFAULT_PARTITION__"


def test_an_int_partition_that_gets_a_date_is_told_what_to_write(tmp_path):
    found = errors_of(tmp_path, {"partitions: {dt: date}": "partitions: {dt: int}"})
    assert found == [
        "FS1004 pipeline.yaml:29:14  `sources.weather.select.dt` is `2013-01-01` for the interval 2013-01-01, which "
        "is not a value of the partition's type int. Declare the partition as date, or select ${interval.ds_nodash}."
    ]


@pytest.mark.parametrize(
    ("changes", "overlap"),
    [
        ({"unit: day": "unit: hour"}, "both replace dt=2013-01-01/origin=EWR"),
        ({"unit: day": "unit: hour", "mode: replace_partitions": "mode: append_once"}, ""),
        (
            {"unit: day": "unit: hour", "{dt: date, origin: string}": "{dt: string, origin: string}",
             'select: {dt: "${interval.ds}", origin': 'select: {dt: "${interval.hour}", origin'},
            "the intervals 2013-01-01T00 and 2013-01-02T00 both replace dt=00/origin=EWR",
        ),
        (
            {"unit: day": "unit: hour", "{dt: date, origin: string}": "{dt: string, origin: string}",
             'select: {dt: "${interval.ds}", origin': 'select: {dt: "${interval.id}", origin'},
            "",
        ),
        ({"unit: day": "unit: month"}, ""),
        ({'select: {dt: "${interval.ds}", origin': "select: {dt: 2013-01-01, origin"}, "both replace dt=2013-01-01"),
    ],
)  # fmt: skip
def test_two_intervals_never_replace_the_same_partition(tmp_path, changes, overlap):
    found = errors_of(tmp_path, changes)
    assert (overlap in found[0]) if overlap else found == [], found


def test_a_range_of_the_intervals_column_is_refused_at_validate(tmp_path):
    ranged = 'select: {dt: {from: "${interval.ds} - 1d", to: "${interval.ds}"}, origin'
    (error,) = errors_of(tmp_path, {'select: {dt: "${interval.ds}", origin': ranged})
    assert "`dt` has 2 values for one interval" in error


def test_values_that_yaml_reads_as_something_else_are_selected_by_their_text(tmp_path):
    path = example_with(tmp_path, {'origin: "${param.origins}"}': "origin: [true, 5]}"})
    loaded = load_spec(path, params={"root": "file:///data"}, environ={})
    assert loaded.spec.sources["flights"].select["origin"] == ("true", "5")
