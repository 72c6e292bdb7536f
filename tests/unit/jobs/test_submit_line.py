"""The spark-submit line: what travels, which interpreter, and what Spark could not do."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.submit.command import submit_conf, submit_line
from firesteel.jobs.submit.package import SubmitPackage, copy_as_zip
from support.sample_run import sample_plan


@pytest.fixture
def plan(tmp_path):
    return sample_plan(root=f"file://{tmp_path}")


@pytest.fixture(autouse=True)
def configured(monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop/conf")


def options(line: list[str]) -> dict[str, str]:
    """Options and settings by name."""
    pairs = list(itertools.pairwise(line))
    found = {word: value for word, value in pairs if word.startswith("--") and word != "--conf"}
    return found | dict(value.split("=", 1) for word, value in pairs if word == "--conf")


def test_in_client_mode_the_driver_is_this_interpreter_and_nothing_travels(plan, tmp_path):
    found = options(submit_line(plan, tmp_path / "p.json", SubmitPackage(id="S7")))
    assert "--deploy-mode" not in found
    assert "--files" not in found
    assert found["spark.pyspark.python"] == found["spark.pyspark.driver.python"] == sys.executable
    assert found["spark.yarn.tags"] == "firesteel-s7"
    assert found["--plan"] == str(tmp_path / "p.json")


def test_in_cluster_mode_plan_code_environment_and_log_settings_travel(plan, tmp_path):
    archive, wheel = tmp_path / "env.tar.gz", tmp_path / "firesteel-1-py3-none-any.whl"
    archive.touch()
    package = SubmitPackage("cluster", wheel, str(archive), id="S7")
    package.check("yarn")
    line = submit_line(plan, tmp_path / "p.json", package)
    found = options(line)
    assert found["--deploy-mode"] == "cluster"
    assert found["spark.archives"] == f"file://{archive}#environment"
    assert found["spark.pyspark.python"] == "./environment/bin/python"
    assert "spark.pyspark.driver.python" not in found
    assert "spark.driver.extraJavaOptions" not in found  # it would name a file of this machine
    assert found["--py-files"] == str(wheel)
    files = found["--files"].split(",")
    assert [Path(file).name for file in files] == ["p.json", "log4j2.properties"]
    assert line[-4:] == ["--submission", "S7", "--plan", "p.json"]


def test_an_archive_on_the_cluster_keeps_its_name_and_others_stay(plan):
    with_others = replace(plan, spark_conf=(("spark.archives", "hdfs:///a.zip#a"), ("spark.yarn.tags", "nightly")))
    found = submit_conf(with_others, SubmitPackage("cluster", None, "hdfs:///envs/e.tgz#e7", id="x"))
    assert found["spark.archives"] == "hdfs:///a.zip#a,hdfs:///envs/e.tgz#e7"
    assert found["spark.pyspark.python"] == "./e7/bin/python"
    assert found["spark.yarn.tags"] == "nightly,firesteel-x"


def test_an_interpreter_of_the_spec_is_kept(plan):
    with_python = replace(plan, spark_conf=(("spark.pyspark.python", "/opt/py/bin/python"),))
    found = submit_conf(with_python, SubmitPackage(id="x"))
    assert found["spark.pyspark.python"] == "/opt/py/bin/python"
    assert submit_conf(with_python, SubmitPackage(python="/usr/bin/python3", id="x"))["spark.pyspark.python"] == (
        "/usr/bin/python3"
    )


@pytest.mark.parametrize(
    ("package", "master", "says"),
    [
        (SubmitPackage("cluster"), "local[2]", "cannot run a Python driver on local"),
        (SubmitPackage("cluster"), "spark://h:7077", "cannot run a Python driver on spark://h:7077"),
        (SubmitPackage(archive="/no/e.tar.gz"), "yarn", "/no/e.tar.gz does not exist"),
        (SubmitPackage(archive="/etc/passwd"), "yarn", "not an archive that Spark unpacks; expected .tar.gz"),
        (
            SubmitPackage(archive="hdfs:///e.zip", python="/usr/bin/python3"),
            "yarn",
            "--archive and --python exclude each other",
        ),
        (SubmitPackage(archive="hdfs:///e.zip#a/b"), "yarn", "`a/b` is not a folder name"),
    ],
)
def test_what_spark_cannot_do_is_said_before_it_starts(package, master, says):
    with pytest.raises(RuntimeFault, match="FS9030") as caught:
        package.check(master)
    assert says in caught.value.what


def test_yarn_without_a_configuration_is_said_before_spark_asks_nobody(monkeypatch):
    monkeypatch.delenv("HADOOP_CONF_DIR")
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    with pytest.raises(RuntimeFault, match="FS9030 the master is yarn, and neither HADOOP_CONF_DIR"):
        SubmitPackage().check("yarn")


def test_a_wheel_travels_as_what_spark_puts_on_executors_paths(tmp_path):
    from pyspark import SparkContext

    wheel = tmp_path / "firesteel-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    (tmp_path / "plans").mkdir()
    sent = copy_as_zip(wheel, tmp_path / "plans")
    assert sent == tmp_path / "plans" / "firesteel-0.1.0-py3-none-any.zip"
    assert sent.read_bytes() == b"PK"
    assert sent.suffix in SparkContext.PACKAGE_EXTENSIONS
    assert wheel.suffix not in SparkContext.PACKAGE_EXTENSIONS
    assert copy_as_zip(sent, tmp_path) == sent
