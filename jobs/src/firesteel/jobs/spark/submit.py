"""The spark-submit line of a plan."""

from __future__ import annotations

import os
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.java import find_java
from firesteel.jobs.spark.session import launch_conf

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan


def submit_line(plan: Plan, plan_file: Path, py_files: Path | None = None) -> list[str]:
    """The words of the command. Everything that Spark must know before it starts is on it; the rest is in the plan."""
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
    for key, value in sorted(conf.items()):
        line += ["--conf", f"{key}={value}"]
    if py_files:
        line += ["--py-files", str(py_files)]
    entry = resources.files("firesteel.jobs") / "run_plan.py"
    return [*line, str(entry), "--plan", str(plan_file)]


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
