"""A class under another package's name is what a JVM takes for the class of that name."""

from __future__ import annotations

import subprocess
import zipfile

import pytest

from firesteel.conf.java import find_java
from firesteel.jobs.embedded.cluster import pyspark_home
from firesteel.jobs.embedded.relocate import relocate

OLD, NEW = "org/apache/zookeeper", "org/apache/hadoop/shaded/org/apache/zookeeper"


def spark_jar():
    return next((pyspark_home() / "jars").glob("zookeeper-[0-9]*.jar"))


@pytest.mark.parametrize("name", ["Testable", "ZKUtil"])
def test_java_reads_the_class_by_its_new_name_and_finds_only_new_names_in_it(tmp_path, name):
    jar = relocate(spark_jar(), f"{OLD}/{name}", OLD, NEW, tmp_path / "new" / "one.jar")
    assert zipfile.ZipFile(jar).namelist() == [f"{NEW}/{name}.class"]
    javap = [find_java().home / "bin" / "javap", "-p", "-c", "-cp", jar, f"{NEW}/{name}".replace("/", ".")]
    done = subprocess.run(javap, capture_output=True, text=True, check=True)
    said = done.stdout.replace("/", ".")
    new, old = NEW.replace("/", "."), OLD.replace("/", ".")
    assert f" {new}.{name} " in said
    assert said.count(old) == said.count(new)


def test_a_class_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(KeyError, match="Nothing"):
        relocate(spark_jar(), f"{OLD}/Nothing", OLD, NEW, tmp_path / "one.jar")
