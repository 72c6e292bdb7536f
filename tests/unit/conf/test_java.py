from __future__ import annotations

from pathlib import Path

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.java import find_java

# What the real ones print, on stderr.
SAYS_17 = 'openjdk version "17.0.15" 2025-04-15'
SAYS_8 = 'java version "1.8.0_292"'
SAYS_24_EA = 'openjdk version "24-ea" 2025-03-18'


def jdk(home: Path, script: str) -> Path:
    """A JDK's folder whose `java` is a script."""
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    executable.chmod(0o755)
    return home


def saying(home: Path, text: str) -> Path:
    return jdk(home, f"echo '{text}' >&2")


def test_java_home_comes_before_the_path(tmp_path):
    first, second = saying(tmp_path / "first", SAYS_17), saying(tmp_path / "second", SAYS_24_EA)
    found = find_java({"JAVA_HOME": str(first), "PATH": str(second / "bin")})
    assert (found.home, found.version) == (first, "17.0.15")
    assert found.executable == first / "bin" / "java"


def test_a_link_on_the_path_leads_to_the_home(tmp_path):
    home = saying(tmp_path / "jdk", SAYS_24_EA)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    found = find_java({"PATH": str(tmp_path / "bin")})
    assert (found.home, found.version) == (home, "24-ea")


def test_a_warning_before_the_version_is_passed_over(tmp_path):
    home = jdk(tmp_path / "jdk", f"echo 'Picked up JAVA_TOOL_OPTIONS: -Da=b' >&2; echo '{SAYS_17}' >&2")
    assert find_java({"JAVA_HOME": str(home)}).version == "17.0.15"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"echo '{SAYS_8}' >&2", "is Java 1.8.0_292; Spark 4 needs 17 or newer"),
        ("echo hello", "does not print a version"),
        ("echo 'Error: could not find libjava.so' >&2; exit 2", "Error: could not find libjava.so"),
    ],
    ids=["too old", "no version", "broken"],
)
def test_an_unusable_java_is_named_with_what_was_found(tmp_path, script, found):
    home = jdk(tmp_path / "jdk", script)
    with pytest.raises(RuntimeFault) as caught:
        find_java({"JAVA_HOME": str(home)})
    assert caught.value.code == "FS9001"
    assert str(home / "bin" / "java") in caught.value.what
    assert found in caught.value.what
    assert "apt-get install openjdk-17-jdk-headless" in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"PATH": "/nowhere"}, "JAVA_HOME is not set and `java` is not on the PATH"),
        ({}, "JAVA_HOME is not set and `java` is not on the PATH"),
        ({"JAVA_HOME": "/nowhere"}, "JAVA_HOME=/nowhere contains no bin/java"),
    ],
    ids=["not on the path", "no path", "wrong home"],
)
def test_a_missing_java_is_said(environ, found):
    with pytest.raises(RuntimeFault, match="FS9001") as caught:
        find_java(environ)
    assert found in caught.value.what
