"""Secrets in real runs: what uses them has the values, and nothing that a run leaves or shows has any of their bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest

from firesteel.conf import redaction
from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import Redactor
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark.secret_settings import properties_file, secret_keys
from firesteel.jobs.spark.session import launch_conf, open_session
from firesteel.jobs.submit.command import submit_environment, submit_line
from firesteel.pipelines import Plan
from support import leaks
from support.runs import DAY, Project

pytestmark = pytest.mark.integration

KEY = "Kx7 q\"1'&<\\€:=#!%+ä-Zt9vQ"
"""All that quoting, properties files and command lines can get wrong."""
DATABASE = "db-91f7c2e4d05b"
PASSWORD = "pw/8@a1:c3%d5+e7"
VALUES = (KEY, DATABASE, PASSWORD)

DRIVER = """
import hashlib, sys
from firesteel.jobs.cli import main
from firesteel.jobs.run import plan_runner

real = plan_runner.run_plan

def run_plan(plan, *, on_event, **options):
    def watch(event):
        on_event(event)
        if event.kind == "scoring":
            from pyspark import SparkContext

            context = SparkContext._active_spark_context
            values = [context._jsc.hadoopConfiguration().get("demo.store"), context.getConf().get("spark.demo.note")]
            print("used", *(hashlib.sha256(value.encode()).hexdigest() for value in values), flush=True)
            if sys.argv[1] == "fault":
                raise LookupError(f"the store refused {values[0]}")
    return real(plan, on_event=watch, **options)

plan_runner.run_plan = run_plan
sys.exit(main.invoke(sys.argv[2:]))
"""

PROBE = """
import hashlib, sys
from pathlib import Path
from firesteel.jobs.spark.session import open_session
from firesteel.pipelines import Plan
from pyspark import SparkContext

def digest(value):
    return hashlib.sha256(value.encode()).hexdigest() if value else "none"

SparkContext._ensure_initialized()
given = SparkContext._jvm.java.lang.System.getProperty("spark.hadoop.demo.store")
defaults = SparkContext._jvm.java.lang.System.getProperty("spark.demo.of.defaults")
plan = Plan.from_json(Path(sys.argv[2]).read_text())
with open_session(plan) as spark:
    used = spark.sparkContext._jsc.hadoopConfiguration().get("demo.store")
    print("probe", digest(given), digest(used), defaults, spark.range(3).count(), flush=True)
"""


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


@dataclass(frozen=True)
class Secretive:
    """The flights project with secrets in its Spark settings and in its tracking URI."""

    project: Project
    root: Path
    environ: Mapping[str, str]

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def database(self) -> Path:
        return self.root / "mlflow" / f"{DATABASE}.db"

    def spec(self, changes: Mapping[str, str] | None = None, uri: str = "") -> None:
        """Write the spec."""
        own = f"sqlite:///{self.root}/mlflow/${{secret:mlflow/database}}.db"
        settings = {
            "spark.hadoop.demo.store": "${secret:store/key}",
            "spark.demo.note": "for ml:${secret:store/key}",
            "spark.demo.mine": "plain but mine",
            "spark.redaction.regex": "demo[.]mine",
            "spark.demo.literal": "$${secret:store/key}",
            "spark.eventLog.enabled": "true",
            "spark.eventLog.compress": "false",
            "spark.eventLog.dir": f"file://{self.root}/events",
            "spark.driver.memory": "1g",
        }
        old = 'configuration: {spark.sql.shuffle.partitions: "4"}'
        replace(self.project, tracking=uri or own).pipeline(
            {old: f"configuration: {json.dumps(settings)}", **(changes or {})}
        )

    def firesteel(
        self, *words: str, mode: str = "run", environ: Mapping[str, str] | None = None
    ) -> tuple[subprocess.CompletedProcess[str], set[str]]:
        """The command line in a process of its own, and all command lines of that time."""
        line = [sys.executable, "-c", DRIVER, mode, words[0], *words[1:], "--param", f"root={self.project.root}"]
        return leaks.run(line, self.project.folder, {**os.environ, **self.environ, **(environ or {})})

    def leaks(self, *texts: str) -> list[str]:
        """What is to be empty."""
        shown = [form for text in texts for form in leaks.in_text(text, *VALUES)]
        return [*shown, *leaks.in_files(self.root, *VALUES, but=self.secrets)]

    def tracked(self) -> list[mlflow.entities.Run]:
        """Every run in the tracking store, other tests' among them: the store is copied from the project's."""
        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.database}")
        experiment = client.get_experiment_by_name("/batch/flight_delay")
        return list(client.search_runs([experiment.experiment_id])) if experiment else []

    def event_logs(self) -> str:
        return "\n".join(path.read_text() for path in (self.root / "events").rglob("events_*") if path.is_file())


@pytest.fixture
def secretive(project: Project, tmp_path: Path) -> Iterator[Secretive]:
    (tmp_path / "events").mkdir()
    (tmp_path / "mlflow").mkdir()
    shutil.copy(project.tracking.removeprefix("sqlite:///"), tmp_path / "mlflow" / f"{DATABASE}.db")
    values = {"store/key": KEY, "mlflow/database": DATABASE, "mlflow/password": PASSWORD}
    for name, value in values.items():
        path = tmp_path / "secrets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
        path.chmod(0o600)
    return Secretive(project, tmp_path, {"FIRESTEEL_SECRETS_DIR": str(tmp_path / "secrets")})


def redacted_everywhere(logs: str) -> None:
    """Spark hides exactly the settings that hold secrets, and what the user's own expression names."""
    for key in ("spark.hadoop.demo.store", "demo.store", "spark.demo.note", "spark.demo.mine"):
        assert f'"{key}":"*********(redacted)"' in logs, key
        assert logs.count(f'"{key}":') == logs.count(f'"{key}":"*********(redacted)"'), key
    assert '"spark.demo.literal":"${secret:store/key}"' in logs
    assert "plain but mine" not in logs


def test_a_run_uses_secrets_and_leaves_them_nowhere(secretive):
    secretive.spec()
    before = {run.info.run_id for run in secretive.tracked()}
    plan_file = secretive.project.folder / "plan.json"
    planned, _ = secretive.firesteel("plan", "--start", DAY, "-o", str(plan_file))
    assert planned.returncode == 0, planned.stderr
    plan = plan_file.read_text()
    assert '"${secret:store/key}"' in plan
    done, lines = secretive.firesteel("run", "--start", DAY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"used {digest(KEY)} {digest(f'for ml:{KEY}')}" in done.stdout
    assert secretive.project.rows() == 60
    tracked = [run for run in secretive.tracked() if run.info.run_id not in before]
    assert {run.info.status for run in tracked} == {"FINISHED"}  # in the store that the secret names
    redacted_everywhere(secretive.event_logs())
    assert any("org.apache.spark.deploy.SparkSubmit" in line and "spark.demo.literal" in line for line in lines)
    reports = list(secretive.project.folder.rglob("report.html"))
    assert "${secret:mlflow/database}" in reports[0].read_text()
    assert secretive.leaks(planned.stdout, planned.stderr, done.stdout, done.stderr, *lines) == []


@pytest.mark.parametrize("debug", ["", pytest.param("1", marks=pytest.mark.long)])
def test_a_failed_run_leaves_them_nowhere(secretive, debug):
    secretive.spec({"min_value: 0, max_value: 1": "min_value: 0, max_value: 0.000001"})
    failed, lines = secretive.firesteel("run", "--start", DAY, "--json", environ={"FIRESTEEL_DEBUG": debug})
    assert failed.returncode == 3, failed.stderr
    died, _ = secretive.firesteel("run", "--start", DAY, "--force", mode="fault", environ={"FIRESTEEL_DEBUG": debug})
    assert died.returncode == 1
    assert "LookupError: the store refused ${secret:store/key}" in died.stderr
    assert ("Traceback" in died.stderr) is bool(debug)
    redacted_everywhere(secretive.event_logs())
    errors = [run.data.tags.get("firesteel.error", "") for run in secretive.tracked()]
    assert any("the store refused ${secret:store/key}" in error for error in errors)
    assert secretive.leaks(failed.stdout, failed.stderr, died.stdout, died.stderr, *lines) == []


def test_a_submission_prints_references_and_no_command_line_shows_a_value(secretive):
    secretive.spec()
    done, lines = secretive.firesteel("submit", "--start", DAY, "--run")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.splitlines()[0]
    assert "'spark.hadoop.demo.store=${secret:store/key}'" in printed
    assert "'spark.demo.literal=${secret:store/key}'" in printed
    submitted = [line for line in lines if "org.apache.spark.deploy.SparkSubmit" in line]
    assert any("--properties-file /dev/fd/" in line and "run_plan.py" in line for line in submitted)
    assert not [line for line in submitted if "spark.hadoop.demo.store" in line]
    assert secretive.project.rows() == 60
    redacted_everywhere(secretive.event_logs())
    assert secretive.leaks(done.stdout, done.stderr, *lines) == []


@pytest.mark.long
def test_the_printed_line_runs_by_itself(secretive):
    secretive.spec()
    printed, _ = secretive.firesteel("submit", "--start", DAY)
    assert printed.returncode == 0, printed.stderr
    words = ["bash", "-c", printed.stdout.splitlines()[0]]
    plan = Plan.from_json(next((secretive.project.folder / ".firesteel" / "plans").iterdir()).read_text())
    done, lines = leaks.run(words, secretive.project.folder, {**submit_environment(plan), **secretive.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    assert secretive.project.rows() == 60
    redacted_everywhere(secretive.event_logs())
    assert secretive.leaks(done.stdout, done.stderr, *lines) == []


def test_spark_submit_and_the_session_have_the_value_and_spark_defaults_still_count(secretive, tmp_path):
    secretive.spec()
    plan_file = secretive.project.folder / "plan.json"
    planned, _ = secretive.firesteel("plan", "--start", DAY, "-o", str(plan_file))
    assert planned.returncode == 0, planned.stderr
    plan = Plan.from_json(plan_file.read_text())
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text("spark.demo.of.defaults here\n")
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    keys = secret_keys(launch_conf(plan))
    assert keys == ("spark.demo.note", "spark.hadoop.demo.store")
    settings = {"spark.hadoop.demo.store": KEY, "spark.demo.note": f"for ml:{KEY}"}
    with properties_file(settings) as (path, descriptor):
        assert os.stat(path).st_mode & 0o777 == 0o600
        *line, _entry, _plan, _path = submit_line(plan, plan_file, secrets_file=path)
        done = subprocess.run(
            [*line, str(probe), "--plan", str(plan_file)],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            env={**submit_environment(plan), **secretive.environ, "SPARK_CONF_DIR": str(tmp_path / "conf")},
            pass_fds=(descriptor,),
        )
    assert f"probe {digest(KEY)} {digest(KEY)} here 3" in done.stdout, done.stderr
    assert not Path(path).exists()
    assert secretive.leaks(done.stdout, done.stderr) == []


@pytest.fixture
def broken_server() -> Iterator[ThreadingHTTPServer]:
    """A tracking server that answers everything with 500, and remembers who asked."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b"no")

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            return

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    server.asked = asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("verb", ["plan", "doctor"])
def test_a_server_that_fails_gets_the_password_and_no_error_quotes_it(secretive, broken_server, verb):
    port = broken_server.server_address[1]
    secretive.spec(uri=f"http://ml:${{secret:mlflow/password}}@127.0.0.1:{port}")
    options = ["--start", DAY] if verb == "plan" else []
    done, _ = secretive.firesteel(verb, *options, environ={"FIRESTEEL_DEBUG": "1"})
    assert done.returncode == 1
    basic = base64.b64encode(f"ml:{PASSWORD}".encode()).decode()
    assert f"Basic {basic}" in broken_server.asked
    shown = done.stdout + done.stderr
    assert f"MLflow at http://127.0.0.1:{port}: no response" in shown
    assert "500 error" in shown
    assert basic not in shown
    assert secretive.leaks(shown) == []


def test_a_python_traceback_with_all_its_causes_does_not_quote_it(secretive, broken_server, monkeypatch):
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    for name, value in secretive.environ.items():
        monkeypatch.setenv(name, value)
    secretive.spec()
    plan_file = secretive.project.folder / "plan.json"
    planned, _ = secretive.firesteel("plan", "--start", DAY, "-o", str(plan_file))
    assert planned.returncode == 0, planned.stderr
    plan = Plan.from_json(plan_file.read_text())
    port = broken_server.server_address[1]
    uri = f"http://ml:${{secret:mlflow/password}}@127.0.0.1:{port}"
    with pytest.raises(RuntimeFault) as caught:
        run_plan(replace(plan, tracking=replace(plan.tracking, uri=uri)))
    trace = "".join(traceback.format_exception(caught.value))
    assert "RedactedError: MlflowException" in trace
    assert secretive.leaks(trace) == []


def test_a_callers_session_must_have_a_secret_sql_setting_itself(secretive, spark, monkeypatch):
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    for name, value in secretive.environ.items():
        monkeypatch.setenv(name, value)
    secretive.spec({"configuration: {": 'configuration: {"spark.sql.catalog.demo.pw": "${secret:store/key}", '})
    plan_file = secretive.project.folder / "plan.json"
    planned, _ = secretive.firesteel("plan", "--start", DAY, "-o", str(plan_file))
    assert planned.returncode == 0, planned.stderr
    plan = Plan.from_json(plan_file.read_text())
    with pytest.raises(RuntimeFault) as caught, open_session(plan, spark):
        pass
    assert caught.value.code == "FS9022"
    assert spark.conf.get("spark.sql.catalog.demo.pw", None) is None


def test_a_secret_that_is_not_there_stops_the_plan_and_names_the_places(secretive):
    secretive.spec()
    (secretive.secrets / "mlflow" / "database").unlink()
    done, _ = secretive.firesteel("plan", "--start", DAY)
    assert done.returncode == 1
    assert done.stderr.startswith("FS9020 ${secret:mlflow/database} is not found. Searched:")
    assert "$FIRESTEEL_SECRET_MLFLOW_DATABASE" in done.stderr
