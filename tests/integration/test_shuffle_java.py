"""The Java parts of the shuffle plugin that need no cluster, and how the jar is made."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.java import find_java
from firesteel.rdma_shuffle import jar
from support.scripted_service import ScriptedService
from support.waiting import wait_for

TESTS = Path(__file__).parents[2] / "rdma_shuffle" / "java" / "test"
SOURCES = sorted(TESTS.rglob("*Test.java"))
NAMES = [
    f"{source.parent.name}.{source.stem}#{name}"
    for source in SOURCES
    for name in re.findall(r"^    static void (\w+)\(\)", source.read_text(), re.MULTILINE)
]
LAYERS = ("", "driver", "read", "write", "session", "wire")
"""The packages of the plugin, the highest first. Each may import those to its right; read and write not each other."""


@pytest.fixture(scope="module")
def classpath(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("classes")
    path = f"{jar.build_or_find()}:{jar.spark_jars()}/*"
    javac = find_java().home / "bin" / "javac"
    sources = [str(source) for source in TESTS.rglob("*.java")]
    options = ["--release", "17", "-Xlint:all,-path", "-Werror", "-cp", path, "-d", str(folder)]
    done = subprocess.run([str(javac), *options, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return f"{folder}:{path}"


@pytest.mark.parametrize("name", NAMES)
def test_parts(classpath, name):
    command = [str(find_java().executable), "-ea", "-cp", classpath, "firesteel.shuffle.Checks", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_cancelled_task_releases_its_leases(classpath, tmp_path):
    command = [str(find_java().executable), "-ea", "-cp", classpath, "firesteel.shuffle.wire.InterruptedRelease"]
    with ScriptedService(tmp_path) as service:
        service.leases = dict.fromkeys(range(1, 21), (0, 0))
        with subprocess.Popen([*command, str(service.socket), "20"], stdin=subprocess.PIPE) as program:
            wait_for(lambda: not service.leases, "all leases are released")
            program.communicate(timeout=60)
    assert program.returncode == 0


def test_packages_import_downwards():
    root = jar.SOURCES / "firesteel" / "shuffle"
    for source in root.rglob("*.java"):
        own = "" if source.parent == root else source.parent.name
        imported = set(
            re.findall(r"^import firesteel\.shuffle\.(?:(\w+)\.)?[A-Z]\w*;", source.read_text(), re.MULTILINE)
        )
        allowed = set(LAYERS[LAYERS.index(own) + 1 :]) - ({"write"} if own == "read" else set())
        assert imported <= allowed, source


def test_equal_sources_give_equal_jars(tmp_path):
    for name in ("one.jar", "two.jar"):
        jar.compile_jar(tmp_path / name, jar.SOURCES, jar.spark_jars())
    assert (tmp_path / "one.jar").read_bytes() == (tmp_path / "two.jar").read_bytes()
    assert "firesteel/shuffle/ShufflePlugin.class" in zipfile.ZipFile(tmp_path / "one.jar").namelist()


def test_a_warning_is_an_error(tmp_path):
    source = tmp_path / "src" / "Raw.java"
    source.parent.mkdir()
    source.write_text("class Raw { java.util.List rows; }\n")
    with pytest.raises(RuntimeFault) as caught:
        jar.compile_jar(tmp_path / "raw.jar", source.parent, jar.spark_jars())
    assert caught.value.code == "FS9006"
    assert "rawtypes" in str(caught.value)


def test_the_cache_knows_the_sources_and_the_spark(tmp_path):
    def state(text: str, version: str) -> str:
        root = tmp_path / f"{len(text)}-{version}"
        (root / "jars").mkdir(parents=True)
        (root / "jars" / f"spark-core_2.13-{version}.jar").touch()
        (root / "A.java").write_text(text)
        return jar.digest(root, root / "jars")

    assert len({state("class A {}", "4.3.0"), state("class A { }", "4.3.0"), state("class A {}", "4.3.1")}) == 3


def test_the_jar_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = jar.build_or_find()
    stamp = made.stat().st_mtime_ns
    assert made.parent == tmp_path / "firesteel"
    assert jar.build_or_find() == made
    assert made.stat().st_mtime_ns == stamp
    assert [path.name for path in made.parent.iterdir()] == [made.name]
