"""Name jobs, runs and datasets by OpenLineage's naming specification, so that events of other tools match.

::

    hdfs://nn:8020/ml/scores   ->  namespace hdfs://nn:8020   name /ml/scores
    file:///tmp/scores         ->  namespace file             name /tmp/scores
    models:/flight_delay/7     ->  namespace mlflow://host    name flight_delay     (its version is a facet)

A run's ID is derived from its name, so that other processes can compute it, such as the run that recovers a crashed run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from openlineage.client.naming.dataset import HDFS, LocalFileSystem
from openlineage.client.uuid import generate_static_uuid

from firesteel.conf.hadoop import RPC_PORT, HadoopConf
from firesteel.jobs.tracking.connect import without_secrets

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import ModelPlan

_RUN_ID = re.compile(r"(\d{8}T\d{6})-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class DatasetName:
    """The name of a dataset in events."""

    namespace: str
    name: str


def dataset_name(uri: str) -> DatasetName:
    """Return the dataset name of a URI.

    A nameservice has no port. A NameNode without a port gets Hadoop's default port, as in the events of other tools.

    Examples
    --------
    >>> dataset_name("file:///tmp/scores/")
    DatasetName(namespace='file', name='/tmp/scores')
    >>> dataset_name("hdfs://nn:8020/ml/scores")
    DatasetName(namespace='hdfs://nn:8020', name='/ml/scores')
    """
    scheme, _, rest = uri.partition(":")
    authority, path = "", rest
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        path = slash + path
    path = path.rstrip("/") or "/"
    if scheme != "hdfs":
        return DatasetName(LocalFileSystem(path).get_namespace(), path)
    conf = HadoopConf.load()
    authority = authority or urlsplit(conf.default_fs).netloc
    host, _, port = authority.rpartition(":")
    if port.isdigit() and host:
        named = HDFS(host, port, path)
        return DatasetName(named.get_namespace(), named.get_name())
    nameservices = {nameservice.strip() for nameservice in conf.get("dfs.nameservices").split(",")}
    return DatasetName(f"hdfs://{authority}" if authority in nameservices else f"hdfs://{authority}:{RPC_PORT}", path)


def model_name(model: ModelPlan, tracking_uri: str) -> DatasetName:
    """Return the dataset name of a model: its registered name, or its folder.

    Examples
    --------
    >>> from firesteel.pipelines.plan.model import ModelPlan
    >>> model = ModelPlan("delay", "models:/fd@champion", "models:/fd/7", "7", "", 0, "skops", "predict", ())
    >>> model_name(model, "http://mlflow.example.org:5000")
    DatasetName(namespace='mlflow://mlflow.example.org:5000', name='fd')
    """
    if not model.resolved_uri.startswith("models:/"):
        return dataset_name(model.resolved_uri if ":" in model.resolved_uri else f"file://{model.resolved_uri}")
    registry = re.sub(r"^https?://", "mlflow://", without_secrets(tracking_uri)).rstrip("/")
    return DatasetName(registry or "mlflow", model.resolved_uri.removeprefix("models:/").partition("/")[0])


def run_uuid(namespace: str, job: str, run_id: str) -> str:
    """Return the deterministic UUID of a run of `job`. It sorts by the time in firesteel's run ID."""
    match = _RUN_ID.fullmatch(run_id)
    instant = (
        datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if match else datetime.fromtimestamp(0, UTC)
    )
    return str(generate_static_uuid(instant, f"{namespace}\n{job}\n{run_id}".encode()))


def is_run(run_id: str) -> bool:
    """Return whether an ID belongs to a pipeline run. `recover` and `rollback` use other IDs and send no events."""
    return _RUN_ID.fullmatch(run_id) is not None
