"""The staged files, read by the driver: for a few files that takes less time than a Spark job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import StorageError
from firesteel.conf.formats import TITLES, format_of
from firesteel.conf.partitions import is_data
from firesteel.conf.types import is_number
from firesteel.jobs.gates.distribution import describe
from firesteel.jobs.gates.drift import drift_expectations, least_rows
from firesteel.jobs.spark.lower import BY_NAME
from firesteel.pipelines.storage.ranges import RangeReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue
    from pyspark.sql import SparkSession

    from firesteel.jobs.gates.drift import DriftChecks
    from firesteel.pipelines.plan.model import GatePlan, Plan, SinkPlan
    from firesteel.pipelines.profile import Profile
    from firesteel.pipelines.storage.base import FileStatus, Storage

MAX_FILES = 256
"""Most files that the driver reads; the executors read more."""
MAX_VALUES = 16 << 20
"""Most values that the driver reads, 128 MiB as doubles; the executors read more."""
_THREADS = 8


def score_columns(plan: Plan, sink: SinkPlan) -> dict[str, str]:
    """Return the numeric columns of the sink's files that the model computes, with their Spark SQL types."""
    outputs = {output.name for output in plan.score_step.outputs} if plan.score_step else set()
    return {name: type_ for name, type_ in _file_columns(sink).items() if name in outputs and is_number(type_)}


def drift_columns(plan: Plan, sink: SinkPlan) -> dict[str, str]:
    """Return the columns of the sink's files that drift gates on the sink compare, with their Spark SQL types."""
    gates = [gate for gate in plan.gates if gate.on == f"sink:{sink.name}"]
    named = {dict(drift.kwargs)["column"] for gate in gates for drift in drift_expectations(gate.expectations)}
    return {name: type_ for name, type_ in _file_columns(sink).items() if name in named}


def _file_columns(sink: SinkPlan) -> dict[str, str]:
    """Return the columns within the files: partition columns are in the paths only."""
    return {column.name: column.type for column in sink.columns if column.name not in sink.partition_by}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads files of one format: their rows by the footer, and columns as a table."""

    rows: Callable[[Any], int]
    columns: Callable[[Any, list[str]], Any]


def _parquet_rows(file: Any) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def _parquet_columns(file: Any, columns: list[str]) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=columns, partitioning=None)


def _orc_rows(file: Any) -> int:
    from pyarrow import orc

    return int(orc.ORCFile(file).nrows)


def _orc_columns(file: Any, columns: list[str]) -> Any:
    from pyarrow import orc

    return orc.ORCFile(file).read(columns)


_READERS = {"parquet": _Reader(_parquet_rows, _parquet_columns), "orc": _Reader(_orc_rows, _orc_columns)}


@dataclass(frozen=True, slots=True)
class StagedFiles:
    """The staged files of an attempt, in Parquet or ORC."""

    storage: Storage
    files: tuple[FileStatus, ...]

    @classmethod
    def below(cls, storage: Storage, path: str) -> StagedFiles:
        """Return the data files below a path: neither Hadoop's checksums nor its markers."""
        return cls(storage, tuple(file for file in storage.walk(path) if is_data(file.path[len(path) :])))

    def rows(self) -> int | None:
        """Return the number of rows by the footers; None when there are too many files.

        Raises
        ------
        StorageError
            FS8006 when a file is not valid: it was truncated or overwritten after it was staged.
        """
        if len(self.files) > MAX_FILES:
            return None

        def count(file: FileStatus) -> int:
            return int(self._read(file, _READERS[format_of(file.path)].rows))

        with ThreadPoolExecutor(_THREADS) as pool:
            return sum(pool.map(count, self.files))

    def count(self, spark: SparkSession, uri: str) -> int:
        """Return the number of rows: by the footers, or by a Spark job over `uri` when there are too many files."""
        rows = self.rows()
        if rows is None:
            rows = int(spark.read.format(format_of(self.files[0].path)).option(*BY_NAME).load(uri).count())
        return rows

    def reasons(self) -> Counter[str]:
        """Count the values in the lists of the last column: the reasons why rows were quarantined."""
        import pyarrow.parquet as pq

        reasons: Counter[str] = Counter()
        for file in self.files:
            name = self._read(file, pq.read_schema).names[-1]
            table = self._read(file, lambda source, name=name: pq.read_table(source, columns=[name], partitioning=None))
            for values in table.column(name).to_pylist():
                reasons.update(values)
        return reasons

    def load(self, columns: Sequence[str], rows: int) -> StagedColumns | None:
        """Read the columns into the driver; None when there are too many files or values."""
        if len(self.files) > MAX_FILES or rows * len(columns) > MAX_VALUES:
            return None

        def load(file: FileStatus) -> Any:
            read = _READERS[format_of(file.path)].columns
            return self._read(file, lambda source: read(source, list(columns)))

        with ThreadPoolExecutor(_THREADS) as pool:
            return StagedColumns(rows, tuple(pool.map(load, self.files)))

    def _read(self, file: FileStatus, read: Any) -> Any:
        import pyarrow as pa

        try:
            return read(RangeReader(self.storage, file.path, file.length))
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise StorageError(
                "FS8006",
                f"{self.storage.base_uri}{file.path} is not a valid {TITLES[format_of(file.path)]} file: {reason}",
                hint="Run the interval again.",
            ) from error


@dataclass(frozen=True, slots=True)
class StagedColumns:
    """Columns of the staged files, read once for gates and distributions: one table for each file."""

    rows: int
    tables: tuple[Any, ...]

    def distribution(self, columns: Sequence[str]) -> tuple[tuple[str, dict[str, JsonValue]], ...]:
        """Like `firesteel.jobs.gates.distribution.distribution` of numeric columns."""
        import pyarrow as pa

        def numbers(table: Any) -> Any:
            return [table.column(name).cast(pa.float64(), safe=False).drop_null().to_numpy() for name in columns]

        with ThreadPoolExecutor(_THREADS) as pool:
            loaded = list(pool.map(numbers, self.tables))
            return tuple(
                (name, describe([values[index] for values in loaded], self.rows, pool.map))
                for index, name in enumerate(columns)
            )

    def profiles(self, gate: GatePlan, drifts: DriftChecks, types: Mapping[str, str]) -> dict[str, Profile]:
        """Return the profiles of the columns that a gate's drift expectations compare, equal to what Spark would compute.

        Parameters
        ----------
        types
            Spark SQL types of the loaded columns.
        """
        from firesteel.jobs.gates.values import profile_of

        return {
            name: profile_of(
                measurement, [table.column(name) for table in self.tables], least_rows=least_rows(gate, name)
            )
            for name, measurement in drifts.measurements(gate, types).items()
        }
