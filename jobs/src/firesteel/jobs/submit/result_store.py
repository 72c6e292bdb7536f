"""The storage through which a driver on the cluster returns its result and report, or its error, to the submitter.

::

    <storage>/submissions/<id>/report.html    written first
                              /result.json    the RunResult                 } one of the two, written once. A later
                              /error.json     code, what, hint, exit code   } attempt that reads one does not run
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError

from firesteel.conf.errors import FiresteelError, StorageError, Where
from firesteel.conf.identifiers import is_run_id
from firesteel.jobs.run.plan_runner import RUNS_FOLDER
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.storage.base import Storage

T = TypeVar("T")

_HINT = "Read the driver's log, and run `firesteel status` to see what was published."


@dataclass(frozen=True, slots=True)
class DriverError:
    """The error that stopped a driver before its first interval."""

    code: str
    what: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class ResultStore:
    """The folder of one submission in the storage of a plan."""

    storage: Storage
    folder: str

    @classmethod
    def of(cls, plan: Plan, submission: str) -> ResultStore:
        """Return the result store of a submission."""
        store = StateStore.of(plan)
        return cls(store.storage, join(store.base, "submissions", submission))

    def write(self, result: RunResult) -> None:
        """Write a result and its report."""
        report = Path(result.report) if result.report else None
        if report is not None and report.is_file():
            self.storage.replace(join(self.folder, "report.html"), report.read_bytes())
        self.storage.create(join(self.folder, "result.json"), result.to_json().encode())

    def write_error(self, error: FiresteelError) -> None:
        """Write the error that stopped the driver."""
        facts = asdict(DriverError(error.code, error.what, error.hint, error.exit_code))
        self.storage.create(join(self.folder, "error.json"), json.dumps(facts, indent=2, ensure_ascii=False).encode())

    def read(self) -> RunResult | DriverError | None:
        """Return the result or the error of a driver; None if there is none yet."""
        path = join(self.folder, "result.json")
        if self.storage.status(path) is not None:
            result = _parsed(_RESULT, self.storage.read(path), path, "a driver's result")
            if not is_run_id(result.run_id):  # it becomes the name of a local folder
                what = f"the file is not a driver's result: `{result.run_id}` is not the id of a run."
                raise StorageError("FS8006", what, where=Where(path), hint=_HINT)
            return result
        path = join(self.folder, "error.json")
        if self.storage.status(path) is not None:
            return _parsed(_STOPPED, self.storage.read(path), path, "a driver's error")
        return None

    def fetch(self, runs: Path | None = None) -> RunResult | DriverError | None:
        """Move the result and the report of a driver into the local folder of reports; return the result or the error."""
        outcome = self.read()
        report = join(self.folder, "report.html")
        if isinstance(outcome, RunResult):
            outcome = replace(outcome, report="")  # a path of the driver's machine
            if self.storage.status(report) is not None:
                folder = (runs or Path.cwd() / RUNS_FOLDER) / outcome.run_id
                folder.mkdir(parents=True, exist_ok=True)
                outcome = replace(outcome, report=str(folder / "report.html"))
                (folder / "report.html").write_bytes(self.storage.read(report))
                (folder / "result.json").write_text(outcome.to_json(), encoding="utf-8")
        if outcome is not None:
            self.storage.delete(self.folder)
        return outcome


_RESULT: TypeAdapter[RunResult] = TypeAdapter(RunResult)
_STOPPED = TypeAdapter(DriverError)


def _parsed(adapter: TypeAdapter[T], data: bytes, path: str, what: str) -> T:
    """Return the record in a JSON file. Raise FS8006 when the file is truncated or was edited."""
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise StorageError("FS8006", f"the file is not {what}: {reason}.", where=Where(path), hint=_HINT) from None
