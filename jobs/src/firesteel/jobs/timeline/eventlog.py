"""Configure and read Spark's event log, whose files may be rolled, compressed and truncated.

::

    DIR/APP                                    one file (spark.eventLog.rolling.enabled=false)
    DIR/eventlog_v2_APP/events_1_APP.zstd      rolled: ordered by number
                        events_2_APP.zstd
                        appstatus_APP

A session that firesteel starts logs to the run's folder, unless the configuration sets another event log.
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
"""Start of the task metrics, which follow the task's times and are 90 % of the event. The timeline does not need them."""
_KINDS = frozenset(
    f"SparkListener{name}".encode()
    for name in (
        "ApplicationStart", "ApplicationEnd", "ExecutorAdded", "ExecutorRemoved", "JobStart",
        "StageSubmitted", "StageCompleted", "TaskStart", "TaskEnd",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventLog:
    """The event log of one application. `folder` is a URI."""

    folder: str
    application: str

    @classmethod
    def of(cls, spark: SparkSession) -> EventLog | None:
        """Return the event log of a running session, or None if it writes none."""
        conf = spark.sparkContext.getConf()
        if str(conf.get(ENABLED, "false")).lower() != "true":
            return None
        folder = str(conf.get("spark.eventLog.dir", "/tmp/spark-events"))  # noqa: S108 - Spark's own default
        return cls(_uri(folder), str(spark.sparkContext.applicationId))

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that a timeline needs, in order."""
        for data, name in self._files():
            yield from read_events(data, name)

    def _files(self) -> Iterator[tuple[bytes, str]]:
        storage, base = locate(self.folder)
        rolled = f"{base}/eventlog_v2_{self.application}"
        files = []
        if storage.status(rolled) is not None:
            numbered = ((_ROLLED.fullmatch(status.name), status) for status in storage.list(rolled))
            files = [status for _, status in sorted((int(name[1]), status) for name, status in numbered if name)]
        else:
            files = [file for file in storage.list(base) if file.name.split(".")[0] == self.application]
        for status in files:
            yield storage.read(status.path), status.name


def local_event_log(folder: Path) -> dict[str, str]:
    """Create `folder` and return the settings that make a session log to it."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        ENABLED: "true",
        "spark.eventLog.dir": folder.resolve().as_uri(),
        # The accumulators repeat the metrics of each task and are most of the log.
        "spark.eventLog.includeTaskMetricsAccumulators": "false",
    }


def read_events(data: bytes, name: str) -> Iterator[dict[str, Any]]:
    """Yield the events of one file. The log of a killed driver may end with an incomplete event, which is skipped."""
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
    metrics_start = line.find(_METRICS)
    if metrics_start > 0:
        try:
            event: dict[str, Any] = json.loads(line[:metrics_start] + b"}")
        except ValueError:
            pass
        else:
            return event
    full_event: dict[str, Any] = json.loads(line)
    return full_event


def _lines(data: bytes, name: str) -> Iterator[bytes]:
    import pyarrow as pa

    codec = {"zstd": "zstd", "zst": "zstd", "lz4": "", "snappy": "", "lzf": ""}.get(_suffix(name))
    if codec == "":
        raise StorageError(
            "FS8006",
            f"the event log {name} has a compression codec that only Spark supports.",
            hint="Set spark.eventLog.compression.codec to zstd, Spark's default.",
        )
    source = pa.input_stream(pa.BufferReader(data), compression=codec) if codec else io.BytesIO(data)
    rest = b""
    while True:
        try:
            chunk = source.read(1 << 20)
        except OSError:  # the compressed frame is incomplete
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
    """Return a URI for `locate`. A path without a scheme is local, and only Java's `file:` URIs are escaped."""
    if folder.startswith("file:"):
        return unquote(folder)
    return folder if re.match(r"\w+:", folder) else f"file://{folder}"
