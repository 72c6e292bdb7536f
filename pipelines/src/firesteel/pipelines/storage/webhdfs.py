"""HDFS as a Storage, by WebHDFS: no JVM and no native library.

A strict rename is RENAME with `renameoptions=NONE`: that is `rename2`, which fails when the target exists. Without
it the NameNode runs the old `rename`, which moves the source INTO an existing directory and reports success.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.namenodes import AnswerLost, NameNodes, Remote, reason_of
from firesteel.pipelines.storage.paths import absolute, by_path, join, parent_of, scan, walk

if TYPE_CHECKING:
    import requests

_log = logging.getLogger(__name__)

ATTEMPTS = 4
"""How often a write to a DataNode, or a rename whose answer was lost, is begun."""
ASKS = 24
"""How often the NameNode is asked for another DataNode than those that did not answer. It names one at random, and takes half
a minute or more to see that one is dead; asking costs nothing. By chance alone four writes of two DataNodes meet the dead one
once in sixteen times."""


class Lister(Protocol):
    """A quicker way to list and to read than WebHDFS. Safe in threads."""

    def files(self, paths: Sequence[str]) -> list[FileStatus] | None:
        """All files below `paths`, unsorted; missing directories have none. None when this way cannot be taken."""

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """Bytes of a file. None when this way cannot be taken."""

    def close(self) -> None:
        """Release connections; may be called twice."""


class WebHdfsStorage:
    """One HDFS. Safe in threads.

    Parameters
    ----------
    listers
        Quicker ways to list, the best first: each is tried until one can be taken.
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
        answer = self._namenodes.ask("get_file_status", path)
        if isinstance(answer, Remote):
            if answer.missing:
                return None
            raise answer.error(self._what("status", path))
        return _status(path, answer.json()["FileStatus"])

    def list(self, path: str) -> list[FileStatus]:
        """See Storage."""
        path = absolute(path)
        answer = self._answered("list", path, self._namenodes.ask("list_status", path))
        found = answer.json()["FileStatuses"]["FileStatus"]
        if any(not each["pathSuffix"] for each in found):  # the listing of a file is the file
            raise StorageError("FS8003", f"{self._what('list', path)}: not a directory.")
        children = (_status(join(path, each["pathSuffix"]), each) for each in found)
        return sorted(children, key=lambda child: child.name)

    def walk(self, path: str) -> Iterator[FileStatus]:
        """See Storage."""
        return walk(self, absolute(path))

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        """See Storage. By RPC where it can be had."""
        paths = [absolute(path) for path in paths]
        for lister in self._listers:
            found = lister.files(paths)
            if found is not None:
                return by_path(found)
        return scan(self, paths)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage. A reply that is cut short is asked for again."""
        from requests.exceptions import RequestException

        path = absolute(path)
        if length == 0:
            return b""
        params = {"offset": str(offset)}
        if length is not None:
            params["length"] = str(length)
        for attempt in range(ATTEMPTS):
            answer = self._namenodes.ask("open", path, params)
            if isinstance(answer, Remote):
                if self._past_end(path, offset, answer):
                    return b""
                raise answer.error(self._what("read", path))
            try:
                # urllib3 holds the body against Content-Length and raises when it is short.
                return bytes(answer.content)
            except RequestException as error:
                failure = reason_of(error)
                _log.info("%s: attempt %d: %s", self._what("read", path), attempt + 1, failure)
        raise StorageError("FS8001", f"{self._what('read', path)}: the DataNode hung up: {failure}.")

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """See Storage. By RPC where it can be had."""
        path = absolute(path)
        for lister in self._listers:
            data = lister.read(path, offset, length)
            if data is not None:
                return data
        return self.read(path, offset, length)

    def checksum(self, path: str) -> str:
        """See Storage. HDFS computes it from the CRCs of its blocks, without reading the bytes."""
        path = absolute(path)
        answer = self._namenodes.ask("get_file_checksum", path)
        if isinstance(answer, Remote):
            if answer.missing:
                raise answer.error(self._what("checksum", path))
            _log.warning("%s: no checksum: %s: %s", self._what("checksum", path), answer.exception, answer.message)
            return ""
        found = answer.json()["FileChecksum"]
        return f"{found['algorithm']}:{found['bytes']}"

    def create(self, path: str, data: bytes) -> FileStatus:
        """See Storage. Written under a hidden name beside, then renamed: the NameNode picks the one winner."""
        path = absolute(path)
        hidden = self._write_hidden(path, data)
        try:
            self.rename(hidden, path)
        except StorageError as error:
            self._discard(hidden)
            if error.code == "FS8004":
                raise StorageError("FS8004", f"{self._what('create', path)}: it exists already.") from error
            raise
        return self._written(path)

    def replace(self, path: str, data: bytes) -> FileStatus:
        """See Storage."""
        path = absolute(path)
        failure, dead = "", set[str]()
        for _ in range(ATTEMPTS):
            failure = self._write(path, data, dead, overwrite=True)
            if not failure:
                return self._written(path)
        raise self._no_datanode(path, failure)

    def rename(self, source: str, target: str) -> None:
        """See Storage. After a lost answer the state decides: source gone and target there is done."""
        source, target = absolute(source), absolute(target)
        what = f"{self._what('rename', source)} -> {target}"
        lost = ""
        for _ in range(ATTEMPTS):
            try:
                answer = self._namenodes.ask(
                    "rename", source, {"destination": target, "renameoptions": "NONE"}, repeatable=False
                )
            except AnswerLost as error:
                lost = str(error)
                _log.info("%s: the answer was lost (%s); looking", what, lost)
                if self._moved(source, target):
                    return
                continue
            if not isinstance(answer, Remote):
                return
            # The lost call may have been carried out after we looked: then this one found its work done.
            if lost and (answer.missing or answer.exists) and self._moved(source, target):
                return
            raise self._rename_error(what, target, answer)
        raise StorageError(
            "FS8001", f"{what}: no answer came {ATTEMPTS} times ({lost}).", hint="It was not carried out; run again."
        )

    def mkdirs(self, path: str) -> None:
        """See Storage."""
        path = absolute(path)
        self._answered("mkdirs", path, self._namenodes.ask("mkdirs", path))

    def delete(self, path: str) -> bool:
        """See Storage. One operation for the NameNode: others see all of it or nothing."""
        path = absolute(path)
        if path == "/":
            raise ValueError("the root folder is never deleted")
        answer = self._namenodes.ask("delete", path, {"recursive": "true"})
        # Below a file, DELETE is forbidden where the other calls find nothing.
        if isinstance(answer, Remote) and (answer.missing or self.status(path) is None):
            return False
        return bool(self._answered("delete", path, answer).json()["boolean"])

    def close(self) -> None:
        """See Storage."""
        self._namenodes.close()
        for lister in self._listers:
            lister.close()

    def _write_hidden(self, path: str, data: bytes) -> str:
        """Write beside `path`. Every attempt has a new name: an old one may still be held by a writer given up."""
        failure, dead = "", set[str]()
        for _ in range(ATTEMPTS):
            hidden = join(parent_of(path), f".{path.rsplit('/', 1)[-1]}.{secrets.token_hex(8)}.tmp")
            failure = self._write(hidden, data, dead, overwrite=False)
            if not failure:
                return hidden
            self._discard(hidden)
        raise self._no_datanode(path, failure)

    def _write(self, path: str, data: bytes, dead: set[str], *, overwrite: bool) -> str:
        """One attempt to write a file: why the DataNode could not be reached, or nothing when all is well.

        Parameters
        ----------
        dead
            DataNodes that did not answer; one that does not now is added.
        """
        from requests.exceptions import RequestException

        url, host = self._datanode(path, dead, overwrite=overwrite)
        try:
            written = self._namenodes.send(url, data)
        except RequestException as error:
            _log.info("%s: %s: %s", self._what("write", path), host, reason_of(error))
            dead.add(host)
            return f"{host}: {reason_of(error)}"
        self._answered("write", path, written)
        return ""

    def _datanode(self, path: str, dead: set[str], *, overwrite: bool) -> tuple[str, str]:
        """Where the NameNode wants the file written: the URL, and the DataNode in it. One of `dead` only if it names no other."""
        flag = "true" if overwrite else "false"
        url = host = ""
        for _ in range(ASKS if dead else 1):
            answer = self._answered("write", path, self._namenodes.ask("create", path, {"overwrite": flag}))
            url = str(answer.headers["location"])
            host = url.partition("://")[2].partition("/")[0]
            if host not in dead:
                break
        return url, host

    def _no_datanode(self, path: str, failure: str) -> StorageError:
        return StorageError(
            "FS8001",
            f"{self._what('write', path)}: the DataNode cannot be reached: {failure}.",
            hint="The NameNode names DataNodes by host and HTTP port: both must be reachable from here.",
        )

    def _discard(self, hidden: str) -> None:
        """Remove a hidden file; when even that fails, its name is worth a line, not a second error."""
        try:
            self.delete(hidden)
        except StorageError as error:
            _log.warning("%s%s is left behind: %s", self.base_uri, hidden, error)

    def _moved(self, source: str, target: str) -> bool:
        return self.status(source) is None and self.status(target) is not None

    def _rename_error(self, what: str, target: str, answer: Remote) -> StorageError:
        # A directory onto a file, or the reverse, is a plain IOException to the NameNode.
        if answer.exception == "IOException" and self.status(target) is not None:
            return StorageError("FS8004", f"{what}: {answer.message}")
        return answer.error(what)

    def _past_end(self, path: str, offset: int, answer: Remote) -> bool:
        """Whether an error of OPEN only says that there is nothing from `offset` on."""
        if answer.exception not in {"IOException", "EOFException"}:
            return False
        status = self.status(path)
        return status is not None and not status.is_dir and offset >= status.length

    def _written(self, path: str) -> FileStatus:
        status = self.status(path)
        if status is None:
            raise StorageError("FS8003", f"{self.base_uri}{path} was removed while it was being written.")
        return status

    def _answered(self, operation: str, path: str, answer: requests.Response | Remote) -> requests.Response:
        if isinstance(answer, Remote):
            raise answer.error(self._what(operation, path))
        return answer

    def _what(self, operation: str, path: str) -> str:
        return f"{operation} {self.base_uri}{path}"


def _status(path: str, found: dict[str, Any]) -> FileStatus:
    return FileStatus(path, found["type"] == "DIRECTORY", int(found["length"]), int(found["modificationTime"]))
