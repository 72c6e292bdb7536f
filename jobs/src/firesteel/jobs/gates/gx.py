"""Call Great Expectations without logs, network access or side effects on the process."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame

    from firesteel.pipelines.plan.model import Expectation

_LOCK = threading.Lock()
"""Allows one gate at a time, because Great Expectations holds its context in a process-wide variable."""

_ORDER = "firesteel_order"
"""Key in an expectation's `meta` that restores the input order: results are grouped by column."""

_VIEW = "tmp_view"


@dataclass(frozen=True, slots=True)
class RawResult:
    """The result of Great Expectations for one expectation. `cause` is set if the evaluation failed."""

    success: bool
    result: Mapping[str, Any]
    cause: str = ""


def warm_up() -> None:
    """Import Great Expectations. The import takes seconds, so a runner can do it in a thread while Spark works.

    Raises
    ------
    RuntimeFault
        FS9004 if Great Expectations is not installed.
    """
    try:
        with _without_spark_connect():
            import great_expectations
            import great_expectations.expectations
    except ImportError as error:
        raise RuntimeFault(
            "FS9004", f"Great Expectations cannot be imported: {error}.", hint="Install it: `pip install firesteel`."
        ) from error
    # INFO lines name every metric, and warnings repeat the results.
    log = logging.getLogger(great_expectations.__name__)
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)


@contextlib.contextmanager
def _without_spark_connect() -> Iterator[None]:
    """Prevent Great Expectations from probing Spark Connect if grpc is missing.

    If grpc is missing and the main module is not a file (`python -c`, stdin), pyspark 4.3 mistakes the probe for its own doctests and
    calls `sys.exit(0)`, which ends the run with a success status.
    """
    probed = "pyspark.sql.connect.utils"
    if importlib.util.find_spec("grpc") is not None:
        yield
        return
    before = {
        name: sys.modules[name] for name in (probed,) if name in sys.modules
    }  # restores a None that other code set
    sys.modules[probed] = None  # type: ignore[assignment]  # None makes the import fail
    try:
        yield
    finally:
        del sys.modules[probed]
        sys.modules.update(before)


def validate(frame: DataFrame, expectations: Sequence[Expectation]) -> list[RawResult]:
    """Evaluate expectations on a frame with Great Expectations, and return the results in input order.

    The result format requests only counts, so no row reaches the driver.
    """
    warm_up()
    with _LOCK, quiet_spark(), _own_view(frame), conditions_as_text():
        return _validate(frame, expectations)


@contextlib.contextmanager
def conditions_as_text() -> Iterator[None]:
    """Suppress the deprecation warning for a textual `row_condition`, which Great Expectations' own store writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*condition_parser parameter is deprecated", DeprecationWarning)
        yield


@contextlib.contextmanager
def quiet_spark() -> Iterator[None]:
    """Silence pyspark's JSON log of failed queries, because it quotes row values."""
    log = logging.getLogger("SQLQueryContextLogger")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _own_view(frame: DataFrame) -> Iterator[None]:
    """Restore the session's `tmp_view`, which Great Expectations overwrites for its queries."""
    session = frame.sparkSession
    previous = session.table(_VIEW) if session.catalog.tableExists(_VIEW) else None
    try:
        yield
    finally:
        session.catalog.dropTempView(_VIEW)
        if previous is not None:
            previous.createOrReplaceTempView(_VIEW)


def _validate(frame: DataFrame, expectations: Sequence[Expectation]) -> list[RawResult]:
    import great_expectations
    from great_expectations.data_context.data_context.context_factory import project_manager
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.exceptions.exceptions import DataContextRequiredError

    try:
        previous_project = project_manager.get_current_project()
    except DataContextRequiredError:
        previous_project = None
    try:
        context = great_expectations.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        # persist=False: the caller decides about caching, and Great Expectations never releases a cache.
        source = context.data_sources.add_spark("spark", persist=False)
        batch_definition = source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")
        # Great Expectations uses the process's first session, but the frame's views are in the frame's session.
        source._spark = frame.sparkSession  # noqa: SLF001
        batch = batch_definition.get_batch(batch_parameters={"dataframe": frame})
        # Not `add_expectation`, which replaces expectations of the same type and column.
        suite = great_expectations.ExpectationSuite(
            name="gate",
            expectations=[_configuration(number, expectation) for number, expectation in enumerate(expectations)],
        )
        outcome = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    finally:
        project_manager.set_project(previous_project)
    results = {_order(result): _raw(result) for result in outcome.results}
    return [results[number] for number in range(len(expectations))]


def _configuration(number: int, expectation: Expectation) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    kwargs = {key: value for key, value in expectation.kwargs if key not in {"description", "meta", "notes"}}
    severity = FailureSeverity(expectation.severity)
    return ExpectationConfiguration(type=expectation.type, kwargs=kwargs, severity=severity, meta={_ORDER: number})


def _order(result: Any) -> int:
    order: int = result.expectation_config.meta[_ORDER]
    return order


def _raw(result: Any) -> RawResult:
    info = result.exception_info or {}
    # One mapping if the evaluation failed; one mapping per metric if a metric failed.
    failures = [info] if "raised_exception" in info else list(info.values())
    failure = next((entry for entry in failures if entry["raised_exception"]), None)
    cause = (failure["exception_message"] or "no reason given") if failure else ""
    return RawResult(bool(result.success), dict(result.result or {}), cause)
