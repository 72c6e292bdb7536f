"""The storage of one pipeline and profile, which asks the site's policies before each change.

`permit` checks a publish as a whole, when it begins and before its journal. Commands also write without a publish: heartbeats of runs and
leases, the tombstone of a cancelled run, retention, MLflow's records. And a link may come between any two steps. Therefore each
path that is written or removed is resolved and checked here, at the moment of use. Reading needs no permission.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firesteel.pipelines.publish.policy import Request, authorise_writes, policies
from firesteel.pipelines.storage.base import FileStatus, Storage


class PermittedStorage:
    """See the module. `inner` is the storage without the check.

    Parameters
    ----------
    base
        The path of the state store in the storage.
    """

    def __init__(self, inner: Storage, base: str, pipeline: str, profile: str) -> None:
        self.inner = inner
        self._base, self._pipeline, self._profile = base, pipeline, profile

    def permit(self, *paths: str) -> None:
        """Check paths just before they are written, renamed or removed. Spark and executors write without this class.

        Raises
        ------
        NotAllowed
            FS7601 when a policy does not allow this user to write to a path, FS7602 when a policy is not valid.
        """
        found = policies()
        if found:
            storage = f"{self.base_uri}{self._base}"
            request = Request.of(self._pipeline, self._profile, storage, storage)
            authorise_writes(request, (f"{self.base_uri}{path}" for path in paths), found)

    @property
    def base_uri(self) -> str:
        """See Storage."""
        return self.inner.base_uri

    def status(self, path: str) -> FileStatus | None:
        """See Storage."""
        return self.inner.status(path)

    def list(self, path: str) -> list[FileStatus]:
        """See Storage."""
        return self.inner.list(path)

    def walk(self, path: str) -> Iterator[FileStatus]:
        """See Storage."""
        return self.inner.walk(path)

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        """See Storage."""
        return self.inner.scan(paths)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage."""
        return self.inner.read(path, offset, length)

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """See Storage."""
        return self.inner.peek(path, offset, length)

    def checksum(self, path: str, length: int) -> str:
        """See Storage."""
        return self.inner.checksum(path, length)

    def create(self, path: str, data: bytes) -> FileStatus:
        """See Storage and `permit`."""
        self.permit(path)
        return self.inner.create(path, data)

    def replace(self, path: str, data: bytes) -> FileStatus:
        """See Storage and `permit`."""
        self.permit(path)
        return self.inner.replace(path, data)

    def rename(self, source: str, target: str) -> None:
        """See Storage and `permit`."""
        self.permit(source, target)
        self.inner.rename(source, target)

    def mkdirs(self, path: str) -> None:
        """See Storage and `permit`."""
        self.permit(path)
        self.inner.mkdirs(path)

    def delete(self, path: str) -> bool:
        """See Storage and `permit`."""
        self.permit(path)
        return self.inner.delete(path)

    def close(self) -> None:
        """See Storage."""
        self.inner.close()
