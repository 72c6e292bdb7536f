"""The map outputs of one application on this node, with a journal from which a restarted service recovers them.

::

    FOLDER/APPLICATION/                    clients create links here, REGISTER moves them
    FOLDER/APPLICATION/.service/outputs/   one folder per shuffle, one file per output that has bytes
    FOLDER/APPLICATION/.service/spool/     fetched blocks that did not fit the slab
    FIRST FOLDER/APPLICATION/.service/     the journal and the secret
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from firesteel.rdma_shuffle.storage.journal import Journal, records
from firesteel.rdma_shuffle.wire.blocks import ENTRY, MAX_REDUCES, FileExtent, Found, Missing, Piece, Range, Table
from firesteel.rdma_shuffle.wire.codec import Body, text, u8, u32, u64
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

SERVICE = ".service"
_REGISTERED, _REMOVED = 1, 2
_COMPACT_BYTES = 8 << 20
_MODE = 0o700
_MAX_BYTES = 1 << 62
_OUTPUT_BYTES = 1024
"""Memory of an output besides its blocks."""


@dataclass(frozen=True, slots=True)
class Output:
    """One map output. An empty block needs no memory: most blocks of a wide shuffle can be empty.

    Parameters
    ----------
    path
        The data file. Empty if the output has no bytes.
    count
        The number of reduces.
    table
        The blocks that have bytes.
    reduces
        The reduces of these blocks, or None if every block has bytes.
    offsets
        The offset of each of these blocks, and the end of the last one.
    """

    path: str
    count: int
    table: Table
    reduces: array[int] | None
    offsets: array[int]

    @classmethod
    def of(cls, table: Table) -> Output:
        """Return the output that has the blocks of a table, without a path."""
        lengths = table.lengths()
        if all(lengths):
            return cls("", len(lengths), table, None, _offsets(lengths))
        reduces = array("I", [reduce for reduce, length in enumerate(lengths) if length] if any(lengths) else ())
        table = Table(b"".join([table.data[at * ENTRY.size : (at + 1) * ENTRY.size] for at in reduces]))
        return cls("", len(lengths), table, reduces, _offsets([lengths[reduce] for reduce in reduces]))

    @property
    def size(self) -> int:
        return self.offsets[-1]

    @property
    def memory(self) -> int:
        """The bytes of memory that it needs in the service."""
        reduces = 0 if self.reduces is None else len(self.reduces) * self.reduces.itemsize
        return _OUTPUT_BYTES + len(self.table.data) + len(self.offsets) * self.offsets.itemsize + reduces

    def index(self, reduce: int) -> int:
        """Return the index of the first block with bytes whose reduce is not lower."""
        return reduce if self.reduces is None else bisect_left(self.reduces, reduce)

    def blocks(self, first: int, end: int) -> Table:
        """Return the blocks from reduce `first` to `end` (exclusive)."""
        low, high = self.index(first), self.index(end)
        table = self.table.cut(low, high)
        if self.reduces is None or high - low == end - first:
            return table
        if low == high:
            return Table(bytes((end - first) * ENTRY.size))
        data = bytearray((end - first) * ENTRY.size)
        for at, reduce in enumerate(self.reduces[low:high]):
            start = (reduce - first) * ENTRY.size
            data[start : start + ENTRY.size] = table.data[at * ENTRY.size : (at + 1) * ENTRY.size]
        return Table(bytes(data))


class Catalogue:
    """Map outputs by shuffle and map id.

    Parameters
    ----------
    folders
        The service's folders. The first one holds the journals.
    application
        A validated name. It is used as a folder name.
    discard
        Deletes a folder.
    memory_limit
        Bytes of memory for the lengths and checksums of the blocks, or None without a limit.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        application: str,
        discard: Callable[[Path], None] = shutil.rmtree,
        memory_limit: int | None = None,
    ) -> None:
        self._memory_limit = memory_limit
        self._discard = discard
        self._folders = tuple(folder / application for folder in folders)
        self._outputs: dict[int, dict[int, Output]] = {}
        self._dead_bytes = 0
        self.size = 0
        self.memory = 0
        for folder in self._folders:
            for part in ("outputs", "spool"):
                (folder / SERVICE / part).mkdir(_MODE, parents=True, exist_ok=True)
            folder.chmod(_MODE)
        self._journal = Journal(self._folders[0] / SERVICE / "journal")

    def __len__(self) -> int:
        return sum(map(len, self._outputs.values()))

    @property
    def _output_folders(self) -> set[Path]:
        return {folder / SERVICE / "outputs" for folder in self._folders}

    @property
    def spool(self) -> Path:
        """The folder for fetched blocks that do not fit the slab."""
        return self._folders[0] / SERVICE / "spool"

    def close(self) -> None:
        self._journal.close()

    # -- registration --------------------------------------------------------------------------------------------

    def register(
        self, shuffle: int, map_id: int, data: str, index: str, table: Table, bytes_left: int | None = None
    ) -> None:
        """Register a map output and move its data file into the service's folder.

        Parameters
        ----------
        data, index
            Files directly in one of the application's folders. Empty if there is no such file.
        table
            Length and CRC32C of each block.
        bytes_left
            Bytes that the disk limit still allows, or None without a limit.

        Raises
        ------
        ShuffleFault
            REFUSED, CORRUPT or NO_SPACE. The files and the catalogue are then unchanged.
        """
        try:
            output = Output.of(table)
        except OverflowError:
            output = None
        if output is None or output.size > _MAX_BYTES:
            raise ShuffleFault(
                Reason.CORRUPT, f"map output {shuffle}/{map_id} has more bytes than the maximum of {_MAX_BYTES}"
            )
        known = self._outputs.get(shuffle, {}).get(map_id)
        if known and replace(known, path="") != output:
            raise ShuffleFault(
                Reason.REFUSED, f"map output {shuffle}/{map_id} is already registered with different blocks"
            )
        if bytes_left is not None and output.size - (known.size if known else 0) > bytes_left:
            raise ShuffleFault(
                Reason.NO_SPACE,
                f"map output {shuffle}/{map_id} has {output.size} bytes, the disk limit leaves {bytes_left}",
            )
        if self._memory_limit is not None and not known and self.memory + output.memory > self._memory_limit:
            raise ShuffleFault(
                Reason.NO_SPACE,
                f"the lengths and checksums of map output {shuffle}/{map_id} need {output.memory} bytes of memory, "
                f"the application uses {self.memory} of {self._memory_limit} (--table-bytes)",
            )
        source = self._handed_over(data, output.size) if data or output.size else None
        leftover = self._handed_over(index, None) if index else None
        if known and _is_whole(known, self._output_folders):
            # The client repeats a registration whose answer it did not receive.
            for given in filter(None, (source, leftover)):
                given.unlink(missing_ok=True)
            return
        if source:
            output = replace(output, path=str(source.parent / SERVICE / "outputs" / f"{shuffle}" / f"{map_id}"))
        try:
            if source:
                Path(output.path).parent.mkdir(_MODE, exist_ok=True)
                source.rename(output.path)
            try:
                self._journal.append(_registered(shuffle, map_id, output))
            except OSError:
                if source:
                    Path(output.path).rename(source)  # back to the client
                raise
        except OSError as error:
            raise ShuffleFault(Reason.NO_SPACE, f"map output {shuffle}/{map_id}: {error.strerror}") from error
        self._put(shuffle, map_id, output)
        if leftover:
            leftover.unlink(missing_ok=True)

    def _handed_over(self, path: str, size: int | None) -> Path:
        """Return the path if it is a regular file of this size, directly in one of our folders."""
        given = Path(path)
        # The path is not resolved: another spelling or a symbolic link is refused.
        if given.parent not in self._folders or given.name in {"", ".", "..", SERVICE}:
            raise ShuffleFault(Reason.REFUSED, "a handed-over file is outside the application's folders")
        try:
            status = given.lstat()
        except OSError as error:
            raise ShuffleFault(Reason.REFUSED, f"a handed-over file cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise ShuffleFault(Reason.REFUSED, "a handed-over file is not a regular file")
        if size is not None and status.st_size != size:
            raise ShuffleFault(Reason.CORRUPT, f"a handed-over file has {status.st_size} bytes, its blocks {size}")
        return given

    def _put(self, shuffle: int, map_id: int, output: Output) -> None:
        outputs = self._outputs.setdefault(shuffle, {})
        known = outputs.get(map_id)
        if known:
            self.size -= known.size
            self.memory -= known.memory
            if known.path and known.path != output.path:  # re-registered from another folder
                Path(known.path).unlink(missing_ok=True)
        outputs[map_id] = output
        self.size += output.size
        self.memory += output.memory

    # -- serving -------------------------------------------------------------------------------------------------

    def locate(self, asked: Range) -> Found | Missing:
        """Return the blocks of a range and the extent of the file that holds them."""
        try:
            output = self._output(asked)
        except ShuffleFault as fault:
            return Missing(fault.reason, fault.detail)
        start, end = output.offsets[output.index(asked.first)], output.offsets[output.index(asked.end)]
        extents = (FileExtent(output.path, start, end - start),) if end > start else ()
        return Found(output.blocks(asked.first, asked.end), extents)

    def _output(self, asked: Range) -> Output:
        """Return the map output that contains a range."""
        outputs = self._outputs.get(asked.shuffle)
        output = outputs.get(asked.map_id) if outputs else None
        if output is None:
            raise ShuffleFault(Reason.NOT_HERE, f"map output {asked.shuffle}/{asked.map_id} is not on this node")
        if asked.end > output.count:
            raise ShuffleFault(Reason.NOT_HERE, f"map output {asked.shuffle}/{asked.map_id} has {output.count} reduces")
        return output

    def piece(self, piece: Piece) -> FileExtent | None:
        """Return the extent of a piece, or None if it has no bytes.

        Raises
        ------
        ShuffleFault
            NOT_HERE, or MALFORMED for a piece outside its range.
        """
        asked, skip, length = piece
        output = self._output(asked)
        start = output.offsets[output.index(asked.first)] + skip
        if start + length > output.offsets[output.index(asked.end)]:
            raise ShuffleFault(Reason.MALFORMED, "a piece is outside its range")
        return FileExtent(output.path, start, length) if length else None

    # -- removal -------------------------------------------------------------------------------------------------

    def remove(self, shuffle: int) -> None:
        """Delete the outputs of a shuffle. Readers that have a file open can continue."""
        removed = self._outputs.pop(shuffle, {})
        for map_id, output in removed.items():
            self.size -= output.size
            self.memory -= output.memory
            self._dead_bytes += len(_registered(shuffle, map_id, output))
        if not removed:
            return
        for folder in {Path(output.path).parent for output in removed.values() if output.path}:
            self._discard(folder)
        try:
            self._journal.append(u8(_REMOVED) + u32(shuffle))
        except OSError:
            # The disk is full. The files are deleted, so a restart drops these records.
            self._dead_bytes = self._journal.size
        if self._dead_bytes > _COMPACT_BYTES and self._dead_bytes * 2 > self._journal.size:
            self._compact()

    def _compact(self) -> None:
        self._journal.rewrite(
            _registered(shuffle, map_id, output)
            for shuffle, outputs in self._outputs.items()
            for map_id, output in outputs.items()
        )
        self._dead_bytes = 0

    def destroy(self) -> None:
        """Delete all files of the application. The journal is first, so that a partial deletion is not recovered."""
        self.close()
        self._journal.path.unlink(missing_ok=True)
        self._outputs.clear()
        self.size = self.memory = 0
        for folder in self._folders:
            self._discard(folder)

    # -- recovery -----------------------------------------------------------------------------------------------

    def recover(self) -> tuple[int, int]:
        """Recover the outputs whose journal record and file agree, and delete everything else.

        Returns
        -------
        tuple[int, int]
            The number of recovered outputs, and the number of records without a matching file.
        """
        live: dict[tuple[int, int], Output] = {}
        for record in records(self._journal.path):
            kind, shuffle, map_id, output = _read(record)
            if kind == _REMOVED:
                live = {key: kept for key, kept in live.items() if key[0] != shuffle}
            elif output:
                live[shuffle, map_id] = output
        valid = {key: output for key, output in live.items() if _is_whole(output, self._output_folders)}
        for (shuffle, map_id), output in valid.items():
            self._put(shuffle, map_id, output)
        self._sweep({output.path for output in valid.values()})
        self._compact()
        return len(valid), len(live) - len(valid)

    def _sweep(self, keep: set[str]) -> None:
        """Delete unregistered links, spool files and files without a record."""
        for folder in self._folders:
            shuffles = [path for path in (folder / SERVICE / "outputs").iterdir() if path.is_dir()]
            for swept in (folder, folder / SERVICE / "spool", folder / SERVICE / "outputs", *shuffles):
                for entry in os.scandir(swept):
                    if not entry.is_dir(follow_symlinks=False) and entry.path not in keep:
                        Path(entry.path).unlink(missing_ok=True)


def _registered(shuffle: int, map_id: int, output: Output) -> bytes:
    """`u8 1 | u32 shuffle | u64 map | str path | u32 count | u32 n | n x u32 reduce if n < count | n x (u64 length | u32 CRC32C)`."""
    reduces = b"" if output.reduces is None else struct.pack(f">{len(output.reduces)}I", *output.reduces)
    head = u8(_REGISTERED) + u32(shuffle) + u64(map_id) + text(output.path)
    return head + u32(output.count) + u32(len(output.table)) + reduces + output.table.data


def _read(record: bytes) -> tuple[int, int, int, Output | None]:
    body = Body(record)
    kind, shuffle = body.u8(), body.u32()
    if kind == _REMOVED:
        return kind, shuffle, 0, None
    map_id, path, count, size = body.u64(), body.text(), body.u32(), body.u32()
    if not size <= count <= MAX_REDUCES:
        return kind, shuffle, map_id, None
    reduces = None if size == count else array("I", struct.unpack(f">{size}I", body.raw(4 * size)))
    table = Table(body.raw(ENTRY.size * size))
    return kind, shuffle, map_id, Output(path, count, table, reduces, _offsets(table.lengths()))


def _offsets(lengths: list[int]) -> array[int]:
    return array("Q", list(accumulate(lengths, initial=0)))


def _is_whole(output: Output, folders: set[Path]) -> bool:
    if not output.path:
        return output.size == 0
    path = Path(output.path)
    try:
        status = path.lstat()
    except OSError:
        return False
    return path.parent.parent in folders and stat.S_ISREG(status.st_mode) and status.st_size == output.size


def applications(folder: Path) -> Iterator[str]:
    """Yield the names of the applications that have a folder here."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield entry.name
