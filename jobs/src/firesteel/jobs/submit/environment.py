"""Pack a virtual environment into an archive, for machines that have the same Python interpreter and nothing else.

Python finds a virtual environment by its `pyvenv.cfg`, so the archive can be unpacked anywhere. Scripts contain absolute paths
and are omitted. `bin/python` stays a link to the base interpreter, which must have the same path on every machine.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

from firesteel.conf.errors import RuntimeFault

FIRESTEEL = "firesteel"
GZIP_LEVEL = 3
"""Level 6 takes twice as long and saves 3 % of the size, for pandas, pyarrow and scikit-learn."""

SPARK_FILES = ("pyspark/jars", "pyspark/bin", "pyspark/sbin", "pyspark/data", "pyspark/examples", "pyspark/python/lib")
"""400 MB that every cluster has: its containers use the cluster's Spark."""


@dataclass(frozen=True, slots=True)
class PackedEnvironment:
    """The content of an archive: the number of files, and their size before compression."""

    files: int
    unpacked_bytes: int
    interpreter: str


def pack(target: Path, prefix: Path | None = None, without: Iterable[str] = ()) -> PackedEnvironment:
    """Pack an environment into a .tar.gz. After an error there is no archive.

    Parameters
    ----------
    prefix
        The environment's folder; by default, that of this process.
    without
        Names of distributions to omit.

    Raises
    ------
    RuntimeFault
        FS9032: it is not a virtual environment, or has an editable install.
    """
    root = Path(sys.prefix) if prefix is None else prefix.resolve()
    if not (root / "pyvenv.cfg").is_file():
        raise RuntimeFault(
            "FS9032",
            f"{root} is not a virtual environment.",
            hint="Run firesteel from one (python3 -m venv), or use conda-pack for a conda environment.",
        )
    libraries = _libraries(root)
    omitted = _omitted_files(libraries, {_normal(name) for name in without})
    interpreter = str((root / "bin" / "python").resolve())
    files = size = 0
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=GZIP_LEVEL) as archive:
            for path, name in _content(root, libraries, omitted):
                archive.add(path, name, recursive=False)
                files += 1
                size += 0 if path.is_symlink() else path.stat().st_size
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return PackedEnvironment(files, size, interpreter)


def _content(root: Path, libraries: Path, omitted: frozenset[str]) -> Iterator[tuple[Path, str]]:
    """Return the files and their names in the archive, always in the same order."""
    yield root / "pyvenv.cfg", "pyvenv.cfg"
    for link in sorted((root / "bin").glob("python*")):
        if link.is_symlink() or link.stat().st_size > 1 << 20:  # a link to or a copy of the interpreter, not a script
            yield link, f"bin/{link.name}"
    inside = libraries.relative_to(root)
    for path in _files(libraries):
        name = path.relative_to(libraries).as_posix()
        if name not in omitted and not name.startswith(tuple(f"{folder}/" for folder in SPARK_FILES)):
            yield path, f"{inside}/{name}"
    for package, path in _firesteel_code(libraries):
        yield path, f"{inside}/{package}"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() or path.is_symlink():
            yield path


def _libraries(root: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(root), "platbase": str(root)}))


def _omitted_files(libraries: Path, without: set[str]) -> frozenset[str]:
    """Return the files of omitted distributions, and the .pth files of an editable firesteel, which name local folders."""
    known: set[str] = set()
    omitted: list[str] = []
    for distribution in distributions(path=[str(libraries)]):
        name = _normal(distribution.metadata["Name"])
        known.add(name)
        editable = _editable(distribution)
        if name in without:
            omitted += _file_names(distribution)
        elif editable and name == FIRESTEEL:
            omitted += [file for file in _file_names(distribution) if file.endswith(".pth")]
        elif editable:
            raise RuntimeFault(
                "FS9032",
                f"{name} is an editable install of {editable}, so its code is outside the environment.",
                hint=f"Install it without --editable, or pass --without {name}.",
            )
    if unknown := sorted(without - known):
        raise RuntimeFault(
            "FS9032", f"{', '.join(unknown)} is not installed.", hint="Use a name that `pip list` shows."
        )
    return frozenset(omitted)


def _file_names(distribution: Distribution) -> list[str]:
    return [PurePosixPath(file).as_posix() for file in distribution.files or ()]


def _editable(distribution: Distribution) -> str:
    """Return the source folder of an editable install; empty for other installs."""
    facts = json.loads(distribution.read_text("direct_url.json") or "{}")
    return str(facts.get("url", "")) if facts.get("dir_info", {}).get("editable") else ""


def _firesteel_code(libraries: Path) -> Iterator[tuple[str, Path]]:
    """Return the packages of an editable firesteel, with the names that merge its component roots into one folder."""
    for distribution in distributions(name=FIRESTEEL, path=[str(libraries)]):
        if not _editable(distribution):
            continue
        for folder in map(Path, sys.modules[FIRESTEEL].__path__):
            for path in _files(folder):
                if "__pycache__" not in path.parts:
                    yield f"{FIRESTEEL}/{path.relative_to(folder).as_posix()}", path


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
