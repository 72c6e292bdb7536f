"""An application on YARN by REST, from a server that answers as ResourceManagers do; a real one is in integration/."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from firesteel.jobs.doctor.machine import machine_checks
from firesteel.jobs.submit.application import ApplicationMonitor, ResourceManagers
from support.waiting import wait_for

TAG = "firesteel-s7"


class Manager(ThreadingHTTPServer):
    """Answers each poll with the next state, and from then on with the last; a standby with a page."""

    def __init__(self, *states: dict[str, object], standby: bool = False) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                state = server.states.pop(0) if len(server.states) > 1 else server.states[0] if server.states else None
                self.answer({"apps": {"app": [state]} if state else None})

            def do_PUT(self):
                length = int(self.headers["Content-Length"])
                server.asked.append(f"{self.path} {self.rfile.read(length).decode()}")
                self.answer({"state": "KILLED"})

            def answer(self, facts):
                data = b"This is standby RM." if standby else json.dumps(facts).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_words):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.states, self.asked = list(states), []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def serve():
    started = []

    def start(*states, standby=False):
        server = Manager(*states, standby=standby)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def app(state: str, **facts) -> dict[str, object]:
    return {"id": "application_17_0001", "state": state, "finalStatus": "UNDEFINED", "startedTime": 5, **facts}


def test_a_standby_and_one_that_is_gone_are_passed_over(serve):
    standby, active = serve(app("X"), standby=True), serve(app("RUNNING", trackingUrl="http://p/"))
    found = ResourceManagers(("http://127.0.0.1:1", standby.url, active.url)).find(TAG)
    assert (found.id, found.state, found.tracking_url, found.ended) == (
        "application_17_0001", "RUNNING", "http://p/", False
    )  # fmt: skip
    assert active.asked == [f"/ws/v1/cluster/apps?applicationTags={TAG}"]


def test_nobody_answers_or_knows_it(serve):
    assert ResourceManagers(("http://127.0.0.1:1",)).find(TAG) is None
    assert ResourceManagers((serve().url,)).find(TAG) is None


def test_each_change_is_told_once_and_a_second_driver_is_one(serve):
    logs = "http://nm/node/containerlogs/container_e01_17_0001_{:02d}_000001/ml"
    states = [
        app("ACCEPTED"),
        app("RUNNING", amContainerLogs=logs.format(1)),
        app("RUNNING", amContainerLogs=logs.format(1)),
        app("RUNNING", amContainerLogs=logs.format(2)),
        app("FINISHED", finalStatus="SUCCEEDED", amContainerLogs=logs.format(2), diagnostics=" all\n good "),
    ]
    told = []
    with ApplicationMonitor(ResourceManagers((serve(*states).url,)), TAG, told.append) as watch:
        wait_for(lambda: told and told[-1].ended, "the end was told")
        last = watch.poll()
    assert [(str(each).partition(" ")[2], each.attempt) for each in told] == [
        ("ACCEPTED", 1), ("RUNNING", 1), ("RUNNING", 2), ("FINISHED SUCCEEDED", 2)
    ]  # fmt: skip
    assert last.diagnostics == "all good"


def test_an_application_is_killed_by_name(serve, monkeypatch):
    monkeypatch.setenv("HADOOP_USER_NAME", "ml")
    manager = serve(app("RUNNING"))
    assert ResourceManagers((manager.url,)).kill("application_17_0001")
    assert manager.asked == ['/ws/v1/cluster/apps/application_17_0001/state?user.name=ml {"state": "KILLED"}']
    assert not ResourceManagers(("http://127.0.0.1:1",)).kill("application_17_0001")


def test_doctor_says_that_nobody_answers_and_nothing_where_no_yarn_is_configured(tmp_path, monkeypatch):
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert "yarn" not in {check.subject for check in machine_checks(None, "", {})}
    address = "<name>yarn.resourcemanager.webapp.address</name><value>127.0.0.1:1</value>"
    (tmp_path / "yarn-site.xml").write_text(f"<configuration><property>{address}</property></configuration>")
    found = {check.subject: check for check in machine_checks(None, "", {})}["yarn"]
    assert (found.state, found.found) == ("note", "no ResourceManager answers at http://127.0.0.1:1")
