"""The other engines, each in its own environment below the user's cache, so that version pins do not conflict."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ENGINES = {
    "ray_data": "ray[data]==2.*",
    "daft_frame": "daft==0.*",
    "polars_loop": "polars==1.*",
    "duckdb_loop": "duckdb==1.*",
}


def prepare() -> dict[str, Path]:
    """Return the interpreter of each engine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firesteel" / "contenders"
    found = {}
    for name, requirement in ENGINES.items():
        folder = cache / name
        python = folder / "bin" / "python"
        if not (folder / "ready").exists():
            same = [
                f"{each}=={version(each)}" for each in ("lightgbm", "scikit-learn", "numpy", "joblib", "onnxruntime")
            ]
            subprocess.run(["uv", "venv", "--clear", "--python", sys.executable, str(folder)], check=True)
            subprocess.run(["uv", "pip", "install", "--python", str(python), requirement, "pyarrow", *same], check=True)
            (folder / "ready").touch()
        found[name] = python
    return found
