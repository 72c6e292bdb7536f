"""Record the lineage of one run: send the runner's notifications as events to the configured server or path.

Without `tracking.openlineage` it does nothing. Lineage never fails a run, and delays only its end by at most the timeout. With
`required`, a run does not start if the first event cannot be sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import redact

if TYPE_CHECKING:
    from types import TracebackType

    from openlineage.client.generated.base import RunEvent

    from firesteel.jobs.lineage.events import Events
    from firesteel.jobs.lineage.sender import Sender
    from firesteel.pipelines.events import Event, OnEvent
    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.result import IntervalResult, RunResult

_log = logging.getLogger(__name__)

EXTRA = "Install it: `pip install 'firesteel[lineage]'`."


class LineageRecord:
    """The lineage of one run. As a context manager, it ends open runs with ABORT (interrupt) or FAIL after an error.

    Examples
    --------
    >>> with LineageRecord.open(plan, run_id) as lineage:  # doctest: +SKIP
    ...     lineage.interval_started(interval)
    ...     lineage.interval_finished(interval, interval_result)
    ...     result = lineage.finish(result)
    """

    def __init__(self, events: Events | None = None, sender: Sender | None = None) -> None:
        self._events = events
        self._sender = sender
        self._open: dict[str, IntervalPlan] = {}
        self._recovered_runs: set[str] = set()
        self._ended = False

    @classmethod
    def open(
        cls, plan: Plan, run_id: str, *, tracking_uri: str = "", mlflow_run_id: str = "", mlflow_uri: str = ""
    ) -> Self:
        """Send the START of the run.

        Raises
        ------
        RuntimeFault
            FS9004 if the client is not installed. FS9040 if lineage is required and the first event cannot be sent. FS9020 or FS9021 if
            the token cannot be resolved.
        """
        openlineage = plan.tracking.openlineage
        if openlineage is None:
            return cls()
        try:
            from openlineage.client.generated.base import EventType
        except ImportError as error:
            raise RuntimeFault("FS9004", "openlineage-python is not installed.", hint=EXTRA) from error
        from firesteel.jobs.lineage.events import Events
        from firesteel.jobs.lineage.parent import parent_from_environment
        from firesteel.jobs.lineage.sender import Sender
        from firesteel.jobs.lineage.transport import open_channel

        parent, problem = parent_from_environment()
        if problem:
            _log.warning("the lineage has no parent run: %s", problem)
        events = Events(plan, run_id, openlineage.namespace, parent, tracking_uri, mlflow_run_id, mlflow_uri)
        sender = Sender(
            open_channel(openlineage, run_id), openlineage.timeout_s, lambda text: _log.warning("%s", redact(text))
        )
        record = cls(events, sender)
        if not openlineage.required:
            record._send(lambda builder: builder.pipeline(EventType.START))
        elif reason := sender.send_first(events.pipeline(EventType.START)):
            raise RuntimeFault(
                "FS9040",
                f"lineage is required, but the first event did not reach {sender.place}: {reason}",
                hint="Check the address and the token, or set tracking.openlineage.required: false.",
            )
        return record

    def watching(self, on_event: OnEvent) -> OnEvent:
        """Wrap `on_event` to send the final events of crashed runs when they are recovered."""
        if self._events is None:
            return on_event

        def watch(event: Event) -> None:
            on_event(event)
            if event.kind == "recovered":
                self._send_recovered(event)

        return watch

    def interval_started(self, interval: IntervalPlan) -> None:
        """Send the start event of an interval."""
        self._open[interval.id] = interval
        self._send(lambda events: events.started(interval))

    def interval_finished(self, interval: IntervalPlan, result: IntervalResult) -> None:
        """Send the final event of an interval."""
        self._open.pop(interval.id, None)
        self._send(lambda events: events.finished(interval, result))

    def finish(self, result: RunResult) -> RunResult:
        """Send the final event of the run, and return the result with the delivery counts."""
        if self._events is None or self._sender is None:
            return result
        from openlineage.client.generated.base import EventType

        from firesteel.jobs.lineage.events import failure_type

        self._ended = True
        kind = failure_type(result.error) if result.state == "failed" else EventType.COMPLETE
        self._send(lambda events: events.pipeline(kind, result))
        return replace(result, lineage=self._sender.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended or self._events is None or self._sender is None:
            return
        from openlineage.client.generated.base import EventType

        interrupted = error is not None and not isinstance(error, Exception)
        text = "cancelled" if interrupted else redact(str(error)) or type(error).__name__
        for interval in self._open.values():
            self._send(lambda events, interval=interval: events.aborted(interval, text))  # type: ignore[misc]
        self._send(lambda events: events.pipeline(EventType.ABORT if interrupted else EventType.FAIL, error=text))
        self._sender.close()

    def _send_recovered(self, event: Event) -> None:
        from firesteel.jobs.lineage.names import is_run

        run_id = str(event.facts["run_id"])
        if not is_run(run_id):
            return
        published = event.facts["state"] == "published"

        def recovered_event(events: Events, index: int) -> RunEvent:
            return events.recovered(event.interval, run_id, published=published)[index]

        self._send(lambda events: recovered_event(events, 0))
        if run_id not in self._recovered_runs:
            self._recovered_runs.add(run_id)
            self._send(lambda events: recovered_event(events, 1))

    def _send(self, make: Callable[[Events], RunEvent]) -> None:
        """Build and send an event. An error while building it is counted, but does not fail the run."""
        if self._events is None or self._sender is None:
            return
        try:
            self._sender.send(make(self._events))
        except Exception as error:  # noqa: BLE001 - see the docstring
            self._sender.lose(f"an event cannot be built: {type(error).__name__}: {redact(str(error))}")
