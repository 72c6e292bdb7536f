"""A virtual environment as one archive, for machines that have the same interpreter and nothing else.

A virtual environment finds itself by where its `pyvenv.cfg` lies, so it may be unpacked anywhere; only scripts name the
place where they were made, and are left out. `bin/python` stays a link to the interpreter it was made from: that one must be
at the same path on every machine.
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

OURS = "firesteel"
LEVEL = 3
"""Of gzip; 6 takes twice as long for 3 % less, on pandas, pyarrow and scikit-learn."""

SPARKS_OWN = ("pyspark/jars", "pyspark/bin", "pyspark/sbin", "pyspark/data", "pyspark/examples", "pyspark/python/lib")
"""400 MB that every cluster has already; its containers run with the cluster's Spark."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What an archive holds: files, and their bytes before compression."""

    files: int
    unpacked_bytes: int
    interpreter: str


def pack(target: Path, prefix: Path | None = None, without: Iterable[str] = ()) -> Packed:
    """Write an environment to a .tar.gz, whole or not at all.

    Parameters
    ----------
    prefix
        The environment's folder; that of this process by default.
    without
        Names of distributions to leave out.

    Raises
    ------
    RuntimeFault
        FS9032 when it is no virtual environment, or code of it lies outside.
    """
    root = Path(sys.prefix) if prefix is None else prefix.resolve()
    if not (root / "pyvenv.cfg").is_file():
        raise RuntimeFault(
            "FS9032",
            f"{root} is no virtual environment.",
            hint="Run firesteel from one (python3 -m venv), or use conda-pack for a conda environment.",
        )
    libraries = _libraries(root)
    left_out = _left_out(libraries, {_normal(name) for name in without})
    interpreter = str((root / "bin" / "python").resolve())
    files = size = 0
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=LEVEL) as archive:
            for path, name in _content(root, libraries, left_out):
                archive.add(path, name, recursive=False)
                files += 1
                size += 0 if path.is_symlink() else path.stat().st_size
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return Packed(files, size, interpreter)


def _content(root: Path, libraries: Path, left_out: frozenset[str]) -> Iterator[tuple[Path, str]]:
    """Files and their names in the archive, sorted: the same environment gives the same order."""
    yield root / "pyvenv.cfg", "pyvenv.cfg"
    for link in sorted((root / "bin").glob("python*")):
        if link.is_symlink() or link.stat().st_size > 1 << 20:  # a link to the interpreter, or a copy; not a script
            yield link, f"bin/{link.name}"
    inside = libraries.relative_to(root)
    for path in _files(libraries):
        name = path.relative_to(libraries).as_posix()
        if name not in left_out and not name.startswith(tuple(f"{each}/" for each in SPARKS_OWN)):
            yield path, f"{inside}/{name}"
    for package, path in _our_code(libraries):
        yield path, f"{inside}/{package}"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() or path.is_symlink():
            yield path


def _libraries(root: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(root), "platbase": str(root)}))


def _left_out(libraries: Path, without: set[str]) -> frozenset[str]:
    """Files of what is left out, and the hooks of editable installs, which name folders of this machine."""
    known: set[str] = set()
    names: list[str] = []
    for found in distributions(path=[str(libraries)]):
        name = _normal(found.metadata["Name"])
        known.add(name)
        editable = _editable(found)
        if name in without:
            names += _names(found)
        elif editable and name == OURS:
            names += [each for each in _names(found) if each.endswith(".pth")]
        elif editable:
            raise RuntimeFault(
                "FS9032",
                f"{name} is installed as a link to {editable}: its code is not in the environment.",
                hint=f"pip install it without --editable, or pack --without {name}.",
            )
    if unknown := sorted(without - known):
        raise RuntimeFault("FS9032", f"{', '.join(unknown)} is not installed.", hint="Look at `pip list`.")
    return frozenset(names)


def _names(found: Distribution) -> list[str]:
    return [PurePosixPath(file).as_posix() for file in found.files or ()]


def _editable(found: Distribution) -> str:
    """Where an editable install points to; empty for all others."""
    facts = json.loads(found.read_text("direct_url.json") or "{}")
    return str(facts.get("url", "")) if facts.get("dir_info", {}).get("editable") else ""


def _our_code(libraries: Path) -> Iterator[tuple[str, Path]]:
    """Our own packages, where a checkout is installed: one folder in the archive for what are several here."""
    for found in distributions(name=OURS, path=[str(libraries)]):
        if not _editable(found):
            continue
        for folder in map(Path, sys.modules[OURS].__path__):
            for path in _files(folder):
                if "__pycache__" not in path.parts:
                    yield f"{OURS}/{path.relative_to(folder).as_posix()}", path


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
