"""The expectations of Great Expectations and their arguments, known without importing it (that takes seconds).

`catalogue.json` is generated from Great Expectations' own registry::

    python -m firesteel.jobs.gates.catalogue

and a test holds the file against the installed version.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

FILE = "catalogue.json"

_LEFT_OUT = {
    "id",
    "batch_id",
    "catch_exceptions",  # ours to choose
    "description",
    "meta",
    "notes",
    "rendered_content",
    "result_format",  # ours to choose
    "severity",  # stands beside the arguments
    "windows",  # needs the history that only a GX server keeps
}
_OTHER_TABLES = {"expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table"}
"""They compare with a second data source, which a gate does not have."""

_OURS = {"drift", "row_count_matches"}
"""Registered by `data_docs.py`, to be drawn."""

_TYPES_BY_SCHEMA = {"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"}
"""Their row-wise metric is missing on Spark, since Great Expectations looks at the schema instead."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Arguments of one expectation. `spark` is False where Great Expectations has no implementation for Spark."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    spark: bool = True


@functools.cache
def catalogue() -> dict[str, Signature]:
    """The table, from the file beside this module."""
    text = resources.files(__package__).joinpath(FILE).read_text("utf-8")
    return {
        name: Signature(tuple(entry["required"]), tuple(entry["optional"]), entry["spark"])
        for name, entry in json.loads(text).items()
    }


def from_registry() -> dict[str, Signature]:
    """The table as the installed Great Expectations has it. Imports it: slow."""
    import great_expectations.expectations  # noqa: F401 - fills the registry
    from great_expectations.expectations.registry import (
        _registered_metrics,
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    on_spark = {name for name, entry in _registered_metrics.items() if "SparkDFExecutionEngine" in entry["providers"]}
    found = {}
    for name in sorted({*list_registered_expectation_implementations()} - _OURS):
        kind = get_expectation_impl(name)
        fields = {key: field.required for key, field in kind.__fields__.items() if key not in _LEFT_OUT}
        row_wise = getattr(kind, "map_metric", None)
        metrics = [f"{row_wise}.condition"] if row_wise else list(getattr(kind, "metric_dependencies", ()))
        spark = name in _TYPES_BY_SCHEMA or (name not in _OTHER_TABLES and on_spark.issuperset(metrics))
        found[name] = Signature(
            tuple(sorted(key for key, required in fields.items() if required)),
            tuple(sorted(key for key, required in fields.items() if not required)),
            spark,
        )
    return found


def render(table: dict[str, Signature]) -> str:
    """The file's text: one expectation a line, so that a new version reads as a diff."""
    rows = [f"  {json.dumps(name)}: {json.dumps(asdict(signature))}" for name, signature in sorted(table.items())]
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    target = Path(__file__).with_name(FILE)
    target.write_text(render(from_registry()), "utf-8")
    sys.stdout.write(f"{target}\n")
