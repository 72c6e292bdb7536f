"""The machine of a benchmark."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Return the environment of this machine now."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "spark": version("pyspark"),
    }


def cpu_seconds() -> float:
    """Return the CPU seconds of the whole machine since its start: user, nice, system, irq and softirq."""
    words = Path("/proc/stat").read_text(encoding="utf-8").split()
    return sum(int(words[at]) for at in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")
