"""The storage for HDFS, by WebHDFS: without a JVM and native libraries.

Renames use RENAME with `renameoptions=NONE`, which is `rename2` and fails if the target exists. Without the option, the
NameNode runs the old `rename`, which moves the source INTO an existing directory and reports success.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.namenodes import AnswerLost, NameNodes, RemoteError, reason_of
from firesteel.pipelines.storage.paths import absolute, by_path, join, parent_of, scan, status_of_written, walk

if TYPE_CHECKING:
    import requests

_log = logging.getLogger(__name__)

ATTEMPTS = 4
"""Attempts at a write to a DataNode, and at a rename whose answer was lost."""
DATANODE_REQUESTS = 24
"""How often the NameNode is asked for a DataNode other than those that did not answer. It returns a random one, and takes 30 s
or more to notice a dead one. With two DataNodes, four random choices would all be the dead one in 1 of 16 writes."""


class Lister(Protocol):
    """A faster method of listing and reading than WebHDFS. Safe in threads."""

    def files(self, paths: Sequence[str]) -> list[FileStatus] | None:
        """Return all files below `paths`, unsorted; a missing directory has none. None if the method does not work."""

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """Return bytes of a file; None if the method does not work."""

    def close(self) -> None:
        """Release connections. May be called twice."""


class WebHdfsStorage:
    """One HDFS. Safe in threads.

    Parameters
    ----------
    listers
        Faster methods of listing, the fastest first. The first that works is used.
    """

    def __init__(self, namenodes: NameNodes, listers: Sequence[Lister] = ()) -> None:
        self._namenodes = namenodes
        self._listers = tuple(listers)

    @property
    def base_uri(self) -> str:
        """`hdfs://authority`."""
        return f"hdfs://{self._namenodes.authority}"

    def status(self, path: str) -> FileStatus | None:
        """See Storage."""
        path = absolute(path)
        answer = self._namenodes.call("get_file_status", path)
        if isinstance(answer, RemoteError):
            if answer.missing:
                return None
            raise answer.as_storage_error(self._what("status", path))
        return _status(path, answer.json()["FileStatus"])

    def list(self, path: str) -> list[FileStatus]:
        """See Storage."""
        path = absolute(path)
        answer = self._checked("list", path, self._namenodes.call("list_status", path))
        entries = answer.json()["FileStatuses"]["FileStatus"]
        if any(not entry["pathSuffix"] for entry in entries):  # the listing of a file is the file
            raise StorageError("FS8003", f"{self._what('list', path)}: not a directory.")
        children = (_status(join(path, entry["pathSuffix"]), entry) for entry in entries)
        return sorted(children, key=lambda child: child.name)

    def walk(self, path: str) -> Iterator[FileStatus]:
        """See Storage."""
        return walk(self, absolute(path))

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        """See Storage. Uses RPC if it works."""
        paths = [absolute(path) for path in paths]
        for lister in self._listers:
            files = lister.files(paths)
            if files is not None:
                return by_path(files)
        return scan(self, paths)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage. Reads again after a truncated answer."""
        from requests.exceptions import RequestException

        path = absolute(path)
        if length == 0:
            return b""
        params = {"offset": str(offset)}
        if length is not None:
            params["length"] = str(length)
        for attempt in range(ATTEMPTS):
            answer = self._namenodes.call("open", path, params)
            if isinstance(answer, RemoteError):
                if self._past_end(path, offset, answer):
                    return b""
                raise answer.as_storage_error(self._what("read", path))
            try:
                # urllib3 compares the body with Content-Length, and raises if it is truncated.
                return bytes(answer.content)
            except RequestException as error:
                failure = reason_of(error)
                _log.info("%s: attempt %d: %s", self._what("read", path), attempt + 1, failure)
        raise StorageError("FS8001", f"{self._what('read', path)}: the DataNode closed the connection: {failure}.")

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """See Storage. Uses RPC if it works."""
        path = absolute(path)
        for lister in self._listers:
            data = lister.read(path, offset, length)
            if data is not None:
                return data
        return self.read(path, offset, length)

    def checksum(self, path: str, length: int) -> str:  # noqa: ARG002 - HDFS reads no bytes
        """See Storage. HDFS computes it from the CRCs of its blocks, without reading the bytes."""
        path = absolute(path)
        answer = self._namenodes.call("get_file_checksum", path)
        if isinstance(answer, RemoteError):
            if not answer.unsupported:
                raise answer.as_storage_error(self._what("checksum", path))
            _log.warning("%s: no checksum: %s: %s", self._what("checksum", path), answer.exception, answer.message)
            return ""
        checksum = answer.json()["FileChecksum"]
        return f"{checksum['algorithm']}:{checksum['bytes']}"

    def create(self, path: str, data: bytes) -> FileStatus:
        """See Storage. Writes a hidden file beside `path` and renames it: the NameNode lets one writer win."""
        path = absolute(path)
        hidden = self._write_hidden(path, data)
        try:
            self.rename(hidden, path)
        except StorageError as error:
            self._discard(hidden)
            if error.code == "FS8004":
                raise StorageError("FS8004", f"{self._what('create', path)}: it already exists.") from error
            raise
        return status_of_written(self, path)

    def replace(self, path: str, data: bytes) -> FileStatus:
        """See Storage."""
        path = absolute(path)
        failure, dead = "", set[str]()
        for _ in range(ATTEMPTS):
            failure = self._write(path, data, dead, overwrite=True)
            if not failure:
                return status_of_written(self, path)
        raise self._no_datanode(path, failure)

    def rename(self, source: str, target: str) -> None:
        """See Storage. After a lost answer, the rename is done if the source is missing and the target exists."""
        source, target = absolute(source), absolute(target)
        what = f"{self._what('rename', source)} -> {target}"
        lost = ""
        for _ in range(ATTEMPTS):
            try:
                answer = self._namenodes.call(
                    "rename", source, {"destination": target, "renameoptions": "NONE"}, repeatable=False
                )
            except AnswerLost as error:
                lost = str(error)
                _log.info("%s: the answer was lost (%s); checking the paths", what, lost)
                if self._moved(source, target):
                    return
                continue
            if not isinstance(answer, RemoteError):
                return
            # The lost call may have been executed after the check.
            if lost and (answer.missing or answer.exists) and self._moved(source, target):
                return
            raise self._rename_error(what, target, answer)
        raise StorageError(
            "FS8001",
            f"{what}: the answer was lost {ATTEMPTS} times ({lost}).",
            hint="Run again: the rename was not executed.",
        )

    def mkdirs(self, path: str) -> None:
        """See Storage."""
        path = absolute(path)
        self._checked("mkdirs", path, self._namenodes.call("mkdirs", path))

    def delete(self, path: str) -> bool:
        """See Storage. It is one atomic operation of the NameNode."""
        path = absolute(path)
        if path == "/":
            raise ValueError("the root folder is never deleted")
        answer = self._namenodes.call("delete", path, {"recursive": "true"})
        # For a path below a file, DELETE is forbidden, whereas other calls return "not found".
        if isinstance(answer, RemoteError) and (answer.missing or self.status(path) is None):
            return False
        return bool(self._checked("delete", path, answer).json()["boolean"])

    def close(self) -> None:
        """See Storage."""
        self._namenodes.close()
        for lister in self._listers:
            lister.close()

    def _write_hidden(self, path: str, data: bytes) -> str:
        """Write a hidden file beside `path`. Each attempt has a new name, because a failed writer may still hold the old one."""
        failure, dead = "", set[str]()
        for _ in range(ATTEMPTS):
            hidden = join(parent_of(path), f".{path.rsplit('/', 1)[-1]}.{secrets.token_hex(8)}.tmp")
            failure = self._write(hidden, data, dead, overwrite=False)
            if not failure:
                return hidden
            self._discard(hidden)
        raise self._no_datanode(path, failure)

    def _write(self, path: str, data: bytes, dead: set[str], *, overwrite: bool) -> str:
        """Try once to write a file. Return why the DataNode did not answer; empty after a success.

        Parameters
        ----------
        dead
            DataNodes that did not answer. This attempt adds its own if that does not answer.
        """
        from requests.exceptions import RequestException

        url, host = self._datanode(path, dead, overwrite=overwrite)
        try:
            answer = self._namenodes.send(url, data)
        except RequestException as error:
            _log.info("%s: %s: %s", self._what("write", path), host, reason_of(error))
            dead.add(host)
            return f"{host}: {reason_of(error)}"
        self._checked("write", path, answer)
        return ""

    def _datanode(self, path: str, dead: set[str], *, overwrite: bool) -> tuple[str, str]:
        """Return the URL for a write, and its DataNode, as the NameNode chooses. One of `dead` only if there is no other."""
        flag = "true" if overwrite else "false"
        url = host = ""
        for _ in range(DATANODE_REQUESTS if dead else 1):
            answer = self._checked("write", path, self._namenodes.call("create", path, {"overwrite": flag}))
            url = str(answer.headers["location"])
            host = url.partition("://")[2].partition("/")[0]
            if host not in dead:
                break
        return url, host

    def _no_datanode(self, path: str, failure: str) -> StorageError:
        return StorageError(
            "FS8001",
            f"{self._what('write', path)}: the DataNode cannot be reached: {failure}.",
            hint="Check that this machine can reach the host name and HTTP port of each DataNode.",
        )

    def _discard(self, hidden: str) -> None:
        """Delete a hidden file. Log a failure: the caller raises its own error."""
        try:
            self.delete(hidden)
        except StorageError as error:
            _log.warning("%s%s was not deleted: %s", self.base_uri, hidden, error)

    def _moved(self, source: str, target: str) -> bool:
        return self.status(source) is None and self.status(target) is not None

    def _rename_error(self, what: str, target: str, answer: RemoteError) -> StorageError:
        # For a directory onto a file, or the reverse, the NameNode raises a plain IOException.
        if answer.exception == "IOException" and self.status(target) is not None:
            return StorageError("FS8004", f"{what}: {answer.message}")
        return answer.as_storage_error(what)

    def _past_end(self, path: str, offset: int, answer: RemoteError) -> bool:
        """Return whether OPEN failed because `offset` is at or after the end of the file."""
        if answer.exception not in {"IOException", "EOFException"}:
            return False
        status = self.status(path)
        return status is not None and not status.is_dir and offset >= status.length

    def _checked(self, operation: str, path: str, answer: requests.Response | RemoteError) -> requests.Response:
        if isinstance(answer, RemoteError):
            raise answer.as_storage_error(self._what(operation, path))
        return answer

    def _what(self, operation: str, path: str) -> str:
        return f"{operation} {self.base_uri}{path}"


def _status(path: str, facts: dict[str, Any]) -> FileStatus:
    return FileStatus(path, facts["type"] == "DIRECTORY", int(facts["length"]), int(facts["modificationTime"]))
