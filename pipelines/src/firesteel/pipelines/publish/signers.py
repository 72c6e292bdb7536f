"""Who must sign: the keys that policies list for a sink, for publishes, journals and plan files.

If one rule of a policy lists keys for a sink, pipeline and profile, each publish to the sink needs a signature by a key of a rule that
matches, whoever the user is. Otherwise a broader rule without keys would allow a publish that `audit verify` reports later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from firesteel.conf.errors import NotAllowed, Where
from firesteel.conf.signing import PublicKey, SigningKey, signing_key
from firesteel.pipelines.plan.model import PlanFile
from firesteel.pipelines.publish.envelope import invalid
from firesteel.pipelines.publish.journal import Journal, signed_bytes
from firesteel.pipelines.publish.policy import Policy, Request, policies
from firesteel.pipelines.publish.state_store import SinkInterval

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan


def require_signer(request: Request, fingerprint: str, found: Sequence[Policy]) -> None:
    """Check the key that signs a publish; its fingerprint is empty if there is none.

    Raises
    ------
    NotAllowed
        FS7604 when a policy lists keys for the sink, and this is none of them.
    """
    for policy in found:
        keys = policy.signing_keys(request.pipeline, request.profile, request.sink)
        if keys and fingerprint not in {key.fingerprint for key in keys}:
            raise NotAllowed(
                "FS7604",
                f"{policy.path} requires that {request.pipeline} ({request.profile}) signs what it publishes to {request.sink} with "
                f"a key that it lists, but {_has(fingerprint)}. Nothing was published.",
                hint="Set `security.signing_key` in the spec, or ask the owner of the policy; see docs/how-to/sign.md.",
            )


def check_journal(sink_interval: SinkInterval, journal: Journal, found: Sequence[Policy]) -> None:
    """Check the signature of a journal that another run has written: this run is about to sign what it says.

    The keys of the policies count, and the key of this run. With a key, a journal without a signature is refused: the log could be
    stripped of its signatures, too.

    Raises
    ------
    NotAllowed
        FS7604 when the journal is signed and this run has no key.
    StorageError
        FS8006 when none of these keys has signed the journal.
    """
    store = sink_interval.store
    uri = f"{store.storage.base_uri}{journal.sink_path}"
    listed = [keys for policy in found if (keys := policy.signing_keys(store.pipeline, store.profile, uri))]
    own = signing_key(store.signing_key)
    if own is None:
        if not (journal.signature or journal.key):
            return
        raise NotAllowed(
            "FS7604",
            f"the journal of {sink_interval}, token {journal.token}, is signed, and the spec has no `security.signing_key`. "
            "Nothing was published.",
            hint="Set `security.signing_key`.",
        )
    message = signed_bytes(sink_interval, journal)
    for keys in listed or [frozenset({own.public})]:
        if not any(key.fingerprint == journal.key and key.verifies(message, journal.signature) for key in keys):
            path = sink_interval.file("journal", journal.token)
            marker = sink_interval.file("lease", journal.token, "journaled")
            raise invalid(
                path,
                f"the journal of {sink_interval}, token {journal.token}, was edited or has no signature by a trusted key. "
                f"Run {journal.run_id} wrote it, {_signed_by(journal.key)}. Nothing was published.",
                "Run `firesteel recover` with the key of that run, or without `security.signing_key` if it had none. "
                f"If the journal is forged, delete it and {marker}, then run `firesteel recover`: it discards the attempt.",
            )


def _signed_by(fingerprint: str) -> str:
    return f"with the key {fingerprint}" if fingerprint else "without a key"


def write_plan(plan: Plan) -> str:
    """Return a plan as JSON, signed if this process made it and it names a key.

    A plan from a file keeps the signature of the file. If this process has changed the plan since, it has none. Otherwise a user who
    passes on an edited plan would sign it.

    Raises
    ------
    RuntimeFault
        FS9020 or FS9021 when the key cannot be used.
    NotAllowed
        FS7605, as `require_signed`.
    """
    file = plan.file
    if file is None:
        key = signing_key(plan.signing_key)
        return signed_json(plan, key) if key else plan.to_json()
    require_signed(plan)
    text = plan.to_json()
    if not file.signature or json.loads(text)["digest"] != file.digest:
        return text
    return _with_signature(text, file.key, file.signature)


def signed_json(plan: Plan, key: SigningKey) -> str:
    """Return a plan as JSON with the signature of its digest, and the fingerprint of the key."""
    text = plan.to_json()
    return _with_signature(text, key.public.fingerprint, key.sign(PlanFile.signed_bytes(json.loads(text)["digest"])))


def _with_signature(text: str, fingerprint: str, signature: str) -> str:
    content = json.loads(text) | {"key": fingerprint, "signature": signature}
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def require_signed(plan: Plan) -> None:
    """Check the signature of a plan from a file. A plan that this process made needs none.

    Raises
    ------
    NotAllowed
        FS7605 when a policy lists keys for a sink of the plan, and none of them has signed the plan. FS7602 when a policy is not valid.
    """
    file = plan.file
    if file is None:
        return
    for policy in policies():
        for sink in plan.sinks:
            keys = policy.signing_keys(plan.pipeline, plan.profile, sink.path)
            if keys and not any(_has_signed(key, file) for key in keys):
                said = (
                    "its signature does not match" if file.key in {key.fingerprint for key in keys} else _has(file.key)
                )
                raise NotAllowed(
                    "FS7605",
                    f"{policy.path} requires that a key that it lists has signed a plan for {sink.path}, but {said}. Nothing was run.",
                    where=Where(file.name),
                    hint="Run `firesteel plan -o` again with `security.signing_key`; see docs/how-to/sign.md.",
                )


def require_own_signature(plan: Plan, reference: str) -> None:
    """Check that the key of a spec has signed a plan that was read from the storage, where others may be able to write.

    Raises
    ------
    NotAllowed
        FS7605 when it has not.
    """
    key = signing_key(reference)
    if key is not None and (plan.file is None or not _has_signed(key.public, plan.file)):
        said = _has(plan.file.key if plan.file else "")
        raise NotAllowed(
            "FS7605",
            f"the stored plan must be signed by the key of `security.signing_key`, but {said}. Nothing was run.",
            where=Where(plan.file.name if plan.file else "the plan"),
            hint="Make a new plan: run without --resume and --part.",
        )


def _has_signed(key: PublicKey, file: PlanFile) -> bool:
    return key.fingerprint == file.key and key.verifies(PlanFile.signed_bytes(file.digest), file.signature)


def _has(fingerprint: str) -> str:
    return f"the key has the fingerprint {fingerprint}" if fingerprint else "there is no signature"
