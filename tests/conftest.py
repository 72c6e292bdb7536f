"""Real clusters for tests, started when the first test asks for them, kept for the session."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from pyspark.sql import SparkSession

    from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
    from firesteel.jobs.embedded.standalone import EmbeddedStandalone
    from firesteel.jobs.embedded.yarn import EmbeddedYarn
    from support.runs import Project

# Where the main module is no file, as in a worker of pytest-xdist, and grpc is not there, pyspark takes whoever probes Spark Connect,
# as Great Expectations does, for its own doctests: `sys.exit(0)`. Without grpc the probe finds nothing in any case.
if importlib.util.find_spec("grpc") is None:
    sys.modules["pyspark.sql.connect.utils"] = None

# How long an example takes is the machine's business, and it is shared: no test is about time.
hypothesis.settings.register_profile("firesteel", deadline=None)
hypothesis.settings.load_profile("firesteel")

CLUSTERS = {"hdfs", "hdfs_env", "standalone", "yarn", "yarn_env"}
"""Fixtures that start a cluster."""

# A Hadoop or Spark configuration of the developer's own is none of the tests' business, and neither is their MLflow.
for _name in (
    "HADOOP_CONF_DIR",
    "FIRESTEEL_WEBHDFS_URL",
    "SPARK_CONF_DIR",
    "SPARK_HOME",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
):
    os.environ.pop(_name, None)
os.environ.update(
    SPARK_LOCAL_IP="127.0.0.1",
    PYSPARK_PYTHON=sys.executable,
    PYSPARK_DRIVER_PYTHON=sys.executable,
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
)


def _files_in_memory() -> None:
    """Put the files of tests into memory where there is room: tests sync many small ones, and a sync of a disk takes 10 ms and more."""
    memory = Path("/dev/shm")
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not memory.is_dir():
        return
    facts = os.statvfs(memory)
    (available,) = re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    if min(facts.f_bavail * facts.f_frsize, int(available) << 10) > 10 << 30 and not facts.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(memory)


_files_in_memory()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what tests would compare."""
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file `golden/NAME` beside the test, or write it with --update-golden."""

    def compare(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{path.name}; --update-golden writes it anew"

    return compare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder, and those that need a cluster by their fixtures. Tests have the mark `long` in their own file.

    Unit tests run last: their files are short, and so the workers end at the same time.
    """
    for item in items:
        (folder, *_) = item.path.relative_to(Path(__file__).parent).parts
        if folder in {"unit", "integration", "fault", "attack"}:
            item.add_marker(folder)
        if folder == "contract":
            item.add_marker("integration")
        if CLUSTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")
    items.sort(key=lambda item: item.get_closest_marker("unit") is not None)


@pytest.fixture(scope="session", autouse=True)
def _quick_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make each driver and each Python worker of Spark start quickly, of this process and of others that tests start."""
    if not any(
        item.get_closest_marker(name) for item in request.session.items for name in ("integration", "fault", "attack")
    ):
        yield
        return
    from support.forks import DAEMON_OPTIONS, fork_server_of_session
    from support.quick_jvm import quick_jvm
    from support.rdma import RDMA_DEVICES

    if RDMA_DEVICES:  # a guest, which has little memory
        os.environ["SPARK_SUBMIT_OPTS"] = quick_jvm()
        yield
        return
    with fork_server_of_session() as variables:
        os.environ.update(variables)
        os.environ["SPARK_SUBMIT_OPTS"] = f"{quick_jvm()} {DAEMON_OPTIONS}"
        yield


@pytest.fixture(scope="session", autouse=True)
def _counted_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Count the rows of every run in this process once more, from the files alone."""
    with pytest.MonkeyPatch.context() as patch:
        if any(
            item.get_closest_marker(name)
            for item in request.session.items
            for name in ("integration", "fault", "attack")
        ):
            from support.conservation import watch_runs

            watch_runs(patch)
        yield


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session on local[2]. Tests that stop a context start one of their own, in a process of its own."""
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHdfs]:
    """An HDFS with two DataNodes. Sets nothing global: `hdfs_env` does, for one test."""
    from firesteel.jobs.embedded.hdfs import EmbeddedHdfs

    with EmbeddedHdfs(tmp_path_factory.mktemp("hdfs"), datanodes=2) as cluster:
        yield cluster


@pytest.fixture
def hdfs_env(hdfs: EmbeddedHdfs, monkeypatch: pytest.MonkeyPatch) -> EmbeddedHdfs:
    """The HDFS, as the one that HADOOP_CONF_DIR names."""
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
    return hdfs


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStandalone]:
    """A Spark standalone cluster with two Workers of one core."""
    from firesteel.jobs.embedded.standalone import EmbeddedStandalone
    from support.quick_jvm import quick_executors

    with quick_executors(EmbeddedStandalone(tmp_path_factory.mktemp("standalone"), workers=2)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedYarn]:
    """A YARN with two NodeManagers on an HDFS in high availability: 13 JVMs, so only while a file asks for them. Sets nothing global: `yarn_env` does, for one test."""
    from firesteel.jobs.embedded.hdfs_ha import EmbeddedHdfsHa
    from firesteel.jobs.embedded.yarn import EmbeddedYarn

    folder = tmp_path_factory.mktemp("yarn")
    with EmbeddedYarn(folder, hdfs=EmbeddedHdfsHa(folder / "hdfs")) as cluster:
        with (cluster.conf_dir / "spark-defaults.conf").open("a") as defaults:
            defaults.write("spark.python.daemon.module pyspark.daemon\n")  # containers have an environment of their own
        yield cluster


@pytest.fixture
def yarn_env(yarn: EmbeddedYarn, monkeypatch: pytest.MonkeyPatch) -> EmbeddedYarn:
    """The YARN, as the one that HADOOP_CONF_DIR and SPARK_CONF_DIR name."""
    monkeypatch.setenv("HADOOP_CONF_DIR", str(yarn.conf_dir))
    monkeypatch.setenv("SPARK_CONF_DIR", str(yarn.conf_dir))
    return yarn


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return _build(Path(__file__).parents[1], tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def airflow_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout's Airflow provider."""
    return _build(Path(__file__).parents[1] / "airflow_provider", tmp_path_factory.mktemp("airflow-wheel"))


def _build(project: Path, folder: Path) -> Path:
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def shuffle_digests() -> dict[str, str]:
    """What the jobs of support/shuffle_jobs.py give on Spark's own sort shuffle; test_shuffle_plugin.py compares the file with it."""
    return json.loads((Path(__file__).parent / "integration" / "golden" / "shuffle_digests.json").read_text())


@pytest.fixture(scope="session")
def flight_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's real model in a registry of its own; the tracking URI."""
    from firesteel.jobs.demo.model import train_model
    from support.mlflow_store import new_store

    uri = new_store(tmp_path_factory.mktemp("mlflow") / "mlflow.db")
    train_model(uri)
    return uri


@pytest.fixture(scope="session")
def picky(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that fails on some rows, in a registry of its own; the tracking URI."""
    from support.picky import register_picky

    return register_picky(tmp_path_factory.mktemp("picky"))


@pytest.fixture
def project(tmp_path: Path, flight_model: str) -> Project:
    """The flights example on three days of small local data."""
    from support.data import write_days
    from support.runs import Project

    root = tmp_path / "data"
    write_days(root, ["2013-06-01", "2013-06-02", "2013-06-03"])
    return Project(tmp_path / "project", f"file://{root}", flight_model)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where reports go."""
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    from support.browser import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
