"""A valid spec, broken in one or two places: `validate` reports each place, and nothing that only follows from it.

FIRESTEEL_FUZZ_CASES=5000 looks longer.
"""

from __future__ import annotations

import copy
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from firesteel.conf.codes import CODES
from firesteel.conf.errors import FiresteelError, SpecErrors
from firesteel.pipelines import Pipeline
from firesteel.pipelines.planner.check import check
from firesteel.pipelines.spec.load import load_spec
from firesteel.pipelines.spec.tree import read_tree
from support.data import write_days
from support.mutations import mutated
from support.specs import EXAMPLE, FixedBackend, example_with

CASES = int(os.environ.get("FIRESTEEL_FUZZ_CASES", "80"))
ROOT = {"root": "file:///data"}
SQL = "sql/features.sql"
YAML_ = YAML(typ="safe", pure=True)
YAML_.default_flow_style = False
WHOLE = YAML_.load((EXAMPLE / "pipeline.yaml").read_text(encoding="utf-8"))

FREE = {"args", "default", "description", "owner", "min_value", "max_value", "profiles", "experiment"}
"""Keys whose values may be almost anything."""
REQUIRED = [
    ("spec_version",),
    ("name",),
    ("storage",),
    ("interval",),
    ("interval", "begin"),
    ("sources",),
    ("sources", "flights", "path"),
    ("sources", "flights", "partitions"),
    ("sources", "weather", "select"),
    ("models", "delay", "uri"),
    ("steps",),
    ("steps", "scored", "score", "input"),
    ("steps", "scored", "score", "model"),
    ("steps", "scored", "score", "output"),
    ("gates", "input_ok", "on"),
    ("sinks",),
    ("sinks", "scores", "from"),
    ("sinks", "scores", "path"),
    ("sinks", "scores", "partition_by"),
]
WRONG = {
    ("interval", "unit"): "week",
    ("interval", "begin"): "today",
    ("interval", "timezone"): "Seattle",
    ("sources", "flights", "contract", "mode"): "strict",
    ("sources", "flights", "contract", "columns", "distance"): "integr",
    ("sources", "weather", "partitions", "dt"): "datum",
    ("sources", "flights", "select", "dt"): "${interval.hour}",
    ("sources", "flights", "path"): "s3a://bucket/flights",
    ("sources", "flights", "on_missing"): "retry",
    ("sinks", "scores", "path"): "file:///data/${interval.ds}",
    ("sinks", "scores", "mode"): "append",
    ("storage",): "${interval.ds}",
    ("models", "delay", "uri"): "s3://bucket/model",
    ("models", "delay", "method"): "transform",
    ("models", "delay", "trust", "formats", 0): "skop",
    ("models", "delay", "trust", "max_size"): "much",
    ("steps", "scored", "score", "output", "p_delay"): "dubble",
    ("steps", "scored", "score", "batch", "rows"): 0,
    ("steps", "scored", "score", "on_error", "action"): "ignore",
    ("steps", "scored", "score", "model"): "dely",
    ("steps", "scored", "score", "keep", 0): "flight",
    ("gates", "input_ok", "expect", 0, "column"): "flight",
    ("gates", "output_ok", "on"): "sink:scored",
    ("gates", "output_ok", "expect", 2, "of"): "feature",
    ("sinks", "scores", "partition_by", 1): "orign",
    ("sinks", "scores", "from"): "score",
    ("resources", "master"): "locl[2]",
    ("params", "min_distance", "default"): -1,
    ("params", "min_distance", "type"): "integer",
}
DEFINING = {"sources", "steps", "interval", "sinks", "models"}
IN_SQL = [
    ("w.wind_speed", "w.wind_sped"),
    ("f.distance,", "f.distanc,"),
    ("FROM flights", "FROM flight"),
    (":min_distance", ":min_distanc"),
    (":min_distance", "${param.min_distance}"),
]


class Break(NamedTuple):
    """A change of the spec, and the path at which it is reported.

    `defines` marks those after which it is not known what a source or a step gives, `names` those that are only wrong
    because of what one gives.
    """

    what: str
    path: tuple[str | int, ...]
    do: Callable[[Any], None]
    sql: tuple[str, str] = ("", "")
    defines: bool = False
    names: bool = False


def _set(path: tuple[str | int, ...], value: object) -> Callable[[Any], None]:
    def do(spec: Any) -> None:
        _parent(spec, path)[path[-1]] = value

    return do


def _parent(spec: Any, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        spec = spec[key]
    return spec


def _delete(path: tuple[str | int, ...]) -> Callable[[Any], None]:
    def do(spec: Any) -> None:
        del _parent(spec, path)[path[-1]]

    return do


def _nodes(value: Any, path: tuple[str | int, ...] = ()):
    if path:
        yield path, value
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if key not in FREE:
            yield from _nodes(value[key], (*path, key))


def breaks() -> list[Break]:
    found = [
        Break(f"without {'.'.join(path)}", path[:-1], _delete(path), defines=path[0] in DEFINING) for path in REQUIRED
    ]
    for path, value in WRONG.items():  # what is wrong with a param is said where it is declared
        place, named = path[:2] if path[-1] == "default" else path, path[0] in {"steps", "gates", "sinks"}
        found.append(Break(f"{path} is {value}", place, _set(path, value), names=named))
    at = ("steps", "features", "sql_file")
    found += [Break(f"SQL: {new}", at, lambda _: None, (old, new), names=True) for old, new in IN_SQL]
    for path, value in _nodes(WHOLE):
        if isinstance(value, dict | list) and path[0] != "params":
            found.append(Break(f"{path} is 3", path, _set(path, 3), defines=path[0] in DEFINING))
        elif path[0] not in ("params", "profiles"):
            undefined = _set(path, "${param.nowhere}")
            found.append(Break(f"{path} is undefined", path, undefined, defines=path[0] in DEFINING))
    return found


BREAKS = breaks()


def errors_of(folder: Path, *chosen: Break) -> tuple[Path, tuple[FiresteelError, ...]]:
    spec, text = copy.deepcopy(WHOLE), io.StringIO()
    for each in chosen:
        each.do(spec)
    YAML_.dump(spec, text)
    path = example_with(folder, {}, dict([each.sql for each in chosen if each.sql[0]]))
    path.write_text(text.getvalue(), encoding="utf-8")
    try:
        check(load_spec(path, params=ROOT, environ={}), FixedBackend())
    except SpecErrors as error:
        return path, error.errors
    return path, ()


def reported(path: Path, each: Break, errors: tuple[FiresteelError, ...]) -> bool:
    """Whether some error stands at the place of a break, or within it."""
    if each.sql[0]:
        return any(error.where is not None and error.where.file == SQL for error in errors)
    place = read_tree(path).root.nearest(each.path).where
    return any(error.where == place for error in errors)


def test_the_spec_that_is_broken_is_valid(tmp_path):
    assert errors_of(tmp_path)[1] == ()


@pytest.mark.parametrize("each", BREAKS, ids=lambda each: each.what)
def test_one_broken_place_is_one_error(each, tmp_path):
    path, errors = errors_of(tmp_path, each)
    assert reported(path, each, errors), [str(error) for error in errors]
    assert len({error.where for error in errors}) == 1, [str(error) for error in errors]


def test_two_broken_places_are_both_reported(tmp_path):
    chance = random.Random(11)
    for number in range(CASES):
        one, other = chance.sample(BREAKS, 2)
        shorter = min(len(one.path), len(other.path))
        if (
            one.path[:shorter] == other.path[:shorter]
            or one.path[:1] == other.path[:1] == ("params",)
            or ((one.defines and other.names) or (other.defines and one.names))
        ):
            continue  # one within the other, or seen only through the other
        path, errors = errors_of(tmp_path / str(number), one, other)
        said = [str(error) for error in errors]
        assert all(error.code in CODES and error.code != "FS9999" for error in errors)
        assert reported(path, one, errors), (one.what, other.what, said)
        assert reported(path, other, errors), (one.what, other.what, said)


def test_what_validate_accepts_a_plan_does_not_refuse_for_the_text(tmp_path):
    """Data, models and the ledger may be refused; nothing that the spec alone shows."""
    write_days(tmp_path / "data", ["2013-01-01"])
    path, planned = example_with(tmp_path / "project", {}), 0
    for seed in range(CASES * 2):
        text = io.StringIO()
        YAML_.dump(mutated(random.Random(seed), WHOLE), text)
        path.write_text(text.getvalue(), encoding="utf-8")
        try:
            pipeline = Pipeline.load(path, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend())
        except SpecErrors:
            continue
        try:
            pipeline.plan(pipeline.loaded.spec.interval.begin)
            planned += 1
        except FiresteelError as error:
            found = error.errors if isinstance(error, SpecErrors) else (error,)
            of_the_text = [each for each in found if each.code.startswith(("FS1", "FS2", "FS8005", "FS8008"))]
            assert not of_the_text, (seed, str(error))
    assert planned > CASES // 20, "some are planned"
