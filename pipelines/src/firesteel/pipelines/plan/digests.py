"""The digests of input files, for sources that verify the content of their files and not the modification times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from firesteel.conf.errors import InputNotReady, StorageError
from firesteel.pipelines.plan.inputs import Located
from firesteel.pipelines.plan.model import InputFile, Verify
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join

DIGEST_THREADS = 8
"""Files whose digests are computed at the same time."""
_CHUNK = 16 << 20
_SHA256 = "SHA-256"


def content_digest(source: str, located: Located, file: InputFile, verify: Verify) -> str:
    """Return the digest of a file's content, as `ALGORITHM:HEX`.

    Raises
    ------
    InputNotReady
        FS4006 when `verify` is `checksum` and the storage has none.
    StorageError
        FS8003 when the file is missing, FS8002 when it cannot be read.
    """
    if file.length == 0:  # not opened: it may be a link to nothing, or a FIFO, which would hang
        return f"{_SHA256}:{hashlib.sha256().hexdigest()}"
    path = join(located.path, file.path)
    if verify == "sha256":
        return _sha256(located.storage, path, file.length)
    digest = located.storage.checksum(path, file.length)
    if not digest:
        raise InputNotReady(
            "FS4006",
            f"{source}: {located.storage.base_uri}{path} has no checksum: the storage does not compute any.",
            hint=f"Set `verify: sha256` in sources.{source}.",
        )
    return digest


def with_other_content(source: str, located: Located, files: Iterable[InputFile], verify: Verify) -> list[str]:
    """Return the paths of planned files whose content does not have the planned digest, in the order of `files`."""

    def differs(file: InputFile) -> bool:
        try:
            return content_digest(source, located, file, verify) != file.digest
        except StorageError:
            # Deleted, or replaced by a folder, a pipe or a device, after it was listed.
            status = located.storage.status(join(located.path, file.path))
            if status is None or status.is_dir or status.length != file.length:
                return True
            raise

    planned = list(files)
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        return [file.path for file, other in zip(planned, pool.map(differs, planned), strict=True) if other]


def _sha256(storage: Storage, path: str, length: int) -> str:
    """Return the SHA-256 of the first `length` bytes of a file."""
    digest, offset = hashlib.sha256(), 0
    while offset < length:
        data = storage.peek(path, offset, min(_CHUNK, length - offset))
        if not data:  # truncated after it was listed
            break
        digest.update(data)
        offset += len(data)
    return f"{_SHA256}:{digest.hexdigest()}"
