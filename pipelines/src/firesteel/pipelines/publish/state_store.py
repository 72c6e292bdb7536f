"""The state store: the paths of all files about publishing in the spec's `storage`, by profile, sink and interval.

::

    <base>/lease/<profile>/<sink>/<interval>/0000000007.json       the holder of token 7
                                             0000000007.beat       heartbeat: only its modification time matters
                                             0000000007.journaled/ the journal of the attempt was written
                                             0000000007.published/ the attempt is done, and the ledger has its publish
                                             0000000007.released/  the attempt is done, and published nothing
                                             0000000007.abandoned/ the attempt failed after its journal
          /journal/...                      /0000000007.json       the journal of token 7, or its tombstone
          /staging/...                      /0000000007/           files that Spark writes
          /scratch/...                      /0000000007/           relations that token 7 computes once and reads again
          /versions/...                     /0000000007/data/      directories that token 7 replaced
          /ledger/...                       /0000000007.json       the result of token 7
          /seal/..., /trash/...                                    folders before and after use
          /models/<profile>/<digest>/                              copies of models that runs use (jobs/tracking/model_copies.py)
          /index/<profile>/<sink>.pack                             a copy of ledger records, may be lost (sink_records.py)
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import NotAllowed, StorageError
from firesteel.pipelines.publish.permitted_storage import PermittedStorage
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.identity import Location, canonical
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import absolute, join

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

_SAFE = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPED = re.compile(r"~([0-9A-F]{2})")
_TOKEN = re.compile(r"([0-9]{10,20})(?:\.([a-z]+))?")


@dataclass(frozen=True, slots=True, init=False)
class StateStore:
    """The spec's `storage` for one pipeline and profile. `base` is the path in `storage`; `signing_key` is a reference to a secret."""

    storage: PermittedStorage
    base: str
    pipeline: str
    profile: str
    signing_key: str = ""

    def __init__(self, storage: Storage, base: str, pipeline: str, profile: str, signing_key: str = "") -> None:
        inner = storage.inner if isinstance(storage, PermittedStorage) else storage
        values = (PermittedStorage(inner, base, pipeline, profile), base, pipeline, profile, signing_key)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def at(cls, uri: str, pipeline: str, profile: str, signing_key: str = "") -> StateStore:
        """Return the state store of a pipeline and profile at the URI that the spec calls `storage`."""
        return cls(*locate(uri), pipeline, profile, signing_key)

    @classmethod
    def of(cls, plan: Plan) -> StateStore:
        """Return the state store of a plan."""
        return cls.at(plan.storage, plan.pipeline, plan.profile, plan.signing_key)

    def folder(self, kind: str, sink: str) -> str:
        """Return the folder of one sink's intervals, for one kind of file."""
        return join(self.base, kind, file_name(self.profile), file_name(sink))

    def location(self, path: str) -> str:
        """Return the `canonical` URI of a path in the storage."""
        return canonical(f"{self.storage.base_uri}{path}")


@dataclass(frozen=True, slots=True)
class SinkInterval:
    """The unit of idempotency: one interval of one sink."""

    store: StateStore
    sink: str
    interval: str

    @property
    def storage(self) -> PermittedStorage:
        """Return the storage of all files."""
        return self.store.storage

    def __str__(self) -> str:
        return f"{self.store.pipeline} ({self.store.profile}) {self.sink} {self.interval}"

    def folder(self, kind: str) -> str:
        """Return the folder of one kind of file."""
        return join(self.store.folder(kind, self.sink), file_name(self.interval))

    def file(self, kind: str, token: int, suffix: str = "json") -> str:
        """Return the path of a token's file."""
        return join(self.folder(kind), f"{token:010d}.{suffix}")

    def identity(self, kind: str, token: int) -> dict[str, str | int]:
        """Return the identity of a token's record of one kind; see envelope.py."""
        return {
            "kind": kind,
            "profile": self.store.profile,
            "sink": self.sink,
            "interval": self.interval,
            "token": token,
        }

    def staging(self, token: int) -> str:
        """Return the folder to which Spark writes for `token`; no other token writes there."""
        return join(self.folder("staging"), f"{token:010d}")

    def scratch(self, token: int) -> str:
        """Return the folder of relations that the attempt of `token` computes once and reads again."""
        return join(self.folder("scratch"), f"{token:010d}")

    def reused(self, token: int, older: int) -> str:
        """Return the folder to which a rollback moves the versions of an older token."""
        return join(self.staging(token), f".versions-{older:010d}")

    def versions(self, token: int) -> str:
        """Return the folder of all directories that `token` replaced."""
        return join(self.folder("versions"), f"{token:010d}")

    def version(self, token: int, directory: str) -> str:
        """Return the folder of the old content of `directory` that `token` replaced."""
        return join(self.versions(token), "data", directory)


def path_within(store: StateStore, sink_path: str) -> str:
    """Return the path of a sink, given as a path or a URI, in the storage of a store.

    Raises
    ------
    StorageError
        FS8008 when it is in another storage: a rename cannot cross file systems.
    """
    if "://" not in sink_path and not sink_path.startswith("file:"):
        return absolute(sink_path)
    storage, path = locate(sink_path)
    if storage.base_uri != store.storage.base_uri:
        raise StorageError(
            "FS8008",
            f"the sink {sink_path} and the spec's storage {store.storage.base_uri}{store.base} are in different file systems.",
            hint="Use the same scheme and authority for both: publishing renames directories.",
        )
    return path


def file_name(name: str) -> str:
    """Return `name` as one path segment: letters, digits, `.`, `_` and `-` stay, each other UTF-8 byte becomes `~XX`.

    Hadoop forbids `:` in names, and Spark ignores names that start with `_` or `.`.

    Examples
    --------
    >>> file_name("2013-06-01T05"), file_name("2013-06-01T05:30"), file_name("_x/..")
    ('2013-06-01T05', '2013-06-01T05~3A30', '~5Fx~2F..')
    """
    if not name:
        raise ValueError("the name of a profile, sink or interval is empty")
    escaped = _SAFE.sub(lambda match: "".join(f"~{byte:02X}" for byte in match[0].encode()), name)
    return f"~{ord(escaped[0]):02X}{escaped[1:]}" if escaped[0] in "._-" else escaped


def name_of(file: str) -> str:
    """Return the name that `file_name` encoded.

    Examples
    --------
    >>> name_of(file_name("é:/_"))
    'é:/_'
    """
    parts = _ESCAPED.split(file)  # text, hex, text, hex, ..., text
    return b"".join(bytes.fromhex(part) if index % 2 else part.encode() for index, part in enumerate(parts)).decode()


def token_of(name: str) -> tuple[int, str] | None:
    """Return the token and the suffix of a file or folder; None for other names."""
    match = _TOKEN.fullmatch(name)
    # A longer number with leading zeros is no name that firesteel writes.
    return (int(match[1]), match[2] or "") if match and f"{int(match[1]):010d}" == match[1] else None


def storage_time_ms(storage: Storage, folder: str) -> int:
    """Return the time of the storage's clock from a new file in a folder. A user who may only read gets the time of this machine."""
    path = join(folder, f".clock-{secrets.token_hex(8)}")
    try:
        now_ms = storage.replace(path, b"").modified_ms
    except NotAllowed:
        return time.time_ns() // 1_000_000
    storage.delete(path)
    return now_ms


def children(storage: Storage, path: str) -> list[FileStatus]:
    """Return the children of a folder; none if it does not exist."""
    try:
        return storage.list(path)
    except StorageError as error:
        if error.code == "FS8003":
            return []
        raise


def own_children(store: StateStore, path: str) -> list[FileStatus]:
    """Return the children of a folder of the store that may be deleted: no links, and none if a link leads to the folder.

    Others may be able to write to the storage. A link there must not lead a clean-up to other files.
    """
    found = children(store.storage, path)
    if store.storage.base_uri != "file://":  # HDFS has no links
        return found
    base = Location.of(f"file://{store.base}")
    if Location.of(f"file://{path}").below(base) != path[len(store.base) :].strip("/"):
        return []
    return [child for child in found if not os.path.islink(child.path)]  # noqa: PTH114 - storage paths are text, not Path


def tokens_in(storage: Storage, path: str, suffix: str = "") -> list[int]:
    """Return the tokens with a file or folder with `suffix` in a folder, ascending."""
    names = (token_of(child.name) for child in children(storage, path))
    return sorted(name[0] for name in names if name is not None and name[1] == suffix)
