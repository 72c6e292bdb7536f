"""Specs for tests: the flights example in a folder of the test, with changes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from firesteel.conf.errors import Where
from firesteel.jobs.gates.check import check_failing_rows
from firesteel.pipelines.plan.model import Column, ModelPlan
from firesteel.pipelines.spec.model import Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


def example(folder: Path, **replacements: str) -> Path:
    """Copy the flights example to `folder`. Each keyword is a text in pipeline.yaml and its replacement.

    A text that does not exist fails the test.
    """
    return example_with(folder, replacements)


def example_with(folder: Path, replacements: Mapping[str, str], sql: Mapping[str, str] | None = None) -> Path:
    """Copy the example with any texts replaced, also in sql/features.sql."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    for path, changes in ((folder / "pipeline.yaml", replacements), (folder / "sql" / "features.sql", sql or {})):
        text = path.read_text(encoding="utf-8")
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in {path.name}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return folder / "pipeline.yaml"


class FixedBackend:
    """A backend for tests of the compiler: one model with a fixed signature, no runs.

    Tests in tests/integration test the real one with MLflow, Great Expectations and Spark.
    """

    def __init__(self, *, digest: str = "d" * 64, dep_delay: str = "double", version: str = "7") -> None:
        self.digest, self.dep_delay, self.version = digest, dep_delay, version

    def resolve_model(self, name: str, model: Model, tracking_uri: str, where: Where) -> ModelPlan:
        doubles = ("wind_speed", "precip", "visib", "temp")
        inputs = (
            Column("dep_hour", "int", nullable=False),
            Column("distance", "int", nullable=False),
            Column("dep_delay", self.dep_delay, nullable=False),
            *(Column(double, "double", nullable=False) for double in doubles),
        )
        return ModelPlan(
            name,
            model.uri,
            f"models:/flight_delay/{self.version}",
            self.version,
            self.digest,
            1024,
            "skops",
            model.method,
            inputs,
        )

    def check_expectation(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        return None

    def check_failing_rows(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        return check_failing_rows(type_, kwargs)

    def environment(self) -> str:
        return "firesteel 0, python 3.11, pyspark 4.3, mlflow 3.17"
