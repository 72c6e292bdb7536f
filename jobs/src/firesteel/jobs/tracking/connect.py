"""Connect to MLflow with a quiet client that has timeouts and does not change global settings."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from firesteel.conf.codes import CODES
from firesteel.conf.errors import FiresteelError, RuntimeFault, StorageError
from firesteel.conf.redaction import redact
from firesteel.conf.secrets import references, reveal
from firesteel.jobs.tracking import retries
from firesteel.pipelines.plan.security import is_clear, is_strict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

CONNECT_TIMEOUT_S = 5.0
_NOT_ABOUT_MLFLOW = frozenset({401, 403, 407, 408, 429, 500})
"""Answers that an MLflow server or a proxy in front of it gives, too."""
_USERINFO = re.compile(r"://[^/@\s]*@")
"""User and password in a URI: those of the environment's URIs are in MLflow's messages."""
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_EXTRAS = {"boto3": "s3", "botocore": "s3", "google": "gcs", "azure": "azure"}
"""The extra of firesteel that installs the top-level package of an artifact store."""
_DRIVERS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "mysql": "mysql-connector-python",
    "pyodbc": "pyodbc",
}
"""The distribution of a database driver's top-level package."""
_AUTHORITIES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables with the file of the certificate authority; the first one that is set counts."""
_CLIENT_CERTIFICATE = "MLFLOW_TRACKING_CLIENT_CERT_PATH"

_ENVIRONMENT = {
    # MLflow's default of 7 with back-off blocks for minutes if the server is down. Busy servers have more (retries.py).
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # read at import
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for --json
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Defaults that apply during calls of MLflow, unless the user has set the variables. MLflow reads them at each request."""

_LOGGERS = ("mlflow.store.db.utils", "alembic.runtime.migration", "alembic")
_GUARD = threading.RLock()
_DEPTH = 0
_SAVED: dict[str, int] = {}
_ADDED: list[str] = []


@contextlib.contextmanager
def mlflow_environment() -> Iterator[None]:
    """Limit retries and silence logs inside the block. Blocks may be nested and used in several threads."""
    global _DEPTH  # noqa: PLW0603 - the environment is process-wide, so the nesting depth is, too
    with _GUARD:
        _DEPTH += 1
        retries.open_blocks = _DEPTH
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
            retries.open_blocks = _DEPTH
            if _DEPTH == 0:
                while _ADDED:
                    os.environ.pop(_ADDED.pop(), None)
                for name, level in _SAVED.items():
                    logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def mlflow_faults(tracking_uri: str, doing: str, needs: str = "") -> Iterator[None]:
    """Limit retries inside the block, and convert errors to FS9003 with a one-line cause.

    The block only calls MLflow. All errors are converted, because artifact stores raise those of their own libraries
    (botocore, google.auth, azure.core, firesteel's storage). Other errors of firesteel pass.

    Parameters
    ----------
    needs
        The permission that the block needs, such as `EDIT on the experiment x`, for the hint of FS9035.
    """
    with mlflow_environment():
        try:
            yield
        except StorageError as error:  # artifacts on HDFS
            raise unreachable(tracking_uri, f"{doing}: {one_line(error)}", error.hint) from error
        except FiresteelError:
            raise
        except Exception as error:
            code = _code(error)
            hint = missing_library(error) or _hint(tracking_uri, code, needs) or _busy_hint(error)
            raise unreachable(tracking_uri, f"{doing}: {one_line(error)}", hint, code) from error


def _hint(tracking_uri: str, code: str, needs: str) -> str:
    """Return the hint of a code with the account or the certificate file in use; empty for other codes."""
    if code == "FS9035" and needs:
        return f"Grant {account(tracking_uri)} {needs}; see docs/how-to/mlflow-permissions.md."
    if code == "FS9034":
        return f"The server rejects {account(tracking_uri)}. {CODES[code].advice}"
    if code == "FS9036" and (name := _authority()):
        return f"{name} is {os.environ[name]}. {CODES[code].advice}"
    return ""


def _busy_hint(error: Exception) -> str:
    """Return the hint for a server that answered 429 or 503 to every retry; empty for other errors."""
    if re.search(r"too many (429|503) error responses", str(error)):
        return "The server is busy or limits requests: run again later, or raise its limit."
    return ""


def account(tracking_uri: str) -> str:
    """Return the name of the account that MLflow's client sends to the server, for messages."""
    from mlflow.utils.credentials import read_mlflow_creds

    user = urlsplit(_effective(tracking_uri)).username or read_mlflow_creds().username
    if user:
        return f"the user {unquote(user)}"
    return (
        "the account of MLFLOW_TRACKING_TOKEN" if os.environ.get("MLFLOW_TRACKING_TOKEN") else "requests without a user"
    )


def connect(tracking_uri: str = "", *, create: bool = True) -> MlflowClient:
    """Return a client for `tracking_uri`, or for MLflow's default if it is empty. The function resolves secrets in the URI.

    The registry is the same server, unless MLFLOW_REGISTRY_URI is set.

    Parameters
    ----------
    create
        Allow MLflow to create a missing database or folder. Lookups set it to False, so that a mistyped URI creates nothing.

    Raises
    ------
    RuntimeFault
        FS9003 if the server does not answer within seconds, or, without `create`, if the database or folder does not exist; FS9034 to
        FS9037 for rejected credentials, missing permissions, certificates and other servers; FS9041 if the connection is less secure
        than the plan or spec requires (`held_to_security`).
    """
    with mlflow_environment():
        import mlflow

        from firesteel.jobs.tracking.hdfs_artifacts import register

        register()
        retries.install()
        uri = _effective(tracking_uri)
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or (uri if tracking_uri else mlflow.get_registry_uri())
        if is_strict():
            _check_encrypted(uri, registry)
        for store_uri in (uri, registry):
            _check_certificate_files(store_uri)
            if not create:
                _check_exists(store_uri)
        _probe(uri)
        try:
            with mlflow_faults(uri, "no response"):
                client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=registry)
                empty = not client.search_experiments(max_results=1)
        except RuntimeFault as fault:
            if fault.code == "FS9037" or (fault.code == "FS9003" and _is_answer(fault)):
                _check_is_mlflow(uri)
            raise
        if empty:  # a server that answers any JSON
            _check_is_mlflow(uri)
    return client


def _check_is_mlflow(uri: str) -> None:
    """Raise FS9037 with the answer of a server that is not MLflow's. Refusals, busy and failing servers pass."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    endpoint = "/api/2.0/mlflow/experiments/search"
    try:
        answer = http_request(
            get_default_host_creds(uri), endpoint, "GET", params={"max_results": 1}, allow_redirects=False
        )
        body = answer.json()
    except ValueError:
        body = None
    except Exception:  # noqa: BLE001 - the caller has the error of the first request
        return
    if answer.status_code in _NOT_ABOUT_MLFLOW or (answer.status_code > 501):
        return
    if isinstance(body, dict) and (
        "error_code" in body or (answer.ok and body.keys() <= {"experiments", "next_page_token"})
    ):
        return
    received = f"{answer.status_code} {answer.reason}, {answer.headers.get('Content-Type', 'no content type')}"
    if answer.is_redirect:
        received += f", to {without_secrets(urljoin(answer.url, answer.headers['Location']))}"
    if title := re.search(r"<title>\s*([^<]{1,80})", answer.text, re.IGNORECASE):
        received += f", a page with the title `{title[1].strip()}`"
    raise unreachable(uri, f"the server is not an MLflow server: GET {endpoint} returned {received}.", code="FS9037")


def _is_answer(error: BaseException | None) -> bool:
    """Return whether the server has answered, and did not time out, hang up or fail at every retry."""
    from requests.exceptions import RequestException

    while error is not None:
        if isinstance(error, RequestException):
            return False
        error = error.__cause__ or error.__context__
    return True


def _authority() -> str:
    """Return the variable that has the file of the certificate authority, or an empty string."""
    if _is_on("MLFLOW_TRACKING_INSECURE_TLS"):
        return ""
    return next((name for name in _AUTHORITIES if os.environ.get(name)), "")


def _check_certificate_files(uri: str) -> None:
    """Raise FS9036 if a variable names a certificate file that does not exist."""
    for name in (_authority(), _CLIENT_CERTIFICATE):
        path = os.environ.get(name)
        if path and urlsplit(uri).scheme == "https" and not Path(path).exists():
            raise unreachable(
                uri,
                f"{name} is {path}, which does not exist.",
                f"Set {name} to an existing file, or remove it.",
                "FS9036",
            )


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"true", "1"}


def _effective(tracking_uri: str) -> str:
    """Return the URI with its secrets, or MLflow's default if it is empty."""
    import mlflow

    return reveal(tracking_uri) or str(mlflow.get_tracking_uri())


def exists(tracking_uri: str) -> bool:
    """Return whether the store exists. A server exists, also if it does not answer."""
    with mlflow_environment():
        try:
            _check_exists(_effective(tracking_uri))
        except RuntimeFault:
            return False
    return True


def _code(error: BaseException | None) -> str:
    """Return the code of an error of MLflow's client: rejected credentials, a missing permission, an untrusted certificate, or other."""
    from requests.exceptions import SSLError

    while error is not None:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None) or getattr(error, "http_status_code", None)
        name = str(getattr(error, "error_code", ""))
        text = str(error)
        if isinstance(error, SSLError) or "SSLError" in text or "CERTIFICATE_VERIFY_FAILED" in text:
            return "FS9036"
        if status == 401 or name in {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"} or _refused(401, text):
            return "FS9034"
        if status == 403 or name == "PERMISSION_DENIED" or _refused(403, text):
            return "FS9035"
        if "not in a valid JSON format" in text:
            return "FS9037"
        error = error.__cause__
    return "FS9003"


def _refused(status: int, text: str) -> bool:
    """Return whether an error's text has an HTTP status, as MLflow's client and requests write it."""
    return f"failed with error code {status}" in text or f"{status} Client Error" in text


def _check_encrypted(tracking_uri: str, registry_uri: str) -> None:
    """Check what `security: {mode: strict}` needs of the tracking server and the registry, which the environment may name.

    Raises
    ------
    RuntimeFault
        FS9041 for plain HTTP to another machine, and for certificates that are not verified.
    """
    for name, uri in {"the tracking URI": tracking_uri, "the registry URI": registry_uri}.items():
        if is_clear(uri):
            what = f"security.mode is strict, and {name} is {without_secrets(uri)}, which is not encrypted."
            raise RuntimeFault("FS9041", what, hint="Use https.")
    if _is_on("MLFLOW_TRACKING_INSECURE_TLS"):
        what = "security.mode is strict, and MLFLOW_TRACKING_INSECURE_TLS turns off the check of certificates."
        raise RuntimeFault(
            "FS9041", what, hint="Remove it. Set REQUESTS_CA_BUNDLE for a certificate authority of your own."
        )


def unreachable(tracking_uri: str, cause: str, hint: str = "", code: str = "FS9003") -> RuntimeFault:
    """Return FS9003, or another code, for `tracking_uri`, without its password."""
    what = f"MLflow at {without_secrets(tracking_uri)}: {cause}"
    return RuntimeFault(code, what, hint=hint or CODES[code].advice)


def missing_library(error: BaseException | None) -> str:
    """Return the hint for an artifact store or a database whose library is not installed; empty for other errors."""
    while error is not None:
        package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        if package in _EXTRAS:
            return f"Install the library of the artifact store: pip install 'firesteel[{_EXTRAS[package]}]'."
        if package in _DRIVERS:
            return f"Install the driver of the database: pip install '{_DRIVERS[package]}'."
        error = error.__cause__ or error.__context__
    return ""


def without_secrets(uri: str) -> str:
    """Return the URI without user, password and query. References replace other secrets."""
    redacted = redact(uri)
    refs = references(redacted)
    for number, ref in enumerate(refs):  # a reference may contain `/` and `:`, which are not part of the URI
        redacted = redacted.replace(ref, f"secret-reference-{number}-", 1)
    parts = urlsplit(redacted)
    if parts.netloc:
        redacted = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    for number, ref in enumerate(refs):
        redacted = redacted.replace(f"secret-reference-{number}-", ref)
    return redacted


def database_folder(tracking_uri: str) -> Path | None:
    """Return the folder of a SQLite store, or None for other stores."""
    file = _database(tracking_uri)
    return file.parent if file else None


def _database(tracking_uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for other stores."""
    scheme, _, path = tracking_uri.partition(":///")
    if scheme.split("+", 1)[0] != "sqlite" or not path or path.startswith(":memory:"):
        return None
    return Path(path.split("?", 1)[0]).resolve()


def _check_exists(uri: str) -> None:
    """Raise FS9003 if a local store does not exist, because MLflow would create an empty one."""
    file = _database(uri)
    parts = urlsplit(uri)
    if file is None and (parts.scheme == "file" or (not parts.scheme and "/" in uri)):
        file = Path(unquote(parts.path))
    if file is not None and not file.exists():
        raise unreachable(uri, f"{file} does not exist.")


def one_line(error: BaseException) -> str:
    """Return the first non-empty line of an error, at most 300 characters, without users and passwords of URIs.

    If the line ends with a colon, the next line is added: it has the cause. MLflow lists each file that it cannot download.
    """
    text = _USERINFO.sub("://", redact(str(error)))  # before truncation
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0].endswith(":"):
        lines[0] = " ".join([lines[0], *[line for line in lines[1:] if not line.startswith("##### File ")][:1]])
    return (lines[0] if lines else type(error).__name__)[:300]


def _probe(uri: str) -> None:
    """Raise FS9003 if the server or database refuses connections. MLflow's client needs longer to detect it."""
    from requests.utils import get_environ_proxies, select_proxy

    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in _PORTS or not parts.hostname or "," in parts.netloc or "host=" in parts.query:
        return  # one of several hosts may answer
    if scheme in ("http", "https") and select_proxy(uri, get_environ_proxies(uri)):
        return  # the machine may not reach the server itself
    address = (parts.hostname, parts.port or _PORTS[scheme])
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise unreachable(uri, f"cannot connect: {error.strerror or one_line(error)}.") from error
