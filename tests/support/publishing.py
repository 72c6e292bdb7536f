"""Publish without Spark: the test stages files, in this process or in one that dies at a chosen moment.

As a program it is a driver: ``python -m support.publishing '<JSON of Driver>'`` prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from firesteel.conf.errors import FiresteelError
from firesteel.pipelines.events import Event
from firesteel.pipelines.publish.recover import recover
from firesteel.pipelines.publish.transaction import Attempt, StateStore, Transaction
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.open import locate
from support import forks
from support.waiting import state_of, wait_for

SINK, INTERVAL = "scores", "2013-06-01"
COUNTS = Counts(rows_in=10, scored=10)

Content = dict[str, str]
"""File content by path relative to the sink."""

# One directory is replaced, one becomes empty, one is new, one is a prefix that holds others, one is not planned.
PLANNED = ("dt=2013-06-01/origin=EWR", "dt=2013-06-01/origin=JFK", "dt=2013-06-01/origin=LGA", "dt=2013-05-31")
OLD = {
    "dt=2013-06-01/origin=EWR/part-0": "old ewr",
    "dt=2013-06-01/origin=JFK/part-0": "old jfk",
    "dt=2013-05-31/origin=EWR/part-0": "old yesterday ewr",
    "dt=2013-05-31/origin=XXX/part-0": "old yesterday xxx",
    "dt=2013-05-30/origin=EWR/part-0": "untouched",
}
NEW = {
    "dt=2013-06-01/origin=EWR/part-0": "new ewr",
    "dt=2013-06-01/origin=EWR/part-1": "new ewr, more",
    "dt=2013-06-01/origin=LGA/part-0": "new lga",
    "dt=2013-05-31/origin=EWR/part-0": "new yesterday ewr",
}
AFTER = NEW | {"dt=2013-05-30/origin=EWR/part-0": "untouched"}


def area_of(root_uri: str) -> StateStore:
    storage, base = locate(f"{root_uri}/_firesteel")
    return StateStore(storage, base, "flight_delay_scores", "test")


def sink_of(root_uri: str) -> str:
    return f"{root_uri}/scores"


def attempt_of(run_id: str) -> Attempt:
    return Attempt(run_id, f"plan-{run_id}", "ann", "host-1", "2013-06-02T00:00:00+00:00")


def put(root_uri: str, content: Content) -> None:
    """Write data to the sink before the publish."""
    storage, sink = locate(sink_of(root_uri))
    for path, text in content.items():
        storage.create(f"{sink}/{path}", text.encode())


def visible(root_uri: str) -> Content:
    """Return everything that a reader of the sink sees."""
    storage, sink = locate(sink_of(root_uri))
    return {
        file.path[len(sink) + 1 :]: storage.read(file.path).decode()
        for file in storage.walk(sink)
        if file.name != "_current"
    }


def below(root_uri: str, kind: str) -> list[str]:
    """Return the files below a folder of the store."""
    store = area_of(root_uri)
    folder = f"{store.base}/{kind}"
    return [file.path[len(folder) + 1 :] for file in store.storage.walk(folder)]


def folders_below(root_uri: str, kind: str) -> list[str]:
    """Return the files and folders below an interval's folder of the store."""
    store = area_of(root_uri)
    folder = f"{store.base}/{kind}/test/{SINK}/{INTERVAL}"
    return [each.name for each in store.storage.list(folder)] if store.storage.status(folder) else []


def stage(transaction: Transaction, storage: Storage, content: Content) -> None:
    for path, text in content.items():
        storage.create(f"{transaction.staging_path}/{path}", text.encode())
    storage.create(f"{transaction.staging_path}/_SUCCESS", b"")
    storage.create(f"{transaction.scratch_path}/features/part-0", b"computed once")


def publish(root_uri, run_id, content, planned=PLANNED, *, on_event=lambda _: None, ttl_s=60.0):
    """Run a complete publish in this process."""
    store = area_of(root_uri)
    with Transaction.begin(
        store, SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id), on_event=on_event, lease_ttl_s=ttl_s
    ) as transaction:
        stage(transaction, store.storage, content)
        return transaction.publish(planned, COUNTS)


def recover_all(root_uri, *, on_event=lambda _: None):
    return recover(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, on_event=on_event)


def edit(path: Path, **changes: object) -> None:
    """Edit the body of a state file, with the right checksum, as somebody does who knows the format."""
    content = json.loads(path.read_bytes())
    content["body"] |= changes
    rest = f'"identity": {json.dumps(content["identity"])},\n"body": {json.dumps(content["body"])}}}\n'.encode()
    path.write_bytes(b'{"sha256": "%s",\n%s' % (hashlib.sha256(rest).hexdigest().encode(), rest))


class Counted:
    """A storage that counts the calls that change something, and calls back before and after each.

    Heartbeats are not counted: another thread writes them at any time.
    """

    def __init__(self, inner: Storage, on_call) -> None:
        self._inner = inner
        self._on_call = on_call
        self._thread = threading.get_ident()

    @property
    def base_uri(self) -> str:
        return self._inner.base_uri

    def status(self, path: str) -> FileStatus | None:
        return self._inner.status(path)

    def list(self, path: str) -> list[FileStatus]:
        return self._inner.list(path)

    def walk(self, path: str) -> Iterator[FileStatus]:
        return self._inner.walk(path)

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        return self._inner.scan(paths)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.read(path, offset, length)

    def checksum(self, path: str, length: int) -> str:
        return self._inner.checksum(path, length)

    def create(self, path: str, data: bytes) -> FileStatus:
        return self._counted("create", path, lambda: self._inner.create(path, data))

    def replace(self, path: str, data: bytes) -> FileStatus:
        return self._counted("replace", path, lambda: self._inner.replace(path, data))

    def rename(self, source: str, target: str) -> None:
        return self._counted("rename", f"{source} -> {target}", lambda: self._inner.rename(source, target))

    def mkdirs(self, path: str) -> None:
        return self._counted("mkdirs", path, lambda: self._inner.mkdirs(path))

    def delete(self, path: str) -> bool:
        return self._counted("delete", path, lambda: self._inner.delete(path))

    def close(self) -> None:
        self._inner.close()

    def _counted(self, verb: str, what: str, call):
        if threading.get_ident() != self._thread:
            return call()
        self._on_call(verb, what)
        return call()


@dataclass(frozen=True)
class Driver:
    """A driver process, and the signal that it sends itself: at its n-th event, or before its n-th call.

    A driver that takes over stages only files that are not staged yet.
    """

    root_uri: str
    run_id: str
    what: str = "publish"
    signal: str = ""
    at_event: int = -1
    at_call: int = -1
    ttl_s: float = 60.0
    take_over: bool = False

    def start(self) -> subprocess.Popen[str]:
        tests = Path(__file__).parents[1]
        path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
        return forks.Popen(
            [sys.executable, "-m", "support.publishing", json.dumps(asdict(self))],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, dict[str, object]]:
        """Wait for the end of the driver; return its exit status and its output."""
        return finish(self.start())


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, object]]:
    out, err = process.communicate(timeout=120)
    if process.returncode not in {0, -signal.SIGKILL}:
        raise AssertionError(f"the driver ended with {process.returncode}:\n{err}")
    return process.returncode, json.loads(out.splitlines()[-1]) if out.strip() else {}


def wait_stopped(process: subprocess.Popen[str]) -> bool:
    """Wait until a driver has stopped itself. Return False if it ended before."""
    wait_for(lambda: process.poll() is not None or state_of(process.pid) == "T", "the driver has stopped or ended", 120)
    return process.poll() is None


def _drive(driver: Driver) -> dict[str, object]:
    events: list[str] = []
    calls: list[str] = []

    def on_event(event: Event) -> None:
        if len(events) == driver.at_event:
            os.kill(os.getpid(), signal.Signals[driver.signal])
        events.append(event.kind)

    def on_call(verb: str, what: str) -> None:
        if len(calls) == driver.at_call:
            os.kill(os.getpid(), signal.Signals[driver.signal])
        calls.append(f"{verb} {what}")

    store = area_of(driver.root_uri)
    store = StateStore(Counted(store.storage, on_call), store.base, store.pipeline, store.profile)
    result: dict[str, object] = {"outcome": "ok"}
    try:
        if driver.what == "recover":
            recover(store, SINK, sink_of(driver.root_uri), INTERVAL, on_event=on_event)
        else:
            with Transaction.begin(
                store,
                SINK,
                sink_of(driver.root_uri),
                INTERVAL,
                attempt_of(driver.run_id),
                on_event=on_event,
                lease_ttl_s=driver.ttl_s,
                take_over=driver.take_over,
            ) as transaction:
                result["found"] = store.storage.status(f"{transaction.staging_path}/_SUCCESS") is not None
                if not result["found"]:
                    stage(transaction, store.storage, NEW)
                transaction.publish(PLANNED, COUNTS)
    except FiresteelError as error:
        result = {"outcome": error.code, "message": str(error)}
    return result | {"events": events, "calls": calls}


if __name__ == "__main__":
    print(json.dumps(_drive(Driver(**json.loads(sys.argv[1])))))  # noqa: T201
