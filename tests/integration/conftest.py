from __future__ import annotations

from pathlib import Path

import pytest

from support.data import write_days
from support.runs import Project


@pytest.fixture(scope="session")
def flight_model(tmp_path_factory) -> str:
    """The demo's real model in a registry of its own; the tracking URI."""
    from firesteel.jobs.demo.model import train_model

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    train_model(uri)
    return uri


@pytest.fixture
def project(tmp_path, flight_model) -> Project:
    """The flights example on three days of small local data."""
    root = tmp_path / "data"
    write_days(root, ["2013-06-01", "2013-06-02", "2013-06-03"])
    return Project(tmp_path / "project", f"file://{root}", flight_model)


@pytest.fixture
def runs(tmp_path) -> Path:
    """Where reports go."""
    return tmp_path / "runs"
