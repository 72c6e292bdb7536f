"""The state of an application on YARN, from the REST API of the ResourceManagers."""

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
    """An application. `state` is that of YARN (ACCEPTED, RUNNING, ...); `final` is UNDEFINED until the driver ends."""

    id: str
    state: str
    final: str
    tracking_url: str
    driver_logs: str
    diagnostics: str
    attempt: int = 1

    @property
    def ended(self) -> bool:
        """Whether the application has ended."""
        return self.state in ENDED

    def __str__(self) -> str:
        end = f" {self.final}" if self.ended else ""
        return f"{self.id} {self.state}{end}"


@dataclass(frozen=True, slots=True)
class Capacity:
    """The total and the free resources of a cluster; memory in MiB."""

    nodes: int
    free_cores: int
    cores: int
    free_mib: int
    mib: int


class ResourceManagers:
    """The ResourceManagers of one cluster. With HA, one of them answers. If none answers, no error is raised."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.urls = urls

    def find(self, tag: str) -> Application | None:
        """Return the newest application with a tag; None if there is none or no ResourceManager answers."""
        answer = self._ask("GET", "/ws/v1/cluster/apps", applicationTags=tag)
        apps = ((answer or {}).get("apps") or {}).get("app") or []
        if not apps:
            return None
        return _application(max(apps, key=lambda app: int(app.get("startedTime", 0))))

    def capacity(self) -> Capacity | None:
        """Return the capacity of the cluster; None if no ResourceManager answers."""
        facts = (self._ask("GET", "/ws/v1/cluster/metrics") or {}).get("clusterMetrics")
        if not isinstance(facts, dict):
            return None
        names = ("activeNodes", "availableVirtualCores", "totalVirtualCores", "availableMB", "totalMB")
        return Capacity(*(int(facts.get(name, 0)) for name in names))

    def kill(self, application: str) -> bool:
        """Kill an application. Return whether a ResourceManager accepted the request."""
        path = f"/ws/v1/cluster/apps/{application}/state"
        answer = self._ask("PUT", path, json={"state": "KILLED"}, **{"user.name": _user()})
        return answer is not None

    def _ask(self, method: str, path: str, json: Any = None, **params: str) -> dict[str, Any] | None:
        import requests

        for url in self.urls:
            try:
                with requests.Session() as session:
                    session.trust_env = False  # ignore proxy settings, as Hadoop's client does
                    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
                    session.auth = _kerberos() if HadoopConf.load().kerberos else None
                    headers = {"Accept": "application/json"}
                    answer = session.request(
                        method, f"{url}{path}", params=params, json=json, headers=headers, timeout=TIMEOUT_S
                    )
                facts = answer.json() if answer.ok else None
            except (requests.RequestException, ValueError) as error:
                _log.debug("%s: %s", url, type(error).__name__)
                continue
            if isinstance(facts, dict):  # a standby ResourceManager answers with a page
                return facts
        return None


class ApplicationMonitor:
    """Polls an application every second and reports each change, until it is closed."""

    def __init__(self, managers: ResourceManagers, tag: str, on_change: Callable[[Application], None]) -> None:
        self._managers, self._tag, self._on_change = managers, tag, on_change
        self._last: Application | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"monitor {tag}", daemon=True)

    def __enter__(self) -> Self:
        if self._managers.urls:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_S)

    def poll(self) -> Application | None:
        """Return the application now; the last known state if no ResourceManager answers."""
        with self._lock:  # report a change once
            application = self._managers.find(self._tag)
            if application is None:
                return self._last
            before, self._last = self._last, application
            reported = ("state", "tracking_url", "attempt")
            if before is None or any(getattr(before, name) != getattr(application, name) for name in reported):
                self._on_change(application)
            return application

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self.poll()


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
    """Return the number of the application attempt in a container's id, alone or in a URL; 1 without an id.

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
    """Return SPNEGO authentication; None if requests-kerberos is not installed, and then the application's state is unknown."""
    try:
        from requests_kerberos import OPTIONAL, HTTPKerberosAuth  # type: ignore[import-not-found]
    except ImportError:
        return None
    return HTTPKerberosAuth(mutual_authentication=OPTIONAL)
