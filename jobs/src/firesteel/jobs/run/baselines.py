"""The published intervals of a sink that a drift gate compares an interval with."""

from __future__ import annotations

from dataclasses import dataclass, field

from firesteel.jobs.gates.drift import Baseline, NoBaseline
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord

LOOK_BACK = 10
"""Published intervals that are searched for a profile: an interval with too few rows has none."""


@dataclass(slots=True)
class Baselines:
    """The ledger records of the intervals before an interval, read when the first drift gate asks for them.

    "Before" is the order of the intervals, not of their runs: a rerun of an old interval is compared with the interval before it,
    whatever was published since. The first interval is compared with its own last publish.
    """

    ledger: Ledger
    sink: str
    interval: str
    _records: list[LedgerRecord] | None = field(default=None, repr=False)

    def baseline(self, on: str, column: str) -> Baseline | NoBaseline:
        """Return the newest profile of a column, or the reason why there is none."""
        if self._records is None:
            self._records = self._read()
        if not self._records:
            return NoBaseline("this is the first success")
        for record in self._records:
            for profile in record.profiles:
                if (profile.on, profile.column) == (on, column):
                    return Baseline(profile, record.interval)
        return NoBaseline(f"{self._records[0].interval} was published without a profile of it")

    def _read(self) -> list[LedgerRecord]:
        """Return the records, newest first."""
        names = self.ledger.intervals(self.sink)
        records: list[LedgerRecord] = []
        for name in reversed(names):
            record = self.ledger.published(self.sink, name) if name < self.interval else None
            if record is not None:
                records.append(record)
            if len(records) == LOOK_BACK:
                break
        own = self.ledger.published(self.sink, self.interval) if not records and self.interval in names else None
        return [own] if own is not None else records
