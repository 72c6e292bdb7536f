"""What was staged, read from the files by the driver itself: a Spark job costs more than the footers of a few files."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import StorageError
from firesteel.jobs.gates.distribution import describe
from firesteel.pipelines.publish.staging import is_data
from firesteel.pipelines.storage.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from firesteel.pipelines.storage.base import FileStatus, Storage

MAX_FILES = 256
"""More footers than these are read by the executors."""
MAX_VALUES = 16 << 20
"""More values than these are looked at by the executors: 128 MiB of them as doubles."""
_THREADS = 8


@dataclass(frozen=True, slots=True)
class StagedFiles:
    """The staged Parquet files of an attempt."""

    storage: Storage
    files: tuple[FileStatus, ...]

    @classmethod
    def below(cls, storage: Storage, path: str) -> StagedFiles:
        """Those below a path that a reader sees: neither Hadoop's checksums nor its markers."""
        return cls(storage, tuple(file for file in storage.walk(path) if is_data(file.path[len(path) :])))

    def rows(self) -> int | None:
        """By the footers; None when there are too many.

        Raises
        ------
        StorageError
            FS8006 when a file is no Parquet file: it was cut or overwritten since it was staged.
        """
        import pyarrow.parquet as pq

        if len(self.files) > MAX_FILES:
            return None

        def count(file: FileStatus) -> int:
            return int(self._read(file, pq.read_metadata).num_rows)

        with ThreadPoolExecutor(_THREADS) as pool:
            return sum(pool.map(count, self.files))

    def reasons(self) -> Counter[str]:
        """How often each value stands in the lists of the last column: why rows were quarantined."""
        import pyarrow.parquet as pq

        found: Counter[str] = Counter()
        for file in self.files:
            name = self._read(file, pq.read_schema).names[-1]
            table = self._read(file, lambda source, name=name: pq.read_table(source, columns=[name], partitioning=None))
            for listed in table.column(name).to_pylist():
                found.update(listed)
        return found

    def distribution(self, columns: Sequence[str], rows: int) -> tuple[tuple[str, dict[str, JsonValue]], ...] | None:
        """As `firesteel.jobs.gates.distribution.distribution` of numeric columns; None when there is too much to read."""
        if len(self.files) > MAX_FILES or rows * len(columns) > MAX_VALUES:
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        def load(file: FileStatus) -> Any:
            table = self._read(file, lambda source: pq.read_table(source, columns=list(columns), partitioning=None))
            return [table.column(name).cast(pa.float64(), safe=False).drop_null().to_numpy() for name in columns]

        with ThreadPoolExecutor(_THREADS) as pool:
            loaded = list(pool.map(load, self.files))
            return tuple(
                (name, describe([values[index] for values in loaded], rows, pool.map))
                for index, name in enumerate(columns)
            )

    def _read(self, file: FileStatus, read: Any) -> Any:
        import pyarrow as pa

        try:
            return read(Ranges(self.storage, file.path, file.length))
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise StorageError(
                "FS8006", f"{self.storage.base_uri}{file.path} is no whole Parquet file: {reason}"
            ) from error
