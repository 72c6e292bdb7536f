"""A driver as a process: it outlives its starter or not, and is ended for good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firesteel.conf import private_folder as shared_folder
from firesteel.pipelines.publish import process as shared
from firesteel.pipelines.publish.process import machine_id, started_at
from firesteel_airflow import private_folder, process
from firesteel_airflow.call import Call, NoFiresteel
from firesteel_airflow.driver import Driver, Handle, Tail, end, log_path, start
from support.waiting import runs, wait_for

SCRIPT = """#!{python}
import json, os, signal, subprocess, sys, time
with open({journal!r}, "a") as journal:
    journal.write(json.dumps({{"words": sys.argv[1:], "pid": os.getpid(), "env": dict(os.environ)}}) + "\\n")
if sys.argv[1] != "run":
    sys.exit(0)
{then}
print("FS7001 said at last", flush=True)
"""
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""
POLITE = """
def over(*_):
    print("aborted", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, over)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def scripted(tmp_path):
    """A command in place of firesteel that writes down how it was called."""

    def make(then: str) -> Call:
        command = tmp_path / "firesteel"
        command.write_text(SCRIPT.format(python=sys.executable, journal=str(tmp_path / "journal"), then=then))
        command.chmod(0o755)
        return Call(str(command), "p.yaml", "2013-06-01", folder=str(tmp_path), environment=(("ASKED", "yes"),))

    return make


def calls(tmp_path: Path) -> list[dict]:
    journal = tmp_path / "journal"
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def ready(driver: Driver, word: str) -> None:
    wait_for(lambda: word in driver.log.read_text(), f"the driver says {word}")


def test_the_modules_that_both_distributions_have_are_one_file_each():
    assert os.path.samefile(process.__file__, shared.__file__)
    assert os.path.samefile(private_folder.__file__, shared_folder.__file__)


def test_a_driver_writes_to_a_file_that_is_read_line_by_line(scripted, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__SECRET", "x")
    driver = start(
        scripted("print('half', end='', flush=True); time.sleep(0.2)"), "R", str(tmp_path / "work"), bound=False
    )
    tail = Tail(driver.log)
    assert driver.process.wait(60) == 0
    assert tail.lines(final=True) == ["halfFS7001 said at last"]
    assert tail.lines(final=True) == []
    (made,) = calls(tmp_path)
    assert made["words"][-2:] == ["--run-id", "R"]
    assert made["env"]["ASKED"] == "yes"
    assert "AIRFLOW__SECRET" not in made["env"]
    assert os.stat(tmp_path / "work").st_mode & 0o777 == 0o700
    assert os.getsid(os.getpid()) != driver.handle.pid


def test_a_folder_of_somebody_elses_takes_no_log(scripted, tmp_path, monkeypatch):
    call = scripted("")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(NoFiresteel, match="belongs to another user"):
        start(call, "R", str(tmp_path), bound=False)
    assert calls(tmp_path) == []


def test_a_polite_driver_is_asked_and_nothing_has_to_be_recovered(scripted, tmp_path):
    call = scripted(POLITE)
    driver = start(call, "R", str(tmp_path), bound=False)
    ready(driver, "ready")
    assert not driver.handle.gone
    assert end(call, "R", driver.handle, 60).wait(60) == 0
    assert driver.process.wait(60) == 130
    assert [each["words"][0] for each in calls(tmp_path)] == ["run"]


def test_a_stubborn_driver_is_killed_with_its_children_and_its_lease_is_released(scripted, tmp_path):
    call = scripted(STUBBORN)
    driver = start(call, "R", str(tmp_path), bound=False)
    ready(driver, "child")
    child = int(driver.log.read_text().split()[1])
    assert end(call, "R", driver.handle, 0.5).wait(60) == 0
    assert driver.process.wait(60) == -signal.SIGKILL
    wait_for(lambda: not runs(child), "its child is gone")
    assert [each["words"][:2] for each in calls(tmp_path)] == [
        ["run", "p.yaml"],
        ["cancel", "R"],
        ["recover", "p.yaml"],
    ]


def test_a_process_that_took_the_number_of_a_dead_driver_is_left_alone(scripted, tmp_path):
    call = scripted("")
    me = Handle(machine_id(), os.getpid(), "1")
    assert me.gone
    assert end(call, "R", me, 1).wait(60) == 0
    assert [each["words"][0] for each in calls(tmp_path)] == ["cancel", "recover"]


STARTER = """
import sys
from firesteel_airflow.call import Call
from firesteel_airflow.driver import start
import json, time
driver = start(Call.of(json.loads(sys.argv[1])), "R", sys.argv[2], bound=sys.argv[3] == "bound")
print(driver.handle.pid, flush=True)
time.sleep(600)
"""
ENTRY = """
from firesteel.jobs.cli.parent import end_with_parent
end_with_parent()
"""


@pytest.mark.parametrize("bound", ["bound", "free"])
def test_a_driver_goes_on_when_its_starter_is_killed_unless_it_is_bound(scripted, tmp_path, bound):
    call = scripted(ENTRY + POLITE)
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, json.dumps(call.as_dict()), str(tmp_path), bound],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(starter.stdout.readline())
    log = log_path(str(tmp_path), "R")
    try:
        wait_for(lambda: "ready" in log.read_text(), "the driver is ready")
        starter.kill()
        starter.wait()
        if bound == "bound":
            wait_for(lambda: not runs(pid), "the driver has ended")
            assert "aborted" in log.read_text()
        else:
            assert started_at(pid)
            assert runs(pid)
    finally:
        starter.kill()
        if runs(pid):
            os.kill(pid, signal.SIGKILL)
