"""Wait for a condition with a deadline, and never only for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0, *, every_s: float = 0.02) -> None:
    """Return when the condition holds; fail the test after the deadline. `every_s` is the pause between checks, in seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)


def runs(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    return state_of(pid) not in {"", "Z"}


def state_of(pid: int) -> str:
    """Return the state of a process as `ps` shows it: `T` when it is stopped, `Z` for a zombie; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
