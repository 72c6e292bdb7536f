"""One way into MLflow: a client of our own, bounded in time, quiet, that leaves the caller's globals alone."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import redact
from firesteel.conf.secrets import references, reveal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

CONNECT_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "https": 443}

_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own 7, with back-off, keep a dead server's caller for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # read at import: a batch job calls nobody but its tracking server
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Set while we call MLflow, where the user has not set them; MLflow reads them at each request."""

_LOGGERS = ("mlflow.store.db.utils", "alembic.runtime.migration", "alembic")
_GUARD = threading.RLock()
_DEPTH = 0
_SAVED: dict[str, int] = {}
_ADDED: list[str] = []


@contextlib.contextmanager
def mlflow_environment() -> Iterator[None]:
    """Bounded retries and quiet logs inside, everything as it was after. May be nested and used from several threads."""
    global _DEPTH  # noqa: PLW0603 - the environment is the process's, and so is the count of those inside
    with _GUARD:
        _DEPTH += 1
        if _DEPTH == 1:
            for key, value in _ENVIRONMENT.items():
                if key not in os.environ:
                    os.environ[key] = value
                    _ADDED.append(key)
            for name in _LOGGERS:
                _SAVED[name] = logging.getLogger(name).level
                logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        with _GUARD:
            _DEPTH -= 1
            if _DEPTH == 0:
                while _ADDED:
                    os.environ.pop(_ADDED.pop(), None)
                for name, level in _SAVED.items():
                    logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def mlflow_faults(tracking_uri: str, doing: str) -> Iterator[None]:
    """Bounded calls inside; what MLflow raises becomes FS9003 with one line of cause."""
    with mlflow_environment():
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
            raise unreachable(tracking_uri, f"{doing}: {one_line(error)}") from error


def connect(tracking_uri: str = "", *, create: bool = True) -> MlflowClient:
    """A client for `tracking_uri`, whose secrets are revealed here; an empty one is MLflow's own default.

    The registry is the same server, unless MLFLOW_REGISTRY_URI names another.

    Parameters
    ----------
    create
        Let MLflow make a database or a folder that is not there. Who only looks something up would leave an empty one
        wherever a URI is mistyped.

    Raises
    ------
    RuntimeFault
        FS9003 when nothing answers there, within seconds; without `create`, when the database or the folder is not there.
    """
    with mlflow_environment():
        import mlflow

        uri = reveal(tracking_uri) or mlflow.get_tracking_uri()
        _probe(uri)
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or (uri if tracking_uri else mlflow.get_registry_uri())
        for each in () if create else (uri, registry):
            _check_is_there(each)
        with mlflow_faults(uri, "no answer"):
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=registry)
            client.search_experiments(max_results=1)
    return client


def unreachable(tracking_uri: str, cause: str) -> RuntimeFault:
    """FS9003 for `tracking_uri`, without the password that it may hold."""
    return RuntimeFault("FS9003", f"MLflow at {without_secrets(tracking_uri)}: {cause}", hint="Check the tracking URI.")


def without_secrets(uri: str) -> str:
    """The URI without user, password and query; what is left of a secret stands as its reference."""
    held = redact(uri)
    refs = references(held)
    for number, ref in enumerate(refs):  # the `/` and `:` in a reference are none of the URI's
        held = held.replace(ref, f"secret-reference-{number}-", 1)
    parts = urlsplit(held)
    if parts.netloc:
        held = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    for number, ref in enumerate(refs):
        held = held.replace(f"secret-reference-{number}-", ref)
    return held


def database_folder(tracking_uri: str) -> Path | None:
    """The folder of a SQLite store, or None for any other."""
    file = _database(tracking_uri)
    return file.parent if file else None


def _database(tracking_uri: str) -> Path | None:
    """The file of a SQLite store, or None for any other."""
    scheme, _, path = tracking_uri.partition(":///")
    if scheme.split("+", 1)[0] != "sqlite" or not path or path.startswith(":memory:"):
        return None
    return Path(path.split("?", 1)[0]).resolve()


def _check_is_there(uri: str) -> None:
    """FS9003 when a local store does not exist: MLflow would create an empty one."""
    file = _database(uri)
    parts = urlsplit(uri)
    if file is None and (parts.scheme == "file" or (not parts.scheme and "/" in uri)):
        file = Path(unquote(parts.path))
    if file is not None and not file.exists():
        raise unreachable(uri, f"{file} does not exist.")


def one_line(error: Exception) -> str:
    """The first line of an error that says something, at most 300 characters."""
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]  # before it is cut
    return (lines[0] if lines else type(error).__name__)[:300]


def _probe(uri: str) -> None:
    """Does anything listen? MLflow's own client takes long to find out."""
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS or not parts.hostname:
        return
    address = (parts.hostname, parts.port or _PORTS[parts.scheme])
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise unreachable(uri, f"cannot connect: {error.strerror or one_line(error)}.") from error
