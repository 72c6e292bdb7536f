"""What an Airflow task asks of firesteel: the words, the environment, the cluster; without Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date

import pytest

from firesteel.jobs.cli.main import invoke
from firesteel_airflow.assets import partitions
from firesteel_airflow.call import Call, NoFiresteel, StatusUnavailable, find_command, parse_status
from firesteel_airflow.cluster import WrongConnection, cluster_of
from firesteel_airflow.parts import parts
from firesteel_airflow.provider import get_provider_info

CALL = Call(
    "/opt/firesteel/bin/firesteel",
    "pipeline.yaml",
    "2013-06-01",
    profile="prod",
    arguments=(("root", "hdfs://nn/ml"), ("cutoff", "0.7")),
    master="yarn",
    settings=(("spark.yarn.queue", "ml"),),
)


def test_what_lives_in_airflows_environment_imports_nothing_of_ours():
    modules = ("assets", "call", "cluster", "driver", "lineage", "outcome", "parts", "provider", "reaper")
    heavy = ("pyspark", "mlflow", "great_expectations", "pydantic", "click", "sqlglot", "requests", "airflow")
    code = f"import sys; import firesteel_airflow, {', '.join(f'firesteel_airflow.{module}' for module in modules)}; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "run pipeline.yaml --profile prod --param root=hdfs://nn/ml --param cutoff=0.7 --start 2013-06-01 --run-id R --master yarn --conf spark.yarn.queue=ml"),
        ({"mode": "submit", "master": "", "settings": (), "arguments": ()}, "submit pipeline.yaml --profile prod --start 2013-06-01 --run-id R --run"),
        ({"mode": "backfill", "end": "2013-06-30", "part": "2013-06-01..2013-06-07", "master": "", "settings": (), "arguments": (), "profile": ""}, "backfill pipeline.yaml --start 2013-06-01 --run-id R --end 2013-06-30 --part 2013-06-01..2013-06-07"),
    ],
)  # fmt: skip
def test_a_task_is_one_command_line_that_firesteel_takes(changes, words, capsys):
    call = Call.of({**CALL.as_dict(), **changes})
    made = call.driver("R")
    assert made == ["/opt/firesteel/bin/firesteel", *words.split()]
    assert invoke([*made[1:], "--help"]) == 0  # every option is one of the verb's
    assert "no such option" not in capsys.readouterr().err.lower()


def test_a_call_survives_the_way_through_a_trigger():
    assert Call.of(json.loads(json.dumps(CALL.as_dict()))) == CALL


def test_the_ledger_is_read_for_the_part_that_a_task_does():
    call = Call("firesteel", "p.yaml", "2013-01-01", end="2013-12-31", mode="backfill", part="2013-03-01..2013-03-31")
    assert call.status("R")[3:] == ["--start", "2013-03-01", "--run", "R", "--json", "--end", "2013-03-31"]


def test_nothing_of_airflows_reaches_the_driver():
    inherited = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgres://user:secret@db",
        "AIRFLOW_CONN_SPARK_DEFAULT": "{}",
        "AIRFLOW_HOME": "/opt/airflow",
        "_AIRFLOW_PROCESS_CONTEXT": "task",
        "PYTHONPATH": "/opt/airflow/site",
        "VIRTUAL_ENV": "/opt/airflow",
        "HADOOP_CONF_DIR": "/etc/hadoop",
        "PATH": "/usr/bin",
    }
    call = Call("firesteel", "p.yaml", "2013-06-01", environment=(("JAVA_HOME", "/jdk"),))
    assert call.surroundings(inherited) == {"HADOOP_CONF_DIR": "/etc/hadoop", "PATH": "/usr/bin", "JAVA_HOME": "/jdk"}


def test_an_answer_that_is_none_says_what_firesteel_said():
    errors = {"errors": [{"code": "FS8001", "what": "no NameNode answers.", "hint": "Check it."}], "exit_code": 1}
    with pytest.raises(StatusUnavailable, match=r"failed with exit code 1: FS8001 no NameNode answers\. Check it\."):
        parse_status(1, json.dumps(errors), "")
    with pytest.raises(StatusUnavailable, match="ModuleNotFoundError"):
        parse_status(1, "", "Traceback\nModuleNotFoundError: No module named 'click'\n")
    with pytest.raises(StatusUnavailable, match="is not JSON"):
        parse_status(0, "hello", "")


def test_a_command_that_is_not_there_is_named_with_what_to_set():
    with pytest.raises(
        NoFiresteel, match=r"the command /nowhere/firesteel does not exist on this machine\. Set \[firesteel\] command"
    ):
        find_command("/nowhere/firesteel")


def test_the_command_of_an_environment_without_pyspark_is_refused(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "firesteel"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    assert find_command(str(command)) == str(command)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("firesteel_airflow.call.find_spec", lambda _name: None)
    with pytest.raises(NoFiresteel, match="Airflow's environment"):
        find_command(str(command))


def test_a_connection_of_type_spark_says_where_spark_runs():
    extra = {
        "queue": "ml",
        "deploy-mode": "cluster",
        "namespace": "ns",
        "principal": "u@R",
        "keytab": "/k",
        "spark-binary": "x",
    }
    master, settings = cluster_of("c", "spark", "k8s://https://host", 6443, extra, submits=True)
    assert master == "k8s://https://host:6443"
    assert settings == {
        "spark.yarn.queue": "ml",
        "spark.submit.deployMode": "cluster",
        "spark.kubernetes.namespace": "ns",
        "spark.kerberos.principal": "u@R",
        "spark.kerberos.keytab": "/k",
    }
    assert cluster_of("c", "spark", "local[1]", None, {"deploy-mode": "client"}, submits=False) == ("local[1]", {})


@pytest.mark.parametrize(
    ("conn_type", "host", "extra", "problem"),
    [
        ("http", "yarn", {}, "the type 'http'; expected `spark`"),
        ("spark", "", {}, "has no host"),
        ("spark", "yarn", {"deploy-mode": "cluster"}, "Set mode='submit'"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_refused(conn_type, host, extra, problem):
    with pytest.raises(WrongConnection, match=problem):
        cluster_of("c", conn_type, host, None, extra, submits=False)


def test_partitions_are_told_once_by_the_task_that_published_them():
    result = {
        "pipeline": "p",
        "sinks": {"scores": "hdfs://nn/scores/"},
        "intervals": [
            {
                "interval": "2013-06-01",
                "published_by": "20130602T000000-ab59cc00",
                "partitions": ["dt=2013-06-01/origin=JFK"],
            },
            {
                "interval": "2013-06-02",
                "published_by": "20130602T000000-ffffffff",
                "partitions": ["dt=2013-06-02/origin=JFK"],
            },
            {"interval": "2013-06-03", "published_by": "", "partitions": []},
        ],
    }
    told = list(partitions(result, "ab59cc00"))
    assert [(each.uri, each.key) for each in told] == [
        ("hdfs://nn/scores/dt=2013-06-01/origin=JFK", "dt=2013-06-01/origin=JFK")
    ]
    assert told[0].facts["interval"] == "2013-06-01"


@pytest.mark.parametrize(
    ("first", "last", "every", "names", "ends"),
    [
        ("2013-01-15", "2013-03-10", "month", ["2013-01", "2013-02", "2013-03"], ["2013-01-31", "2013-02-28", "2013-03-10"]),
        ("2013-06-01", "2013-06-10", "week", ["2013-06-01", "2013-06-03", "2013-06-10"], ["2013-06-02", "2013-06-09", "2013-06-10"]),
        ("2012-12-31", "2013-01-01", "year", ["2012", "2013"], ["2012-12-31", "2013-01-01"]),
        ("2013-06-01", "2013-06-02", "day", ["2013-06-01", "2013-06-02"], ["2013-06-01", "2013-06-02"]),
    ],
)  # fmt: skip
def test_the_parts_of_a_backfill_cover_it_once(first, last, every, names, ends):
    made = list(parts(date.fromisoformat(first), date.fromisoformat(last), every))
    assert [name for name, _, _ in made] == names
    assert [str(closes) for _, _, closes in made] == ends
    assert str(made[0][1]) == first


def test_the_provider_tells_airflow_its_options():
    info = get_provider_info()
    options = info["config"]["firesteel"]["options"]
    assert set(options) == {"command", "work_folder"}
    assert all(
        set(option) == {"description", "version_added", "type", "example", "default"} for option in options.values()
    )
