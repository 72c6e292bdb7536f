"""Check the site's policies before a publish, and record refusals in the audit log."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from firesteel.conf.errors import FiresteelError, NotAllowed
from firesteel.conf.identity import os_user
from firesteel.conf.signing import fingerprint
from firesteel.pipelines.publish.audit import AuditEntry, append_refusal
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.publish.policy import Policy, Request, authorise, authorise_paths, may_record, policies
from firesteel.pipelines.publish.signers import require_signer
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.paths import join

_log = logging.getLogger(__name__)

_FOLDERS = ("lease", "journal", "staging", "scratch", "versions", "ledger", "seal", "trash")
"""The folders of an interval in the state store."""
_SHARED_FOLDERS = ("audit", "dead_letter", "quarantine")
"""The folders of all intervals in the state store."""


@dataclass(frozen=True, slots=True)
class Permission:
    """The permission of an attempt to publish to a sink. `rules` are those that gave it, for the audit log."""

    sink_interval: SinkInterval
    attempt: Attempt
    request: Request
    policies: tuple[Policy, ...]
    rules: str

    def check(self, *paths: str) -> None:
        """Check paths just before they are written or renamed.

        Raises
        ------
        NotAllowed
            FS7601 when a link leads to a place that a policy does not allow.
        """
        base_uri = self.sink_interval.storage.base_uri
        try:
            authorise_paths(self.request, (f"{base_uri}{path}" for path in paths), self.policies)
        except NotAllowed as refusal:
            _record(refusal, self.sink_interval, self.attempt, self.request, self.policies)
            raise


def permit(
    sink_interval: SinkInterval,
    sink_path: str,
    attempt: Attempt,
    directories: Iterable[str] = (),
    *,
    strict: bool | None = None,
) -> Permission:
    """Return the permission of an attempt to publish directories of a sink; see `authorise`.

    Parameters
    ----------
    sink_path
        The sink's path in the storage.
    directories
        The directories to publish, relative to the sink.

    Raises
    ------
    NotAllowed
        A policy refuses. The refusal is recorded in the audit log first, if the storage accepts the entry.
    """
    store = sink_interval.store
    base_uri = store.storage.base_uri
    request = Request.of(store.pipeline, store.profile, f"{base_uri}{sink_path}", f"{base_uri}{store.base}")
    found: tuple[Policy, ...] = ()
    try:
        found = policies()
        rules = authorise(request, strict=strict, found=found)
        # Early: a missing key must not be noticed after an hour of work.
        require_signer(request, fingerprint(store.signing_key), found)
    except NotAllowed as refusal:
        _record(refusal, sink_interval, attempt, request, found)
        raise
    permission = Permission(sink_interval, attempt, request, found, rules)
    permission.check(
        *(join(sink_interval.folder(kind), "file") for kind in _FOLDERS),
        *(join(store.base, kind, "file") for kind in _SHARED_FOLDERS),
        *(join(sink_path, directory) for directory in directories),
    )
    return permission


def _record(
    refusal: NotAllowed, sink_interval: SinkInterval, attempt: Attempt, request: Request, found: Sequence[Policy]
) -> None:
    """Record a refusal in the audit log, unless the refused path is that of the log, or the log demands another key."""
    store = sink_interval.store
    if refusal.code == "FS7604" or not may_record(
        request, f"{store.storage.base_uri}{join(store.base, 'audit')}", found
    ):
        return
    entry = AuditEntry(
        previous="",
        pipeline=store.pipeline,
        profile=store.profile,
        sink=sink_interval.sink,
        interval=sink_interval.interval,
        token=0,
        action="refused",
        run_id=attempt.run_id,
        plan_hash=attempt.plan_hash,
        user=os_user(),
        host=attempt.host,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=0,
        files_digest="",
        policy=f"{refusal.code} {refusal.what}",
        location=canonical(request.sink),
    )
    try:
        require_signer(request, fingerprint(store.signing_key), found)
        append_refusal(sink_interval, entry)
    except FiresteelError as error:
        _log.warning("%s: a refusal could not be recorded in the audit log: %s", sink_interval, error)
