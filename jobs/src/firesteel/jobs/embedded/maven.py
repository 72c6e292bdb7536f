"""Get jars from Maven's local repository, and download missing ones with Maven."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

from firesteel.conf.errors import RuntimeFault

FETCH_S = 600
_LONGEST = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Debian's mvn writes colours even with --batch-mode
_GOAL = re.compile(r"^Failed to execute goal \S+ \(default-cli\) on project [\w-]+: ")


def fetch(coordinates: str) -> Path:
    """Return the jar of `group:artifact:version`.

    Raises
    ------
    RuntimeFault
        FS9004 if the jar is missing and Maven is not installed or cannot download it.
    """
    group, artifact, version = coordinates.split(":")
    jar = _repository().joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")
    if jar.is_file():
        return jar
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeFault(
            "FS9004",
            f"{coordinates} is not in the local repository, and Maven is not installed.",
            hint="Install Maven, for example with `apt-get install maven`.",
        )
    args = [f"-Dartifact={coordinates}", "-Dtransitive=false", f"-Dmaven.repo.local={_repository()}"]
    command = [maven, "-q", "-B", "-Dstyle.color=never", "dependency:get", *args]
    try:
        completed = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _fetch_error(coordinates, f"no result within {FETCH_S} s") from None
    if completed.returncode:
        raise _fetch_error(
            coordinates, _reason(completed.stdout + completed.stderr) or f"mvn ended with {completed.returncode}"
        )
    if not jar.is_file():
        raise _fetch_error(coordinates, f"mvn succeeded, but {jar} does not exist")
    return jar


def _repository() -> Path:
    """Return Maven's local repository: `localRepository` of the user's settings, else ~/.m2/repository."""
    home = Path.home() / ".m2"
    try:
        root = ET.parse(home / "settings.xml").getroot()  # noqa: S314 - a file of the user
    except (FileNotFoundError, ET.ParseError):  # Maven reports an invalid file itself
        return home / "repository"
    configured = next((element.text for element in root if element.tag.rpartition("}")[2] == "localRepository"), None)
    return Path(configured.replace("${user.home}", str(Path.home()))) if configured else home / "repository"


def _reason(output: str) -> str:
    """Return the first error in Maven's output, without colours and without the failed goal."""
    lines = (_COLOUR.sub("", line).strip() for line in output.splitlines())
    errors = (line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]"))
    return _GOAL.sub("", next((error for error in errors if error), ""))[:_LONGEST]


def _fetch_error(coordinates: str, reason: str) -> RuntimeFault:
    return RuntimeFault(
        "FS9004",
        f"Maven cannot fetch {coordinates}: {reason}",
        hint="Check that Maven Central, or a mirror in ~/.m2/settings.xml, is reachable.",
    )
