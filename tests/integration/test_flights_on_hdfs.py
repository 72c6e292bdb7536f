"""The main job on the real thing: real flights on a real HDFS, scored, gated, published, tracked."""

from __future__ import annotations

import datetime
import json

import pytest

from firesteel.jobs.demo.flights import load_flights
from firesteel.pipelines.storage.open import locate
from support.runs import Project, firesteel

pytestmark = pytest.mark.integration

DAYS = (datetime.date(2013, 6, 1), datetime.date(2013, 6, 3))


@pytest.fixture(scope="module")
def hdfs_environ(hdfs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
        yield {"HADOOP_CONF_DIR": str(hdfs.conf_dir)}


@pytest.fixture(scope="module")
def flights(hdfs, hdfs_environ, flight_model, tmp_path_factory) -> Project:
    root = f"{hdfs.uri}/flights-test"
    load_flights(root, days=DAYS)
    return Project(tmp_path_factory.mktemp("flights"), root, flight_model)


def options(project: Project) -> list[str]:
    return ["--param", f"root={project.root}"]


def test_real_flights_are_scored_from_hdfs_to_hdfs(flights, hdfs_environ):
    flights.pipeline()
    done = firesteel(
        "run", "--start", "2013-06-01", "--end", "2013-06-02", *options(flights), "--json", folder=flights.folder
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["state"] == "published"
    counts = result["counts"]
    assert counts["rows_in"] == counts["scored"] == flights.rows() == 754 + 911
    assert {path.rpartition("/")[0] for path in flights.published()} == {
        f"dt=2013-06-0{day}/origin={origin}" for day in (1, 2) for origin in ("EWR", "JFK", "LGA")
    }
    assert flights.leftovers() == []
    again = firesteel(
        "run", "--start", "2013-06-01", "--end", "2013-06-02", *options(flights), "--json", folder=flights.folder
    )
    assert [interval["state"] for interval in json.loads(again.stdout)["intervals"]] == ["skipped", "skipped"]


def test_the_plan_of_hdfs_is_shown_with_reasons(flights, hdfs_environ):
    flights.pipeline()
    done = firesteel("plan", "--start", "2013-06-03", *options(flights), folder=flights.folder)
    assert done.returncode == 0, done.stderr
    assert "not published yet" in done.stdout
    assert "models:/flight_delay@champion: v1, sha256" in done.stdout


def test_a_partition_that_is_missing_on_hdfs_stops_before_anything_is_written(flights, hdfs_environ):
    flights.pipeline()
    done = firesteel("run", "--start", "2013-06-30", *options(flights), folder=flights.folder)
    assert done.returncode == 4
    assert "FS4002 flights 2013-06-30:" in done.stderr.replace("  ", " ")
    storage, path = locate(f"{flights.root}/scores/dt=2013-06-30")
    assert storage.status(path) is None


@pytest.mark.long
def test_spark_submit_runs_the_plan_on_a_standalone_cluster(flights, hdfs_environ, standalone):
    flights.pipeline()
    run_id = "20130603T000000-ab59cc"
    words = ["submit", "--start", "2013-06-03", "--master", standalone.master, "--run", *options(flights)]
    done = firesteel(*words, "--run-id", run_id, folder=flights.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"--master {standalone.master}" in done.stdout
    assert "PUBLISHED" in done.stdout
    status = firesteel("status", *options(flights), "--json", folder=flights.folder)
    assert "2013-06-03" in {
        record["interval"] for record in json.loads(status.stdout) if record["state"] == "published"
    }
    words = ["status", "--start", "2013-06-03T00:00:00+00:00", "--run", "ab59cc", *options(flights), "--json"]
    state = json.loads(firesteel(*words, folder=flights.folder).stdout)
    (run,), (interval,) = state["runs"], state["intervals"]
    assert (run["state"], run["exit_code"], run["brief"]["run_id"]) == ("ended", 0, run_id)
    assert run["brief"]["rows"]["scored"] == interval["published"]["rows"]["scored"] > 0
    assert (interval["published"]["run_id"], interval["held_by"]) == (run_id, None)
    assert interval["published"]["partitions"] == run["brief"]["intervals"][0]["partitions"]


def test_doctor_finds_the_storage_and_the_registry(flights, hdfs_environ):
    flights.pipeline()
    done = firesteel("doctor", *options(flights), "--json", folder=flights.folder)
    checks = {check["subject"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {
        name: checks[name]["state"] for name in ("java", "packages", "hadoop", "spec", "storage", "mlflow")
    } == dict.fromkeys(("java", "packages", "hadoop", "spec", "storage", "mlflow"), "ok")
