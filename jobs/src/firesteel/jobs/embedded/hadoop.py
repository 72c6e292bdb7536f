"""Hadoop's daemons as commands: the JVM, its class path, and the XML files they are configured by."""

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
"""The servers, shaded; the same version as the client that pyspark 4.3 bundles, which is the rest of the class path."""

CERTIFICATES = tuple(f"org.bouncycastle:bc{part}-jdk18on:1.82" for part in ("prov", "pkix", "util"))
"""What the ResourceManager's proxy makes certificates with: not in the shaded jar. The version of Hadoop 3.5.0's own pom."""

_JARS = (
    "hadoop-client-api", "hadoop-client-runtime", "slf4j-api", "log4j-api", "log4j-core", "log4j-slf4j2-impl",
    "jcl-over-slf4j", "log4j-1.2-api", "snappy-java",
)  # fmt: skip
_JVM = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # servers that live for minutes: C2 costs more than it gives
    "-Djava.net.preferIPv4Stack=true",
)


class Jvm:
    """How to start one of Hadoop's daemons. Made once per start of a cluster: finding Java takes a `java -version`."""

    def __init__(self, *more: str, jars: Sequence[Path] = ()) -> None:
        """`more` are coordinates of further jars to be fetched, `jars` are some that are there."""
        sparks = pyspark_home() / "jars"
        found = (str(jar) for name in _JARS for jar in sorted(sparks.glob(f"{name}-[0-9]*.jar")))
        self.java = find_java()
        self._path = os.pathsep.join([*(str(maven.fetch(each)) for each in (SERVER, *more)), *map(str, jars), *found])
        log4j = resources.files("firesteel.jobs.embedded") / "log4j2.properties"
        self._words = (str(self.java.executable), *_JVM, f"-Dlog4j2.configurationFile=file:{log4j}")

    def command(self, main: str, conf: Path, heap_mib: int = 256) -> list[str]:
        """The words that start the class `main` below `org.apache.hadoop` with the configuration in `conf`."""
        path = os.pathsep.join([str(conf), self._path])
        return [*self._words, f"-Xmx{heap_mib}m", "-cp", path, f"org.apache.hadoop.{main}"]


def core_site(default_fs: str, folder: Path) -> dict[str, str]:
    """`core-site.xml` of a cluster that keeps its files in `folder`."""
    user = getpass.getuser()
    return {
        "fs.defaultFS": default_fs,
        "hadoop.http.staticuser.user": user,
        f"hadoop.proxyuser.{user}.hosts": "127.0.0.1",
        "hadoop.tmp.dir": str(folder / "tmp"),
    }


def write_conf(folder: Path, **files: Mapping[str, str]) -> None:
    """Write `core=...` to `core-site.xml`, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, settings in files.items():
        (folder / f"{name}-site.xml").write_text(site_xml(settings), encoding="utf-8")
