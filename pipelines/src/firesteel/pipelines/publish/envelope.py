"""The envelope of a state file: a checksum and the identity of the record, around its body.

::

    {"sha256": "5d1f...",                      the digest of all bytes after this line
    "identity": {"kind": "ledger", "profile": "prod", "sink": "scores", "interval": "2013-06-01", "token": 7},
    "body": {...}}

The checksum detects damage: a changed bit, a truncated file. The identity detects a valid file at the place of another. Both are
written by `encode` and verified by `decode`, and nowhere else. A person with write access can compute the checksum of an edited file:
the checksum is no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError

from firesteel.conf.errors import StorageError, Where

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

Identity = Mapping[str, str | int]
"""The place of a record: its `kind`, and the names in the path of its file."""

_FIRST_LINE = re.compile(rb'\{"sha256": "([0-9a-f]{64})",\n')


def encode(identity: Identity, record: DataclassInstance) -> bytes:
    """Return the content of a record's file."""
    body = json.dumps(asdict(record), indent=2, ensure_ascii=False)
    rest = f'"identity": {json.dumps(identity, ensure_ascii=False)},\n"body": {body}}}\n'
    # A lone surrogate becomes its JSON escape.
    data = rest.encode(errors="backslashreplace")
    return b'{"sha256": "%s",\n%s' % (hashlib.sha256(data).hexdigest().encode(), data)


def decode(adapter: TypeAdapter[T], data: bytes, path: str, identity: Identity, hint: str) -> T:
    """Return the record in a file, which must have the identity of its place.

    Raises
    ------
    StorageError
        FS8006 when the file is damaged, is the record of another place, or has no valid record.
    """
    kind = str(identity["kind"])
    first = _FIRST_LINE.match(data)
    if first is None:
        raise invalid(path, f"the file is not a valid {kind} record: its first line has no checksum.", hint)
    rest = data[first.end() :]
    if hashlib.sha256(rest).hexdigest().encode() != first[1]:
        raise invalid(
            path, f"the {kind} record does not match its checksum: the file was damaged, truncated or edited.", hint
        )
    try:
        content = json.loads(b"{" + rest)
        actual, body = content["identity"], content["body"]
    except (ValueError, KeyError, RecursionError):
        raise invalid(path, f"the file is not a valid {kind} record: it has no identity or no body.", hint) from None
    if actual != dict(identity):
        raise invalid(
            path,
            f"the file belongs to another place: it is the record of {_text(actual)}, not of {_text(identity)}.",
            hint,
        )
    try:
        return adapter.validate_python(body)
    except (ValidationError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is nested too deeply"
        raise invalid(path, f"the file is not a valid {kind} record: {reason}.", hint) from None


def invalid(path: str, what: str, hint: str) -> StorageError:
    """Return the error of a state file that cannot be believed."""
    return StorageError("FS8006", what, where=Where(path), hint=hint)


def _text(identity: object) -> str:
    return (
        ", ".join(f"{name} {value}" for name, value in identity.items()) if isinstance(identity, Mapping) else "nothing"
    )
