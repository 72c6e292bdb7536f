"""Tracking URIs behind which there is no MLflow: other servers, missing certificate files, missing drivers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.tracking.connect import connect

LOGIN = b"<html><head><title> Sign in </title></head></html>"


@contextmanager
def web_server(status: int, content_type: str, body: bytes, location: str = "") -> Iterator[str]:
    """Serve one answer for all paths, except a login page at /login. Yield the URI."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_login = self.path.startswith("/login")
            data = LOGIN if is_login else body
            self.send_response(200 if is_login else status)
            self.send_header("Content-Type", "text/html" if is_login else content_type)
            self.send_header("Content-Length", str(len(data)))
            if location and not is_login:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def fault_of(uri: str) -> RuntimeFault:
    with pytest.raises(RuntimeFault) as caught:
        connect(uri)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        ((200, "text/html", LOGIN), "200 OK, text/html, a page with the title `Sign in`"),
        ((302, "text/html", b"", "/login?token=t0ps3cret"), "302 Found, text/html, to http://127.0.0.1:"),
        ((404, "text/html", b"<h1>Not Found</h1>"), "404 Not Found, text/html"),
        ((404, "application/json", b'{"detail": "Not Found"}'), "404 Not Found, application/json"),
        ((200, "application/json", b'{"ok": true}'), "200 OK, application/json"),
        ((200, "text/plain", b""), "200 OK, text/plain"),
        ((501, "text/plain", b"no POST"), "501 Not Implemented, text/plain"),
    ],
)
def test_a_server_that_is_not_mlflow_is_fs9037_with_its_answer(answer, received):
    with web_server(*answer) as uri:
        fault = fault_of(uri)
    assert fault.code == "FS9037"
    assert f"GET /api/2.0/mlflow/experiments/search returned {received}" in fault.what
    assert "t0ps3cret" not in str(fault)


def test_an_answer_of_mlflow_keeps_its_code():
    with web_server(400, "application/json", b'{"error_code": "BAD_REQUEST", "message": "no"}') as uri:
        fault = fault_of(uri)
    assert (fault.code, "BAD_REQUEST" in fault.what) == ("FS9003", True)


@pytest.mark.parametrize("file", ["no-such.pem", "empty.pem"])
@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bad_certificate_file_is_fs9036_with_the_variable(tmp_path, monkeypatch, name, file):
    for variable in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv(name, str(tmp_path / file))
    with web_server(200, "text/html", LOGIN) as uri:
        fault = fault_of(uri.replace("http:", "https:"))
    assert fault.code == "FS9036"
    assert f"{name} is {tmp_path / file}" in str(fault)


def test_a_missing_client_certificate_is_fs9036_with_the_variable(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", "/no/such.pem")
    fault = fault_of("https://mlflow.invalid")
    assert fault.code == "FS9036"
    assert "MLFLOW_TRACKING_CLIENT_CERT_PATH is /no/such.pem, which does not exist" in fault.what


def test_certificate_files_do_not_matter_to_plain_http(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
    with web_server(404, "text/html", b"") as uri:
        assert fault_of(uri).code == "FS9037"


@pytest.mark.parametrize(
    ("scheme", "package"),
    [
        ("postgresql", "psycopg"),  # SQLAlchemy's default driver
        ("postgresql+psycopg", "psycopg[binary]"),
        ("postgresql+psycopg2", "psycopg2-binary"),
        ("mysql", "mysqlclient"),
        ("mysql+pymysql", "pymysql"),
        ("mysql+mysqlconnector", "mysql-connector-python"),
        ("mssql+pyodbc", "pyodbc"),
    ],
)
def test_a_database_without_its_driver_names_the_package(scheme, package):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fault = fault_of(f"{scheme}://ml:hunter2@127.0.0.1:{listening.getsockname()[1]}/mlflow")
    assert fault.code == "FS9003"
    assert f"pip install '{package}" in fault.hint
    assert "hunter2" not in str(fault)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_a_database_that_is_down_is_fs9003_without_mlflows_retries(scheme):
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        fault = fault_of(f"{scheme}://ml:hunter2@127.0.0.1:{taken.getsockname()[1]}/mlflow")
    assert (fault.code, "cannot connect" in fault.what) == ("FS9003", True)
    assert "hunter2" not in str(fault)
