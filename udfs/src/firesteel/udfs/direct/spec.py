"""Define a direct job as plain values that travel to the executors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.spec import ScoreSpec

Expression = tuple[Any, ...]
"""`(op, type, *arguments)` with a Spark SQL type. See `firesteel.udfs.direct.expressions`."""


@dataclass(frozen=True, slots=True)
class Split:
    """A byte range `[start, stop)` of a file. It contains the row groups whose middle lies in the range, as in Spark.

    `path` is relative to the scan's root.
    """

    path: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FileSystemSpec:
    """A file system: `hdfs` with authority and client settings, or `file`."""

    scheme: str
    authority: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    user: str = ""


@dataclass(frozen=True, slots=True)
class ScanSpec:
    """Files to read.

    `schema` has the file columns with Spark's Arrow types. `partitions` are the partition columns in path order, as
    (name, Arrow type).
    """

    filesystem: FileSystemSpec
    root: str
    schema: pa.Schema
    partitions: tuple[tuple[str, pa.DataType], ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """A SELECT over one relation: expressions by output name, and the row filter."""

    columns: tuple[tuple[str, Expression], ...]
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class WriteSpec:
    """The output of scored rows.

    Attributes
    ----------
    folder
        The staging path.
    columns
        File columns in order, without the columns of `partition_by`.
    constants
        Constant columns as (name, type, value).
    file_bytes
        Size in bytes at which a file is closed and a new one started; 0 for no limit.
    """

    filesystem: FileSystemSpec
    folder: str
    columns: tuple[str, ...]
    partition_by: tuple[str, ...]
    constants: tuple[tuple[str, pa.DataType, Any], ...] = ()
    compression: str = "zstd"
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DirectSpec:
    """The definition of a direct job. `scored` is the schema of the score step: kept columns, then outputs."""

    scan: ScanSpec
    projections: tuple[Projection, ...]
    score: ScoreSpec
    scored: pa.Schema
    write: WriteSpec


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of a task: its temporary path and its final path, both below the staging path."""

    temporary: str
    final: str
    rows: int
    size: int


@dataclass(slots=True)
class TaskResult:
    """The result of one task. `rows_read` comes from the file footers; `rows_in` counts the rows after the filters."""

    report: Any
    files: list[WrittenFile] = field(default_factory=list)
    rows_read: int = 0
    rows_in: int = 0
