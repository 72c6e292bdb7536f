"""Write the scored batches of one task attempt to partitioned Parquet files.

Each attempt writes to its own hidden folder, so attempts of the same task (retries, speculation) do not conflict. The driver moves the
files of the successful attempts.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from firesteel.conf.partitions import NULL_DIRECTORY, partition_name
from firesteel.udfs.direct.spec import WrittenFile

if TYPE_CHECKING:
    from types import TracebackType

    from firesteel.udfs.direct.files import Files
    from firesteel.udfs.direct.spec import WriteSpec

TEMPORARY = "_direct"
"""Hidden folder below the staging path."""
OPEN_FILES = 16
"""Maximum open files per task. The least recently used file is closed first."""
GROUP_BYTES = 64 << 20
"""Buffered bytes of one file that form a row group."""
BUFFER_BYTES = 192 << 20
"""Maximum buffered bytes of all files of a task."""


@dataclass(slots=True)
class _Open:
    writer: Any
    stack: ExitStack
    sink: Any
    file: tuple[str, str]
    rows: int = 0
    buffered: list[pa.RecordBatch] = field(default_factory=list)
    buffered_bytes: int = 0


class TaskWriter:
    """Writes the rows of one task. As a context manager, it closes all files if the block raises no error."""

    def __init__(self, files: Files, spec: WriteSpec, schema: pa.Schema, task: int, attempt: int, job: str) -> None:
        self._files = files
        self._spec = spec
        self._schema = schema
        self._name = f"part-{task:05d}-{job}"
        self._folder = f"{TEMPORARY}/{job}-{task:05d}-{attempt}"
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._count = 0
        # Buffered rows need about four times their size in the file, and the size check follows a write.
        self._group_bytes = min(GROUP_BYTES, spec.file_bytes or GROUP_BYTES)
        self._constants = {name: pa.scalar(value, kind) for name, kind, value in spec.constants}
        fields = {field.name: field for field in schema}
        for name, kind, _ in spec.constants:
            fields[name] = pa.field(name, kind)
        self._file_schema = pa.schema([fields[name] for name in spec.columns])
        self.written: list[WrittenFile] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows to the files of their partitions."""
        for folder, rows in self._split(batch):
            target = self._file(folder)
            target.buffered.append(rows)
            target.buffered_bytes += rows.nbytes
            target.rows += rows.num_rows
            if target.buffered_bytes >= self._group_bytes:
                self._flush(target)
            if self._spec.file_bytes and target.sink.tell() >= self._spec.file_bytes:
                self._close(folder, self._open.pop(folder))
        while sum(file.buffered_bytes for file in self._open.values()) > BUFFER_BYTES:
            self._flush(max(self._open.values(), key=lambda file: file.buffered_bytes))

    def finish(self) -> None:
        """Close all files."""
        while self._open:
            self._close(*self._open.popitem(last=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
            return
        for file in self._open.values():
            file.stack.__exit__(kind, error, trace)

    def _split(self, batch: pa.RecordBatch) -> list[tuple[str, pa.RecordBatch]]:
        """Split the batch by partition. Usually all rows belong to one partition."""
        keys = [self._column(batch, name) for name in self._spec.partition_by]
        if not keys:
            return [("", self._columns(batch))]
        distinct = [pc.unique(key) for key in keys]
        if all(len(values) == 1 for values in distinct):
            return [(self._path([values[0].as_py() for values in distinct]), self._columns(batch))]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for row, values in enumerate(zip(*(key.to_pylist() for key in keys), strict=True)):
            groups.setdefault(values, []).append(row)
        return [
            (self._path(list(values)), self._columns(batch.take(pa.array(rows)))) for values, rows in groups.items()
        ]

    def _columns(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [self._column(batch, name) for name in self._spec.columns]
        return pa.RecordBatch.from_arrays(columns, schema=self._file_schema)

    def _column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        constant = self._constants.get(name)
        return batch.column(name) if constant is None else pa.repeat(constant, batch.num_rows)

    def _path(self, values: list[Any]) -> str:
        return "/".join(
            partition_name(name, _text(value)) for name, value in zip(self._spec.partition_by, values, strict=True)
        )

    def _file(self, folder: str) -> _Open:
        if folder in self._open:
            self._open.move_to_end(folder)
            return self._open[folder]
        while len(self._open) >= OPEN_FILES:
            self._close(*self._open.popitem(last=False))
        name = f"{self._name}-c{self._count:03d}.{self._spec.compression}.parquet"
        self._count += 1
        final = f"{folder}/{name}".lstrip("/")
        temporary = f"{self._folder}/{final}"
        stack = ExitStack()
        sink = stack.enter_context(self._files.create(f"{self._spec.folder}/{temporary}"))
        # Dictionary encoding of distinct floats costs time and saves no space.
        dictionary_columns = [field.name for field in self._file_schema if not pa.types.is_floating(field.type)]
        writer = pq.ParquetWriter(
            sink,
            self._file_schema,
            compression=self._spec.compression,
            use_dictionary=dictionary_columns,
            store_schema=False,
        )
        self._open[folder] = _Open(writer, stack, sink, (temporary, final))
        return self._open[folder]

    def _flush(self, target: _Open) -> None:
        if target.buffered:
            target.writer.write_table(pa.Table.from_batches(target.buffered), row_group_size=max(1, target.rows))
            target.buffered, target.buffered_bytes = [], 0

    def _close(self, _folder: str, target: _Open) -> None:
        try:
            self._flush(target)
            target.writer.close()
            size = target.sink.tell()
        except BaseException as error:
            target.stack.__exit__(type(error), error, error.__traceback__)
            raise
        target.stack.close()
        self.written.append(WrittenFile(*target.file, target.rows, size))


def _text(value: Any) -> str:
    """Return the directory text of a partition value, as Spark writes it."""
    if value is None or value == "":
        return NULL_DIRECTORY
    return value.isoformat() if isinstance(value, date) else str(value)
