"""Records of the storage name processes; whoever can write there must not choose who is signalled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGRTMIN, SIGTERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import LeaseConflict
from firesteel.pipelines.publish.cancel import cancel
from firesteel.pipelines.publish.process import machine_id, send_signal, started_at
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.publish.transaction import Transaction
from firesteel_airflow.reaper import reap
from support.publishing import INTERVAL, SINK, area_of, attempt_of, edit, sink_of

VICTIM = """
import signal
expected = {signal.SIGTERM, signal.SIGRTMIN}
signal.pthread_sigmask(signal.SIG_BLOCK, expected)
print("ready", flush=True)
print(int(signal.sigwait(expected)), flush=True)
"""


@dataclass
class Victim:
    """A process that leads a group and reports the first signal that it gets."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def start(self) -> str:
        return started_at(self.pid)

    def first_signal(self) -> int:
        """Return SIGRTMIN unless another signal came before: of pending signals the lowest number is delivered first."""
        os.kill(self.pid, SIGRTMIN)
        return int(self.process.communicate(timeout=60)[0])


@contextmanager
def a_victim(first: str = "") -> Iterator[Victim]:
    line = [sys.executable, "-I", "-c", first + VICTIM]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield Victim(process)
        finally:
            process.kill()


@pytest.fixture
def victim() -> Iterator[Victim]:
    with a_victim() as process:
        yield process


def cancelled(root_uri: str, **forged) -> bool:
    """Hold a lease, edit its file, cancel the run, and return whether `cancel` signalled a process."""
    store = area_of(root_uri)
    with Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of("r1")) as transaction:
        edit(Path(SinkInterval(store, SINK, INTERVAL).file("lease", transaction.token)), **forged)
        (interval,) = cancel(store, (SINK,), "r1", who="eve@there", signal=True)
    assert interval.state == "cancelled"
    return interval.asked


FORGED = {
    "a process group": lambda victim: {"pid": -victim.pid, "process_start": ""},
    "a process group with the start of its leader": lambda victim: {"pid": -victim.pid, "process_start": victim.start},
    "a process without its start": lambda victim: {"pid": victim.pid, "process_start": ""},
    "a recycled number": lambda victim: {"pid": victim.pid, "process_start": str(int(victim.start) - 1)},
    "a number that no process has": lambda victim: {"pid": 1 << 62, "process_start": victim.start},
    "another machine": lambda victim: {"machine": "other", "pid": victim.pid, "process_start": victim.start},
    "no machine": lambda victim: {"machine": "", "pid": victim.pid, "process_start": victim.start},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_cancel_leaves_every_process_alone_that_the_lease_does_not_prove(tmp_path, victim, forged):
    # A lease whose process is dead is not held, so its run cannot be cancelled; then nothing is signalled either.
    try:
        assert not cancelled(f"file://{tmp_path}", **forged(victim))
    except LeaseConflict as error:
        assert error.code == "FS7504"
    assert victim.first_signal() == SIGRTMIN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_cancel_leaves_a_process_of_another_user_alone(tmp_path):
    with a_victim("import os, signal; os.setuid(65534)") as victim:
        assert not cancelled(f"file://{tmp_path}", pid=victim.pid, process_start=victim.start)
        assert victim.first_signal() == SIGRTMIN


def test_cancel_signals_the_process_that_the_lease_describes(tmp_path, victim):
    assert cancelled(f"file://{tmp_path}", pid=victim.pid, process_start=victim.start)
    assert victim.first_signal() == SIGTERM


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_the_reaper_of_the_airflow_provider_leaves_them_alone_too(victim, forged):
    record = {"machine": machine_id(), **forged(victim)}
    assert not reap(record["machine"], record["pid"], record["process_start"], 0, [])
    assert victim.first_signal() == SIGRTMIN


def test_a_process_that_leads_no_group_is_killed_without_its_group():
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-I', '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    line = [sys.executable, "-I", "-c", script]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True) as leader:
        child = int(leader.stdout.readline())
        assert send_signal(machine_id(), child, started_at(child), SIGKILL, group=True)
        assert leader.wait(60) == 0


@given(pid=st.integers(max_value=0), start=st.text(max_size=5))
def test_zero_and_negative_numbers_are_never_signalled(pid, start):
    # Signal 0 reaches nobody: it only asks whether the process exists.
    assert not send_signal(machine_id(), pid, start, 0)
