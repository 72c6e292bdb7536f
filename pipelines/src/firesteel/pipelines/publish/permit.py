"""A publish asks the site's policies, and the audit log says what they answered, also when it is no."""

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


def permit(place: SinkInterval, sink_path: str, attempt: Attempt, *, strict: bool | None = None) -> str:
    """What allows an attempt to publish to a path of the place's storage; see `authorise`.

    Raises
    ------
    NotAllowed
        After it was entered into the audit log, as far as the storage takes the entry: the refusal stands in any case.
    """
    store = place.store
    try:
        return authorise(
            Request.of(store.pipeline, store.profile, f"{store.storage.base_uri}{sink_path}"), strict=strict
        )
    except NotAllowed as refusal:
        entry = AuditEntry(
            previous="",
            pipeline=store.pipeline,
            profile=store.profile,
            sink=place.sink,
            interval=place.interval,
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
            append_refusal(place, entry)
        except FiresteelError as error:
            _log.warning("%s: a refusal could not be entered into the audit log: %s", place, error)
        raise
