"""An application on YARN, as its ResourceManagers tell by REST: its state, where to look at it, how it ended."""

from __future__ import annotations

import getpass
import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from firesteel.conf.hadoop import HadoopConf
from firesteel.conf.redaction import redact

_log = logging.getLogger(__name__)

POLL_S = 1.0
TIMEOUT_S = 5.0
_CONTAINER = re.compile(r"container_(?:e\d+_)?\d+_\d+_(\d+)_\d+")
ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True, slots=True)
class Application:
    """`state` is YARN's own word (ACCEPTED, RUNNING, ...); `final` is UNDEFINED until the driver has ended."""

    id: str
    state: str
    final: str
    tracking_url: str
    driver_logs: str
    diagnostics: str
    attempt: int = 1

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in ENDED

    def __str__(self) -> str:
        end = f" {self.final}" if self.ended else ""
        return f"{self.id} {self.state}{end}"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a cluster has, and what of it is free; memory in MiB."""

    nodes: int
    free_cores: int
    cores: int
    free_mib: int
    mib: int


class ResourceManagers:
    """The ResourceManagers of one cluster; with HA, one of them answers. A cluster that does not answer is no error here."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.urls = urls

    def find(self, tag: str) -> Application | None:
        """The newest application with a tag; None when there is none yet, or nobody answers."""
        answer = self._ask("GET", "/ws/v1/cluster/apps", applicationTags=tag)
        apps = ((answer or {}).get("apps") or {}).get("app") or []
        if not apps:
            return None
        newest = max(apps, key=lambda each: int(each.get("startedTime", 0)))
        return _application(newest)

    def capacity(self) -> Capacity | None:
        """What the cluster has; None when nobody answers."""
        facts = (self._ask("GET", "/ws/v1/cluster/metrics") or {}).get("clusterMetrics")
        if not isinstance(facts, dict):
            return None
        names = ("activeNodes", "availableVirtualCores", "totalVirtualCores", "availableMB", "totalMB")
        return Capacity(*(int(facts.get(name, 0)) for name in names))

    def kill(self, application: str) -> bool:
        """Ask for an application's end; whether that was heard."""
        path = f"/ws/v1/cluster/apps/{application}/state"
        answer = self._ask("PUT", path, json={"state": "KILLED"}, **{"user.name": _user()})
        return answer is not None

    def _ask(self, method: str, path: str, json: Any = None, **params: str) -> dict[str, Any] | None:
        import requests

        for url in self.urls:
            try:
                with requests.Session() as session:
                    session.trust_env = False  # as Hadoop's own client: no proxy that is meant for the internet
                    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
                    session.auth = _kerberos() if HadoopConf.load().kerberos else None
                    headers = {"Accept": "application/json"}
                    answer = session.request(
                        method, f"{url}{path}", params=params, json=json, headers=headers, timeout=TIMEOUT_S
                    )
                found = answer.json() if answer.ok else None
            except (requests.RequestException, ValueError) as error:
                _log.debug("%s: %s", url, type(error).__name__)
                continue
            if isinstance(found, dict):  # a standby answers with a page
                return found
        return None


class Watch:
    """Looks at an application every second, and tells each change, until it is closed."""

    def __init__(self, managers: ResourceManagers, tag: str, tell: Callable[[Application], None]) -> None:
        self._managers, self._tag, self._tell = managers, tag, tell
        self._last: Application | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {tag}", daemon=True)

    def __enter__(self) -> Self:
        if self._managers.urls:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_S)

    def look(self) -> Application | None:
        """What is known now."""
        with self._lock:  # a change is told once
            found = self._managers.find(self._tag)
            if found is None:
                return self._last
            before, self._last = self._last, found
            seen = ("state", "tracking_url", "attempt")
            if before is None or any(getattr(before, name) != getattr(found, name) for name in seen):
                self._tell(found)
            return found

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self.look()


def _application(facts: dict[str, Any]) -> Application:
    return Application(
        str(facts["id"]),
        str(facts.get("state", "")),
        str(facts.get("finalStatus", "UNDEFINED")),
        str(facts.get("trackingUrl", "")),
        str(facts.get("amContainerLogs", "")),
        redact(" ".join(str(facts.get("diagnostics", "")).split())),
        attempt_of(str(facts.get("amContainerLogs", ""))),
    )


def attempt_of(text: str) -> int:
    """Which attempt at an application a container's id, alone or in an address, belongs to; 1 when there is no id.

    Examples
    --------
    >>> attempt_of("container_1700000000000_0001_02_000001"), attempt_of("http://nm/logs/container_e7_17_0001_03_000001/ml")
    (2, 3)
    """
    match = _CONTAINER.search(text)
    return int(match[1]) if match else 1


def _user() -> str:
    return os.environ.get("HADOOP_USER_NAME") or getpass.getuser()


def _kerberos() -> Any:
    """SPNEGO, when the package for it is there; without it, nothing is seen of the application, and nothing fails."""
    try:
        from requests_kerberos import OPTIONAL, HTTPKerberosAuth  # type: ignore[import-not-found]
    except ImportError:
        return None
    return HTTPKerberosAuth(mutual_authentication=OPTIONAL)
