"""Records of the ledger: one per attempt at a (profile, sink, interval), append-only, readable by people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from firesteel.conf.errors import StorageError, Where
from firesteel.pipelines.profile import Profile
from firesteel.pipelines.result import Agreement, Counts

T = TypeVar("T")


def parsed(adapter: TypeAdapter[T], data: bytes, path: str, what: str, hint: str) -> T:
    """A small file of ours. FS8006 says what it should be when it was cut or changed."""
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        found = error.errors()[0]["msg"]
        raise StorageError("FS8006", f"not {what}: {found}.", where=Where(path), hint=hint) from None


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file; `path` relative to the sink's path, `length` in bytes."""

    path: str
    length: int


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One attempt.

    `state` is `cancelled` when a person or a scheduler ended the attempt, and `died` when its driver left no record.
    `token` is the fencing token of its lease: it orders attempts and names the record's file. `hash_inputs` are the named parts
    of the plan hash; `work_seconds` is the time of reading, scoring and staging `input_bytes`, `task_seconds` that of its tasks,
    with `slots` of them at once.
    `action` is what was done: a whole run; an append or a replay of dead letters (`replayed` names their files) on top of
    what was published; or a rollback to what the token `restores` had published (0: what was there before any). `appended`
    are the hashes of all plans whose rows are in, where plans are appended. `profiles` are of the columns with a drift gate:
    what later intervals are held against. `policy` is what allowed the publish: each policy's digest and the number of its rule.
    `agreement` is that of the model's challenger.
    """

    pipeline: str
    profile: str
    sink: str
    interval: str
    token: int
    run_id: str
    plan_hash: str
    state: Literal["published", "failed", "cancelled", "died"]
    started_at: str
    ended_at: str
    counts: Counts = Counts()
    partitions: tuple[str, ...] = ()
    files: tuple[PublishedFile, ...] = ()
    mlflow_run_id: str = ""
    user: str = ""
    host: str = ""
    error: str = ""
    recovered_by: str = ""
    hash_inputs: tuple[tuple[str, str], ...] = ()
    input_bytes: int = 0
    slots: int = 0
    work_seconds: float = 0.0
    task_seconds: float = 0.0
    action: Literal["run", "append", "replay", "rollback"] = "run"
    replayed: tuple[str, ...] = ()
    restores: int = 0
    appended: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    policy: str = ""
    agreement: Agreement | None = None

    def holds(self, plan_hash: str) -> bool:
        """Whether the rows of a plan are in."""
        return plan_hash == self.plan_hash or plan_hash in self.appended

    def to_json(self) -> bytes:
        """Indented JSON, UTF-8."""
        return (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, path: str) -> LedgerRecord:
        """Read a record; FS8006 names the file when it is cut or changed."""
        return parsed(_ADAPTER, data, path, "a ledger record", "Restore it, or move it away.")


_ADAPTER = TypeAdapter(LedgerRecord)
