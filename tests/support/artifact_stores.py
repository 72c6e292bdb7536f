"""Real artifact stores of MLflow that a test can stop and start again, and a model to put there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firesteel.conf.hadoop import WEBHDFS_URL
from firesteel.jobs.embedded.ports import free_port
from firesteel.pipelines.storage.open import close_all, locate
from support.mlflow_store import new_store

BUCKET = "bucket"


@dataclass
class Store:
    """An artifact store: the tracking URI, the experiments' root in the store (empty: the server's), and its two switches."""

    uri: str
    root: str
    die: Callable[[], None]
    revive: Callable[[], None]


@contextmanager
def local_store(request, tmp_path, monkeypatch):
    """A folder. It dies by a file in its place, because permissions do not stop root."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    yield Store(new_store(tmp_path / "mlflow.db"), folder.as_uri(), *_replaced_by_a_file(folder))


@contextmanager
def proxied_store(request, tmp_path, monkeypatch, server="server"):
    """A server that serves artifacts. The server lives on when its store dies."""
    uri, folder = request.getfixturevalue(server)
    die, revive = _replaced_by_a_file(folder)
    yield Store(uri, "", die, revive)
    if folder.is_file():
        revive()


@contextmanager
def s3_store(request, tmp_path, monkeypatch):
    """An S3 server, called by boto3."""
    with s3_server(monkeypatch) as (die, revive):
        yield Store(new_store(tmp_path / "mlflow.db"), f"s3://{BUCKET}/{secrets.token_hex(4)}", die, revive)


@contextmanager
def hdfs_store(request, tmp_path, monkeypatch):
    """HDFS. It dies by a NameNode's address at which nothing listens."""
    hdfs = request.getfixturevalue("hdfs")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))

    def die() -> None:
        monkeypatch.setenv(WEBHDFS_URL, f"http://127.0.0.1:{free_port()}")

    def revive() -> None:
        monkeypatch.delenv(WEBHDFS_URL)

    root = f"{hdfs.uri}/stores/{secrets.token_hex(4)}"
    yield Store(new_store(tmp_path / "mlflow.db"), root, die, revive)
    monkeypatch.delenv(WEBHDFS_URL, raising=False)
    storage, path = locate(root)
    storage.delete(path)
    close_all()


@contextmanager
def s3_server(monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    port = free_port()
    for key, value in {
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(key, value)
    forget_s3_clients(monkeypatch)
    servers = []

    def start() -> None:  # moto's buckets outlive its servers
        servers.append(ThreadedMotoServer("127.0.0.1", port, verbose=False))
        servers[-1].start()

    start()
    bucket = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{port}").Bucket(BUCKET)
    if bucket not in bucket.meta.client.list_buckets()["Buckets"]:
        bucket.create()
    yield lambda: servers.pop().stop(), start
    for server in servers:
        server.stop()


def forget_s3_clients(monkeypatch) -> None:
    """boto3's session and MLflow's client remember credentials."""
    import boto3
    from mlflow.store.artifact import s3_artifact_repo

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    s3_artifact_repo._cached_get_s3_client.cache_clear()


def _replaced_by_a_file(folder: Path):
    aside = folder.with_name("aside")

    def die() -> None:
        folder.rename(aside)
        folder.touch()

    def revive() -> None:
        folder.unlink()
        aside.rename(folder)

    return die, revive


def count_downloads(monkeypatch) -> list[str]:
    """Return the artifact URIs that MLflow downloads from now on."""
    import mlflow.artifacts

    uris, real = [], mlflow.artifacts.download_artifacts

    def counted(*args, **kwargs):
        uris.extend(
            [kwargs["artifact_uri"]] if "artifact_uri" in kwargs else []
        )  # a client reads artifacts of runs by it, too
        return real(*args, **kwargs)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", counted)
    return uris


def save_model(folder: Path, label: float = 1.0) -> Path:
    """Save a scikit-learn model as skops with a signature. `label` changes its bytes, and not its sizes."""
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame({"dep_delay": [0.0, label], "distance": [1.0, 2.0]})
    mlflow.sklearn.save_model(
        LogisticRegression().fit(frame, [0, 1]),
        str(folder),
        signature=infer_signature(frame),
        serialization_format="skops",
        pip_requirements=["scikit-learn"],
    )
    return folder


STORES = {"SQLite": local_store, "proxied": proxied_store, "S3": s3_store, "HDFS": hdfs_store}
"""Context managers by name, given `request`, `tmp_path` and `monkeypatch`. `proxied` needs the fixture `server`."""
