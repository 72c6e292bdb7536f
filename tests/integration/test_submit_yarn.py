"""Plans on a real YARN in cluster mode: what travels, what comes back, and the ledger's word. Client mode and harm: fault/."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import venv
from pathlib import Path

import pytest

from firesteel.jobs.demo.flights import load_flights
from firesteel.jobs.spark.environment import pack
from support import leaks
from support.runs import Project
from support.yarn_runs import attempts, leftovers, made, on_yarn, published_bytes, submitted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

DATABASE = "db-91f7c2e4d05b"
KEY = "Kx7 q\"1'&<\\€:=#!%+ä-Zt9vQ"
SMALL = """{master: yarn, executors: {min: 1, max: 2, cores: 1, memory: 512m}}
configuration:
  spark.sql.shuffle.partitions: "2"
  spark.executor.memoryOverhead: 512m
  spark.driver.memory: 768m
  spark.hadoop.demo.store: "${secret:store/key}\""""
GATE = """
gates:
  output_ok:
    on: sink:scores
    expect: [{type: expect_column_values_to_be_between, column: p, min_value: 2, max_value: 3}]
"""


@pytest.fixture
def archive(tmp_path) -> Path:
    """An environment of an interpreter and one line that says where the packages are; firesteel is not among them."""
    made = tmp_path / "made"
    venv.EnvBuilder(with_pip=False, symlinks=True).create(made)
    own = next((made / "lib").glob("python*")) / "site-packages"
    # A .pth file is read for folders of the environment only: not the one that points to this checkout.
    own.joinpath("packages.pth").write_text(f"{Path(sys.prefix, own.relative_to(made))}\n")
    pack(tmp_path / "environment.tar.gz", made)
    shutil.rmtree(made)
    return tmp_path / "environment.tar.gz"


@pytest.fixture
def flights(yarn_env, flight_model, tmp_path) -> Project:
    """Real flights of a day in the highly available HDFS, tracked in a database whose name is a secret."""
    known = Path(flight_model.removeprefix("sqlite:///"))
    shutil.copy(known, known.with_name(f"{DATABASE}.db"))
    root = f"{yarn_env.hdfs.uri}/flights"
    day = datetime.date(2013, 6, 1)
    load_flights(root, days=(day, day))
    return Project(tmp_path / "flights", root, f"sqlite:///{known.parent}/${{secret:mlflow/database}}.db")


def test_flights_are_scored_by_a_driver_on_the_cluster_that_had_nothing_but_what_was_sent(
    flights, yarn, archive, wheel
):
    flights.pipeline({'{master: "local[2]"}': SMALL, 'configuration: {spark.sql.shuffle.partitions: "4"}\n': ""})
    words = [sys.executable, "-m", "firesteel.jobs.cli.main", "submit", "--start", "2013-06-01", "--run"]
    words += ["--param", f"root={flights.root}", "--deploy-mode", "cluster"]
    words += ["--archive", str(archive), "--py-files", str(wheel)]
    secrets = {"FIRESTEEL_SECRET_MLFLOW_DATABASE": DATABASE, "FIRESTEEL_SECRET_STORE_KEY": KEY}
    done, lines = leaks.run(words, flights.folder, {**os.environ, **secrets}, timeout_s=560)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.splitlines()[0]
    assert "--deploy-mode cluster" in printed
    assert "spark.pyspark.python=./environment/bin/python" in printed
    assert "'spark.hadoop.demo.store=${secret:store/key}'" in printed
    assert "FINISHED SUCCEEDED" in done.stderr
    assert "PUBLISHED" in done.stdout
    assert flights.rows() == 754
    report = next((flights.folder / ".firesteel" / "runs").rglob("report.html"))
    assert "flight_delay_scores" in report.read_text()
    assert flights.leftovers() == []
    assert leaks.in_text(done.stdout + done.stderr + "\n".join(lines), DATABASE, KEY) == []
    assert leaks.in_files(flights.folder, DATABASE, KEY, but=Path("/nothing")) == []
    logs = [path for path in yarn.folder.glob("container-logs-*/*/*/*") if path.is_file()]
    assert any(path.name == "stderr" for path in logs)
    assert [path for path in logs if leaks.in_text(path.read_bytes(), DATABASE, KEY)] == []


def test_a_gate_that_fails_on_the_cluster_gives_its_exit_code_and_no_second_driver_scores_again(yarn_env, tmp_path):
    project = made(tmp_path, f"{yarn_env.hdfs.uri}/refused", "logistic")
    on_yarn(project, GATE)
    done = submitted(project, "--deploy-mode", "cluster")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "FS7001" in done.stderr
    assert "FAILED  points" in done.stdout
    assert "driver 2" in done.stderr  # YARN starts one after every bad end
    assert [each.state for each in attempts(project)] == ["failed"]
    assert not published_bytes(project)
    assert leftovers(project) == []
