"""A real HDFS as processes: written to and read by WebHDFS, restarted, crashed."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys

import pytest

from firesteel.conf.errors import RuntimeFault, StorageError
from firesteel.conf.java import find_java
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.open import locate
from support.listening import LOOPBACK, listening
from support.waiting import runs, wait_for

OWNER = """
import json, sys, time
from pathlib import Path
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
with EmbeddedHdfs(Path(sys.argv[1])) as hdfs:
    print(json.dumps([hdfs.uri, [process.pid for process in hdfs.processes]]), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cluster's data, from test to test."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture
def use(monkeypatch):
    """Make a cluster the one of HADOOP_CONF_DIR; the storage of a path on it."""

    def used(hdfs: EmbeddedHdfs, path: str):
        monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
        return locate(hdfs.uri + path)

    return used


def test_what_is_written_is_read_back(hdfs_env):
    storage, path = locate(f"{hdfs_env.uri}/embedded/a file")
    data = secrets.token_bytes(3 << 20)
    storage.create(path, data)
    assert storage.read(path) == data
    assert storage.read(path, 1 << 20, 10) == data[1 << 20 : (1 << 20) + 10]


def test_no_file_fails_while_a_datanode_is_dead_and_the_namenode_names_it_still(hdfs_env):
    """By chance alone one file in sixteen would be offered to the dead one four times."""
    storage, path = locate(f"{hdfs_env.uri}/one-dead")
    hdfs_env.kill_datanode(1)
    try:
        for number in range(40):
            storage.create(f"{path}/{number}", str(number).encode())
            storage.replace(f"{path}/heartbeat", str(number).encode())
    finally:
        hdfs_env.start_datanode(1)
        hdfs_env.wait_for_datanodes(2)
    assert sorted(int(storage.read(file.path)) for file in storage.walk(path) if file.name != "heartbeat") == [
        *range(40)
    ]
    assert storage.read(f"{path}/heartbeat") == b"39"


def test_it_listens_on_this_machine_only(hdfs):
    found = listening(process.pid for process in hdfs.processes)
    assert len(found) == 2 + 2 * 4
    assert set(found) == {LOOPBACK}


def test_its_version_is_that_of_the_client_of_pyspark(hdfs):
    from firesteel.jobs.embedded.cluster import ask, pyspark_home
    from firesteel.jobs.embedded.hadoop import SERVER

    info = ask(f"{hdfs.webhdfs_url}/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo")["beans"][0]
    assert info["SoftwareVersion"] == SERVER.rpartition(":")[2]
    assert (pyspark_home() / "jars" / f"hadoop-client-api-{info['SoftwareVersion']}.jar").is_file()


def test_spark_reads_and_writes_it(hdfs, spark):
    target = f"{hdfs.uri}/embedded/numbers"
    spark.range(1000).repartition(3).write.mode("overwrite").parquet(target)
    assert spark.read.parquet(target).where("id >= 10").count() == 990


def test_a_killed_owner_takes_the_jvms_along_and_the_data_stays(folder, use, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True) as owner:
        uri, pids = json.loads(owner.stdout.readline())
        monkeypatch.setenv("HADOOP_CONF_DIR", str(folder / "conf"))
        storage, path = locate(f"{uri}/kept/part")
        storage.create(path, b"before the crash")
        assert len(pids) == 3
        owner.send_signal(signal.SIGKILL)
        owner.wait(30)
        wait_for(lambda: not any(map(runs, pids)), "the JVMs are gone")
    with EmbeddedHdfs(folder) as again:
        assert again.uri == uri
        storage, path = use(again, "/kept/part")
        assert storage.read(path) == b"before the crash"


def test_a_read_survives_a_killed_datanode_and_the_datanode_comes_back(folder, use):
    cluster = EmbeddedHdfs(folder)
    with cluster as hdfs:
        storage, path = use(hdfs, "/kept/two-copies")
        storage.create(path, b"x" * 100_000)
        hdfs.kill_datanode(0)
        assert [process.name for process in hdfs.processes] == ["namenode", "datanode-1"]
        wait_for(lambda: _reads(storage, path), "the other copy is read")
        hdfs.wait_for_datanodes(1)
        assert storage.read(path) == b"x" * 100_000
        storage.create(path + "-2", b"written with one DataNode")
        hdfs.start_datanode(0)
        hdfs.wait_for_datanodes(2)
        uri = hdfs.uri
    with cluster as hdfs:  # the same object, a second life
        assert hdfs.uri == uri
        storage, path = use(hdfs, "/kept/two-copies")
        assert storage.read(path + "-2") == b"written with one DataNode"


def _reads(storage: Storage, path: str) -> bool:
    try:
        return storage.read(path) == b"x" * 100_000
    except StorageError as error:
        if error.code != "FS8001":  # the NameNode still believes in the dead one; nothing else may come of it
            raise
        return False


def test_a_name_directory_that_cannot_be_is_said(tmp_path):
    (tmp_path / "name").write_text("a file where the folder should be")
    with (
        pytest.raises(RuntimeFault, match="FS9005 the NameNode cannot format its directory: ") as caught,
        EmbeddedHdfs(tmp_path),
    ):
        pass
    assert str(tmp_path / "name") in caught.value.what
    assert str(tmp_path / "logs" / "format.log") in caught.value.hint


@pytest.mark.long
def test_a_format_that_was_cut_short_is_done_again(tmp_path, use):
    (tmp_path / "name" / "current").mkdir(parents=True)
    (tmp_path / "name" / "current" / "VERSION").write_text("namespaceID=1\n")
    with EmbeddedHdfs(tmp_path, datanodes=1) as hdfs:
        storage, path = use(hdfs, "/file")
        storage.create(path, b"1")
        assert hdfs.live_datanodes() == 1


def test_without_java_it_says_so_and_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RuntimeFault, match="FS9001"), EmbeddedHdfs(tmp_path / "hdfs"):
        pass
    assert not (tmp_path / "hdfs" / "logs").exists()


def test_the_java_of_this_machine_is_found():
    found = find_java()
    assert int(found.version.split(".")[0].split("-")[0]) >= 17
    assert found.executable.is_file()
