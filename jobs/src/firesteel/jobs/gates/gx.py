"""The seam to Great Expectations: one call, quiet, without network, that leaves the process as it was."""

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
"""Great Expectations keeps its context in a process-wide variable: one gate at a time."""

_ORDER = "firesteel_order"
"""Key of an expectation's `meta`: results come back grouped by column, not in the order asked."""

_VIEW = "tmp_view"


@dataclass(frozen=True, slots=True)
class RawResult:
    """What Great Expectations said of one expectation. `cause` is set when it could not evaluate it."""

    success: bool
    result: Mapping[str, Any]
    cause: str = ""


def warm_up() -> None:
    """Import Great Expectations: seconds that a runner can spend in a thread while Spark works.

    Raises
    ------
    RuntimeFault
        FS9004 when it is not installed.
    """
    try:
        with _without_spark_connect():
            import great_expectations
            import great_expectations.expectations
    except ImportError as error:
        raise RuntimeFault(
            "FS9004", f"Great Expectations cannot be imported: {error}.", hint="pip install firesteel"
        ) from error
    # Its INFO lines name every metric, and its warnings repeat what our results say.
    log = logging.getLogger(great_expectations.__name__)
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)


@contextlib.contextmanager
def _without_spark_connect() -> Iterator[None]:
    """Keep Great Expectations from probing Spark Connect where its parts are missing.

    Without grpc, and with a main module that is no file (`python -c`, stdin), pyspark 4.3 takes the probe for its own
    doctests and answers with `sys.exit(0)`: the run would end at once, and look like a success.
    """
    probed = "pyspark.sql.connect.utils"
    if importlib.util.find_spec("grpc") is not None:
        yield
        return
    before = {name: sys.modules[name] for name in (probed,) if name in sys.modules}  # a None of somebody else's stays
    sys.modules[probed] = None  # type: ignore[assignment]  # the import system's way to say: not there
    try:
        yield
    finally:
        del sys.modules[probed]
        sys.modules.update(before)


def validate(frame: DataFrame, expectations: Sequence[Expectation]) -> list[RawResult]:
    """Run expectations on a frame, in Great Expectations itself; results in the order asked.

    The result format asks for counts only: no row reaches the driver.
    """
    warm_up()
    with _LOCK, quiet_spark(), _own_view(frame), conditions_as_text():
        return _validate(frame, expectations)


@contextlib.contextmanager
def conditions_as_text() -> Iterator[None]:
    """Take `row_condition` as text without a warning: Great Expectations' own store writes it so into suites."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*condition_parser parameter is deprecated", DeprecationWarning)
        yield


@contextlib.contextmanager
def quiet_spark() -> Iterator[None]:
    """Silence pyspark's JSON log of failed queries: it quotes values of rows, and ours says what failed."""
    log = logging.getLogger("SQLQueryContextLogger")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _own_view(frame: DataFrame) -> Iterator[None]:
    """Leave the session's views alone: queries of Great Expectations go through one that it calls `tmp_view`."""
    session = frame.sparkSession
    kept = session.table(_VIEW) if session.catalog.tableExists(_VIEW) else None
    try:
        yield
    finally:
        session.catalog.dropTempView(_VIEW)
        if kept is not None:
            kept.createOrReplaceTempView(_VIEW)


def _validate(frame: DataFrame, expectations: Sequence[Expectation]) -> list[RawResult]:
    import great_expectations
    from great_expectations.data_context.data_context.context_factory import project_manager
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.exceptions.exceptions import DataContextRequiredError

    try:
        callers = project_manager.get_current_project()
    except DataContextRequiredError:
        callers = None
    try:
        context = great_expectations.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        # persist=False: caching is the caller's choice, and Great Expectations would never release it.
        source = context.data_sources.add_spark("spark", persist=False)
        whole = source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")
        # It takes the process's first session; the frame's views are in the frame's own.
        source._spark = frame.sparkSession  # noqa: SLF001
        batch = whole.get_batch(batch_parameters={"dataframe": frame})
        # Expectations go in by the constructor: `add_expectation` replaces those of the same type and column.
        suite = great_expectations.ExpectationSuite(
            name="gate", expectations=[_configuration(number, each) for number, each in enumerate(expectations)]
        )
        outcome = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    finally:
        project_manager.set_project(callers)
    found = {_order(result): _raw(result) for result in outcome.results}
    return [found[number] for number in range(len(expectations))]


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
    # One mapping when evaluating raised; one mapping per metric when a metric could not be computed.
    parts = [info] if "raised_exception" in info else list(info.values())
    raised = next((part for part in parts if part["raised_exception"]), None)
    cause = (raised["exception_message"] or "no reason given") if raised else ""
    return RawResult(bool(result.success), dict(result.result or {}), cause)
