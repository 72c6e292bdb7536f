"""List the expectations of Great Expectations and their arguments without its import, which takes seconds.

`catalogue.json` is generated from Great Expectations' own registry::

    python -m firesteel.jobs.gates.catalogue

A test compares the file with the installed version.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

FILE = "catalogue.json"

_EXCLUDED_ARGUMENTS = {
    "id",
    "batch_id",
    "catch_exceptions",  # firesteel sets it
    "description",
    "meta",
    "notes",
    "rendered_content",
    "result_format",  # firesteel sets it
    "severity",  # a field of the expectation, not an argument
    "windows",  # needs the history of a GX server
}
_OTHER_TABLES = {"expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table"}
"""Expectations that compare with a second data source, which a gate does not have."""

_OURS = {"drift", "row_count_matches"}
"""Expectations that `data_docs.py` registers."""

_TYPES_BY_SCHEMA = {"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"}
"""Expectations without a row-wise metric on Spark: Great Expectations checks the schema instead."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of one expectation. `spark` is False if Great Expectations does not implement it for Spark."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    spark: bool = True


@functools.cache
def catalogue() -> dict[str, Signature]:
    """Return the signatures from the generated file."""
    text = resources.files(__package__).joinpath(FILE).read_text("utf-8")
    return {
        name: Signature(tuple(entry["required"]), tuple(entry["optional"]), entry["spark"])
        for name, entry in json.loads(text).items()
    }


def from_registry() -> dict[str, Signature]:
    """Return the signatures from the installed Great Expectations. The import takes seconds."""
    import great_expectations.expectations  # noqa: F401 - fills the registry
    from great_expectations.expectations.registry import (
        _registered_metrics,
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    on_spark = {name for name, entry in _registered_metrics.items() if "SparkDFExecutionEngine" in entry["providers"]}
    signatures = {}
    for name in sorted({*list_registered_expectation_implementations()} - _OURS):
        kind = get_expectation_impl(name)
        fields = {key: field.required for key, field in kind.__fields__.items() if key not in _EXCLUDED_ARGUMENTS}
        row_wise = getattr(kind, "map_metric", None)
        metrics = [f"{row_wise}.condition"] if row_wise else list(getattr(kind, "metric_dependencies", ()))
        spark = name in _TYPES_BY_SCHEMA or (name not in _OTHER_TABLES and on_spark.issuperset(metrics))
        signatures[name] = Signature(
            tuple(sorted(key for key, required in fields.items() if required)),
            tuple(sorted(key for key, required in fields.items() if not required)),
            spark,
        )
    return signatures


def render(signatures: dict[str, Signature]) -> str:
    """Return the text of the file, with one expectation per line for readable diffs."""
    rows = [f"  {json.dumps(name)}: {json.dumps(asdict(signature))}" for name, signature in sorted(signatures.items())]
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    target = Path(__file__).with_name(FILE)
    target.write_text(render(from_registry()), "utf-8")
    sys.stdout.write(f"{target}\n")
