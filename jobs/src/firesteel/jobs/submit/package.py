"""What `submit` distributes to machines that may have only Spark: the firesteel wheel and a Python environment."""

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
"""The folder, in the working directory of each process, into which Spark unpacks the archive."""

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".jar")
"""The archive formats that Spark unpacks (org.apache.spark.util.Utils.unpack)."""

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
        Where the driver runs: `client` (this machine) or `cluster`.
    py_files
        The firesteel wheel, for machines that do not have it.
    archive
        A packed Python environment: a path, or a URI that the cluster can read.
    python
        The path of an interpreter on every machine, instead of an archive; by default, that of this process.
    id
        The id of the submission, on the cluster and in the storage.
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
                f"deploy mode cluster needs YARN or Kubernetes: Spark cannot run a Python driver on {master}.",
                hint="Use --deploy-mode client.",
            )
        if master == "yarn" and not yarn.configured():
            raise RuntimeFault(
                "FS9030",
                "the master is yarn, and neither HADOOP_CONF_DIR nor YARN_CONF_DIR is set.",
                hint="Set HADOOP_CONF_DIR to the folder of the cluster's client configuration.",
            )
        if self.archive and self.python:
            raise RuntimeFault(
                "FS9030",
                "--archive and --python exclude each other.",
                hint="Remove --python: an archive has its interpreter.",
            )
        path, _, alias = self.archive.partition("#")
        if path and not path.endswith(ARCHIVES):
            raise RuntimeFault(
                "FS9030",
                f"{path} is not an archive that Spark unpacks; expected {', '.join(ARCHIVES)}.",
                hint="Create one with `firesteel pack`.",
            )
        if path and not urlsplit(path).scheme and not Path(path).is_file():
            raise RuntimeFault(
                "FS9030", f"the archive {path} does not exist.", hint="Create one with `firesteel pack`."
            )
        if "/" in alias:
            raise RuntimeFault("FS9030", f"`{alias}` is not a folder name: it has a slash.", hint="Write ARCHIVE#NAME.")

    def settings(self, master: str, conf: Mapping[str, str]) -> dict[str, str]:
        """Return the settings that select the interpreters, and on YARN the application's tag. Settings in `conf` take precedence."""
        settings: dict[str, str] = {}
        if self.archive:
            path, _, alias = self.archive.partition("#")
            uri = path if urlsplit(path).scheme else Path(path).resolve().as_uri()
            others = conf.get(ARCHIVES_KEY)
            settings[ARCHIVES_KEY] = ",".join([*([others] if others else []), f"{uri}#{alias or ENVIRONMENT}"])
            settings[PYTHON_KEY] = f"./{alias or ENVIRONMENT}/bin/python"
        elif self.python or (master == "yarn" and PYTHON_KEY not in conf):
            settings[PYTHON_KEY] = self.python or sys.executable
        if self.mode == "cluster":
            settings[MODE_KEY] = "cluster"
        elif PYTHON_KEY in settings:
            settings[DRIVER_PYTHON_KEY] = conf.get(DRIVER_PYTHON_KEY) or sys.executable
        if master == "yarn" and self.id:
            tags = conf.get(TAGS_KEY)
            settings[TAGS_KEY] = f"{tags},{self.tag}" if tags else self.tag
        return settings

    @property
    def tag(self) -> str:
        """The application's tag on YARN, which stores tags in lower case."""
        return f"firesteel-{self.id}".lower()


def copy_as_zip(wheel: Path, folder: Path) -> Path:
    """Copy a wheel to a .zip, and return its path: pyspark adds only .zip, .egg and .jar files to the executors' sys.path."""
    if wheel.suffix != ".whl":
        return wheel
    target = folder / f"{wheel.stem}.zip"
    shutil.copyfile(wheel, target)
    return target
