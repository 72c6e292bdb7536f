"""What a driver on the cluster leaves for the one who submitted it: its result, or the error that stopped it, and the report.

::

    <storage>/submissions/<id>/report.html    written first
                              /result.json    the RunResult           } one of the two, once: an attempt that finds
                              /error.json     code, what, hint, exit  } one has nothing left to do
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.run.plan_runner import RUNS_FOLDER
from firesteel.pipelines.publish.records import parsed
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.storage.base import Storage

_HINT = "Look at the driver's log; `firesteel status` says what was published."


@dataclass(frozen=True, slots=True)
class Stopped:
    """The error that stopped a driver before its first interval."""

    code: str
    what: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Handover:
    """The place of one submission in the storage of a plan."""

    storage: Storage
    folder: str

    @classmethod
    def of(cls, plan: Plan, submission: str) -> Handover:
        """Where the driver of a submission leaves what it has to say."""
        storage, base = locate(plan.storage)
        return cls(storage, join(base, "submissions", submission))

    def leave(self, result: RunResult) -> None:
        """Write a result, with its report."""
        report = Path(result.report) if result.report else None
        if report is not None and report.is_file():
            self.storage.replace(join(self.folder, "report.html"), report.read_bytes())
        self.storage.create(join(self.folder, "result.json"), result.to_json().encode())

    def leave_error(self, error: FiresteelError) -> None:
        """Write why there is no result."""
        facts = asdict(Stopped(error.code, error.what, error.hint, error.exit_code))
        self.storage.create(join(self.folder, "error.json"), json.dumps(facts, indent=2, ensure_ascii=False).encode())

    def found(self) -> RunResult | Stopped | None:
        """What a driver left; None when none came so far."""
        path = join(self.folder, "result.json")
        if self.storage.status(path) is not None:
            return parsed(_RESULT, self.storage.read(path), path, "a driver's result", _HINT)
        path = join(self.folder, "error.json")
        if self.storage.status(path) is not None:
            return parsed(_STOPPED, self.storage.read(path), path, "a driver's error", _HINT)
        return None

    def take(self, runs: Path | None = None) -> RunResult | Stopped | None:
        """Bring what a driver left to where a run of this machine leaves it, and remove it there."""
        found = self.found()
        report = join(self.folder, "report.html")
        if isinstance(found, RunResult):
            found = replace(found, report="")  # it names a path of the driver's machine
            if self.storage.status(report) is not None:
                folder = (runs or Path.cwd() / RUNS_FOLDER) / found.run_id
                folder.mkdir(parents=True, exist_ok=True)
                found = replace(found, report=str(folder / "report.html"))
                (folder / "report.html").write_bytes(self.storage.read(report))
                (folder / "result.json").write_text(found.to_json(), encoding="utf-8")
        if found is not None:
            self.storage.delete(self.folder)
        return found


_RESULT: TypeAdapter[RunResult] = TypeAdapter(RunResult)
_STOPPED = TypeAdapter(Stopped)
