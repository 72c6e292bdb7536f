"""Cancel a run: decide, for good, that it will not publish the interval that it is at work on."""

from __future__ import annotations

import os
import signal as signals
from dataclasses import dataclass
from typing import Literal

from firesteel.conf.errors import LeaseConflict
from firesteel.pipelines.publish.journal import fence
from firesteel.pipelines.publish.lease import is_held, read_lease, read_states
from firesteel.pipelines.publish.process import is_dead, machine_id
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of


@dataclass(frozen=True, slots=True)
class Cancelled:
    """One interval of a run. `too_late`: it had journaled, and publishes. `asked`: its process was sent SIGTERM."""

    sink: str
    interval: str
    state: Literal["cancelled", "too_late"]
    asked: bool


def cancel(store: StateStore, sinks: tuple[str, ...], run_id: str, *, who: str, signal: bool) -> list[Cancelled]:
    """Cancel what a run holds.

    The tombstone alone is enough for nothing to be published, wherever the driver is. A driver on this machine is asked to
    end as well; one elsewhere finds out when it comes to publish.

    Raises
    ------
    LeaseConflict
        FS7504 when the run holds no interval: it is over, or its name is another.
    """
    found = []
    for sink in sinks:
        for child in children(store.storage, store.folder("lease", sink)):
            place = SinkInterval(store, sink, name_of(child.name))
            states = read_states(place)
            if not states or not is_held(place, states[-1]):
                continue
            record = read_lease(place, states[-1].token)
            if record.attempt.run_id != run_id:
                continue
            journal = fence(place, record.token, by=record.token, run_id=who, cancelled=True)
            # is_dead: also when the number now belongs to a younger process, which is none of ours.
            here = record.machine == machine_id() and not is_dead(record.machine, record.pid, record.process_start)
            asked = journal is None and signal and here
            if asked:
                os.kill(record.pid, signals.SIGTERM)
            found.append(Cancelled(sink, place.interval, "cancelled" if journal is None else "too_late", asked))
    if not found:
        raise LeaseConflict(
            "FS7504",
            f"run {run_id} holds no interval of {store.pipeline} ({store.profile}).",
            hint="It is over, between two intervals, or named otherwise: see `firesteel history`.",
        )
    return found
