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
    """A JDK: `home` contains `bin/java`; `version` is the JDK's own version string, such as 17.0.15."""

    home: Path
    version: str

    @property
    def executable(self) -> Path:
        """Return the path of the `java` command."""
        return self.home / "bin" / "java"


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the JDK that Spark uses: JAVA_HOME, else `java` on the PATH.

    Raises
    ------
    RuntimeFault
        FS9001 when no JDK exists, it does not run, or it is older than 17.
    """
    if home := environ.get("JAVA_HOME"):
        executable = Path(home, "bin", "java")
        if not executable.is_file():
            raise RuntimeFault("FS9001", f"JAVA_HOME={home} contains no bin/java.", hint=_HINT)
    else:
        command = shutil.which("java", path=environ.get("PATH", ""))
        if command is None:
            raise RuntimeFault(
                "FS9001", "no JDK found: JAVA_HOME is not set and `java` is not on the PATH.", hint=_HINT
            )
        executable = Path(command).resolve()
    try:
        process = subprocess.run(
            [str(executable), "-version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFault("FS9001", f"{executable} does not run: {error}.", hint=_HINT) from None
    output = (process.stderr + process.stdout).strip()
    if process.returncode:
        reason = output.splitlines()[0] if output else f"exit status {process.returncode}"
        raise RuntimeFault("FS9001", f"{executable} does not run: {reason}", hint=_HINT)
    match = _VERSION.search(output)
    if match is None:
        raise RuntimeFault("FS9001", f"{executable} does not print a version.", hint=_HINT)
    if int(match["major"]) < OLDEST:
        raise RuntimeFault(
            "FS9001", f"{executable} is Java {match['version']}; Spark 4 needs {OLDEST} or newer.", hint=_HINT
        )
    return Java(executable.parent.parent, match["version"])
