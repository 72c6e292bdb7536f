"""Cancel a run: prevent it permanently from publishing the intervals that it holds."""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from typing import Literal

from firesteel.conf.errors import LeaseConflict
from firesteel.pipelines.publish.journal import fence
from firesteel.pipelines.publish.lease import is_held, read_lease, read_states
from firesteel.pipelines.publish.owner import check_store
from firesteel.pipelines.publish.process import send_signal
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of


@dataclass(frozen=True, slots=True)
class Cancelled:
    """One interval of a cancelled run. `too_late` means that its journal exists and it will publish. `asked` means that its process got SIGTERM."""

    sink: str
    interval: str
    state: Literal["cancelled", "too_late"]
    asked: bool


def cancel(store: StateStore, sinks: tuple[str, ...], run_id: str, *, who: str, signal: bool) -> list[Cancelled]:
    """Cancel the intervals that a run holds, and return them.

    The tombstone prevents the publish, wherever the driver runs. A driver of this user on this machine also gets SIGTERM; any other
    driver stops when it tries to publish.

    Raises
    ------
    LeaseConflict
        FS7504 when the run holds no interval: it has ended, or it has another id.
    """
    check_store(store)
    cancelled = []
    for sink in sinks:
        for child in children(store.storage, store.folder("lease", sink)):
            sink_interval = SinkInterval(store, sink, name_of(child.name))
            states = read_states(sink_interval)
            if not states or not is_held(sink_interval, states[-1]):
                continue
            record = read_lease(sink_interval, states[-1].token)
            if record.attempt.run_id != run_id:
                continue
            journal = fence(sink_interval, record.token, by=record.token, run_id=who, cancelled=True)
            asked = (
                signal
                and journal is None
                and send_signal(record.machine, record.pid, record.process_start, signals.SIGTERM)
            )
            cancelled.append(
                Cancelled(sink, sink_interval.interval, "cancelled" if journal is None else "too_late", asked)
            )
    if not cancelled:
        raise LeaseConflict(
            "FS7504",
            f"run {run_id} holds no interval of {store.pipeline} ({store.profile}).",
            hint="Check with `firesteel history` whether it has ended or has another id; it may be between two intervals.",
        )
    return cancelled
