"""Verify the signatures of the audit log.

::

    entry  1 2 3 | 4 5 6       with keys, each entry must be signed, from the entry on that the auditor names: `--signed-from 4`
           - - - | s s s       without keys, each entry after a signed one must be signed

A person who can write to the storage could remove all signatures, recompute the log, and let the next publish sign on top of it.
Therefore the log itself cannot say where its signatures begin.

Keys come from the auditor, or from the policies: those for the pipeline, the profile and the sink. The pipeline is that of the
spec and not that of the entry: a person with the key of another pipeline could write its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firesteel.conf.errors import FiresteelError
from firesteel.conf.signing import PublicKey
from firesteel.pipelines.publish.audit import AuditEntry, entry_numbers, is_entry_signed, read_entry, signed_bytes
from firesteel.pipelines.publish.policy import Policy
from firesteel.pipelines.publish.state_store import StateStore


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """The problems of a log's signatures, one sentence each. `unchecked` counts signed entries for which no key is known."""

    problems: tuple[str, ...]
    unchecked: int


def verify_signatures(
    store: StateStore,
    sinks: Mapping[str, str],
    keys: Sequence[PublicKey],
    found: Sequence[Policy],
    signed_from: int = 1,
) -> SignatureCheck:
    """Verify the signatures of all entries that can be read.

    Parameters
    ----------
    sinks
        URIs by sink name, of the store's profile.
    keys
        The auditor's keys. If there are none, the keys of the policies count.
    found
        The policies.
    signed_from
        The first entry that must be signed, as the auditor knows it. Entries before it are covered by its hash of the previous entry.
    """
    problems: list[str] = []
    unchecked = first_signed = 0
    for number in entry_numbers(store):
        try:
            entry = read_entry(store, number)
        except FiresteelError:
            continue  # `audit.verify` names it
        allowed = _keys_for(store, sinks, entry, keys, found)
        if not is_entry_signed(entry):
            if allowed and number >= signed_from:
                problems.append(f"entry {number} is not signed")
            elif first_signed:
                problems.append(
                    f"entry {number} is not signed, but entry {first_signed} is: the signature was removed, or the publish had no key"
                )
            continue
        first_signed = first_signed or number
        if not allowed:
            unchecked += 1
        elif problem := _problem(store, number, entry, allowed):
            problems.append(f"entry {number} {problem}")
    return SignatureCheck(tuple(problems), unchecked)


def _keys_for(
    store: StateStore, sinks: Mapping[str, str], entry: AuditEntry, keys: Sequence[PublicKey], found: Sequence[Policy]
) -> tuple[frozenset[PublicKey], ...]:
    """Return one set of keys for each policy that lists some; the entry must be signed by a key of each set."""
    if keys:
        return (frozenset(keys),)
    # An entry could name the location of a sink whose key its author has.
    location = sinks.get(entry.sink) if entry.profile == store.profile else None
    location = location or entry.location
    listed = (policy.signing_keys(store.pipeline, entry.profile, location) for policy in found if location)
    return tuple(one for one in listed if one)


def _problem(store: StateStore, number: int, entry: AuditEntry, allowed: tuple[frozenset[PublicKey], ...]) -> str:
    message = signed_bytes(number, entry)
    for keys in allowed:
        key = next((key for key in keys if key.fingerprint == entry.key), None)
        if key is None:
            return f"is signed by the key {entry.key or 'without a fingerprint'}, which is not trusted for it"
        if not key.verifies(message, entry.signature):
            return "does not match its signature: it was edited, or it is a copy of another entry"
    if entry.storage != (here := store.location(store.base)):
        return f"was signed for the storage {entry.storage}, not for {here}"
    return ""
