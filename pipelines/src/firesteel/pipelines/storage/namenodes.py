"""WebHDFS calls to the NameNodes of one HDFS: failover, retries, and the errors that failures become.

The `hdfs` package builds the requests. Failures are handled here for three reasons: the package raises errors of `requests`, it
repeats a rename whose answer was lost on the next NameNode, and it does not wait between retries.

::

    call -> answer                        2xx, or a RemoteException that is an answer (not found, exists, ...)
     |----> standby, starting, safe mode: try the next NameNode, then all of them again after a pause
     |----> not connected:                the same
     `----> sent, answer lost:            the same if the call is repeatable, else AnswerLost
"""

from __future__ import annotations

import getpass
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from firesteel.conf.errors import RuntimeFault, StorageError
from firesteel.conf.hadoop import CONF_DIR, HadoopConf

if TYPE_CHECKING:
    import requests

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
DEADLINE_S = 150.0
"""No call is retried after this time."""

PAUSES_S = (0.2, 0.6, 1.8, 5.4)
"""Pauses between rounds over all NameNodes after one has answered: a failover takes seconds."""

FIRST_PAUSES_S = (0.3,)
"""Pauses while none has answered: a wrong address should fail quickly."""

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})
RETRIABLE = ("StandbyException", "RetriableException", "SafeModeException", "ObserverRetryOnActiveException")
"""Exceptions that another NameNode, or this one later, would not raise."""
_FORBIDDEN = ("AccessControlException", "AuthorizationException", "SecurityException", "InvalidToken")
_NOT_IMPLEMENTED = 501
_MISSING = ("FileNotFoundException", "ParentNotDirectoryException", "PathNotFoundException")


class AnswerLost(Exception):
    """A call was sent, but its answer was lost. It may have been executed, or still be."""


@dataclass(frozen=True, slots=True)
class RemoteError:
    """An error of the NameNode: the Java exception's simple name, and the first line of its message."""

    exception: str
    message: str
    http: int

    @property
    def missing(self) -> bool:
        """Whether a part of the path is missing."""
        return self.exception in _MISSING

    @property
    def exists(self) -> bool:
        """Whether the path already exists."""
        return self.exception == "FileAlreadyExistsException"

    @property
    def unsupported(self) -> bool:
        """Whether this server, such as an old gateway, does not have the operation."""
        unknown = self.exception == "IllegalArgumentException" and '"op"' in self.message
        return unknown or self.exception == "UnsupportedOperationException" or self.http == _NOT_IMPLEMENTED

    def as_storage_error(self, what: str) -> StorageError:
        """Return the StorageError for it. `what` is the operation and the path."""
        if self.missing:
            return StorageError("FS8003", f"{what}: {self.message}")
        if self.exists:
            return StorageError("FS8004", f"{what}: {self.message}")
        if self.exception in _FORBIDDEN or self.http == 401:
            hint = (
                "Check the owner and mode of the path, and your user name: HADOOP_USER_NAME, or `klist` with Kerberos."
            )
            return StorageError("FS8002", f"{what}: {self.message}", hint=hint)
        return StorageError("FS8002", f"{what}: {self.exception}: {self.message}")


class NameNodes:
    """The NameNodes of one authority. Each thread has its own connections.

    Parameters
    ----------
    authority
        The authority of the URI, for messages.
    urls
        The WebHDFS addresses; several with HA.
    """

    def __init__(
        self,
        authority: str,
        urls: tuple[str, ...],
        *,
        user: str = "",
        kerberos: bool = False,
        timeouts_s: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
    ) -> None:
        self.authority = authority
        self.urls = urls
        self.user = user or os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
        self._kerberos = kerberos
        self._timeouts_s = timeouts_s
        self._local = threading.local()
        # Weak references: the connections of a thread end with it.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._first = 0  # the NameNode that answered last
        self._reached = False

    def call(
        self, operation: str, path: str, params: Mapping[str, str] = _NO_PARAMS, *, repeatable: bool = True
    ) -> requests.Response | RemoteError:
        """Send a WebHDFS call, with retries, and return the answer.

        Parameters
        ----------
        operation
            An operation of the `hdfs` package's client: `get_file_status`, `rename`, ...
        repeatable
            Whether the call may be executed twice.

        Raises
        ------
        AnswerLost
            The call is not repeatable, and may have been executed.
        StorageError
            FS8001: no NameNode answers.
        """
        from hdfs.util import HdfsError
        from requests.exceptions import RequestException

        deadline = time.monotonic() + DEADLINE_S
        failures: dict[str, str] = {}
        for round_number in itertools.count():
            for turn in range(len(self.urls)):
                index = (self._first + turn) % len(self.urls)
                url = self.urls[index]
                try:
                    send = getattr(self._client(url), f"_{operation}")
                    answer = read_answer(send(path, strict=False, **params))
                except HdfsError as error:
                    # The package raises it only for a standby and HTTP 401. Other errors are answers.
                    if error.exception is None:
                        answer = RemoteError("", str(error), 401)
                    else:
                        failures[url], self._reached = str(error.exception), True
                        continue
                except RequestException as error:
                    failures[url] = reason_of(error)
                    if not repeatable and not never_sent(error):
                        raise AnswerLost(f"{url}: {failures[url]}") from error
                    continue
                except (KeyError, TypeError):
                    failures[url] = "the answer is not one of WebHDFS"
                    continue
                if isinstance(answer, RemoteError) and answer.exception in RETRIABLE:
                    failures[url], self._reached = f"{answer.exception}: {answer.message}", True
                    continue
                self._first, self._reached = index, True
                return answer
            pauses = PAUSES_S if self._reached else FIRST_PAUSES_S
            if round_number >= len(pauses) or time.monotonic() > deadline:
                break
            _log.info("hdfs://%s: %s; retrying in %s s", self.authority, failures, pauses[round_number])
            time.sleep(pauses[round_number])
        raise self.unreachable(failures)

    def send(self, url: str, data: bytes) -> requests.Response | RemoteError:
        """Send bytes to the DataNode that the NameNode returned. Raises errors of `requests`, which the caller handles."""
        client = self._client(self.urls[self._first])
        return read_answer(client._request("PUT", url, data=data))  # noqa: SLF001 - the package has no public method

    def unreachable(self, failures: dict[str, str]) -> StorageError:
        """Return FS8001 with the failure of each address."""
        tried = "; ".join(f"{url} ({reason})" for url, reason in failures.items())
        folder = os.environ.get(CONF_DIR, "")
        state = f"it is {folder}" if folder else "it is not set"
        return StorageError(
            "FS8001",
            f"no NameNode of hdfs://{self.authority} answers. Tried {tried}.",
            hint=f"Set {CONF_DIR} to a configuration with dfs.namenode.http-address ({state}), or set FIRESTEEL_WEBHDFS_URL.",
        )

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        with self._lock:
            sessions = list(self._sessions)
            self._sessions.clear()
            self._local = threading.local()
        for session in sessions:
            session.close()

    def _client(self, url: str) -> Any:
        """Return this thread's client for one NameNode. A client for several would fail over by itself."""
        clients: dict[str, Any] | None = getattr(self._local, "clients", None)
        if clients is None:
            clients = self._local.clients = {}
        if url not in clients:
            clients[url] = self._make_client(url)
        return clients[url]

    def _make_client(self, url: str) -> Any:
        import requests
        from hdfs import InsecureClient

        # Ignore proxies and .netrc, as Hadoop's client does: a proxy for the internet must not get NameNode calls.
        session = requests.Session()
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
        with self._lock:
            self._sessions.add(session)
        if self._kerberos:
            return _kerberos_client()(url, timeout=self._timeouts_s, session=session)
        return InsecureClient(url, user=self.user, timeout=self._timeouts_s, session=session)


def of_authority(authority: str, urls: tuple[str, ...]) -> NameNodes:
    """Return the NameNodes of an authority, with the authentication that the Hadoop configuration sets."""
    return NameNodes(authority, urls, kerberos=HadoopConf.load().kerberos)


def read_answer(response: requests.Response) -> requests.Response | RemoteError:
    """Return the response, or the error in it."""
    if response.ok:
        return response
    try:
        remote = response.json()["RemoteException"]
        message = str(remote["message"]).partition("\n")[0].strip()
        return RemoteError(str(remote["exception"]), message, response.status_code)
    except (ValueError, KeyError, TypeError):
        return RemoteError("", f"HTTP {response.status_code} {response.reason}", response.status_code)


def never_sent(error: Exception) -> bool:
    """Return whether no connection was opened, so the call cannot have been executed."""
    from requests.exceptions import ConnectTimeout, InvalidURL, MissingSchema, SSLError
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, ConnectTimeout | InvalidURL | MissingSchema | SSLError):
        return True
    inner = error.args[0] if error.args else None
    return isinstance(getattr(inner, "reason", inner), NewConnectionError)


def reason_of(error: Exception) -> str:
    """Return why a request failed, without its URL, which can contain a delegation token."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", None) or inner
    if isinstance(reason, str):
        return type(error).__name__
    return str(reason).rpartition("): ")[2].partition(" (Caused by")[0] or type(reason).__name__


def _kerberos_client() -> Callable[..., Any]:
    try:
        from hdfs.ext.kerberos import KerberosClient
    except ImportError as error:
        raise RuntimeFault(
            "FS9004",
            "the cluster requires Kerberos (hadoop.security.authentication), but requests-kerberos is not installed.",
            hint="Run `pip install requests-kerberos`.",
        ) from error
    return cast("Callable[..., Any]", KerberosClient)
