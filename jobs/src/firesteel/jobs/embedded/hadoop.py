"""Build the commands and configuration files of Hadoop daemons."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from firesteel.conf.hadoop import site_xml
from firesteel.conf.java import find_java
from firesteel.jobs.embedded import maven
from firesteel.jobs.embedded.cluster import pyspark_home

SERVER = "org.apache.hadoop:hadoop-client-minicluster:3.5.0"
"""The shaded servers, in the version of the client that pyspark 4.3 bundles. Its jars complete the class path."""

CERTIFICATES = tuple(f"org.bouncycastle:bc{part}-jdk18on:1.82" for part in ("prov", "pkix", "util"))
"""Certificate libraries of the ResourceManager's proxy, which the shaded jar lacks. The version is from Hadoop 3.5.0's POM."""

_JARS = (
    "hadoop-client-api", "hadoop-client-runtime", "slf4j-api", "log4j-api", "log4j-core", "log4j-slf4j2-impl",
    "jcl-over-slf4j", "log4j-1.2-api", "snappy-java",
)  # fmt: skip
_JVM = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # C2 does not pay off for servers that run for minutes
    "-Djava.net.preferIPv4Stack=true",
)


class Jvm:
    """Builds the commands of Hadoop daemons. One per cluster start, because finding Java runs `java -version`."""

    def __init__(self, *more: str, jars: Sequence[Path] = ()) -> None:
        """Set the class path. `more` are Maven coordinates of additional jars, and `jars` are local ones."""
        spark_jars = pyspark_home() / "jars"
        jar_paths = (str(jar) for name in _JARS for jar in sorted(spark_jars.glob(f"{name}-[0-9]*.jar")))
        self.java = find_java()
        self._path = os.pathsep.join(
            [*(str(maven.fetch(coordinates)) for coordinates in (SERVER, *more)), *map(str, jars), *jar_paths]
        )
        log4j = resources.files("firesteel.jobs.embedded") / "log4j2.properties"
        self._args = (str(self.java.executable), *_JVM, f"-Dlog4j2.configurationFile=file:{log4j}")

    def command(self, main: str, conf: Path, heap_mib: int = 256) -> list[str]:
        """Return the command that starts the class `org.apache.hadoop.<main>` with the configuration in `conf`."""
        path = os.pathsep.join([str(conf), self._path])
        return [*self._args, f"-Xmx{heap_mib}m", "-cp", path, f"org.apache.hadoop.{main}"]


def core_site(default_fs: str, folder: Path) -> dict[str, str]:
    """Return the `core-site.xml` settings of a cluster in `folder`."""
    user = getpass.getuser()
    return {
        "fs.defaultFS": default_fs,
        "hadoop.http.staticuser.user": user,
        f"hadoop.proxyuser.{user}.hosts": "127.0.0.1",
        "hadoop.tmp.dir": str(folder / "tmp"),
    }


def write_conf(folder: Path, **files: Mapping[str, str]) -> None:
    """Write each keyword `NAME=settings` to `NAME-site.xml`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, settings in files.items():
        (folder / f"{name}-site.xml").write_text(site_xml(settings), encoding="utf-8")
