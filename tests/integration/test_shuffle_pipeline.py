"""A pipeline with `shuffle: {manager: rdma}`: the same rows as with Spark's own shuffle, and a stated reason when it is not had.

Where there are RDMA devices, as in the guest of tests/rdma, the nodes read from each other by verbs; elsewhere by TCP.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.conf.shuffle import PLUGIN
from firesteel.jobs.embedded.cluster import ask
from firesteel.jobs.spark.shuffle import append_item, with_plugin
from firesteel.rdma_shuffle.jar import build_or_find
from support import forks
from support.rdma import RDMA_DEVICES, VERBS
from support.runs import DAY, firesteel
from support.shuffle import worker_on
from support.shuffle_services import NODES, Services
from support.waiting import runs, wait_for

pytestmark = pytest.mark.integration

HERE, THERE = NODES
PATIENCE_S = 1200 if RDMA_DEVICES else 240
"""A guest has one processor, which it emulates."""
SLOW = {"spark.network.timeout": "600s", "spark.firesteel.shuffle.fetchTimeout": "120s"}
DRIVER = """
import sys
from pathlib import Path
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Plan

result = run_plan(Plan.from_json(Path(sys.argv[1]).read_text()))
print(result.to_json())
sys.exit(result.exit_code)
"""

HOLD = """
import os, time

open(HELD, "w").close()
deadline = time.monotonic() + 1200
while not os.path.exists(GO) and time.monotonic() < deadline:
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, standalone):
    """Workers on two hosts, and the services of both."""
    folder = tmp_path_factory.mktemp("nodes")
    with Services(folder, NODES, *(VERBS if RDMA_DEVICES else ())) as services, worker_on(THERE, standalone, folder):
        yield services, standalone


def changes(master: str, manager: str, fallback: str = "sort", **conf: str) -> dict[str, str]:
    """A join that shuffles, under dynamic allocation."""
    configuration = {
        "spark.sql.autoBroadcastJoinThreshold": "-1",
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.memory": "1g",
        "spark.cores.max": "3",
        "spark.dynamicAllocation.executorIdleTimeout": "10s",
        **(SLOW if RDMA_DEVICES else {}),
        **conf,
    }
    resources = {
        "master": master,
        "executors": {"min": 0, "max": 3, "cores": 1, "memory": "768m"},
        "shuffle": {"manager": manager, "fallback": fallback},
    }
    return {
        'resources: {master: "local[2]"}': f"resources: {json.dumps(resources)}",
        'configuration: {spark.sql.shuffle.partitions: "4"}': f"configuration: {json.dumps(configuration)}",
    }


def published(project) -> pa.Table:
    """The scores, sorted, without the columns that name the run."""
    tables = [pq.read_table(io.BytesIO(data)) for path, data in sorted(project.published().items()) if "dt=" in path]
    table = pa.concat_tables(tables)
    return table.drop_columns(["_run_id", "_plan_hash"]).sort_by("flight_id")


def held_back(folder: Path, held: Path, go: Path) -> dict[str, str]:
    """Settings under which the executors' Python starts say that they are held, and wait to go: scoring has its maps, and no rows."""
    folder.mkdir()
    code = HOLD.replace("HELD", repr(str(held))).replace("GO", repr(str(go)))
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    paths = [str(folder), forks.DAEMONS, os.environ.get("PYTHONPATH", "")]
    return {"spark.executorEnv.PYTHONPATH": os.pathsep.join(paths)}


def start(project, plan) -> subprocess.Popen[str]:
    path = project.folder / "plan.json"
    path.write_text(plan.to_json(), encoding="utf-8")
    with (project.folder / "log").open("w") as log:
        return forks.Popen(
            [sys.executable, "-c", DRIVER, str(path)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=project.folder,
            env=dict(os.environ),
        )


def outputs(services: Services) -> set[Path]:
    """The map outputs that the services have in their catalogues."""
    return {path for node in NODES for path in (services.folder / f"outputs-{node}").glob("*/.service/outputs/*/*")}


def executors(standalone) -> list[int]:
    """Processes of the executors of the one application that runs."""
    (application,) = ask(f"{standalone.web_url}/json/")["activeapps"]
    wanted = {b"org.apache.spark.executor.CoarseGrainedExecutorBackend", application["id"].encode()}
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted <= set(path.read_bytes().split(b"\0")):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.long
def test_same_rows_as_with_sort_while_all_executors_and_a_service_die(cluster, project, tmp_path):
    services, standalone = cluster
    plain = project.pipeline(changes(standalone.master, "sort"))
    process = start(project, plain.plan(DAY))
    text, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (project.folder / "log").read_text()[-4000:]
    assert json.loads(text)["shuffle"] == {"asked": "sort", "used": "sort", "reason": "", "text": ""}
    expected = published(project)
    assert expected.num_rows == 60

    socket = {"spark.firesteel.shuffle.socket": str(services.socket)}
    held, go = tmp_path / "held", tmp_path / "go"
    settings = socket | held_back(tmp_path / "hold", held, go)
    process = start(
        project, project.pipeline(changes(standalone.master, "rdma", "fail", **settings)).plan(DAY, force=True)
    )
    try:
        wait_for(lambda: held.exists() or process.poll() is not None, "the score has its maps", PATIENCE_S)
        assert process.poll() is None, (project.folder / "log").read_text()[-4000:]
        assert outputs(services)
        victims = executors(standalone)
        assert victims
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        services.kill(THERE)
        services.start(THERE)
        wait_for(lambda: not any(map(runs, victims)), "the executors are gone")
        go.touch()
        text, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0, (project.folder / "log").read_text()[-4000:]
    result = json.loads(text)
    assert result["shuffle"]["used"] == "rdma"
    assert result["intervals"][0]["state"] == "published"
    assert published(project).equals(expected)
    assert project.leftovers() == []
    assert services.total("local_blocks") + services.total("remote_blocks") > 0  # who made them could not give them
    if RDMA_DEVICES:
        assert services.gauge("verbs_bytes") == services.total("remote_bytes") > 0, "every remote byte came by RDMA"
    tags = mlflow.MlflowClient(tracking_uri=project.tracking).get_run(result["mlflow_run_id"]).data.tags
    assert tags["firesteel.shuffle"] == "rdma"


def run(project, tmp_path, fallback: str) -> subprocess.CompletedProcess[str]:
    conf = {"spark.firesteel.shuffle.socket": str(tmp_path / "no.sock")}
    project.pipeline(changes("local[2]", "rdma", fallback, **conf))
    return firesteel("run", "--start", DAY, "--param", f"root={project.root}", folder=project.folder)


def test_without_a_service_it_says_why_it_runs_on_sort(project, tmp_path):
    done = run(project, tmp_path, "sort")
    assert done.returncode == 0, done.stderr
    assert "sort instead of rdma: this machine's shuffle service does not answer" in done.stderr
    assert project.rows() == 60
    (record,) = (project.folder / ".firesteel" / "runs").glob("*/result.json")
    result = json.loads(record.read_text())
    assert result["shuffle"]["reason"] == "NO_SERVICE"
    tags = mlflow.MlflowClient(tracking_uri=project.tracking).get_run(result["mlflow_run_id"]).data.tags
    assert tags["firesteel.shuffle"].endswith("(NO_SERVICE)")
    assert "sort instead of rdma" in record.with_name("report.html").read_text()


def test_fallback_fail_ends_the_run_before_anything_is_written(project, tmp_path):
    done = run(project, tmp_path, "fail")
    assert done.returncode == 1
    assert "FS9110" in done.stderr
    assert "this machine's shuffle service does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.published() == {}


def test_another_manager_is_an_error_of_the_spec(project):
    with pytest.raises(SpecErrors, match="FS1003|FS1004|FS1005"):
        project.pipeline(changes("local[2]", "ucx"))


def test_the_jar_comes_with_the_plugin_and_with_nothing_else():
    assert with_plugin({"spark.plugins": "org.example.Mine"}) == {"spark.plugins": "org.example.Mine"}
    conf = with_plugin({"spark.plugins": f"org.example.Mine,{PLUGIN}", "spark.jars": "/a.jar"})
    assert conf["spark.jars"] == f"/a.jar,{build_or_find()}"
    assert with_plugin(conf) == conf


@pytest.mark.parametrize(("words", "told"), [("", "b"), ("a", "a,b"), (" a , b ", "a,b"), ("b", "b")])
def test_a_word_joins_a_list_once(words, told):
    assert append_item(words, "b") == told
