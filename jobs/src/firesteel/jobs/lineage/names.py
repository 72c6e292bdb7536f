"""Names of jobs, runs and data sets by OpenLineage's naming specification, so that other tools' events meet ours.

::

    hdfs://nn:8020/ml/scores   ->  namespace hdfs://nn:8020   name /ml/scores
    file:///tmp/scores         ->  namespace file             name /tmp/scores
    models:/flight_delay/7     ->  namespace mlflow://host    name flight_delay     (its version is a facet)

A run's id is made of its name, and so can be found again: by who looks for it, and by the run that buries a dead one.
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
    """A data set as the events name it."""

    namespace: str
    name: str


def dataset_name(uri: str) -> DatasetName:
    """The name of what lies at a URI.

    A nameservice has no port, and a NameNode without one has Hadoop's own: the events of other tools name it so.

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
    nameservices = {each.strip() for each in conf.get("dfs.nameservices").split(",")}
    return DatasetName(f"hdfs://{authority}" if authority in nameservices else f"hdfs://{authority}:{RPC_PORT}", path)


def model_name(model: ModelPlan, tracking_uri: str) -> DatasetName:
    """The name of a model: in its registry, or of the folder that holds it.

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
    """The UUID of a run of `job`, the same for the same names; it sorts by the time in firesteel's run id."""
    match = _RUN_ID.fullmatch(run_id)
    instant = (
        datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if match else datetime.fromtimestamp(0, UTC)
    )
    return str(generate_static_uuid(instant, f"{namespace}\n{job}\n{run_id}".encode()))


def is_run(run_id: str) -> bool:
    """Whether an id is one of a pipeline's run: `recover` and `rollback` hold leases under others, and send no events."""
    return _RUN_ID.fullmatch(run_id) is not None
