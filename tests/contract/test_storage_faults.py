"""WebHDFS over bad links and with NameNodes that are absent, in standby, or silent. The good NameNode is real."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import pytest

from firesteel.conf.errors import StorageError
from firesteel.conf.hadoop import webhdfs_urls
from firesteel.pipelines.storage import namenodes as calls
from firesteel.pipelines.storage.namenodes import NameNodes
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.webhdfs import WebHdfsStorage


class Link:
    """A TCP relay to one server that breaks the connections that carry a chosen request.

    `lose="answer"`: the request arrives and is carried out, its answer does not. `lose="request"`: neither.
    """

    def __init__(self, url: str, marker: bytes, *, lose: str, times: int = 1) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._marker, self._lose, self._left = marker, lose, times
        self._lock = threading.Lock()
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), closing(socket.create_connection(self._server)) as server:
            while True:
                request = self._request(client)
                if not request:
                    return
                losing = self._take(request)
                if losing and self._lose == "request":
                    return
                server.sendall(request)
                answer = server.recv(1 << 20)
                if losing or not answer:  # the answer proves that it was carried out
                    return
                client.sendall(answer)

    def _request(self, client: socket.socket) -> bytes:
        """Calls to a NameNode have no body."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(1 << 16)
            if not part:
                return b""
            data += part
        return data

    def _take(self, request: bytes) -> bool:
        with self._lock:
            if self._marker not in request or self._left == 0:
                return False
            self._left -= 1
            self.lost += 1
            return True


class Answering(ThreadingHTTPServer):
    """An HTTP server that gives one answer to everything."""

    daemon_threads = True

    def __init__(self, status: int, body: str) -> None:
        outer = self
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                outer.asked += 1
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_args) -> None:
                """Be silent."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def __exit__(self, *args) -> None:
        self.shutdown()
        super().__exit__(*args)


def remote(name: str) -> str:
    return f'{{"RemoteException":{{"exception":"{name}","javaClassName":"x.{name}","message":"said so\\n\\tat x.y"}}}}'


def closed_url() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(calls, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(calls, "FIRST_PAUSES_S", (0.01,))


@pytest.fixture
def real(hdfs, monkeypatch):
    """The address of the real NameNode, a storage of its own, and a folder."""
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
    storage, root = locate(f"{hdfs.uri}/faults/{secrets.token_hex(6)}")
    (url,) = webhdfs_urls(hdfs.uri.removeprefix("hdfs://"))
    storage.mkdirs(root)
    yield url, storage, root
    storage.delete(root)


def over(*urls: str, timeouts_s: tuple[float, float] = (5.0, 20.0)):
    return closing(WebHdfsStorage(NameNodes("nn:8020", urls, timeouts_s=timeouts_s)))


@pytest.mark.integration
@pytest.mark.parametrize("lose", ["answer", "request"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_rename_with_a_lost_answer_is_done_once_and_reported_right(real, lose, times):
    url, direct, root = real
    direct.create(f"{root}/from/f", b"x")
    with Link(url, b"op=RENAME", lose=lose, times=times) as link, over(link.url) as storage:
        storage.rename(f"{root}/from", f"{root}/to")
        assert link.lost == (times if lose == "request" else 1), "done after the first: it must not be sent again"
    assert [file.path for file in direct.walk(root)] == [f"{root}/to/f"]


@pytest.mark.integration
@pytest.mark.parametrize("lose", ["answer", "request"])
def test_a_rename_to_what_exists_is_refused_also_over_a_bad_link(real, lose):
    url, direct, root = real
    direct.create(f"{root}/from/f", b"new")
    direct.create(f"{root}/to/f", b"old")
    with Link(url, b"op=RENAME", lose=lose) as link, over(link.url) as storage:
        with pytest.raises(StorageError) as caught:
            storage.rename(f"{root}/from", f"{root}/to")
        assert caught.value.code == "FS8004"
        assert link.lost == 1
    assert direct.read(f"{root}/to/f") == b"old"
    assert direct.read(f"{root}/from/f") == b"new"


@pytest.mark.integration
@pytest.mark.parametrize("lose", ["answer", "request"])
@pytest.mark.parametrize("marker", [b"op=RENAME", b"op=CREATE", b"op=GETFILESTATUS"])
def test_create_over_a_bad_link_is_whole_and_exclusive(real, lose, marker):
    url, direct, root = real
    with Link(url, marker, lose=lose) as link, over(link.url) as storage:
        assert storage.create(f"{root}/journal", b"mine").length == 4
        assert link.lost == 1
        with pytest.raises(StorageError) as caught:
            storage.create(f"{root}/journal", b"other")
        assert caught.value.code == "FS8004"
    assert [(each.name, direct.read(each.path)) for each in direct.list(root)] == [("journal", b"mine")]


@pytest.mark.integration
@pytest.mark.parametrize("lose", ["answer", "request"])
def test_calls_that_may_be_repeated_are(real, lose):
    url, direct, root = real
    direct.create(f"{root}/f", b"x")
    for marker, act in (
        (b"op=LISTSTATUS", lambda storage: [each.name for each in storage.list(root)] == ["f"]),
        (b"op=OPEN", lambda storage: storage.read(f"{root}/f") == b"x"),
        (b"op=MKDIRS", lambda storage: storage.mkdirs(f"{root}/d") is None),
    ):
        with Link(url, marker, lose=lose) as link, over(link.url) as storage:
            assert act(storage)
            assert link.lost == 1
    with Link(url, b"op=DELETE", lose=lose) as link, over(link.url) as storage:
        storage.delete(f"{root}/f")
    assert direct.status(f"{root}/f") is None


@pytest.mark.integration
@pytest.mark.parametrize("exception", ["StandbyException", "RetriableException", "SafeModeException"])
def test_a_namenode_that_cannot_serve_now_is_passed_over_and_the_good_one_remembered(real, exception):
    url, _, root = real
    with Answering(403, remote(exception)) as standby, over(standby.url, url) as storage:
        storage.create(f"{root}/f", b"x")
        storage.rename(f"{root}/f", f"{root}/g")
        assert storage.read(f"{root}/g") == b"x"
        assert standby.asked == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, remote("AccessControlException"), "FS8002"),
        (403, remote("IOException"), "FS8002"),
        (500, remote("RuntimeException"), "FS8002"),
        (401, "no", "FS8002"),
        (404, remote("FileNotFoundException"), "FS8003"),
        (502, "<html>", "FS8002"),
        (400, remote("UnsupportedOperationException"), ""),
        (
            400,
            remote("IllegalArgumentException").replace("said so", r"Invalid value for webhdfs parameter \"op\": "),
            "",
        ),
        (400, remote("IllegalArgumentException"), "FS8002"),
        (501, "no", ""),
    ],
)
def test_only_a_server_without_checksums_gives_none(status, body, code):
    with Answering(status, body) as server, over(server.url) as storage:
        if not code:
            assert storage.checksum("/f", 1) == ""
            return
        with pytest.raises(StorageError) as caught:
            storage.checksum("/f", 1)
        assert caught.value.code == code


@pytest.mark.integration
def test_a_namenode_that_is_down_is_passed_over(real):
    url, _, root = real
    with over(closed_url(), url) as storage:
        storage.create(f"{root}/f", b"x")
        storage.rename(f"{root}/f", f"{root}/g")
        assert storage.status(f"{root}/g").length == 1


@pytest.mark.integration
def test_what_another_user_may_not_write_is_fs8002(real, monkeypatch):
    url, direct, root = real
    direct.create(f"{root}/f", b"x")
    direct.create(f"{root}/secret", b"x")
    direct._namenodes.call("set_permission", f"{root}/secret", {"permission": "600"})
    with closing(WebHdfsStorage(NameNodes("nn:8020", (url,), user="mallory"))) as storage:
        for call in (
            lambda: storage.create(f"{root}/x", b""),
            lambda: storage.replace(f"{root}/f", b"y"),
            lambda: storage.mkdirs(f"{root}/d"),
            lambda: storage.delete(f"{root}/f"),
            lambda: storage.checksum(f"{root}/secret", 1),
            lambda: storage.read(f"{root}/secret"),
            lambda: storage.peek(f"{root}/secret", 0, 1),
            lambda: storage.rename(f"{root}/f", f"{root}/g"),
        ):
            with pytest.raises(StorageError) as caught:
                call()
            assert caught.value.code == "FS8002"
            assert "mallory" in caught.value.what
            assert "\n" not in str(caught.value), "a Java stack trace helps nobody"
        assert storage.read(f"{root}/f") == b"x"
    assert [each.name for each in direct.list(root)] == ["f", "secret"]


def test_nobody_answers(monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop/conf")
    one, two = closed_url(), closed_url()
    with over(one, two) as storage, pytest.raises(StorageError) as caught:
        storage.status("/x")
    assert caught.value.code == "FS8001"
    for fact in (one, two, "Connection refused", "Set HADOOP_CONF_DIR", "(it is /etc/hadoop/conf)", "hdfs://nn:8020"):
        assert fact in str(caught.value)


def test_a_host_that_does_not_exist():
    with over("http://namenode.invalid:9870") as storage, pytest.raises(StorageError) as caught:
        storage.status("/x")
    assert caught.value.code == "FS8001"
    assert "namenode.invalid:9870" in str(caught.value)


def test_a_namenode_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with over(url, timeouts_s=(0.2, 0.2)) as storage:
            for call in (lambda: storage.status("/x"), lambda: storage.rename("/x", "/y")):
                with pytest.raises(StorageError) as caught:
                    call()
                assert caught.value.code == "FS8001"
                assert "timed out" in str(caught.value)


@pytest.mark.parametrize("body", ["<html>It works!</html>", '{"error": "no"}', "[]"])
@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_is_no_namenode_is_an_error_of_ours(status, body):
    with Answering(status, body) as server, over(server.url) as storage, pytest.raises(StorageError) as caught:
        storage.list("/x")
    assert caught.value.code in {"FS8001", "FS8002"}


def test_wrong_credentials_are_fs8002():
    with Answering(401, "{}") as server, over(server.url) as storage, pytest.raises(StorageError) as caught:
        storage.list("/x")
    assert caught.value.code == "FS8002"
    assert "klist" in caught.value.hint


def test_threads_share_a_storage_and_have_their_own_connections():
    with Answering(404, remote("FileNotFoundException")) as server, over(server.url) as storage:
        found = []
        threads = [threading.Thread(target=lambda: found.append(storage.status("/x"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert found == [None] * 8
        assert server.asked == 8


def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", closed_url())
    with Answering(404, remote("FileNotFoundException")) as server, over(server.url) as storage:
        assert storage.status("/x") is None
