"""The test cases of the compiler's rules: small pipelines in `tests/unit/pipelines/rules/NAME.yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from firesteel.pipelines.analysis import analyze
from firesteel.pipelines.rules import LogicalPlan, first_logical_plan, optimize
from firesteel.pipelines.spec.load import load_spec

CASES = Path(__file__).parents[1] / "unit" / "pipelines" / "rules"
BASE = """
spec_version: 1
name: rules
storage: file:///tmp/none
interval: {column: dt, begin: 2013-01-01}
sources:
  flights:
    path: file:///tmp/none/flights
    partitions: {dt: date, origin: string, due: date}
    select: {dt: "${interval.ds}"}
    contract: {columns: {flight_id: string!, dep_delay: double, distance: int, hour: int, tail: string}}
  weather:
    path: file:///tmp/none/weather
    partitions: {dt: date}
    select: {dt: "${interval.ds}"}
    contract: {columns: {origin: string, hour: int, temp: double, wind: double}}
models: {m: {uri: models:/m/1}}
sinks: {s: {from: out, path: file:///tmp/none/out, partition_by: [dt]}}
"""


def cases():
    """Return a pytest param (rule, case) for each case."""
    for path in sorted(CASES.glob("*.yaml")):
        for case in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield pytest.param(path.stem, case, id=f"{path.stem}: {case['case']}")


def optimized(folder, case) -> tuple[LogicalPlan, tuple]:
    """Return the case after all rules, and their effects."""
    path = folder / "pipeline.yaml"
    path.write_text(BASE + yaml.safe_dump({key: case[key] for key in ("steps", "gates") if key in case}))
    loaded = load_spec(path)
    assert loaded.errors == ()
    analysis = analyze(loaded)
    features = {name: tuple(columns) for name, columns in case.get("features", {}).items()}
    return optimize(first_logical_plan(loaded.spec, analysis, features))
