"""Send events in order from a background thread, so that a lineage server does not delay or fail a run.

::

    send --> queue (bounded) --> thread: emit, retry after a server error --> sent
               | full                     | rejected, or no response to three tries
               v                          v
              lost                       lost, with the first reason

`close` waits for the remaining events up to the timeout. Lost events are counted and logged once.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from openlineage.client.constants import DEFAULT_PRODUCER
from openlineage.client.serde import Serde

from firesteel.conf.redaction import redact
from firesteel.jobs.lineage.facets import PRODUCER
from firesteel.jobs.tracking.connect import one_line
from firesteel.pipelines.result import LineageUse

if TYPE_CHECKING:
    from openlineage.client.generated.base import RunEvent

    from firesteel.jobs.lineage.transport import Channel

MAX_QUEUED = 1000
"""Maximum number of queued events, which limits the memory if the server accepts none."""
TRIES = 3
BACKOFF_S = 0.2


class Sender:
    """Sends the events of one run to a channel."""

    def __init__(self, channel: Channel, timeout_s: float, on_problem: Callable[[str], None]) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._on_problem = on_problem
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(MAX_QUEUED)
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._accepted = self._sent = self._lost = 0
        self._reason = ""
        self._thread: threading.Thread | None = None

    @property
    def place(self) -> str:
        """Return the destination of the events."""
        return self._channel.place

    def send_first(self, event: RunEvent) -> str:
        """Send the first event synchronously. Return the reason of a failure, or an empty string."""
        with self._lock:
            self._accepted += 1
        reason = self._emit(to_json_value(event))
        self._count(reason)
        return reason

    def send(self, event: RunEvent) -> None:
        """Queue an event. It never blocks, and never raises an error of the server."""
        with self._lock:
            self._accepted += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="firesteel lineage", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait(to_json_value(event))
        except queue.Full:
            self._count("the event queue is full")

    def lose(self, reason: str) -> None:
        """Count an event that could not be built."""
        with self._lock:
            self._accepted += 1
        self._count(reason)

    def close(self) -> LineageUse:
        """Wait for the remaining events up to the timeout, and return the delivery counts."""
        if self._thread is not None:
            deadline = time.monotonic() + self._timeout_s
            with suppress(queue.Full):
                self._queue.put(None, timeout=self._timeout_s)
                self._thread.join(max(0.0, deadline - time.monotonic()))
        self._hurry.set()
        with self._lock:
            unsent = self._accepted - self._sent - self._lost
            reason = self._reason or (f"not sent within {self._timeout_s:g} s after the run" if unsent else "")
            use = LineageUse(self._channel.place, self._sent, self._lost + unsent, reason)
        if use.lost:
            self._on_problem(f"{use.lost} of {use.sent + use.lost} lineage events did not reach {use.place}: {reason}")
        return use

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            self._count(self._emit(event))
            if self._hurry.is_set():
                return
        self._channel.close()

    def _count(self, reason: str) -> None:
        with self._lock:
            if reason:
                self._lost += 1
                self._reason = self._reason or reason
            else:
                self._sent += 1

    def _emit(self, event: dict[str, Any]) -> str:
        """Send an event with retries. Return the reason of a failure, or an empty string."""
        reason = ""
        for attempt in range(TRIES):
            if attempt and self._hurry.wait(BACKOFF_S * 2**attempt):
                break
            try:
                reason, retry = self._channel.emit(event)
            except Exception as error:  # noqa: BLE001 - the thread must continue with the next events
                return f"{type(error).__name__}: {one_line(error)}"
            if not reason or not retry:
                break
        return reason


def to_json_value(event: RunEvent) -> dict[str, Any]:
    """Return an event as JSON values, with secrets replaced by references and firesteel as the producer of its facets."""
    json_value: dict[str, Any] = json.loads(redact(Serde.to_json(event)))
    for facet in _facets(json_value):
        facet["_producer"] = PRODUCER
    return json_value


def _facets(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        if isinstance(value, dict) and value.get("_producer") == DEFAULT_PRODUCER:
            yield value
        for item in value.values():
            yield from _facets(item)
    elif isinstance(value, list):
        for item in value:
            yield from _facets(item)
