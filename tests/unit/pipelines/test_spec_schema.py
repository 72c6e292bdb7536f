from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from firesteel.pipelines.spec.schema import spec_schema
from support.specs import EXAMPLE

VALIDATOR = Draft202012Validator(spec_schema())


def problems(path: Path, **changes: object) -> list[str]:
    spec = json.loads(json.dumps(YAML(typ="safe").load(path), default=str))
    spec.update(changes)
    return [error.message for error in VALIDATOR.iter_errors(spec)]


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(spec_schema())


@pytest.mark.parametrize(
    "path",
    [EXAMPLE / "pipeline.yaml", Path(str(resources.files("firesteel.jobs.project") / "starter" / "pipeline.yaml"))],
)
def test_what_we_ship_is_valid_in_an_editor(path):
    assert problems(path) == []


def test_an_editor_finds_unknown_keys_and_wrong_values():
    found = problems(
        EXAMPLE / "pipeline.yaml", owenr="x", interval={"column": "dt", "unit": "dya", "begin": "2013-01-01"}
    )
    assert any("'owenr' was unexpected" in each for each in found)
    assert any("'dya' is not one of" in each for each in found)


def test_a_reference_may_stand_for_a_number_or_a_list():
    assert (
        problems(EXAMPLE / "pipeline.yaml", interval={"column": "dt", "begin": "2013-01-01", "lookback": "${param.n}"})
        == []
    )
