"""The JDK that Spark and the embedded clusters run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firesteel.conf.errors import RuntimeFault

OLDEST = 17
_VERSION = re.compile(r'version "(?P<version>(?:1\.)?(?P<major>\d+)[^"]*)"')
_HINT = "Install JDK 17 (e.g. apt-get install openjdk-17-jdk-headless) and set JAVA_HOME."


@dataclass(frozen=True, slots=True)
class Java:
    """A JDK: `home` holds `bin/java`; `version` as it says itself, e.g. 17.0.15."""

    home: Path
    version: str

    @property
    def executable(self) -> Path:
        """The `java` command."""
        return self.home / "bin" / "java"


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Find the JDK that Spark would take: JAVA_HOME, else `java` on the PATH.

    Raises
    ------
    RuntimeFault
        FS9001 when there is none, it does not run, or it is older than 17.
    """
    if home := environ.get("JAVA_HOME"):
        executable = Path(home, "bin", "java")
        if not executable.is_file():
            raise RuntimeFault("FS9001", f"JAVA_HOME={home} holds no bin/java.", hint=_HINT)
    else:
        found = shutil.which("java", path=environ.get("PATH", ""))
        if found is None:
            raise RuntimeFault(
                "FS9001", "no Java: JAVA_HOME is not set and there is no `java` on the PATH.", hint=_HINT
            )
        executable = Path(found).resolve()
    try:
        done = subprocess.run(
            [str(executable), "-version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFault("FS9001", f"{executable} does not run: {error}.", hint=_HINT) from None
    said = (done.stderr + done.stdout).strip()
    if done.returncode:
        reason = said.splitlines()[0] if said else f"it ended with {done.returncode}"
        raise RuntimeFault("FS9001", f"{executable} does not run: {reason}", hint=_HINT)
    match = _VERSION.search(said)
    if match is None:
        raise RuntimeFault("FS9001", f"{executable} does not say its version.", hint=_HINT)
    if int(match["major"]) < OLDEST:
        raise RuntimeFault(
            "FS9001", f"{executable} is Java {match['version']}; Spark 4 needs {OLDEST} or newer.", hint=_HINT
        )
    return Java(executable.parent.parent, match["version"])
