"""Build the Data Docs of a run with the site builder of Great Expectations."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firesteel.jobs.gates.gx import conditions_as_text, warm_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from great_expectations.core import ExpectationSuiteValidationResult

SITE = "firesteel"


def build_data_docs(results: Sequence[ExpectationSuiteValidationResult], folder: Path) -> Path:
    """Write the site and return the path of its index page."""
    warm_up()
    import great_expectations
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    _register_own_expectations()
    context = great_expectations.get_context(mode="ephemeral")
    for name in list(context.variables.data_docs_sites or {}):
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        SITE,
        {
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    for validation in results:
        run: Any = validation.meta["run_id"]
        key = ValidationResultIdentifier(
            ExpectationSuiteIdentifier(validation.suite_name),
            RunIdentifier(run["run_name"], dt.datetime.fromisoformat(run["run_time"])),
            validation.batch_id,
        )
        context.validation_results_store.set(key, validation)
    with conditions_as_text():
        context.build_data_docs(site_names=[SITE])
    return folder / "index.html"


def _register_own_expectations() -> None:
    """Register firesteel's expectations, because Data Docs render only registered types."""
    from great_expectations.expectations.expectation import BatchExpectation
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    if "drift" in list_registered_expectation_implementations():
        return

    class Drift(BatchExpectation):
        """The column has not drifted since the last success."""

        class Config:
            extra = "allow"

        def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
            raise NotImplementedError("only firesteel can evaluate this expectation")

    class RowCountMatches(Drift):
        """The row count equals the row count of another relation."""
