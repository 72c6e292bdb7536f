"""The jar of the shuffle plugin: part of the wheel or, in a checkout, compiled once into the user's cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.java import find_java

NAME = "firesteel-shuffle.jar"
SOURCES = Path(__file__).parents[3] / "java" / "src"
RELEASE = "17"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time of the zip format, so that equal sources give equal jars


def build_or_find() -> Path:
    """Return the path of the jar, for `spark.jars` or a class path.

    Returns
    -------
    Path
        The file in an installed wheel, else a file in the user's cache directory. Its name holds a digest of the
        sources and of Spark's version, so that it is compiled again only when these change.

    Raises
    ------
    RuntimeFault
        FS9001 without a JDK, FS9004 without pyspark, FS9006 when the sources do not compile.
    """
    shipped = resources.files(__package__).joinpath(NAME)
    if isinstance(shipped, Path):
        if shipped.is_file():
            return shipped
    elif shipped.is_file():  # the wheel itself is on the path: Spark needs a real file
        data = shipped.read_bytes()
        target = _cache() / f"shuffle-{hashlib.sha256(data).hexdigest()[:16]}.jar"
        if not target.is_file():
            _put(target, lambda path: path.write_bytes(data))
        return target
    jars = spark_jars()
    target = _cache() / f"shuffle-{digest(SOURCES, jars)[:16]}.jar"
    if not target.is_file():
        _put(target, lambda path: compile_jar(path, SOURCES, jars))
    return target


def spark_jars() -> Path:
    """Return the folder of jars of the installed pyspark, without importing it."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeFault("FS9004", "pyspark is not installed.", hint="pip install 'pyspark>=4.3,<4.4'")
    return Path(spec.submodule_search_locations[0], "jars")


def digest(sources: Path, jars: Path) -> str:
    """Return the SHA-256 of the sources and of the name of Spark's core jar, which contains its version."""
    state = hashlib.sha256(" ".join(sorted(path.name for path in jars.glob("spark-core_*.jar"))).encode())
    for path in _java_files(sources):
        state.update(path.relative_to(sources).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def compile_jar(target: Path, sources: Path, jars: Path) -> None:
    """Compile the sources, with warnings as errors, and write the jar. Equal sources give equal bytes."""
    javac = find_java().home / "bin" / "javac"
    if not javac.is_file():
        raise RuntimeFault("FS9001", f"{javac} is missing: this is a JRE.", hint="Install JDK 17 and set JAVA_HOME.")
    with tempfile.TemporaryDirectory() as folder:
        # -path: the manifests of Spark's jars name jars that Spark does not ship.
        options = ["--release", RELEASE, "-Xlint:all,-path", "-Werror", "-cp", f"{jars}/*", "-d", folder]
        files = [str(path) for path in _java_files(sources)]
        done = subprocess.run(
            [str(javac), *options, *files],
            capture_output=True,
            encoding="utf-8",
            check=False,
            errors="replace",
            timeout=300,
        )
        if done.returncode:
            raise RuntimeFault("FS9006", f"The shuffle plugin does not compile:\n{done.stderr.strip()}")
        classes = Path(folder)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as jar:
            jar.writestr(zipfile.ZipInfo("META-INF/MANIFEST.MF", _EPOCH), "Manifest-Version: 1.0\r\n\r\n")
            for path in sorted(classes.rglob("*.class")):
                jar.writestr(zipfile.ZipInfo(path.relative_to(classes).as_posix(), _EPOCH), path.read_bytes())


def _java_files(sources: Path) -> list[Path]:
    files = sorted(sources.rglob("*.java"))
    if not files:
        raise RuntimeFault(
            "FS9006",
            f"The shuffle plugin is missing: there is neither {NAME} nor its sources in {sources}.",
            hint="Install firesteel's wheel, or work in a checkout.",
        )
    return files


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "firesteel"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _put(target: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file and rename it: another process may do the same."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        temporary = Path(folder, target.name)
        write(temporary)
        temporary.replace(target)
