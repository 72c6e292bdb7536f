"""The records of the ledger: append-only JSON, one per attempt of a (profile, sink, interval)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from firesteel.pipelines.profile import Profile
from firesteel.pipelines.result import Agreement, Counts


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file: `path` is relative to the sink's path, `length` is in bytes, `digest` is `Storage.checksum` of the staged file."""

    path: str
    length: int
    digest: str = ""


def manifest_digest(files: Iterable[PublishedFile]) -> str:
    """Return the SHA-256 (hex) of the paths, lengths and digests of published files."""
    listed = sorted((file.path, file.length, file.digest) for file in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One attempt.

    `state` is `cancelled` when a person or a scheduler ended the attempt, and `died` when its driver left no record.
    `token` is the fencing token of its lease. It orders attempts and names the record's file. `hash_inputs` are the named inputs of
    the plan hash. `work_seconds` is the duration of reading, scoring and staging `input_bytes`; `task_seconds` is the sum over its
    tasks, of which `slots` run at the same time.
    `action` is a run, an append, a replay of dead letters (`replayed` lists their runs), an audit of the published files by changed
    gates, or a rollback to the version of the token `restores` (0: the data before the first publish). `appended` are the hashes of
    all appended plans. `profiles` describe the columns with a drift gate and are the baseline of later intervals. `policy` lists the
    digest and the rule number of each policy that allowed the publish. `agreement` compares the model with its challenger. `location` is
    the sink's resolved URI: `partitions` and `files` are in it. `excluded` are the files of the attempt's dead letters and quarantined rows,
    relative to the state store.
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
    action: Literal["run", "append", "replay", "rollback", "audit"] = "run"
    replayed: tuple[str, ...] = ()
    restores: int = 0
    appended: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    policy: str = ""
    agreement: Agreement | None = None
    location: str = ""
    excluded: tuple[PublishedFile, ...] = ()

    def holds(self, plan_hash: str) -> bool:
        """Return whether the interval contains the rows of a plan."""
        return plan_hash == self.plan_hash or plan_hash in self.appended

    @property
    def failed_audit(self) -> bool:
        """Whether changed gates failed on the published rows."""
        return self.action == "audit" and self.state == "failed" and self.error.startswith("FS7001")


def to_json_list(records: list[LedgerRecord]) -> str:
    """Return the records as an indented JSON list, for commands: quick also for thousands of records."""
    return _LIST.dump_json(records, indent=2).decode()


_LIST = TypeAdapter(list[LedgerRecord])
