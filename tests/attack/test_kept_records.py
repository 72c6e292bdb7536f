"""Records of runs wait in the storage for MLflow. Who can write to the storage must not choose what a record sends, and where."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from firesteel.jobs.tracking import spool
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.result import RunResult
from support.mlflow_store import new_store
from support.tracked import EXPERIMENT, run, settled, store_of, tracked_plan

RUN = "20130604T101112-a1b2c3"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[str]]]:
    """A server of the attacker, and the requests that it got."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.path} {self.headers}")
            self.send_error(500)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()
        thread.join()


def plant(plan: Plan, forged: Plan, result: RunResult) -> None:
    """Keep a record of another plan in the storage of `plan`."""
    assert spool.keep(store_of(plan), forged, result, ["lost"])


def test_a_record_does_not_choose_the_server_that_gets_the_credentials(tmp_path, collector, monkeypatch, caplog):
    uri, requests = collector
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "the-token-of-the-user")
    secrets = tmp_path / "secrets"
    (secrets / "prod").mkdir(parents=True, mode=0o700)
    (secrets / "prod" / "db").write_text("the-password")
    (secrets / "prod" / "db").chmod(0o600)
    monkeypatch.setenv("FIRESTEEL_SECRETS_DIR", str(secrets))
    plan = tracked_plan(f"file://{tmp_path}/data", new_store(tmp_path / "mlflow.db"))
    result = run(plan, RUN)
    for number, evil in enumerate((uri, f"{uri}/${{secret:prod/db}}")):
        forged = replace(plan, tracking=replace(plan.tracking, uri=evil))
        plant(plan, forged, replace(result, run_id=f"forged-{number}"))
    assert settled(plan, limit_s=None).delivered == ()
    assert requests == []
    assert "another MLflow server" in caplog.text


@pytest.mark.parametrize("change", [{"pipeline": "another"}, {"profile": "another"}])
def test_a_record_of_another_pipeline_or_profile_stays(tmp_path, change, caplog):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    result = run(plan, RUN)
    plant(plan, replace(plan, **change), replace(result, run_id="forged"))
    assert settled(plan, limit_s=None).delivered == ()
    client = connect(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert client.search_runs([experiment.experiment_id], "tags.`firesteel.run_id` = 'forged'") == []
    assert "it is a record of" in caplog.text


@pytest.mark.parametrize("kind", ["other name", "link", "pipe", "folder"])
def test_a_record_sends_no_other_file_of_the_user(tmp_path, kind):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    result = run(plan, RUN)
    secret = tmp_path / "id_ed25519"
    secret.write_text("the private key")
    report = tmp_path / "planted" / "report.html"
    report.parent.mkdir()
    if kind == "other name":
        report = secret
    elif kind == "link":
        report.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(report)
    else:
        report.mkdir()
        (report / "id_ed25519").write_text("the private key")
    plant(plan, plan, replace(result, run_id="forged", report=str(report)))
    assert settled(plan, limit_s=None).delivered == ("forged",)
    uploaded = [path.name for path in tmp_path.glob("**/artifacts/*")]
    assert "result.json" in uploaded
    assert not {"id_ed25519", "report.html"} & set(uploaded)


def test_the_report_of_this_user_is_sent(tmp_path):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    result = run(plan, RUN)
    report = tmp_path / "report.html"
    report.write_text("<html>ä</html>\r\n", newline="")
    plant(plan, plan, replace(result, run_id="kept", report=str(report)))
    assert settled(plan, limit_s=None).delivered == ("kept",)
    (sent,) = [path for path in tmp_path.rglob("report.html") if path != report]
    assert sent.read_bytes() == report.read_bytes()
    assert json.loads(sent.with_name("result.json").read_text())["run_id"] == "kept"
