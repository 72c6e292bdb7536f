"""Spark's event log: where a session writes it, and its events, from files that may be rolled, compressed and cut off.

::

    DIR/APP                                    one file (spark.eventLog.rolling.enabled=false)
    DIR/eventlog_v2_APP/events_1_APP.zstd      rolled: in the order of the numbers
                        events_2_APP.zstd
                        appstatus_APP

A session that firesteel starts gets a log in the run's own folder, unless the user's configuration already writes one elsewhere.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.open import locate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENABLED = "spark.eventLog.enabled"
_ROLLED = re.compile(r"events_(\d+)_.*")
_METRICS = b',"Task Executor Metrics":'
"""What follows a task's times in its event is nine tenths of it, and not of interest here."""
_KINDS = frozenset(
    f"SparkListener{name}".encode()
    for name in (
        "ApplicationStart", "ApplicationEnd", "ExecutorAdded", "ExecutorRemoved", "JobStart",
        "StageSubmitted", "StageCompleted", "TaskStart", "TaskEnd",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventLog:
    """The log of one application; `folder` is a URI."""

    folder: str
    application: str

    @classmethod
    def of(cls, spark: SparkSession) -> EventLog | None:
        """That of a running session; None when it writes none."""
        conf = spark.sparkContext.getConf()
        if str(conf.get(ENABLED, "false")).lower() != "true":
            return None
        folder = str(conf.get("spark.eventLog.dir", "/tmp/spark-events"))  # noqa: S108 - Spark's own default
        return cls(_uri(folder), str(spark.sparkContext.applicationId))

    def events(self) -> Iterator[dict[str, Any]]:
        """Its events of the kinds that a timeline is made of, in their order."""
        for data, name in self._files():
            yield from read_events(data, name)

    def _files(self) -> Iterator[tuple[bytes, str]]:
        storage, base = locate(self.folder)
        rolled = f"{base}/eventlog_v2_{self.application}"
        found = []
        if storage.status(rolled) is not None:
            numbered = ((_ROLLED.fullmatch(status.name), status) for status in storage.list(rolled))
            found = [status for _, status in sorted((int(name[1]), status) for name, status in numbered if name)]
        else:
            found = [each for each in storage.list(base) if each.name.split(".")[0] == self.application]
        for status in found:
            yield storage.read(status.path), status.name


def local_event_log(folder: Path) -> dict[str, str]:
    """Settings that make a session write its log below `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        ENABLED: "true",
        "spark.eventLog.dir": folder.resolve().as_uri(),
        # They are in every task's event a second time, and make most of the log.
        "spark.eventLog.includeTaskMetricsAccumulators": "false",
    }


def read_events(data: bytes, name: str) -> Iterator[dict[str, Any]]:
    """The events of one file. What the writer had not finished is left out: a log of a killed driver ends anywhere."""
    for line in _lines(data, name):
        head = line[:80]
        kind = head[head.find(b':"') + 2 :].split(b'"', 1)[0]
        if kind not in _KINDS:
            continue
        try:
            yield _parsed(line)
        except ValueError:
            return


def _parsed(line: bytes) -> dict[str, Any]:
    cut = line.find(_METRICS)
    if cut > 0:
        try:
            found: dict[str, Any] = json.loads(line[:cut] + b"}")
        except ValueError:
            pass
        else:
            return found
    whole: dict[str, Any] = json.loads(line)
    return whole


def _lines(data: bytes, name: str) -> Iterator[bytes]:
    import pyarrow as pa

    codec = {"zstd": "zstd", "zst": "zstd", "lz4": "", "snappy": "", "lzf": ""}.get(_suffix(name))
    if codec == "":
        raise StorageError(
            "FS8006",
            f"the event log {name} is compressed in a way that only Spark reads.",
            hint="Set spark.eventLog.compression.codec to zstd, Spark's default.",
        )
    source = pa.input_stream(pa.BufferReader(data), compression=codec) if codec else io.BytesIO(data)
    rest = b""
    while True:
        try:
            chunk = source.read(1 << 20)
        except OSError:  # the frame was not finished
            return
        if not chunk:
            break
        *lines, rest = (rest + bytes(chunk)).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _suffix(name: str) -> str:
    bare = name.removesuffix(".inprogress")
    return bare.rpartition(".")[2] if "." in bare else ""


def _uri(folder: str) -> str:
    """As `locate` wants it: a bare path is local, and only Java's local URIs have escapes."""
    if folder.startswith("file:"):
        return unquote(folder)
    return folder if re.match(r"\w+:", folder) else f"file://{folder}"
