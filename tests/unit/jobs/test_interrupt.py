"""SIGTERM is an interruption, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from py4j.protocol import Py4JNetworkError

from firesteel.jobs.interrupt import raise_on_signals
from firesteel.jobs.spark.lower import spark_fault
from firesteel.pipelines.publish.process import children


@pytest.fixture(autouse=True)
def _polite():
    before = signal.getsignal(signal.SIGTERM)
    raise_on_signals()
    yield
    signal.signal(signal.SIGTERM, before)


@contextmanager
def undoing(done: list[str]):
    try:
        yield
    finally:
        signal.raise_signal(signal.SIGTERM)
        try:
            int("an abort meets errors of its own")
        except ValueError:
            signal.raise_signal(signal.SIGTERM)
        done.append("undone")


def test_what_one_undoes_the_next_does_not_interrupt():
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), undoing(done):
        signal.raise_signal(signal.SIGTERM)
        done.append("not reached")
    assert done == ["undone"]


def test_one_that_comes_after_another_error_interrupts():
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        try:
            int("a run that fails")
        except ValueError:
            signal.raise_signal(signal.SIGTERM)
            done.append("not reached")
    with pytest.raises(KeyboardInterrupt):  # nor is an earlier one remembered
        signal.raise_signal(signal.SIGTERM)
    assert done == []


def test_what_spark_raises_while_an_interrupt_is_handled_is_no_failure():
    empty = Py4JNetworkError("Answer from Java side is empty")
    try:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise empty
    except Py4JNetworkError as error:
        with pytest.raises(KeyboardInterrupt):
            spark_fault(error)
    assert spark_fault(Py4JNetworkError("Answer from Java side is empty")).code == "FS9002"


def test_children_are_found_oldest_first():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as first:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as second:
            found = children(os.getpid())
            assert [pid for pid in found if pid in {first.pid, second.pid}] == [first.pid, second.pid]
            assert children(second.pid) == []
            second.kill()
        first.kill()
        first.wait()
        assert first.pid not in children(os.getpid())
