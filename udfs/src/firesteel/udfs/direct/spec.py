"""What a direct job does: plain values that travel to the executors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.spec import ScoreSpec

Expression = tuple[Any, ...]
"""`(op, type, *arguments)`, type a Spark SQL type: see `firesteel.udfs.direct.expressions`."""


@dataclass(frozen=True, slots=True)
class Split:
    """A stretch `[start, stop)` of a file's bytes: the row groups whose middle lies in it are read, as Spark does it.

    `path` is relative to the scan's root.
    """

    path: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class OutputLocation:
    """A file system: `hdfs` with the authority and the client's settings, or `file`."""

    scheme: str
    authority: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    user: str = ""


@dataclass(frozen=True, slots=True)
class ScanSpec:
    """Files to read.

    `schema` are the columns to read, in Spark's Arrow types; `partitions` those that stand in the paths, in their order, as
    (name, Arrow type).
    """

    place: OutputLocation
    root: str
    schema: pa.Schema
    partitions: tuple[tuple[str, pa.DataType], ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """A SELECT over one relation: output name -> expression, and which rows stay."""

    columns: tuple[tuple[str, Expression], ...]
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class WriteSpec:
    """Where scored rows go: `folder` is the staging path. `constants` are columns of one value, with its type.

    `columns` are the columns of the files in order, without those of `partition_by`. A file that has `file_bytes` is finished, and
    another begun; 0 for no limit.
    """

    place: OutputLocation
    folder: str
    columns: tuple[str, ...]
    partition_by: tuple[str, ...]
    constants: tuple[tuple[str, pa.DataType, Any], ...] = ()
    compression: str = "zstd"
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DirectSpec:
    """A whole direct job. `scored` is the schema of the score step: kept columns, then outputs."""

    scan: ScanSpec
    projections: tuple[Projection, ...]
    score: ScoreSpec
    scored: pa.Schema
    write: WriteSpec


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file below the staging path: where a task left it, and where it belongs when the task counts."""

    temporary: str
    final: str
    rows: int
    size: int


@dataclass(slots=True)
class TaskResult:
    """What one task did. `rows_read` by the files' own footers, `rows_in` after the filters."""

    report: Any
    files: list[WrittenFile] = field(default_factory=list)
    rows_read: int = 0
    rows_in: int = 0
