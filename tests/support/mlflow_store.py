"""New MLflow stores without MLflow's migrations: 70 statements, each synced, take 1 CPU second and on a busy disk four seconds."""

from __future__ import annotations

import fcntl
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow


def new_store(path: Path) -> str:
    """Make an empty store unless there is one, as a copy of one that MLflow made once for this environment; its URI."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_template(), path)
    return f"sqlite:///{path}"


def _template() -> Path:
    template = Path(sys.prefix, f"mlflow-{version('mlflow')}.db")
    with Path(sys.prefix, "mlflow-db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            with TemporaryDirectory(dir=sys.prefix) as folder:
                made = Path(folder, "mlflow.db")
                uri = f"sqlite:///{made}"
                mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models()
                made.rename(template)
    return template
