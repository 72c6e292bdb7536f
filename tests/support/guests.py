"""Virtual machines (guests) with RDMA devices for tests."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from guest.boot import Done, Guest, NoGuest, kernel
from support.rdma import RDMA_DEVICES

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("FIRESTEEL_RDMA") == "full"
"""Set by `make test-rdma`: builds what is missing, and runs what takes minutes."""
VARIABLES = {"SPARK_LOCAL_IP": "127.0.0.1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def guest_kernel() -> Path:
    """Return the kernel, or skip the test with the reason."""
    if RDMA_DEVICES:
        pytest.skip(f"this machine has RDMA devices itself: {', '.join(RDMA_DEVICES)}")
    try:
        return kernel(build=FULL)
    except NoGuest as error:
        pytest.skip(f"no guest: {error}")


@contextmanager
def many_mappings(wanted: int = 1 << 20) -> Iterator[None]:
    """Raise the limit of memory mappings of host processes meanwhile: in User-Mode Linux each page of a guest process can be one.

    The default of 65,530 is 256 MiB, less than Python with MLflow and a model needs.
    """
    limit = Path("/proc/sys/vm/max_map_count")
    before = int(limit.read_text())
    if before >= wanted:
        yield
        return
    try:
        limit.write_text(str(wanted))
    except OSError:
        pytest.skip(
            f"vm.max_map_count is {before}, and a guest needs more for this: sysctl -w vm.max_map_count={wanted}"
        )
    try:
        yield
    finally:
        limit.write_text(str(before))


def pytest_in(guest: Guest, args: Sequence[str], seconds: float) -> dict[str, str]:
    """Run pytest in the guest, and return the result of each test: passed, failed or skipped."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "--junitxml=/run/share/junit.xml",
        *args,
    ]
    done = guest.start(command, VARIABLES, ROOT).wait(seconds)
    report = guest.share / "junit.xml"
    assert report.exists(), told(done)
    found: dict[str, str] = {}
    for case in ET.fromstring(report.read_text()).iter("testcase"):
        kinds = {each.tag for each in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}::{case.get('name')}"] = next(iter(kinds), "passed")
    wrong = [name for name, kind in found.items() if kind != "passed"]
    assert not wrong, f"{wrong}\n{told(done)}"
    assert done.status == 0, told(done)
    return found


def told(done: Done) -> str:
    """Return the end of a guest's output."""
    return f"status {done.status}\n{done.output[-12000:]}\n{done.console[-2000:]}"
