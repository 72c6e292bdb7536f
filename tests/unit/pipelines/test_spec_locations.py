"""What the text alone shows to be wrong is an error of `validate`, and one mistake is one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.jobs.cli.main import invoke
from firesteel.pipelines.plan.locations import model_problem
from firesteel.pipelines.planner.check import check
from firesteel.pipelines.spec.load import load_spec
from support.specs import EXAMPLE, FixedBackend, example_with

ROOT = {"root": "file:///data"}


def errors_of(folder: Path, changes: dict[str, str], params: dict[str, str] | None = None) -> list[str]:
    try:
        check(load_spec(example_with(folder, changes), params=params or ROOT, environ={}), FixedBackend())
    except SpecErrors as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("begin: 2013-01-01", "begin: today", "FS1014 pipeline.yaml:13:35  interval.begin 'today' is not a valid day."),
        ("begin: 2013-01-01", "begin: 2013-02-30", "FS1014 pipeline.yaml:13:35  interval.begin '2013-02-30' is not a valid day."),
        ("begin: 2013-01-01", "begin: 9999-12-31", "FS1014 pipeline.yaml:13:35  interval.begin is at the end"),
        ("timezone: UTC", "timezone: Seattle", "FS1014 pipeline.yaml:13:54  interval.timezone `Seattle` is not an IANA"),
        ("timezone: UTC", "timezone: America", "FS1014 pipeline.yaml:13:54  interval.timezone `America` is not an IANA"),
        ("formats: [skops, onnx]", "formats: [skop]", "FS1004 pipeline.yaml:39:23  `models.delay.trust.formats.0` must be 'skops'"),
        ("formats: [skops, onnx]", "formats: []", "`models.delay.trust.formats` must not be empty"),
        ("path: ${param.root}/scores", "path: s3a://b/scores", "FS8005 pipeline.yaml:69:5  path s3a://b/scores: the scheme `s3a`"),
        ("path: ${param.root}/weather", "path: gs://b/weather", "FS8005 pipeline.yaml:27:5"),
        ("path: ${param.root}/weather", "path: file://data/weather", "FS8005 pipeline.yaml:27:5"),
        ("storage: ${param.root}/", "storage: abfss://c@a/", "FS8005 pipeline.yaml:6:1"),
        ("path: ${param.root}/scores", "path: hdfs://nn/scores", "FS8008 pipeline.yaml:69:5  `sinks.scores.path` and `storage`"),
        ("experiment: /batch/flight_delay}", "experiment: x}, openlineage: {path: 's3://b/x'}", "FS8005"),
        ("uri: models:/flight_delay@champion", "uri: models:/flight_delay", "FS1004 pipeline.yaml:37:5  `models.delay.uri`"),
        ("uri: models:/flight_delay@champion", "uri: models:/m/latest", "has no alias and no version"),
        ("uri: models:/flight_delay@champion", "uri: runs:/1/model", "has the scheme `runs`, which a plan cannot pin"),
        ("method: predict_proba", "method: predict_proba\n    challenger: s3://b/m", "`models.delay.challenger.uri`"),
        ('master: "local[2]"', "master: 'local[two]'", "FS1004 pipeline.yaml:74:13  `resources.master`: `local[two]` is not a valid Spark master"),
        ('master: "local[2]"', "master: 'local[0]'", "`local[0]` is not a valid Spark master"),
        ('master: "local[2]"', "master: spark://host", "`spark://host` is not a valid Spark master"),
        ('master: "local[2]"', "master: yarn-client", "`yarn-client` is not a valid Spark master"),
        ("of: features", "of: feature", "FS1010 pipeline.yaml:64:35  relation `feature` is not defined. Did you mean `features`?"),
        ("keep: [flight_id, dt", "keep: [flight_id, flight_id, dt", "`flight_id` is a duplicate in keep"),
        ("partition_by: [dt, origin]", "partition_by: [dt, origin, dt]", "`dt` is a duplicate in partition_by"),
        ('p_delay: "double from [1]"', "DT: double", "`DT` is in both `keep` and `output`"),
        ("hour: int}", "hour: int, DT: string}", "`DT` is both a column and a partition of flights"),
        ("keep: [flight_id, dt", "publish_challenger: x\n      keep: [flight_id, dt", "has no challenger"),
    ],
)  # fmt: skip
def test_a_mistake_that_the_text_shows_is_found_by_validate(tmp_path, old, new, expected):
    found = errors_of(tmp_path, {old: new})
    assert any(expected in error for error in found), found


@pytest.mark.parametrize("name", ["Features", "FLIGHTS"])
def test_names_that_differ_in_capitals_only_are_one_name(tmp_path, name):
    found = errors_of(tmp_path, {"steps:\n": f"steps:\n  {name}: {{sql: SELECT 1 AS x}}\n"})
    assert any("FS1013" in error and "differ only in case" in error for error in found), found


@pytest.mark.parametrize(
    "master",
    ["local", "local[4]", "local[*]", "local[*,3]", "local-cluster[2,1,1024]", "yarn", "spark://a:7077,b:7077", "k8s://https://h:6443", "armada://h:1"],
)  # fmt: skip
def test_masters_that_spark_knows_pass(tmp_path, master):
    assert errors_of(tmp_path, {'master: "local[2]"': f'master: "{master}"'}) == []


@pytest.mark.parametrize(
    "uri", ["models:/m@a", "models:/m/3", "models://m/3", "model", "./a/model", "file:///m", "~/m", "/m"]
)
def test_models_that_can_be_pinned_pass(uri):
    assert model_problem(uri) == ""


def test_one_bad_location_is_one_error(tmp_path):
    assert errors_of(tmp_path, {}, {"root": "/data"}) == [
        "FS1008 pipeline.yaml:9:3  param `root`: expected a URI such as hdfs://namenode:8020/ml or file:///tmp/demo. "
        "Set another value, or change the declaration `params.root`."
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "key: [flight_id]",
            "key: flight_id",
            "`sources.flights.key` must be a list: [flight_id], found 'flight_id'.",
        ),
        ("key: [flight_id]", "key: 3", "must be a list: [3], found 3."),
        (
            "batch: {rows: 8192, bytes: 32MiB}",
            "workers: {threads: many}",
            "must be 'auto' or a whole number, found 'many'.",
        ),
        ("features: signature", "features: 3", "must be 'signature' or a list or a mapping, found 3."),
        ("features: signature", "features: {a: 3}", "`steps.scored.score.features.a` must be text, found 3."),
        ("name: flight_delay_scores", "name: a b", "`name` must be a name of letters, digits and `_`, found 'a b'."),
        ("  input_ok:\n", "  input_ok: 3\n  other:\n", "`gates.input_ok` must be a mapping, found 3."),
        ("timezone: UTC", "lookback: x", "`interval.lookback` must be a whole number, found 'x'."),
    ],
)
def test_what_was_expected_is_said_in_words_of_yaml(tmp_path, old, new, expected):
    (error,) = errors_of(tmp_path, {old: new})
    assert expected in error
    assert not any(word in error for word in ("tuple", "dictionary", "instance", "literal[", "valid string"))


def test_a_file_that_is_no_spec_is_refused_without_its_content(tmp_path, capsys):
    path = tmp_path / "credentials.yaml"
    for text in (
        "user: admin\npassword: hunter2\n",
        "name: x\npassword: hunter2\npassword: hunter2\n",
        "a: !secret hunter2\n",
    ):
        path.write_text(text, encoding="utf-8")
        assert invoke(["validate", str(path)]) == 2
        said = capsys.readouterr()
        assert "FS1005 credentials.yaml:1:1  the file is not a pipeline spec" in said.err
        assert not any(word in said.err + said.out for word in ("hunter2", "password", "admin"))


def test_a_spec_that_lacks_its_version_is_still_read_as_one(tmp_path):
    assert errors_of(tmp_path, {"spec_version: 1\n": ""}) == [
        "FS1005 pipeline.yaml:2:1  `spec_version` is missing in the spec."
    ]


def test_a_models_relative_folder_starts_at_the_spec(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    for number, (uri, folder) in enumerate(
        [
            ("model", "model"),
            ("./model", "model"),
            ("../m/model", "../m/model"),
            ("file:model", "model"),
            ("/m", "/m"),
            ("file:///m", ""),
        ]
    ):
        path = example_with(
            tmp_path / str(number), {"uri: models:/flight_delay@champion": f"uri: {uri}\n    challenger: {uri}"}
        )
        loaded = load_spec(path, params=ROOT, environ={})
        expected = str((path.parent / folder).resolve()) if folder else uri
        model = loaded.spec.models["delay"]
        assert (model.uri, model.challenger.uri) == (expected, expected)
        assert loaded.canonical.models["delay"].uri == uri, "where the project lies is in no hash"
    assert load_spec(EXAMPLE / "pipeline.yaml", params=ROOT, environ={}).spec.models["delay"].uri.startswith("models:/")
