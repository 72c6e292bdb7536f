"""The result of one check of `firesteel doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `fail` stops runs, `note` is worth knowing. `advice` says what to change."""

    subject: str
    state: Literal["ok", "note", "fail"]
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the check as the object that `--json` prints."""
        return asdict(self)
