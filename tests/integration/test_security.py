"""`security: {mode: strict}` on a real standalone cluster: who is let in, what is on the wire, on disk and in files."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from firesteel.pipelines import Plan
from firesteel.pipelines.plan.security import DEFAULTS, STRICT
from support import leaks
from support.quick_jvm import quick_executors
from support.runs import DAY, Project
from support.waiting import wait_for
from support.wire import FRONT, carried, holds, relays

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SECRET = f"auth-{secrets.token_hex(16)}"
UI_KEY = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
CANARY = "canary-5d1c8f0e7b"

DRIVER = """
import json, os, sys, urllib.request, urllib.error
from pathlib import Path
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark.session import open_session
from firesteel.pipelines import Plan

plan, disks, canary, token = Plan.from_json(Path(sys.argv[1]).read_text()), sys.argv[2], sys.argv[3], sys.argv[4]
found = {}

def status(url, token=""):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code

def same(frames):
    yield from frames

with open_session(plan) as spark:
    rows = spark.createDataFrame([(number, f"{canary}-{number}") for number in range(2000)], "n int, text string")
    moved = rows.repartition(4, "n").mapInPandas(same, rows.schema).sort("text").collect()
    found["rows"] = len({row.text for row in moved})
    files = [path for path in Path(disks).rglob("*") if path.is_file() and "-local" in str(path.relative_to(disks))]
    found["disk"] = [str(path.name) for path in files if canary.encode() in path.read_bytes()]
    found["shuffle files"] = len([path for path in files if path.name.startswith("shuffle_")])
    url = (spark.sparkContext.uiWebUrl or "").replace("127.0.0.2", "127.0.0.1")  # no relay is before the UI
    found["ui"] = [status(url + "/environment/"), status(url + "/environment/", token)] if url else None
if sys.argv[5] == "run":
    result = run_plan(plan)
    found |= {"state": result.state, "error": result.error, "scored": result.counts.scored}
print("found", json.dumps(found), flush=True)
"""


def token() -> str:
    """A JWT by the UI's key."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    head = f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps({'sub': 'ann'}).encode())}"
    key = base64.urlsafe_b64decode(UI_KEY + "=" * (-len(UI_KEY) % 4))
    return f"{head}.{part(hmac.new(key, head.encode(), hashlib.sha256).digest())}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStandalone]:
    """A cluster that lets in who has the secret."""
    settings = {
        key: value for key, value in {**STRICT, **DEFAULTS}.items() if key.startswith(("spark.auth", "spark.net"))
    }
    folder = tmp_path_factory.mktemp("guarded")
    with quick_executors(EmbeddedStandalone(folder, workers=2, settings=settings, secret=SECRET)) as cluster:
        yield cluster


@dataclass
class Guarded:
    """The flights project on a cluster, by a driver whose connections go through relays."""

    project: Project
    folder: Path

    def plan(self, cluster: EmbeddedStandalone, ports: list[int], security: str) -> Path:
        settings = {
            "spark.driver.host": FRONT,
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.port": str(ports[0]),
            "spark.driver.blockManager.port": str(ports[1]),
            "spark.driver.memory": "1g",
            "spark.executor.memory": "512m",
            "spark.cores.max": "2",
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            # Compressed, the canary would not be seen where it is.
            "spark.broadcast.compress": "false",
            "spark.shuffle.compress": "false",
            "spark.rdd.compress": "false",
            "spark.eventLog.enabled": "true",
            "spark.eventLog.compress": "false",
            "spark.eventLog.dir": f"file://{self.folder}/events",
        }
        (self.folder / "events").mkdir(exist_ok=True)
        pipeline = self.project.pipeline(
            {
                'configuration: {spark.sql.shuffle.partitions: "4"}': f"configuration: {json.dumps(settings)}",
                'resources: {master: "local[2]"}': f'security: {security}\nresources: {{master: "{cluster.master}"}}',
            }
        )
        path = self.folder / "plan.json"
        path.write_text(pipeline.plan(DAY).to_json(), encoding="utf-8")
        assert SECRET not in path.read_text()
        return path

    def words(self, plan: Path, cluster: EmbeddedStandalone, mode: str) -> list[str]:
        return [sys.executable, "-c", DRIVER, str(plan), str(cluster.folder), CANARY, token(), mode]

    def environ(self, secret: str = SECRET) -> dict[str, str]:
        values = {"FIRESTEEL_SECRET_SPARK_AUTH": secret, "FIRESTEEL_SECRET_SPARK_UI": UI_KEY}
        return {**os.environ, **values}


@pytest.fixture
def driver(project: Project, tmp_path: Path) -> Guarded:
    return Guarded(project, tmp_path)


def found_in(done: subprocess.CompletedProcess[str]) -> dict:
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[0].removeprefix("found "))


STRICT_SPEC = "{secret: '${secret:spark/auth}', ui_key: '${secret:spark/ui}'}"


def test_a_strict_run_leaves_no_row_on_wire_or_disk_and_no_secret_in_any_file(driver, guarded, tmp_path):
    with relays(2) as made:
        plan = driver.plan(guarded, [relay.port for relay in made], STRICT_SPEC)
        done, lines = leaks.run(driver.words(plan, guarded, "run"), driver.project.folder, driver.environ())
        found = found_in(done)
        assert found["rows"] == 2000
        assert (found["state"], found["error"], found["scored"]) == ("published", "", 60)
        assert found["shuffle files"] > 0
        assert found["disk"] == []
        assert found["ui"] == [403, 200]
        assert carried(made) > 100_000
        assert not holds(made, CANARY.encode())
    values = (SECRET, UI_KEY)
    shown = [form for text in (done.stdout, done.stderr, *lines) for form in leaks.in_text(text, *values)]
    assert shown == []
    assert leaks.in_files(tmp_path, *values, but=tmp_path / "none") == []
    assert leaks.in_files(guarded.folder, *values, but=guarded.folder / "secret.properties") == []
    events = "".join(path.read_text() for path in (tmp_path / "events").rglob("events_*") if path.is_file())
    assert '"spark.authenticate.secret":"*********(redacted)"' in events
    assert (guarded.folder / "secret.properties").stat().st_mode & 0o777 == 0o600


def test_without_strict_the_same_driver_sends_and_keeps_rows_in_the_clear(driver, standalone):
    """What the test above looks for can be found where it is looked for."""
    with relays(2) as made:
        plan = driver.plan(standalone, [relay.port for relay in made], "{mode: none}")
        done, _ = leaks.run(driver.words(plan, standalone, "look"), driver.project.folder, driver.environ())
        found = found_in(done)
        assert found["rows"] == 2000
        assert found["disk"] != []
        assert holds(made, CANARY.encode())


def test_a_worker_and_a_driver_without_the_secret_are_refused(driver, guarded, tmp_path):
    with relays(2) as made:
        plan = driver.plan(guarded, [relay.port for relay in made], STRICT_SPEC)
        words = driver.words(plan, guarded, "run")
        with subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=driver.environ("another-secret"),
            cwd=tmp_path,
        ) as stranger:
            rogue = rogue_worker(guarded, tmp_path)
            try:
                wait_for(lambda: "Failed to connect to master" in (tmp_path / "rogue.log").read_text(), "it is refused")
                assert guarded.alive_workers() == 2
            finally:
                rogue.kill()
                rogue.wait()
            said, _ = stranger.communicate(timeout=200)
    assert stranger.returncode != 0
    assert "FS9002" in said
    assert "found" not in said
    assert driver.project.published() == {}
    assert Plan.from_json(plan.read_text()).security == "strict"
    assert leaks.in_text(said, SECRET, "another-secret") == []


def rogue_worker(cluster: EmbeddedStandalone, folder: Path) -> subprocess.Popen:
    """A Worker that knows that the cluster authenticates, and not its secret."""
    from firesteel.conf.java import find_java
    from firesteel.jobs.embedded.cluster import pyspark_home

    properties = folder / "rogue.properties"
    pairs = {**STRICT, **DEFAULTS, "spark.authenticate.secret": "another-secret"}
    properties.write_text("".join(f"{key} {value}\n" for key, value in pairs.items()))
    command = [
        str(pyspark_home() / "bin" / "spark-class"),
        "org.apache.spark.deploy.worker.Worker",
        "--host",
        "127.0.0.1",
    ]
    command += [
        "--webui-port",
        "0",
        "--work-dir",
        str(folder / "rogue"),
        "--properties-file",
        str(properties),
        cluster.master,
    ]
    environ = {
        **os.environ,
        "JAVA_HOME": str(find_java().home),
        "SPARK_HOME": str(pyspark_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
    }
    with (folder / "rogue.log").open("w") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd=folder)
