"""Jars from Maven's local repository, fetched by Maven itself when they are not there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

from firesteel.conf.errors import RuntimeFault

FETCH_S = 600
_REASON = 300


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
    command = [maven, "-q", "-B", "dependency:get", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        raise _refused(coordinates, f"not within {FETCH_S} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        reasons = [line.removeprefix("[ERROR]").strip() for line in said if line.startswith("[ERROR]")]
        raise _refused(coordinates, reasons[0][:_REASON] if reasons else f"mvn ended with {done.returncode}")
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


def _refused(coordinates: str, reason: str) -> RuntimeFault:
    return RuntimeFault(
        "FS9004",
        f"Maven cannot fetch {coordinates}: {reason}",
        hint="Is Maven Central, or a mirror in ~/.m2/settings.xml, reachable?",
    )
