"""The map outputs of one application on this node: in memory, and in a journal from which a restart adopts them again.

::

    FOLDER/APPLICATION/                    clients put links here, REGISTER takes them away
    FOLDER/APPLICATION/.service/outputs/   a folder for each shuffle, in it a file for each output that has bytes
    FOLDER/APPLICATION/.service/spool/     what was fetched and did not fit the slab
    FIRST FOLDER/APPLICATION/.service/     journal, secret
"""

from __future__ import annotations

import os
import shutil
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.blocks import ENTRY, MAX_REDUCES, FileExtent, Found, Missing, Piece, Range, Table
from firesteel.rdma_shuffle.codec import Body, text, u8, u32, u64
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.journal import Journal, records

SERVICE = ".service"
_REGISTERED, _REMOVED = 1, 2
_COMPACT_BYTES = 8 << 20
_MODE = 0o700
_MOST_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Output:
    """One map output. `path` is empty when it has no bytes; `offsets` has one entry more than there are reduces."""

    path: str
    table: Table
    offsets: array[int]

    @property
    def size(self) -> int:
        return self.offsets[-1]


class Catalogue:
    """Outputs by (shuffle, map).

    Parameters
    ----------
    folders
        The service's folders, the one with journals first.
    application
        A checked name: it becomes a folder's.
    discard
        Makes a folder vanish.
    """

    def __init__(
        self, folders: tuple[Path, ...], application: str, discard: Callable[[Path], None] = shutil.rmtree
    ) -> None:
        self._discard = discard
        self._folders = tuple(folder / application for folder in folders)
        self._outputs: dict[int, dict[int, Output]] = {}
        self._dead_bytes = 0
        self.size = 0
        for folder in self._folders:
            for part in ("outputs", "spool"):
                (folder / SERVICE / part).mkdir(_MODE, parents=True, exist_ok=True)
            folder.chmod(_MODE)
        self._journal = Journal(self._folders[0] / SERVICE / "journal")

    def __len__(self) -> int:
        return sum(map(len, self._outputs.values()))

    @property
    def _places(self) -> set[Path]:
        return {folder / SERVICE / "outputs" for folder in self._folders}

    @property
    def spool(self) -> Path:
        """Where fetched bytes go that no slab holds."""
        return self._folders[0] / SERVICE / "spool"

    def close(self) -> None:
        self._journal.close()

    # -- taking over ---------------------------------------------------------------------------------------------

    def register(self, shuffle: int, map_id: int, data: str, index: str, table: Table, room: int | None = None) -> None:
        """Take a map output over.

        Parameters
        ----------
        data, index
            Files directly in one of the application's folders; empty if there is none.
        table
            Length and CRC32C of each block.
        room
            Bytes that may still be taken; None: any number.

        Raises
        ------
        ShuffleFault
            REFUSED, CORRUPT or NO_SPACE: the files stay where they were, and so does the catalogue.
        """
        offsets = table.offsets()
        if offsets[-1] > _MOST_BYTES:
            raise ShuffleFault(Reason.CORRUPT, f"map output {shuffle}/{map_id} claims {offsets[-1]} bytes")
        output = Output("", table, array("Q", offsets))
        known = self._outputs.get(shuffle, {}).get(map_id)
        if known and known.table != table:
            raise ShuffleFault(Reason.REFUSED, f"map output {shuffle}/{map_id} is registered with other blocks")
        if room is not None and output.size - (known.size if known else 0) > room:
            raise ShuffleFault(Reason.NO_SPACE, f"the service's disk limit leaves {room} bytes for {output.size}")
        source = self._handed_over(data, output.size) if data or output.size else None
        leftover = self._handed_over(index, None) if index else None
        if known and _is_whole(known, self._places):
            # The answer to an earlier registration was lost.
            for given in filter(None, (source, leftover)):
                given.unlink(missing_ok=True)
            return
        if source:
            output = Output(
                str(source.parent / SERVICE / "outputs" / f"{shuffle}" / f"{map_id}"), table, output.offsets
            )
        try:
            if source:
                Path(output.path).parent.mkdir(_MODE, exist_ok=True)
                source.rename(output.path)
            try:
                self._journal.append(_registered(shuffle, map_id, output))
            except OSError:
                if source:
                    Path(output.path).rename(source)  # the client's again
                raise
        except OSError as error:
            raise ShuffleFault(Reason.NO_SPACE, f"map output {shuffle}/{map_id}: {error.strerror}") from error
        self._put(shuffle, map_id, output)
        if leftover:
            leftover.unlink(missing_ok=True)

    def _handed_over(self, path: str, size: int | None) -> Path:
        """A regular file directly in one of our folders, of this size."""
        given = Path(path)
        # No resolving: a path that is not spelt as ours, or is a link, is refused and not followed.
        if given.parent not in self._folders or given.name in {"", ".", "..", SERVICE}:
            raise ShuffleFault(Reason.REFUSED, "a file outside the application's hand-over folders")
        try:
            found = given.lstat()
        except OSError as error:
            raise ShuffleFault(Reason.REFUSED, f"a handed over file cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise ShuffleFault(Reason.REFUSED, "what is handed over is no regular file")
        if size is not None and found.st_size != size:
            raise ShuffleFault(Reason.CORRUPT, f"a file of {found.st_size} bytes whose blocks have {size}")
        return given

    def _put(self, shuffle: int, map_id: int, output: Output) -> None:
        outputs = self._outputs.setdefault(shuffle, {})
        known = outputs.get(map_id)
        if known:
            self.size -= known.size
            if known.path and known.path != output.path:  # re-registered from another folder
                Path(known.path).unlink(missing_ok=True)
        outputs[map_id] = output
        self.size += output.size

    # -- serving -------------------------------------------------------------------------------------------------

    def locate(self, asked: Range) -> Found | Missing:
        """The range's blocks and the extent of a file that holds them."""
        try:
            output = self._output(asked)
        except ShuffleFault as fault:
            return Missing(fault.reason, fault.detail)
        start, end = output.offsets[asked.first], output.offsets[asked.end]
        extents = (FileExtent(output.path, start, end - start),) if end > start else ()
        return Found(output.table.cut(asked.first, asked.end), extents)

    def _output(self, asked: Range) -> Output:
        """The map output that has all of a range."""
        outputs = self._outputs.get(asked.shuffle)
        output = outputs.get(asked.map_id) if outputs else None
        if output is None:
            raise ShuffleFault(Reason.NOT_HERE, f"no map output {asked.shuffle}/{asked.map_id}")
        if asked.end >= len(output.offsets):
            reduces = len(output.offsets) - 1
            raise ShuffleFault(Reason.NOT_HERE, f"map output {asked.shuffle}/{asked.map_id} has {reduces} reduces")
        return output

    def piece(self, piece: Piece) -> FileExtent | None:
        """Where a piece lies; None if it has no bytes.

        Raises
        ------
        ShuffleFault
            NOT_HERE, or MALFORMED for a piece that does not lie within its range.
        """
        asked, skip, length = piece
        output = self._output(asked)
        start = output.offsets[asked.first] + skip
        if start + length > output.offsets[asked.end]:
            raise ShuffleFault(Reason.MALFORMED, "a piece that lies outside its range")
        return FileExtent(output.path, start, length) if length else None

    # -- removing ------------------------------------------------------------------------------------------------

    def remove(self, shuffle: int) -> None:
        """Delete a shuffle's outputs. Readers that have the files open go on."""
        gone = self._outputs.pop(shuffle, {})
        for output in gone.values():
            self.size -= output.size
            self._dead_bytes += len(output.table.data)
        if not gone:
            return
        for folder in {Path(output.path).parent for output in gone.values() if output.path}:
            self._discard(folder)
        try:
            self._journal.append(u8(_REMOVED) + u32(shuffle))
        except OSError:
            # Full disk: the files are gone, so a restart drops these records as not fitting.
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
        """Delete all of the application on this node. The journal goes first: what is half deleted is not adopted."""
        self.close()
        self._journal.path.unlink(missing_ok=True)
        self._outputs.clear()
        self.size = 0
        for folder in self._folders:
            self._discard(folder)

    # -- after a restart -----------------------------------------------------------------------------------------

    def adopt(self) -> tuple[int, int]:
        """Take up what the journal and the files agree on, and delete everything else.

        Returns
        -------
        tuple[int, int]
            How many outputs were adopted, and how many records were dropped because their file is gone or changed.
        """
        live: dict[tuple[int, int], Output] = {}
        for record in records(self._journal.path):
            kind, shuffle, map_id, output = _read(record)
            if kind == _REMOVED:
                live = {key: each for key, each in live.items() if key[0] != shuffle}
            elif output:
                live[shuffle, map_id] = output
        fits = {key: output for key, output in live.items() if _is_whole(output, self._places)}
        for (shuffle, map_id), output in fits.items():
            self._put(shuffle, map_id, output)
        self._sweep({output.path for output in fits.values()})
        self._compact()
        return len(fits), len(live) - len(fits)

    def _sweep(self, keep: set[str]) -> None:
        """Delete links that were never registered, spooled bytes nobody holds, and files without a record."""
        for folder in self._folders:
            shuffles = [each for each in (folder / SERVICE / "outputs").iterdir() if each.is_dir()]
            for place in (folder, folder / SERVICE / "spool", folder / SERVICE / "outputs", *shuffles):
                for entry in os.scandir(place):
                    if not entry.is_dir(follow_symlinks=False) and entry.path not in keep:
                        Path(entry.path).unlink(missing_ok=True)


def _registered(shuffle: int, map_id: int, output: Output) -> bytes:
    return u8(_REGISTERED) + u32(shuffle) + u64(map_id) + text(output.path) + output.table.data


def _read(record: bytes) -> tuple[int, int, int, Output | None]:
    body = Body(record)
    kind, shuffle = body.u8(), body.u32()
    if kind == _REMOVED:
        return kind, shuffle, 0, None
    map_id, path, table = body.u64(), body.text(), Table(body.rest())
    if len(table.data) % ENTRY.size or len(table) > MAX_REDUCES:
        return kind, shuffle, map_id, None
    return kind, shuffle, map_id, Output(path, table, array("Q", table.offsets()))


def _is_whole(output: Output, places: set[Path]) -> bool:
    if not output.path:
        return output.size == 0
    path = Path(output.path)
    try:
        found = path.lstat()
    except OSError:
        return False
    return path.parent.parent in places and stat.S_ISREG(found.st_mode) and found.st_size == output.size


def applications(folder: Path) -> Iterator[str]:
    """The applications that a folder holds."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield entry.name
