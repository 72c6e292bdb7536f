"""Calls to the NameNodes of one HDFS: which one is asked, what is tried again, and which error a failure becomes.

The `hdfs` package builds the requests. What to do when they fail is decided here, for three reasons: it lets raw
`requests` errors out, it sends a rename whose answer was lost to the next NameNode, and it waits for nothing.

::

    ask -> answer                       2xx, or a RemoteException that is an answer (not found, exists, ...)
     |---> standby, starting, safe mode: the next NameNode, then after a pause all of them again
     |---> not connected:                the same
     `---> sent, answer lost:            the same if the call may be repeated, else AnswerLost
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
"""No call is begun anew after this."""

PAUSES_S = (0.2, 0.6, 1.8, 5.4)
"""Between rounds over all NameNodes, once one of them has said anything: a failover takes seconds."""

FIRST_PAUSES_S = (0.3,)
"""Before any has said anything: a wrong address should be told at once."""

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})
NOT_NOW = ("StandbyException", "RetriableException", "SafeModeException", "ObserverRetryOnActiveException")
"""What a NameNode answers that another one, or this one later, would answer otherwise."""
_FORBIDDEN = ("AccessControlException", "AuthorizationException", "SecurityException", "InvalidToken")
_MISSING = ("FileNotFoundException", "ParentNotDirectoryException", "PathNotFoundException")


class AnswerLost(Exception):
    """A call was sent, and no answer came: it may have been carried out, now or later."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An answer that is an error: the Java exception's simple name and the first line of its message."""

    exception: str
    message: str
    http: int

    @property
    def missing(self) -> bool:
        """Whether something on the path is not there."""
        return self.exception in _MISSING

    @property
    def exists(self) -> bool:
        """Whether something is there that should not be."""
        return self.exception == "FileAlreadyExistsException"

    def error(self, what: str) -> StorageError:
        """The error of ours; `what` names the operation and the path."""
        if self.missing:
            return StorageError("FS8003", f"{what}: {self.message}")
        if self.exists:
            return StorageError("FS8004", f"{what}: {self.message}")
        if self.exception in _FORBIDDEN or self.http == 401:
            hint = "Check the path's owner and mode, and who you are: HADOOP_USER_NAME, or `klist` with Kerberos."
            return StorageError("FS8002", f"{what}: {self.message}", hint=hint)
        return StorageError("FS8002", f"{what}: {self.exception}: {self.message}")


class NameNodes:
    """The NameNodes of one authority. Threads each have their own connections.

    Parameters
    ----------
    authority
        As it stands in the URI; for messages.
    urls
        Where they answer WebHDFS; with HA, several.
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
        # Weak: a thread that ends takes its connections with it.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._first = 0  # the NameNode that answered last
        self._reached = False

    def ask(
        self, operation: str, path: str, params: Mapping[str, str] = _NO_PARAMS, *, repeatable: bool = True
    ) -> requests.Response | Remote:
        """Send one WebHDFS call until it is answered.

        Parameters
        ----------
        operation
            A raw operation of the `hdfs` package's client: `get_file_status`, `rename`, ...
        repeatable
            Whether doing it twice is as good as once.

        Raises
        ------
        AnswerLost
            When the call is not repeatable and may have been carried out.
        StorageError
            FS8001 when no NameNode answers.
        """
        from hdfs.util import HdfsError
        from requests.exceptions import RequestException

        ends = time.monotonic() + DEADLINE_S
        failures: dict[str, str] = {}
        for round_number in itertools.count():
            for turn in range(len(self.urls)):
                index = (self._first + turn) % len(self.urls)
                url = self.urls[index]
                try:
                    call = getattr(self._client(url), f"_{operation}")
                    answer = read_answer(call(path, strict=False, **params))
                except HdfsError as error:
                    # Raised for a standby and for HTTP 401 only: the rest comes back as an answer.
                    if error.exception is None:
                        answer = Remote("", str(error), 401)
                    else:
                        failures[url], self._reached = str(error.exception), True
                        continue
                except RequestException as error:
                    failures[url] = reason_of(error)
                    if not repeatable and not never_sent(error):
                        raise AnswerLost(f"{url}: {failures[url]}") from error
                    continue
                except (KeyError, TypeError):
                    failures[url] = "the answer is not WebHDFS's"
                    continue
                if isinstance(answer, Remote) and answer.exception in NOT_NOW:
                    failures[url], self._reached = f"{answer.exception}: {answer.message}", True
                    continue
                self._first, self._reached = index, True
                return answer
            pauses = PAUSES_S if self._reached else FIRST_PAUSES_S
            if round_number >= len(pauses) or time.monotonic() > ends:
                break
            _log.info("hdfs://%s: %s; again in %s s", self.authority, failures, pauses[round_number])
            time.sleep(pauses[round_number])
        raise self.unreachable(failures)

    def send(self, url: str, data: bytes) -> requests.Response | Remote:
        """Send bytes to the DataNode that a NameNode named. Raises `requests` errors: the caller knows what to do."""
        client = self._client(self.urls[self._first])
        return read_answer(client._request("PUT", url, data=data))  # noqa: SLF001 - the package's only way in

    def unreachable(self, failures: dict[str, str]) -> StorageError:
        """FS8001 with every address and what it said."""
        tried = "; ".join(f"{url} ({why})" for url, why in failures.items())
        folder = os.environ.get(CONF_DIR, "")
        conf = f"{CONF_DIR} is {folder}" if folder else f"{CONF_DIR} is not set"
        return StorageError(
            "FS8001",
            f"no NameNode of hdfs://{self.authority} answers. Tried {tried}.",
            hint=f"{conf}: it names the NameNodes (dfs.namenode.http-address); FIRESTEEL_WEBHDFS_URL overrides it.",
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
        """This thread's client for one NameNode. One client for all of them would move on without asking us."""
        clients: dict[str, Any] | None = getattr(self._local, "clients", None)
        if clients is None:
            clients = self._local.clients = {}
        if url not in clients:
            clients[url] = self._make_client(url)
        return clients[url]

    def _make_client(self, url: str) -> Any:
        import requests
        from hdfs import InsecureClient

        # Hadoop's own client asks no proxy and no .netrc; one set for the internet must not catch NameNode calls.
        session = requests.Session()
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
        with self._lock:
            self._sessions.add(session)
        if self._kerberos:
            return _kerberos_client()(url, timeout=self._timeouts_s, session=session)
        return InsecureClient(url, user=self.user, timeout=self._timeouts_s, session=session)


def of_authority(authority: str, urls: tuple[str, ...]) -> NameNodes:
    """The NameNodes of an authority, with the security that the Hadoop configuration asks for."""
    return NameNodes(authority, urls, kerberos=HadoopConf.load().kerberos)


def read_answer(response: requests.Response) -> requests.Response | Remote:
    """The response, or the RemoteException in it."""
    if response.ok:
        return response
    try:
        remote = response.json()["RemoteException"]
        message = str(remote["message"]).partition("\n")[0].strip()
        return Remote(str(remote["exception"]), message, response.status_code)
    except (ValueError, KeyError, TypeError):
        return Remote("", f"HTTP {response.status_code} {response.reason}", response.status_code)


def never_sent(error: Exception) -> bool:
    """Whether the connection was never made, so that nothing can have been carried out."""
    from requests.exceptions import ConnectTimeout, InvalidURL, MissingSchema, SSLError
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, ConnectTimeout | InvalidURL | MissingSchema | SSLError):
        return True
    inner = error.args[0] if error.args else None
    return isinstance(getattr(inner, "reason", inner), NewConnectionError)


def reason_of(error: Exception) -> str:
    """Why a request failed, without its URL: that can carry a delegation token."""
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
            "the cluster asks for Kerberos (hadoop.security.authentication), and requests-kerberos is not installed.",
            hint="pip install requests-kerberos",
        ) from error
    return cast("Callable[..., Any]", KerberosClient)
