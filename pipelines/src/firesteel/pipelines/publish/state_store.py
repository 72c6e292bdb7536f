"""Where everything that publishing leaves lies: below the spec's `storage`, by profile, sink and interval.

::

    <base>/lease/<profile>/<sink>/<interval>/0000000007.json       who holds, or held, token 7
                                             0000000007.beat       its heartbeat: only the time matters
                                             0000000007.released/  its attempt is over, nothing is left to do
                                             0000000007.abandoned/ its attempt gave up after the journal
          /journal/...                      /0000000007.json       what token 7 was about to do, or its tombstone
          /staging/...                      /0000000007/           what Spark writes
          /scratch/...                      /0000000007/           relations that token 7 computes once and reads again
          /versions/...                     /0000000007/data/      what token 7 replaced
          /ledger/...                       /0000000007.json       what became of token 7
          /seal/..., /trash/...                                    on their way in, or out
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import absolute, join

_SAFE = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPED = re.compile(r"~([0-9A-F]{2})")
_TOKEN = re.compile(r"(\d{10,})(?:\.([a-z]+))?")


@dataclass(frozen=True, slots=True)
class StateStore:
    """What a spec calls `storage`, for one pipeline and profile. `base` is the path within `storage`."""

    storage: Storage
    base: str
    pipeline: str
    profile: str

    def folder(self, kind: str, sink: str) -> str:
        """The folder that holds one sink's intervals."""
        return join(self.base, kind, file_name(self.profile), file_name(sink))


@dataclass(frozen=True, slots=True)
class SinkInterval:
    """The unit of idempotency: one interval of one sink."""

    store: StateStore
    sink: str
    interval: str

    @property
    def storage(self) -> Storage:
        """The storage that all of it lies in."""
        return self.store.storage

    def __str__(self) -> str:
        return f"{self.store.pipeline} ({self.store.profile}) {self.sink} {self.interval}"

    def folder(self, kind: str) -> str:
        """The folder of one kind of file."""
        return join(self.store.folder(kind, self.sink), file_name(self.interval))

    def file(self, kind: str, token: int, suffix: str = "json") -> str:
        """A file of one token."""
        return join(self.folder(kind), f"{token:010d}.{suffix}")

    def staging(self, token: int) -> str:
        """Where Spark writes for `token`. No other token ever writes there."""
        return join(self.folder("staging"), f"{token:010d}")

    def scratch(self, token: int) -> str:
        """Return the folder for what the attempt of `token` computes once and reads again."""
        return join(self.folder("scratch"), f"{token:010d}")

    def reused(self, token: int, older: int) -> str:
        """Where a rollback takes the versions of an older token, whole."""
        return join(self.staging(token), f".versions-{older:010d}")

    def versions(self, token: int) -> str:
        """All that `token` replaced."""
        return join(self.folder("versions"), f"{token:010d}")

    def version(self, token: int, directory: str) -> str:
        """Where `token` puts the content that `directory` had before."""
        return join(self.versions(token), "data", directory)


def path_within(store: StateStore, place: str) -> str:
    """The path of a sink, given as a path or a URI, within the storage of a store.

    Raises
    ------
    StorageError
        FS8008 when it lies in another storage: a rename cannot cross over.
    """
    if "://" not in place and not place.startswith("file:"):
        return absolute(place)
    storage, path = locate(place)
    if storage.base_uri != store.storage.base_uri:
        raise StorageError(
            "FS8008",
            f"the sink {place} and the spec's storage {store.storage.base_uri}{store.base} are two storages.",
            hint="Publishing renames directories, so both must be in one. Write both with the same authority.",
        )
    return path


def file_name(name: str) -> str:
    """`name` as one part of a path: letters, digits, `.`, `_` and `-` stay, the rest is `~XX` per byte of UTF-8.

    Hadoop forbids `:` in names, and Spark does not see names that start with `_` or `.`.

    Examples
    --------
    >>> file_name("2013-06-01T05"), file_name("2013-06-01T05:30"), file_name("_x/..")
    ('2013-06-01T05', '2013-06-01T05~3A30', '~5Fx~2F..')
    """
    if not name:
        raise ValueError("a profile, sink or interval has a name")
    escaped = _SAFE.sub(lambda match: "".join(f"~{byte:02X}" for byte in match[0].encode()), name)
    return f"~{ord(escaped[0]):02X}{escaped[1:]}" if escaped[0] in "._-" else escaped


def name_of(file: str) -> str:
    """The name that `file_name` wrote.

    Examples
    --------
    >>> name_of(file_name("é:/_"))
    'é:/_'
    """
    parts = _ESCAPED.split(file)  # text, hex, text, hex, ..., text
    return b"".join(bytes.fromhex(part) if index % 2 else part.encode() for index, part in enumerate(parts)).decode()


def token_of(name: str) -> tuple[int, str] | None:
    """Token and suffix of a file or folder, or None when the name is not of that form."""
    match = _TOKEN.fullmatch(name)
    return (int(match[1]), match[2] or "") if match else None


def children(storage: Storage, path: str) -> list[FileStatus]:
    """The children of a folder; none when it is not there yet."""
    try:
        return storage.list(path)
    except StorageError as error:
        if error.code == "FS8003":
            return []
        raise


def tokens_in(storage: Storage, path: str, suffix: str = "") -> list[int]:
    """The tokens that have a file or folder with `suffix` in a folder, ascending."""
    found = (token_of(child.name) for child in children(storage, path))
    return sorted(each[0] for each in found if each is not None and each[1] == suffix)
