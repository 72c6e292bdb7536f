"""The lineage server of a spec, as `firesteel doctor` sees it."""

from __future__ import annotations

from pathlib import Path

from firesteel.conf.check import Check
from firesteel.jobs.doctor.machine import machine_checks
from firesteel.jobs.embedded.ports import free_port
from support.fault_proxy import fault_proxy
from support.lineage import lineage_server
from support.specs import example_with


def lineage(folder: Path, url: str) -> Check:
    spec = example_with(folder, {"tracking: {": f"tracking: {{openlineage: {{transport: http, url: '{url}'}}, "})
    return next(check for check in machine_checks(spec, "", {"root": f"file://{folder}"}) if check.subject == "lineage")


def test_a_server_behind_a_proxy_is_reached_and_receives_no_event(tmp_path, monkeypatch):
    with lineage_server() as server, fault_proxy(server.url) as proxy:
        assert lineage(tmp_path, server.url).state == "ok"
        monkeypatch.setenv("HTTP_PROXY", proxy.uri)
        assert lineage(tmp_path, "http://lineage.invalid").state == "ok"
        assert [call.partition(" ")[0] for call in proxy.calls] == ["GET"]
        assert server.events == []


def test_a_server_that_is_away_is_named_with_its_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    check = lineage(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert (check.state, "refused" in check.found) == ("note", True)
