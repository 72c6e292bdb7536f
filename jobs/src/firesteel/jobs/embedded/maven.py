"""Jars from Maven's local repository, fetched by Maven itself when they are not there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

from firesteel.conf.errors import RuntimeFault

FETCH_S = 600
_LONGEST = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Debian's mvn writes them even where --batch-mode forbids it
_GOAL = re.compile(r"^Failed to execute goal \S+ \(default-cli\) on project [\w-]+: ")


def fetch(coordinates: str) -> Path:
    """The jar of `group:artifact:version`.

    Raises
    ------
    RuntimeFault
        FS9004 when it has to be fetched and there is no Maven, or Maven cannot fetch it.
    """
    group, artifact, version = coordinates.split(":")
    jar = _repository().joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")
    if jar.is_file():
        return jar
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeFault(
            "FS9004",
            f"{coordinates} has to be fetched, and there is no Maven.",
            hint="Install it, e.g. apt-get install maven.",
        )
    words = [f"-Dartifact={coordinates}", "-Dtransitive=false", f"-Dmaven.repo.local={_repository()}"]
    command = [maven, "-q", "-B", "-Dstyle.color=never", "dependency:get", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refused(coordinates, f"not within {FETCH_S} s") from None
    if done.returncode:
        raise _refused(coordinates, _reason(done.stdout + done.stderr) or f"mvn ended with {done.returncode}")
    if not jar.is_file():
        raise _refused(coordinates, f"mvn succeeded, and {jar} is not there")
    return jar


def _repository() -> Path:
    """Maven's local repository: `localRepository` of the user's settings, else ~/.m2/repository."""
    home = Path.home() / ".m2"
    try:
        root = ET.parse(home / "settings.xml").getroot()  # noqa: S314 - the user's own file
    except (FileNotFoundError, ET.ParseError):  # Maven itself complains better about a broken file
        return home / "repository"
    named = next((element.text for element in root if element.tag.rpartition("}")[2] == "localRepository"), None)
    return Path(named.replace("${user.home}", str(Path.home()))) if named else home / "repository"


def _reason(said: str) -> str:
    """The first error that Maven names, without colours and without the goal that failed."""
    lines = (_COLOUR.sub("", line).strip() for line in said.splitlines())
    errors = (line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]"))
    return _GOAL.sub("", next((error for error in errors if error), ""))[:_LONGEST]


def _refused(coordinates: str, reason: str) -> RuntimeFault:
    return RuntimeFault(
        "FS9004",
        f"Maven cannot fetch {coordinates}: {reason}",
        hint="Is Maven Central, or a mirror in ~/.m2/settings.xml, reachable?",
    )
