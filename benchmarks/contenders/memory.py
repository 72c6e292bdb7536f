"""The peak memory of the Python workers of a run, measured from outside while it runs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def peak_of_workers(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command; return the largest values of any `pyspark.daemon` process below it, in MiB.

    `peak_mib` is VmHWM, which includes pages of mapped input files; `own_mib` is the largest RssAnon.
    """
    peak = own = 0.0
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        for pid in _below(process.pid):
            peak, own = max(peak, _status(pid, "VmHWM")), max(own, _status(pid, "RssAnon"))
        time.sleep(0.02)
    if process.returncode != 0:
        raise SystemExit(f"{command}: exit {process.returncode}")
    return {"peak_mib": round(peak, 1), "own_mib": round(own, 1)}


def _below(root: int) -> list[int]:
    """Return the Python workers: forks of the daemon."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = []
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and _is_worker(pid):
            found.append(pid)
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"pyspark.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _status(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)
