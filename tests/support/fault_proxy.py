"""A proxy in front of an MLflow server that counts the calls, and harms the calls that a test names."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit, urlunsplit

STATUSES = {
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "429": "REQUEST_LIMIT_EXCEEDED",
    "500": "INTERNAL_ERROR",
    "503": "TEMPORARILY_UNAVAILABLE",
}
"""Faults that the proxy answers by itself. The server does not see the call."""

DROP = "drop"
"""The server acts, and its answer is lost."""

LATE = "late"
"""The client gets no answer, as after a timeout. The server acts two calls later, or when the proxy is armed again."""


class FaultProxy(ThreadingHTTPServer):
    """Forwards each call to the server, except those that are armed. `calls` has the method and path of each call since `arm`."""

    daemon_threads = True

    def __init__(self, server_uri: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server_port_behind = int(server_uri.rpartition(":")[2])
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self.calls: list[str] = []
        self._fault, self._from, self._times = "", 0, 0
        self._each, self.retry_after = False, ""
        self._guard = threading.Condition()
        self._late = 0

    def arm(
        self, fault: str = "", number: int = 0, times: int = 1, *, each: bool = False, retry_after: str = ""
    ) -> None:
        """Count from 0 again. Harm `times` calls from the call `number` on.

        Parameters
        ----------
        each
            Harm `times` calls of each method and path, then let one through, and so on.
        retry_after
            The header Retry-After of faults that are statuses.
        """
        with self._guard:
            self._fault = ""
            self.calls += ["armed again"] * 3
            self._guard.notify_all()
            assert self._guard.wait_for(lambda: self._late == 0, 60), "the server has acted on all calls"
            self.calls = []
            self._fault, self._from, self._times = fault, number, times
            self._each, self.retry_after = each, retry_after

    def next_fault(self, call: str) -> str:
        """Count a call, and return its fault."""
        with self._guard:
            number = len(self.calls)
            self.calls.append(call)
            self._guard.notify_all()
            if self._each:
                number = (self.calls.count(call) - 1) % (self._times + 1)
            fault = self._fault if self._from <= number < self._from + self._times else ""
            self._late += fault == LATE
            return fault

    @contextmanager
    def two_calls_later(self) -> Iterator[None]:
        """Enter the block after two further calls."""
        with self._guard:
            due = len(self.calls) + 2
            self._guard.wait_for(lambda: len(self.calls) >= due, 60)
        try:
            yield
        finally:
            with self._guard:
                self._late -= 1
                self._guard.notify_all()

    def handle_error(self, request, client_address) -> None:
        """Clients may close connections at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.next_fault(f"{self.command} {self.path.partition('?')[0]}")
        if fault in STATUSES:
            answer = json.dumps({"error_code": STATUSES[fault], "message": f"the proxy says {fault}"}).encode()
            waits = {"Retry-After": self.server.retry_after} if self.server.retry_after else {}
            self._answer(int(fault), {"Content-Type": "application/json"} | waits, answer)
            return
        if fault == LATE:
            self._hang_up()
            with self.server.two_calls_later():
                self._send(body)
            return
        status, headers, data = self._send(body)
        if fault == DROP:
            self._hang_up()
            return
        self._answer(status, headers, data)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send the call to the server, and return its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port_behind, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            connection.request(self.command, self._path(), body or None, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        return response.status, {name: value for name, value in response.getheaders() if name.lower() not in _HOP}, data

    def _path(self) -> str:
        """Return the path and the query. A client that uses this as its HTTP proxy sends the whole URL."""
        url = urlsplit(self.path)
        return urlunsplit(("", "", url.path, url.query, ""))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _forward  # noqa: N815 - http.server's names

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Write nothing."""


_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "date", "server"})


@contextmanager
def fault_proxy(server_uri: str) -> Iterator[FaultProxy]:
    """Serve a proxy until the block ends."""
    with FaultProxy(server_uri) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
