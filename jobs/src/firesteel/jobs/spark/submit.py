"""The spark-submit line of a plan."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.java import find_java
from firesteel.conf.secrets import reveal
from firesteel.jobs.spark.secret_settings import properties_file, public_settings, secret_keys, shown_settings
from firesteel.jobs.spark.session import launch_conf

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan


def submit_line(plan: Plan, plan_file: Path, py_files: Path | None = None, *, secrets_file: str = "") -> list[str]:
    """The words of the command. Everything that Spark must know before it starts is on it; the rest is in the plan.

    Settings that hold secrets stand on it as references, which the driver resolves.

    Parameters
    ----------
    secrets_file
        A properties file that has these settings for spark-submit itself: then they are not on the line.
    """
    line = [
        str(_spark_home() / "bin" / "spark-submit"),
        "--master",
        plan.master,
        "--name",
        f"firesteel:{plan.pipeline}",
    ]
    log4j = resources.files("firesteel.conf") / "log4j2.properties"
    conf = {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{log4j}", **launch_conf(plan)}
    conf.pop("spark.app.name")
    for key, value in sorted((public_settings(conf) if secrets_file else shown_settings(conf)).items()):
        line += ["--conf", f"{key}={value}"]
    if secrets_file:
        line += ["--properties-file", secrets_file, "--load-spark-defaults"]
    if py_files:
        line += ["--py-files", str(py_files)]
    entry = resources.files("firesteel.jobs") / "run_plan.py"
    return [*line, str(entry), "--plan", str(plan_file)]


def run_submission(plan: Plan, plan_file: Path, py_files: Path | None = None) -> int:
    """Run the line and return its exit code. Secrets go to spark-submit by a file in memory: `ps` shows command lines."""
    settings = launch_conf(plan)
    environment = submit_environment(plan)
    keys = secret_keys(settings)
    if not keys:
        return subprocess.run(submit_line(plan, plan_file, py_files), env=environment, check=False).returncode
    with properties_file({key: reveal(settings[key]) for key in keys}) as (path, descriptor):
        line = submit_line(plan, plan_file, py_files, secrets_file=path)
        return subprocess.run(line, env=environment, pass_fds=(descriptor,), check=False).returncode


def submit_environment(plan: Plan) -> dict[str, str]:
    """The environment for the line: this interpreter on the driver and, on one machine, on the executors."""
    environment = dict(os.environ)
    environment.setdefault("JAVA_HOME", str(find_java().home))
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    environment.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if plan.master.startswith(("local", "spark://127.0.0.1")):
        environment.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    return environment


def _spark_home() -> Path:
    """SPARK_HOME, or the Spark inside the pyspark package. Found without importing it."""
    if home := os.environ.get("SPARK_HOME"):
        return Path(home)
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        from firesteel.conf.errors import RuntimeFault

        raise RuntimeFault("FS9004", "pyspark is not installed.", hint="pip install pyspark, or set SPARK_HOME.")
    return Path(spec.origin).parent
