"""The lineage record of one run: what the runner tells, as events, to where the spec says.

Without `tracking.openlineage` it does nothing. With it, lineage never fails a run and slows it at its end at most, by a
bounded time; but for `required`, which refuses to run before anything is read.
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

EXTRA = "pip install 'firesteel[lineage]'"


class LineageRecord:
    """A context manager: leaving it by an exception ends what is open with ABORT (an interrupt) or FAIL.

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
        self._buried: set[str] = set()
        self._ended = False

    @classmethod
    def open(
        cls, plan: Plan, run_id: str, *, tracking_uri: str = "", mlflow_run_id: str = "", mlflow_uri: str = ""
    ) -> Self:
        """Send the START of the run.

        Raises
        ------
        RuntimeFault
            FS9004 when the client is not installed; FS9040 when the first event is `required` and not taken; FS9020 or
            FS9021 when the token cannot be had.
        """
        asked = plan.tracking.openlineage
        if asked is None:
            return cls()
        try:
            from openlineage.client.generated.base import EventType
        except ImportError as error:
            raise RuntimeFault("FS9004", "openlineage-python is not installed.", hint=EXTRA) from error
        from firesteel.jobs.lineage.events import Events
        from firesteel.jobs.lineage.parent import given_parent
        from firesteel.jobs.lineage.sender import Sender
        from firesteel.jobs.lineage.transport import open_channel

        parent, problem = given_parent()
        if problem:
            _log.warning("lineage without a parent: %s", problem)
        events = Events(plan, run_id, asked.namespace, parent, tracking_uri, mlflow_run_id, mlflow_uri)
        sender = Sender(open_channel(asked, run_id), asked.timeout_s, lambda text: _log.warning("%s", redact(text)))
        record = cls(events, sender)
        if not asked.required:
            record._send(lambda made: made.pipeline(EventType.START))
        elif reason := sender.first(events.pipeline(EventType.START)):
            raise RuntimeFault(
                "FS9040",
                f"lineage is required, and the first event did not reach {sender.place}: {reason}",
                hint="Check the address and the token, or set tracking.openlineage.required: false.",
            )
        return record

    def watching(self, on_event: OnEvent) -> OnEvent:
        """`on_event`, and the last word for runs that died, as they are recovered."""
        if self._events is None:
            return on_event

        def watch(event: Event) -> None:
            on_event(event)
            if event.kind == "recovered":
                self._bury(event)

        return watch

    def interval_started(self, interval: IntervalPlan) -> None:
        """An interval is at work."""
        self._open[interval.id] = interval
        self._send(lambda events: events.started(interval))

    def interval_finished(self, interval: IntervalPlan, result: IntervalResult) -> None:
        """An interval is over."""
        self._open.pop(interval.id, None)
        self._send(lambda events: events.finished(interval, result))

    def finish(self, result: RunResult) -> RunResult:
        """The run is over: the result with what became of its events."""
        if self._events is None or self._sender is None:
            return result
        from openlineage.client.generated.base import EventType

        from firesteel.jobs.lineage.events import failed_as

        self._ended = True
        kind = failed_as(result.error) if result.state == "failed" else EventType.COMPLETE
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
            self._send(lambda events, left=interval: events.aborted(left, text))  # type: ignore[misc]
        self._send(lambda events: events.pipeline(EventType.ABORT if interrupted else EventType.FAIL, error=text))
        self._sender.close()

    def _bury(self, event: Event) -> None:
        from firesteel.jobs.lineage.names import is_run

        run_id = str(event.facts["run_id"])
        if not is_run(run_id):
            return
        published = event.facts["state"] == "published"

        def one(events: Events, index: int) -> RunEvent:
            return events.buried(event.interval, run_id, published=published)[index]

        self._send(lambda events: one(events, 0))
        if run_id not in self._buried:
            self._buried.add(run_id)
            self._send(lambda events: one(events, 1))

    def _send(self, make: Callable[[Events], RunEvent]) -> None:
        """Make an event and send it. A fault in making it is ours, and no reason to lose a run either."""
        if self._events is None or self._sender is None:
            return
        try:
            self._sender.send(make(self._events))
        except Exception as error:  # noqa: BLE001 - see above
            self._sender.lose(f"an event could not be made: {type(error).__name__}: {redact(str(error))}")
