"""Processes, ports and folders of the embedded clusters, with real processes (and no JVM)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.embedded import maven
from firesteel.jobs.embedded.cluster import Cluster, owner_of, state_of
from firesteel.jobs.embedded.ports import free_port, is_free, remembered_ports
from firesteel.jobs.embedded.processes import Process, start, stop_all, wait_until
from support.waiting import runs, wait_for

SH = "/bin/sh"
FOREVER = [SH, "-c", "exec sleep 600"]
STUBBORN = [SH, "-c", "trap '' TERM; echo deaf; while :; do sleep 600; done"]

OWNER = """
import sys, time
from pathlib import Path
from firesteel.jobs.embedded.processes import start
print(start("child", ["/bin/sh", "-c", "exec sleep 600"], Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def started():
    """What a test puts here is ended with it."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


class Sleepers(Cluster):
    """Two processes that do nothing."""

    addresses: ClassVar[dict[str, str]] = {"nowhere": "none"}

    def _start(self) -> None:
        for name in ("first", "second"):
            self._launch(name, FOREVER)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_child_ends_with_its_owner(tmp_path, how):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as owner:
        pid = int(owner.stdout.readline())
        assert runs(pid)
        owner.send_signal(how)
        owner.wait(30)
        wait_for(lambda: not runs(pid), f"the child {pid} is gone")


def test_a_child_outlives_the_thread_that_started_it(tmp_path, started):
    thread = threading.Thread(target=lambda: started.append(start("child", FOREVER, tmp_path / "log")))
    thread.start()
    thread.join()
    # The kernel would have sent SIGKILL by the time the thread is gone from /proc.
    wait_for(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists(), "the thread is gone")
    with pytest.raises(subprocess.TimeoutExpired):
        started[0].child.wait(0.5)


def test_a_child_has_a_session_of_its_own(tmp_path, started):
    started.append(start("child", FOREVER, tmp_path / "log"))
    wait_for(lambda: os.getsid(started[0].pid) == started[0].pid, "the child leads its session")


def test_stopping_insists_on_those_that_do_not_listen(tmp_path, monkeypatch, started):
    monkeypatch.setattr("firesteel.jobs.embedded.processes.STOP_S", 0.5)
    deaf, kind = start("deaf", STUBBORN, tmp_path / "deaf.log"), start("kind", FOREVER, tmp_path / "kind.log")
    started += [deaf, kind]
    wait_for(lambda: "deaf" in deaf.log.read_text(), "the trap is set")
    stop_all([deaf, kind])
    assert (deaf.child.returncode, kind.child.returncode) == (-signal.SIGKILL, -signal.SIGTERM)
    stop_all([deaf, kind])  # again: nothing to do


def test_a_process_that_ends_too_early_is_named_with_its_telling_line(tmp_path, started):
    log = tmp_path / "server.log"
    log.write_text("java.lang.OldException: of the last time\n")
    script = "echo starting; echo 'java.net.BindException: Address in use'; echo '  at Server.main'; exit 3"
    started.append(start("server", [SH, "-c", script], log))
    with pytest.raises(RuntimeFault) as caught:
        wait_until(lambda: False, "the server is ready", started, 30)
    assert caught.value.code == "FS9005"
    assert caught.value.what == "server ended with 3 before the server is ready: java.net.BindException: Address in use"
    assert str(log) in caught.value.hint


def test_a_deadline_that_passes_is_named_with_the_logs(tmp_path, started):
    started.append(start("server", [SH, "-c", "echo still loading; exec sleep 600"], tmp_path / "server.log"))
    wait_for(lambda: "loading" in started[0].log.read_text(), "it has said something")
    with pytest.raises(RuntimeFault, match="the server is ready: not within 0.2 s. server: still loading") as caught:
        wait_until(lambda: False, "the server is ready", started, 0.2)
    assert str(tmp_path / "server.log") in caught.value.hint


def test_a_command_that_is_not_there_is_said_in_the_log(tmp_path, started):
    started.append(start("server", ["/nowhere/java"], tmp_path / "server.log"))
    started[0].child.wait(30)
    assert started[0].last_error() == "ERROR /nowhere/java: No such file or directory"


def test_ports_are_remembered_while_they_are_free(tmp_path, monkeypatch):
    monkeypatch.setattr("firesteel.jobs.embedded.ports.PATIENCE_S", 0.2)
    file = tmp_path / "ports.json"
    first = remembered_ports(file, ["a", "b"])
    assert len(set(first.values())) == 2
    assert remembered_ports(file, ["b", "a"]) == first
    with socket.socket() as server:
        server.bind(("127.0.0.1", first["a"]))
        server.listen()
        assert not is_free(first["a"])
        moved = remembered_ports(file, ["a", "b", "c"])
    assert moved["a"] != first["a"]
    assert moved["b"] == first["b"]
    assert remembered_ports(file, ["a", "c"]) == {"a": moved["a"], "c": moved["c"]}


def test_a_remembered_port_is_waited_for(tmp_path):
    file = tmp_path / "ports.json"
    first = remembered_ports(file, ["a"])
    with socket.socket() as server:
        server.bind(("127.0.0.1", first["a"]))
        server.listen()
        found: list[dict[str, int]] = []
        waiting = threading.Thread(target=lambda: found.append(remembered_ports(file, ["a"])))
        waiting.start()
        waiting.join(0.2)
        assert found == []
    waiting.join(30)
    assert found == [first]


def test_ports_lie_where_no_outgoing_connection_can_sit():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < max(lowest, 32_000)


def test_a_cluster_says_what_runs_and_leaves_nothing(tmp_path):
    cluster = Sleepers(tmp_path)
    with cluster:
        pids = {process.name: process.pid for process in cluster.processes}
        state = state_of(tmp_path)
        assert state is not None
        assert (state.owner, state.processes, state.addresses) == (os.getpid(), pids, {"nowhere": "none"})
        with pytest.raises(RuntimeError, match="already running"), cluster:
            pass
        assert all(map(runs, pids.values()))
    assert not any(map(runs, pids.values()))
    assert state_of(tmp_path) is None
    cluster.close()
    with cluster:
        assert len(cluster.processes) == 2


def test_a_folder_has_one_cluster_at_a_time(tmp_path):
    with Sleepers(tmp_path) as first:
        assert owner_of(tmp_path) == os.getpid()
        with pytest.raises(RuntimeFault, match=f"FS9005 .* is in use by process {os.getpid()}"), Sleepers(tmp_path):
            pass
        assert all(process.alive for process in first.processes)
    assert owner_of(tmp_path) is None


def test_a_cluster_that_fails_to_start_stops_what_it_had_started(tmp_path):
    pids: list[int] = []

    class HalfWay(Sleepers):
        def _start(self) -> None:
            super()._start()
            pids.extend(process.pid for process in self.processes)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), HalfWay(tmp_path):
        pass
    assert len(pids) == 2
    assert not any(map(runs, pids))
    assert owner_of(tmp_path) is None


def test_a_jar_that_is_there_needs_no_maven(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    jar = tmp_path / ".m2/repository/org/example/thing/1.0/thing-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"PK")
    assert maven.fetch("org.example:thing:1.0") == jar
    (tmp_path / ".m2" / "settings.xml").write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><localRepository>${user.home}/elsewhere</localRepository></settings>'
    )
    with pytest.raises(
        RuntimeFault, match="FS9004 org.example:thing:1.0 is not in the local repository, and Maven is not installed"
    ):
        maven.fetch("org.example:thing:1.0")
    moved = tmp_path / "elsewhere/org/example/thing/1.0/thing-1.0.jar"
    moved.parent.mkdir(parents=True)
    jar.rename(moved)
    assert maven.fetch("org.example:thing:1.0") == moved


def test_a_jar_that_maven_cannot_fetch_is_said_in_one_sentence(tmp_path, monkeypatch):
    if shutil.which("mvn") is None:
        pytest.skip("no mvn on the PATH")
    home = tmp_path / ".m2"
    home.mkdir()
    mirror = "<mirror><id>closed</id><mirrorOf>*</mirrorOf><url>http://127.0.0.1:1/maven</url></mirror>"
    (home / "settings.xml").write_text(f"<settings><mirrors>{mirror}</mirrors></settings>")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MAVEN_OPTS", f"-Duser.home={tmp_path}")
    with pytest.raises(RuntimeFault) as caught:
        maven.fetch("org.example:thing:1.0")
    assert caught.value.code == "FS9004"
    assert caught.value.what.startswith("Maven cannot fetch org.example:thing:1.0: ")
    assert "127.0.0.1:1" in caught.value.what
    assert not {"\n", "\x1b"} & set(caught.value.what)


@pytest.mark.parametrize(
    ("said", "reason"),
    [  # what Maven 3.8.7 printed
        (
            "\x1b[0m[ERROR] Failed to execute goal org.apache.maven.plugins:maven-dependency-plugin:2.8:get (default-cli) on project "
            "standalone-pom: Couldn't download artifact: Could not find artifact org.example:thing:jar:1.0 in central\n[ERROR] \n",
            "Couldn't download artifact: Could not find artifact org.example:thing:jar:1.0 in central",
        ),
        ("[INFO] nothing wrong\n", ""),
    ],
)
def test_the_reason_that_maven_gives_is_found(said, reason):
    assert maven._reason(said) == reason
