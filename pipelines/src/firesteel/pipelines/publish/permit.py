"""Check the site's policies before a publish, and record refusals in the audit log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from firesteel.conf.errors import FiresteelError, NotAllowed
from firesteel.conf.identity import os_user
from firesteel.pipelines.publish.audit import AuditEntry, append_refusal
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.publish.policy import Request, authorise
from firesteel.pipelines.publish.state_store import SinkInterval

_log = logging.getLogger(__name__)


def permit(sink_interval: SinkInterval, sink_path: str, attempt: Attempt, *, strict: bool | None = None) -> str:
    """Return the rules that allow an attempt to publish to a path of the storage; see `authorise`.

    Raises
    ------
    NotAllowed
        A policy refuses. The refusal is recorded in the audit log first, if the storage accepts the entry.
    """
    store = sink_interval.store
    try:
        return authorise(
            Request.of(store.pipeline, store.profile, f"{store.storage.base_uri}{sink_path}"), strict=strict
        )
    except NotAllowed as refusal:
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
        )
        try:
            append_refusal(sink_interval, entry)
        except FiresteelError as error:
            _log.warning("%s: a refusal could not be recorded in the audit log: %s", sink_interval, error)
        raise
