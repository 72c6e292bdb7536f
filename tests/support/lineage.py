"""Lineage of the sample run, and a real HTTP server on loopback that receives events and can be told to fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from firesteel.pipelines.plan.model import ColumnLineage, LineagePlan, Plan, RowLineage
from support.sample_run import sample_plan

COLUMNS = (
    ColumnLineage("scores", "flight_id", (("flights", "flight_id"),), copied=True),
    ColumnLineage(
        "scores", "p_delay", (("flights", "dep_delay"), ("flights", "distance"), ("weather", "temp")), ("delay",)
    ),
)


def traced_plan(openlineage: LineagePlan | None = None, **changes: Any) -> Plan:
    """Return the sample plan with column lineage."""
    plan = sample_plan(**changes)
    rows = (RowLineage("scores", (("flights", "dt"), ("flights", "origin"), ("weather", "dt"))),)
    return replace(plan, lineage=COLUMNS, row_lineage=rows, tracking=replace(plan.tracking, openlineage=openlineage))


@dataclass
class LineageServer:
    """The received events. `answer` is the HTTP status of answers, `delay_s` their delay in seconds."""

    url: str = ""
    answer: int = 200
    delay_s: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def kinds(self) -> list[tuple[str, str]]:
        """Return the job and the kind of each event."""
        return [(event["job"]["name"], event["eventType"]) for event in self.events]


@contextmanager
def lineage_server(context: Any = None) -> Iterator[LineageServer]:
    """Start an HTTP server; with an ssl.SSLContext, an HTTPS server."""
    state = LineageServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, self.headers.get("Authorization", "")))
            deadline = time.monotonic() + state.delay_s
            while time.monotonic() < deadline and not state.released.wait(0.05):
                pass
            if state.answer < 300:
                state.events.append(json.loads(body))
            self.send_response(state.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
