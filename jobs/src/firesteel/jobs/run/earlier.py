"""The successes of a sink that a drift gate compares with."""

from __future__ import annotations

from dataclasses import dataclass, field

from firesteel.jobs.gates.drift import Reference
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord

LOOK_BACK = 10
"""Published intervals that are asked for a profile: a few may have had too few rows for one."""


@dataclass(slots=True)
class Successes:
    """What was published before an interval, read from the ledger when the first drift gate asks.

    Before is by the intervals' own order, not by when they ran: a rerun of an old interval is held against the one before it,
    whatever was published since. Only where nothing lies before it, an interval is held against its own last success.
    """

    ledger: Ledger
    sink: str
    interval: str
    _records: list[LedgerRecord] | None = field(default=None, repr=False)

    def earlier(self, on: str, column: str) -> Reference | str:
        """The profile of a column at the newest success that has one, or why there is none."""
        if self._records is None:
            self._records = self._read()
        if not self._records:
            return "this is the first success"
        for record in self._records:
            for profile in record.profiles:
                if (profile.on, profile.column) == (on, column):
                    return Reference(profile, record.interval)
        newest = self._records[0].interval
        return f"{newest} was published without a profile of it"

    def _read(self) -> list[LedgerRecord]:
        """Newest first."""
        names = self.ledger.intervals(self.sink)
        before = [name for name in reversed(names) if name < self.interval]
        found: list[LedgerRecord] = []
        for name in before:
            record = self.ledger.published(self.sink, name)
            if record is not None:
                found.append(record)
            if len(found) == LOOK_BACK:
                break
        own = self.ledger.published(self.sink, self.interval) if not found and self.interval in names else None
        return [own] if own is not None else found
