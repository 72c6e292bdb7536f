"""Events leave from a thread of their own, in their order: no lineage server slows a run, and none stops one.

::

    send --> queue (bounded) --> thread: emit, again after a fault of the server --> sent
               | full                     | refused, or three times no answer
               v                          v
              lost                       lost, with the first reason

`close` waits for what is left, for a bounded time. What is lost is counted, and said once.
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

WAITING = 1000
"""Events that wait at most: a server that takes none costs a run this much memory, and no more."""
TRIES = 3
BACKOFF_S = 0.2


class Sender:
    """Sends the events of one run to a channel."""

    def __init__(self, channel: Channel, timeout_s: float, on_problem: Callable[[str], None]) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._on_problem = on_problem
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(WAITING)
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._accepted = self._sent = self._lost = 0
        self._reason = ""
        self._thread: threading.Thread | None = None

    @property
    def place(self) -> str:
        """Where the events go."""
        return self._channel.place

    def first(self, event: RunEvent) -> str:
        """Send the first event, and wait for it: why it was not taken, or nothing."""
        with self._lock:
            self._accepted += 1
        reason = self._emit(plain(event))
        self._count(reason)
        return reason

    def send(self, event: RunEvent) -> None:
        """Send an event soon. Never waits, and never raises for what is the server's."""
        with self._lock:
            self._accepted += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="firesteel lineage", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait(plain(event))
        except queue.Full:
            self._count("more events wait than the server takes")

    def lose(self, reason: str) -> None:
        """Count an event that could not even be made."""
        with self._lock:
            self._accepted += 1
        self._count(reason)

    def close(self) -> LineageUse:
        """Wait for the events that are left, no longer than an event may take, and say what became of all."""
        if self._thread is not None:
            deadline = time.monotonic() + self._timeout_s
            with suppress(queue.Full):
                self._queue.put(None, timeout=self._timeout_s)
                self._thread.join(max(0.0, deadline - time.monotonic()))
        self._hurry.set()
        with self._lock:
            unsent = self._accepted - self._sent - self._lost
            reason = self._reason or (f"not taken within {self._timeout_s:g} s after the run" if unsent else "")
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
        """Why an event was not taken, or nothing."""
        reason = ""
        for number in range(TRIES):
            if number and self._hurry.wait(BACKOFF_S * 2**number):
                break
            try:
                reason, again = self._channel.emit(event)
            except Exception as error:  # noqa: BLE001 - the thread must live to count the rest
                return f"{type(error).__name__}: {one_line(error)}"
            if not reason or not again:
                break
        return reason


def plain(event: RunEvent) -> dict[str, Any]:
    """An event as JSON values, with the secrets that this process knows put back as references, and our name on facets."""
    found: dict[str, Any] = json.loads(redact(Serde.to_json(event)))
    for facet in _facets(found):
        facet["_producer"] = PRODUCER
    return found


def _facets(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        if isinstance(value, dict) and value.get("_producer") == DEFAULT_PRODUCER:
            yield value
        for each in value.values():
            yield from _facets(each)
    elif isinstance(value, list):
        for each in value:
            yield from _facets(each)
