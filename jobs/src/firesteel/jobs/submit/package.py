"""Distribute a plan, its code and a Python environment to machines that may have nothing but Spark."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from firesteel.conf import yarn
from firesteel.conf.errors import RuntimeFault

ENVIRONMENT = "environment"
"""The folder beside each process in which the archive's content appears."""

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".jar")
"""What Spark unpacks: org.apache.spark.util.Utils.unpack."""

ARCHIVES_KEY, PYTHON_KEY, DRIVER_PYTHON_KEY = "spark.archives", "spark.pyspark.python", "spark.pyspark.driver.python"
MODE_KEY = "spark.submit.deployMode"
WAIT_KEY, TAGS_KEY = "spark.yarn.submit.waitAppCompletion", "spark.yarn.tags"

Mode = Literal["client", "cluster"]


@dataclass(frozen=True, slots=True)
class SubmitPackage:
    """What a submission distributes, and where its driver runs.

    Parameters
    ----------
    mode
        Where the driver runs: here, or on the cluster.
    py_files
        The firesteel wheel, for machines that do not have it.
    archive
        A packed Python environment: a path, or a URI that the cluster reads. Unpacked beside each process.
    python
        An interpreter that is on every machine, instead of an archive; this one by default.
    id
        Names the submission on the cluster and in the storage: where the driver leaves its result in cluster mode.
    """

    mode: Mode = "client"
    py_files: Path | None = None
    archive: str = ""
    python: str = ""
    id: str = ""

    def check(self, master: str) -> None:
        """Check that Spark supports this package on `master`.

        Raises
        ------
        RuntimeFault
            FS9030: the deploy mode, the archive or the interpreter is not usable.
        """
        if self.mode == "cluster" and not master.startswith(("yarn", "k8s://")):
            raise RuntimeFault(
                "FS9030",
                f"Spark runs no Python driver on {master}: deploy mode cluster needs YARN or Kubernetes.",
                hint="Use --deploy-mode client.",
            )
        if master == "yarn" and not yarn.configured():
            raise RuntimeFault(
                "FS9030",
                "the master is yarn, and neither HADOOP_CONF_DIR nor YARN_CONF_DIR is set.",
                hint="Point HADOOP_CONF_DIR at the cluster's client configuration.",
            )
        if self.archive and self.python:
            raise RuntimeFault(
                "FS9030", "both an archive and an interpreter are given.", hint="An archive holds its own interpreter."
            )
        path, _, alias = self.archive.partition("#")
        if path and not path.endswith(ARCHIVES):
            raise RuntimeFault(
                "FS9030",
                f"{path} is not an archive that Spark unpacks: {', '.join(ARCHIVES)}.",
                hint="`firesteel pack` makes one.",
            )
        if path and not urlsplit(path).scheme and not Path(path).is_file():
            raise RuntimeFault("FS9030", f"the archive {path} is not there.", hint="`firesteel pack` makes one.")
        if "/" in alias:
            raise RuntimeFault("FS9030", f"`{alias}` is not a folder's name.", hint="Write ARCHIVE#NAME.")

    def settings(self, master: str, conf: Mapping[str, str]) -> dict[str, str]:
        """Return the settings that select the interpreters, and on YARN the application's tag. Settings in `conf` take precedence."""
        made: dict[str, str] = {}
        if self.archive:
            path, _, alias = self.archive.partition("#")
            uri = path if urlsplit(path).scheme else Path(path).resolve().as_uri()
            others = conf.get(ARCHIVES_KEY)
            made[ARCHIVES_KEY] = ",".join([*([others] if others else []), f"{uri}#{alias or ENVIRONMENT}"])
            made[PYTHON_KEY] = f"./{alias or ENVIRONMENT}/bin/python"
        elif self.python or (master == "yarn" and PYTHON_KEY not in conf):
            made[PYTHON_KEY] = self.python or sys.executable
        if self.mode == "cluster":
            made[MODE_KEY] = "cluster"
        elif PYTHON_KEY in made:
            made[DRIVER_PYTHON_KEY] = conf.get(DRIVER_PYTHON_KEY) or sys.executable
        if master == "yarn" and self.id:
            tags = conf.get(TAGS_KEY)
            made[TAGS_KEY] = f"{tags},{self.tag}" if tags else self.tag
        return made

    @property
    def tag(self) -> str:
        """The application's tag on YARN, which stores tags in lower case."""
        return f"firesteel-{self.id}".lower()


def importable(wheel: Path, folder: Path) -> Path:
    """A wheel under a name that Spark puts on executors' paths: pyspark passes over all but .zip, .egg and .jar."""
    if wheel.suffix != ".whl":
        return wheel
    target = folder / f"{wheel.stem}.zip"
    shutil.copyfile(wheel, target)
    return target
