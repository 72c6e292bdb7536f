"""The spark-submit command of a plan."""

from __future__ import annotations

import os
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.java import find_java
from firesteel.jobs.spark.secret_settings import public_settings, shown_settings
from firesteel.jobs.spark.session import launch_conf
from firesteel.jobs.submit.package import MODE_KEY, SubmitPackage
from firesteel.jobs.utf8 import use_utf8_locale

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

CLIENT_PACKAGE = SubmitPackage()
JAVA_OPTIONS = "spark.driver.extraJavaOptions"


def submit_line(
    plan: Plan, plan_file: Path, package: SubmitPackage = CLIENT_PACKAGE, *, secrets_file: str = "", run_id: str = ""
) -> list[str]:
    """Return the arguments of the command. It has what Spark needs before it starts; the rest is in the plan.

    Settings with secrets are references, which the driver resolves.

    Parameters
    ----------
    secrets_file
        A properties file with these settings, for spark-submit. They are then not in the command.
    run_id
        The id that the client has registered. The driver continues its heartbeat.
    """
    line = [
        str(_spark_home() / "bin" / "spark-submit"),
        "--master",
        plan.master,
        *(["--deploy-mode", package.mode] if package.mode == "cluster" else []),
        "--name",
        f"firesteel:{plan.pipeline}",
    ]
    log4j = log_settings()
    conf = submit_conf(plan, package)
    files = []
    if package.mode == "cluster":
        files = [str(plan_file.resolve()), str(log4j)]  # log4j2 finds the file by its name in the driver's folder
    else:
        conf.setdefault(JAVA_OPTIONS, f"-Dlog4j2.configurationFile=file:{log4j}")
    for key, value in sorted((public_settings(conf) if secrets_file else shown_settings(conf)).items()):
        line += ["--conf", f"{key}={value}"]
    if secrets_file:
        line += ["--properties-file", secrets_file, "--load-spark-defaults"]
    if package.py_files:
        line += ["--py-files", str(package.py_files)]
    if files:
        line += ["--files", ",".join(files)]
    entry = resources.files("firesteel.jobs") / "run_plan.py"
    if package.mode == "cluster":
        line += [str(entry), "--submission", package.id, "--plan", plan_file.name]
    else:
        line += [str(entry), "--plan", str(plan_file)]
    return [*line, "--run-id", run_id] if run_id else line


def submit_conf(plan: Plan, package: SubmitPackage = CLIENT_PACKAGE) -> dict[str, str]:
    """Return all settings of a submission except the application's name, with secrets as references."""
    conf = launch_conf(plan)
    conf.pop("spark.app.name")
    conf.pop(MODE_KEY, None)  # --deploy-mode sets it
    added = package.settings(plan.master, conf)
    added.pop(MODE_KEY, None)
    return {**conf, **added}


def submit_environment(plan: Plan) -> dict[str, str]:
    """Return the environment of the command. The driver, and local executors, use this Python interpreter."""
    environment = dict(os.environ)
    use_utf8_locale(environment)
    environment.setdefault("JAVA_HOME", str(find_java().home))
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    environment.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if plan.master.startswith(("local", "spark://127.0.0.1")):
        environment.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    return environment


def log_settings() -> Path:
    """Return the path of the log4j2 configuration, which logs warnings and errors."""
    return Path(str(resources.files("firesteel.conf") / "log4j2.properties"))


def _spark_home() -> Path:
    """Return SPARK_HOME, or the folder of the pyspark package, which is not imported."""
    if home := os.environ.get("SPARK_HOME"):
        return Path(home)
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        from firesteel.conf.errors import RuntimeFault

        raise RuntimeFault("FS9004", "pyspark is not installed.", hint="Run `pip install pyspark`, or set SPARK_HOME.")
    return Path(spec.origin).parent
