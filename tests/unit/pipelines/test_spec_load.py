from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.codes import CODES
from firesteel.conf.errors import FiresteelError, SpecErrors
from firesteel.pipelines.analysis import analyze
from firesteel.pipelines.planner.check import check
from firesteel.pipelines.spec.load import load_spec
from firesteel.pipelines.spec.tree import MAX_BYTES, parse_tree
from firesteel.pipelines.spec.values import normal_type
from support.specs import EXAMPLE, FixedBackend, example_with

ROOT = {"root": "file:///data"}


def errors_of(path: Path, profile: str = "", params: dict[str, str] | None = None) -> list[str]:
    """All errors of a spec as people see them; none is an empty list."""
    try:
        check(load_spec(path, profile=profile, params=ROOT if params is None else params, environ={}), FixedBackend())
    except FiresteelError as error:
        return str(error).splitlines()
    return []


def line_of(path: Path, text: str) -> int:
    """The line of the last place where `text` stands, counted from 1."""
    whole = path.read_text(encoding="utf-8")
    return whole[: whole.rindex(text)].count("\n") + 1


def test_the_example_is_valid():
    assert errors_of(EXAMPLE / "pipeline.yaml") == []


def test_five_mistakes_of_five_kinds_are_shown_at_once_with_lines(tmp_path):
    path = example_with(
        tmp_path,
        {
            "partition_by:": "partiton_by:",
            'origin: "${param.origins}"': 'origin: "${param.orgins}"',
            "unit: day": "unit: dya",
            "model: delay": "model: dely",
        },
        sql={"w.wind_speed": "w.wind_sped"},
    )
    assert errors_of(path) == [
        "FS1004 pipeline.yaml:13:24  `interval.unit` must be 'hour', 'day' or 'month', found 'dya'.",
        "FS1007 pipeline.yaml:19:36  `${param.orgins}` is not defined (defined: root, origins, min_distance). Did you mean `origins`?",
        "FS1010 pipeline.yaml:46:7  model `dely` is not defined. Did you mean `delay`?",
        "FS1003 pipeline.yaml:70:5  unknown key `partiton_by` in sinks.scores. Did you mean `partition_by`?",
        "FS2004 sql/features.sql:9:5  column `wind_sped` does not exist in weather. Did you mean `wind_speed` (double)?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  output_ok:", "  input_ok:", "FS1011 pipeline.yaml:{line}:3  duplicate key `input_ok` (first at line"),
        (
            "on: sink:scores",
            "on: sink:score",
            "FS1010 pipeline.yaml:{line}:5  sink `score` is not defined. Did you mean `scores`?",
        ),
        (
            "keep: [flight_id, dt",
            "keep: [flight_idd, dt",
            "FS2004 pipeline.yaml:{line}:14  column `flight_idd` does not exist in features. Did you mean `flight_id`?",
        ),
        (
            "column: dep_delay",
            "column: dep_dely",
            "FS2004 pipeline.yaml:{line}:53  column `dep_dely` does not exist in flights. Did you mean `dep_delay`?",
        ),
        (
            'p_delay: "double from [1]"',
            'p_delay: "dubble"',
            "FS1004 pipeline.yaml:{line}:16  `steps.scored.score.output.p_delay`: `dubble` is not a column type",
        ),
        (
            "distance: int!",
            "distance: integr!",
            "FS1004 pipeline.yaml:{line}:77  `sources.flights.contract.columns.distance`: `integr` is not a column type",
        ),
        (
            "partition_by: [dt, origin]",
            "partition_by: [origin, dt]",
            "starts with `origin`, which is not the interval's column. Put the interval's column `dt` first.",
        ),
        ("max_size: 200MiB", "max_size: 200 parrots", "`200 parrots` is not a size; write 512KiB, 128MiB or 8g."),
        ("spec_version: 1", "spec_version: 2", "FS1004 pipeline.yaml:{line}:1  `spec_version` must be 1, found 2."),
        ("sql/features.sql", "../features.sql", "FS1015"),
        (
            "sql/features.sql",
            "sql/nothing.sql",
            "FS1001 pipeline.yaml:{line}:14  sql_file `sql/nothing.sql` cannot be read: No such file or directory.",
        ),
        ("${param.root}/scores", "scores", "FS1015 pipeline.yaml:{line}:5  path `scores` is not an absolute URI."),
        (
            "${param.root}/scores",
            "${secret:vault/x}/scores",
            "FS1020 pipeline.yaml:{line}:5  `sinks.scores.path` must not contain a secret: paths are published.",
        ),
        (
            'args: {min_distance: "${param.min_distance}"}',
            "args: {}",
            "FS2005 sql/features.sql:16:21  `:min_distance` is not bound (args: none).",
        ),
        (
            "features: signature",
            "features: {dep_hour: dep_hur}",
            "FS2004 pipeline.yaml:{line}:7  column `dep_hur` does not exist in features. Did you mean `dep_hour` (",
        ),
        (
            "features: signature",
            "features: {dep_hour: 1 +}",
            "FS2001 pipeline.yaml:{line}:7  the SQL does not parse near",
        ),
        (
            "features: signature",
            "features: {flight_id: distance}",
            "FS1013 pipeline.yaml:{line}:18  `flight_id` is both a column of `keep` and a feature computed as `distance`.",
        ),
        (
            "batch: {rows: 8192, bytes: 32MiB}",
            "workers: {cpus: 3}",
            "FS1004 pipeline.yaml:{line}:17  `steps.scored.score.workers.cpus` is 3, but an executor has 2 cores, so no task could start",
        ),
        (
            "mode: replace_partitions",
            "files: {target_size: 128}",
            "FS1004 pipeline.yaml:{line}:13  `sinks.scores.files.target_size` must be greater than or equal to 1048576, found 128.",
        ),
        (
            "batch: {rows: 8192, bytes: 32MiB}",
            "workers: {gpus: 1}",
            "FS1004 pipeline.yaml:{line}:17  `steps.scored.score.workers.gpus`: a task needs a GPU, but the master local[2] does not schedule GPUs.",
        ),
        (
            "{type: expect_column_values_to_not_be_null, column: p_delay}",
            "{type: expect_column_values_to_not_be_null, column: p_delay, on_fail: drop}",
            "FS7004 pipeline.yaml:{line}:70  gates.output_ok checks sink:scores, which is already scored, so it cannot drop rows.",
        ),
        (
            "{type: expect_column_values_to_be_unique, column: flight_id}",
            "{type: expect_column_values_to_be_unique, column: flight_id, on_fail: quarantine}",
            "FS7004 pipeline.yaml:{line}:9  gates.input_ok.expect.0: cannot quarantine: expect_column_values_to_be_unique does not check "
            "single rows.",
        ),
        (
            "{type: expect_column_values_to_not_be_null, column: dep_delay, mostly: 0.8, severity: warning}",
            "{type: expect_column_values_to_not_be_null, column: dep_delay, on_fail: drop, row_condition: x, condition_parser: spark}",
            "FS7004 pipeline.yaml:{line}:9  gates.input_ok.expect.1: cannot drop: expect_column_values_to_not_be_null with "
            "`condition_parser` runs in Great Expectations, which does not identify rows.",
        ),
        (
            "experiment: /batch/flight_delay}",
            "experiment: x}, openlineage: {transport: kafka, path: 'file:///x'}",
            "FS1004 pipeline.yaml:{line}:51  `tracking.openlineage.transport` must be 'file' or 'http', found 'kafka'.",
        ),
        (
            "experiment: /batch/flight_delay}",
            "experiment: x}, openlineage: {transport: http}",
            "FS1005 pipeline.yaml:{line}:37  `url` is missing in tracking.openlineage.",
        ),
        (
            "experiment: /batch/flight_delay}",
            "experiment: x}, openlineage: {transport: http, url: 'https://x', path: 'file:///x'}",
            "FS1003 pipeline.yaml:{line}:86  unknown key `path` in tracking.openlineage. Did you mean `auth`?",
        ),
        (
            "experiment: /batch/flight_delay}",
            "experiment: x}, openlineage: {transport: http, url: 'https://x', auth: abcd}",
            "FS1004 pipeline.yaml:{line}:86  `tracking.openlineage.auth`: a spec must not contain a token; write "
            "${secret:SCOPE/KEY}.",
        ),
        (
            "experiment: /batch/flight_delay}",
            "experiment: x}, openlineage: {path: 'file:///${secret:a/b}'}",
            "`tracking.openlineage.path`: a path must not contain a secret: it is published with the run's record.",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(tmp_path, old, new, expected):
    path = example_with(tmp_path, {old: new})
    line = line_of(path, new)
    found = errors_of(path)
    assert any(expected.replace("{line}", str(line)) in each for each in found), found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "\nsinks:\n",
            "\nsinks:\n  second: {from: scored, path: '${param.root}/second', partition_by: [dt, origin]}\n",
        ),
        ("\ngates:\n", "\n  again: {score: {input: features, model: delay, output: {q: double}}}\ngates:\n"),
    ],
)
def test_a_second_score_step_or_sink_is_refused_and_never_ignored(tmp_path, old, new):
    found = errors_of(example_with(tmp_path, {old: new}))
    assert any(line.startswith("FS1090") and "a pipeline has one" in line for line in found), found


def test_a_cycle_is_drawn(tmp_path):
    path = example_with(
        tmp_path,
        {
            '{sql_file: sql/features.sql, args: {min_distance: "${param.min_distance}"}}': "{sql: SELECT * FROM later}\n  later: {sql: SELECT * FROM features}"
        },
    )
    assert any("FS1012" in line and "features -> later -> features" in line for line in errors_of(path))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1; SELECT 2", "FS2002 sql/features.sql  a step must be one SELECT, found 2 statements."),
        ("DROP TABLE flights", "FS2002 sql/features.sql  a step must be one SELECT, found DROP."),
        ("SELECT flight_id FRO flights WHERE (", "FS2001 sql/features.sql:1:"),
        (
            "SELECT * FROM flight",
            "FS2003 sql/features.sql:1:15  relation `flight` is not a source or a step. Did you mean `flights`?",
        ),
        ("SELECT 'unclosed FROM flights", "FS2001 sql/features.sql"),
    ],
)
def test_bad_sql_is_named_with_its_place(tmp_path, sql, expected):
    path = example_with(tmp_path, {})
    (tmp_path / "sql" / "features.sql").write_text(sql, encoding="utf-8")
    assert any(line.startswith(expected) for line in errors_of(path)), errors_of(path)


def test_params_are_typed_and_ranged():
    path = EXAMPLE / "pipeline.yaml"
    assert errors_of(path, params={}) == [
        "FS1006 pipeline.yaml:9:3  param `root` (uri) has no value. Pass --param root=VALUE, or a --profile that sets it."
    ]
    for value, problem in (
        ("9999", "expected at most 5000 (its `max`), found 9999"),
        ("far", "expected a whole number, found 'far'"),
    ):
        assert (
            f"FS1008 pipeline.yaml:11:3  param `min_distance`: {problem}. "
            "Set another value, or change the declaration `params.min_distance`."
        ) in errors_of(path, params={**ROOT, "min_distance": value})
    assert any(
        "FS1009" in line and "Did you mean `origins`?" in line
        for line in errors_of(path, params={**ROOT, "origin": "JFK"})
    )
    loaded = load_spec(path, params={**ROOT, "origins": "JFK,LGA"}, environ={})
    assert loaded.spec.sources["flights"].select["origin"] == ("JFK", "LGA")


def test_a_profile_is_merged_deeply_and_an_unknown_one_is_named():
    path = EXAMPLE / "pipeline.yaml"
    loaded = load_spec(path, profile="standalone", params=ROOT, environ={})
    assert loaded.spec.resources.master == "local[2]"
    assert loaded.spec.resources.executors is not None
    assert any("FS1009" in line and "declared: standalone" in line for line in errors_of(path, profile="prod"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "FS1002"),
        (b"\t- x", "FS1002"),
        (b"a: [", "FS1002"),
        (b"\xff\xfe", "FS1001"),
        (b"- a\n- b", "FS1002"),
        (b"just text", "FS1002"),
        (b"a: !!python/object/apply:os.system ['true']", "FS10"),
        (b"x" * (MAX_BYTES + 1), "FS1001"),
        (b"a: " + b"[" * 200 + b"]" * 200, "FS1002"),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(8)),
            "FS1002",
        ),
        (b"? [a, b]\n: c", "FS10"),
        (b"\xef\xbb\xbfspec_version: 1", "FS1005"),
        (b"a: .nan", "FS1005"),
    ],
)
def test_broken_files_end_in_coded_errors(tmp_path, data, code):
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(data)
    found = errors_of(path)
    assert found
    assert all(line.startswith("FS1") for line in found), found
    assert any(line.startswith(code) for line in found), found


def test_a_missing_file_is_a_coded_error(tmp_path):
    assert errors_of(tmp_path / "no.yaml")[0].startswith(
        f"FS1001 no.yaml  {tmp_path}/no.yaml cannot be read: No such file"
    )


@given(st.text(max_size=200))
def test_any_text_gives_a_tree_or_coded_errors(text):
    found: tuple[FiresteelError, ...] = ()
    try:
        found = parse_tree(text, "x.yaml").errors
    except SpecErrors as error:
        found = error.errors
    assert all(each.code in CODES for each in found)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "name",
                        "storage",
                        "params",
                        "interval",
                        "sources",
                        "steps",
                        "sinks",
                        "gates",
                        "score",
                        "from",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_mapping_gives_coded_errors(tmp_path_factory, value):
    from ruamel.yaml import YAML

    path = tmp_path_factory.mktemp("any") / "pipeline.yaml"
    with path.open("w") as handle:
        YAML(typ="safe").dump({"spec_version": 1, "x": value, **(value if isinstance(value, dict) else {})}, handle)
    found = errors_of(path)
    assert found
    assert all(line[:6] in CODES for line in found), found


def test_errors_survive_pickling(tmp_path):
    path = example_with(tmp_path, {"partition_by:": "partiton_by:"})
    with pytest.raises(SpecErrors) as caught:
        check(load_spec(path, params=ROOT, environ={}), FixedBackend())
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.exit_code == 2


def test_secret_like_values_of_the_environment_stay_out_of_errors(tmp_path):
    path = example_with(tmp_path, {"experiment: /batch/flight_delay": 'uri: "${env:TOKEN}", experimnt: x'})
    with pytest.raises(SpecErrors) as caught:
        check(load_spec(path, params=ROOT, environ={"TOKEN": "canary-1234"}), FixedBackend())
    assert "canary-1234" not in str(caught.value)


def test_a_mapping_of_features_is_a_select_before_the_score(tmp_path):
    mapping = "{dep_hour: dep_hour, late: 'dep_delay / 60 -- hours', far: 'distance > 1000'}"
    loaded = load_spec(example_with(tmp_path, {"features: signature ": f"features: {mapping} "}), params=ROOT)
    assert list(loaded.spec.steps) == ["features", "scored_features", "scored"]
    before, score = loaded.spec.steps["scored_features"], loaded.spec.steps["scored"].score
    assert before.sql == (
        "SELECT `flight_id`, `dt`, `origin`, (dep_hour\n) AS `dep_hour`, (dep_delay / 60 -- hours\n) AS `late`, "
        "(distance > 1000\n) AS `far` FROM `features`"
    )
    assert (score.input, score.features) == ("scored_features", ("dep_hour", "late", "far"))
    assert loaded.canonical.steps == loaded.spec.steps
    columns = {column.name: column.type for column in analyze(loaded).relations["scored_features"]}
    assert (columns["late"], columns["far"]) == ("double", "boolean")


def test_the_name_of_that_select_may_not_be_taken(tmp_path):
    changes = {
        "features: signature ": "features: {dep_hour: hour} ",
        "  scored:": "  scored_features: {sql: SELECT 1 AS x}\n  scored:",
    }
    found = errors_of(example_with(tmp_path, changes))
    assert any(
        "`scored_features` already exists; `features` of scored needs this name for its SELECT." in each
        for each in found
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("STRUCT<x: Double, Inner: struct<A:int>>", "struct<x:double,Inner:struct<A:int>>"),
        ("map<string, array<long>>", "map<string,array<bigint>>"),
        ("array<decimal(10, 2)>", "array<decimal(10,2)>"),
    ],
)
def test_nested_types_are_read_and_field_names_keep_their_case(text, wanted):
    assert normal_type(text) == wanted
    assert normal_type(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "struct<>",
        "struct<x>",
        "struct<:int>",
        "struct<a b:int>",
        "map<int>",
        "array<int,int>",
        "array<int",
        "struct<x:int,>",
    ],
)
def test_what_is_no_type_is_refused(text):
    with pytest.raises(ValueError, match="is not a column type"):
        normal_type(text)
