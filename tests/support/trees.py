"""Generated partition trees with odd names, formats of values, missing levels, and leftovers of other writers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from firesteel.conf.errors import FiresteelError, Where
from firesteel.conf.partitions import partition_name
from firesteel.pipelines.plan.inputs import Located, Tree, read_manifest
from firesteel.pipelines.plan.intervals import slots
from firesteel.pipelines.plan.model import SourceInput
from firesteel.pipelines.spec.model import Interval, Source
from firesteel.pipelines.storage.open import locate

DAYS = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 12)]
COLUMNS: dict[str, tuple[str, list[Any]]] = {
    "dt": ("date", DAYS),
    "hour": ("int", [0, 5, 12]),
    "region": ("string", ["eu", "a b", "x/y", "é", "05", "50%", "q:1", "k=v"]),
    "_shard": ("smallint", [1, -2]),
    "_Key": ("bigint", [7, 2**40]),
}
ARROW = {"date": pa.date32(), "int": pa.int32(), "string": pa.string(), "smallint": pa.int16(), "bigint": pa.int64()}
HIDDEN = ("_SUCCESS", "_temporary", "_started_12", ".crc", ".hidden")
"""Names without `=` that no reader looks at."""


@dataclass
class Generated:
    """A tree on disk, what is selected of it, and its faults."""

    root: Path
    source: Source
    faults: list[str] = field(default_factory=list)

    @property
    def partitions(self) -> dict[str, str]:
        """The Spark type of each partition column."""
        return dict(self.source.partitions)

    def planned(self) -> SourceInput | FiresteelError | None:
        """Plan the tree for 2024-01-02; return the input, None if it is skipped, or the first error."""
        interval = Interval(column="dt", begin="2024-01-01")
        (slot,) = slots(interval, "2024-01-02", "2024-01-02")
        try:
            found, errors = read_manifest(
                "rows", Tree(self.source, Located(*locate(self.source.path))), slot, ready_column="dt", where=Where("")
            )
        except FiresteelError as error:
            return error
        return errors[0] if errors else found

    def wanted(self) -> dict[str, set[Any]]:
        """Return the selected values by column, as Python values."""
        found: dict[str, set[Any]] = {}
        for column, select in self.source.select.items():
            texts = [str(each) for each in select] if isinstance(select, tuple) else [DAYS[0].isoformat()]
            kind = COLUMNS[column][0]
            found[column] = {_python(kind, text) for text in texts}
        return found


def _python(kind: str, text: str) -> Any:
    if kind == "date":
        year, month, day = text.split("-")
        return date(int(year), int(month), int(day))
    return text if kind == "string" else int(text)


def generate(root: Path, seed: int, *, unfinished: bool = True) -> Generated:
    """Create the tree of a seed below `root`.

    Parameters
    ----------
    unfinished
        Whether there are `*.tmp` files, which Spark reads and firesteel does not.
    """
    chance = random.Random(seed)
    names = chance.sample(list(COLUMNS), chance.randint(1, 3))
    if "dt" not in names and chance.random() < 0.7:
        names[0] = "dt"
    select: dict[str, Any] = {}
    for name in names:
        if name == "dt" and chance.random() < 0.9:
            select[name] = chance.choice(["${interval.ds}", "${interval.ds}", [_form(chance, name, DAYS[0])]])
        elif name != "dt" and chance.random() < 0.4:
            values = chance.sample(COLUMNS[name][1], chance.randint(1, 2))
            select[name] = [_form(chance, name, value) for value in values]
    source = Source(
        path=f"file://{root}",
        partitions={name: COLUMNS[name][0] for name in names},
        select=select,
        on_missing=chance.choice(["fail", "empty", "empty", "skip"]),
    )
    tree = Generated(root, source)
    root.mkdir(parents=True)
    _fill(tree, root, names, chance, count(), unfinished=unfinished)
    if chance.random() < 0.4:
        _harm(tree, chance)
    return tree


def _form(chance: random.Random, name: str, value: Any) -> str:
    """Return a format of a value that is the same for Spark."""
    kind = COLUMNS[name][0]
    if chance.random() < 0.6 or kind == "string":
        return value.isoformat() if isinstance(value, date) else str(value)
    if isinstance(value, date):
        return f"{value.year}-{value.month}-{value.day}"
    return f"{'-' if value < 0 else ''}0{abs(value)}"


def _name(chance: random.Random, name: str, value: Any) -> str:
    if COLUMNS[name][0] == "string":
        way = chance.random()
        if way < 0.2 and "/" not in value and "%" not in value:
            return f"{name}={value}"  # as somebody who does not know of escapes writes it
        return f"{name}={quote(value, safe='')}" if way < 0.5 and value.isascii() else partition_name(name, value)
    # Arrow reads dates in one form only; others stay rare, so that most trees can be compared.
    form = str(value) if isinstance(value, date) and chance.random() < 0.9 else _form(chance, name, value)
    return f"{name}={form}"


def _fill(
    tree: Generated, folder: Path, names: list[str], chance: random.Random, ids: Any, *, unfinished: bool
) -> None:
    _leave(folder, chance, unfinished=unfinished)
    if not names:
        for number in range(chance.randint(0, 3)):
            place = folder / "HIVE_UNION_SUBDIR_1" if chance.random() < 0.1 else folder
            _rows(place / f"part [{number}] {{a,b}}*?.parquet", next(ids))
        return
    values = list(COLUMNS[names[0]][1])
    for value in chance.sample(values, chance.randint(1, min(3, len(values)))):
        below = folder / _name(chance, names[0], value)
        below.mkdir()
        _fill(tree, below, names[1:], chance, ids, unfinished=unfinished)
    if len(names) == len(tree.partitions) and chance.random() < 0.1:
        below = folder / f"{names[0]}=__HIVE_DEFAULT_PARTITION__"
        below.mkdir()
        _fill(tree, below, names[1:], chance, ids, unfinished=unfinished)


def _rows(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": pa.array([number], pa.int64())}), path)


def _leave(folder: Path, chance: random.Random, *, unfinished: bool) -> None:
    """Write leftovers of writers, which no reader may see."""
    if chance.random() < 0.3:
        _rows(folder / chance.choice(HIDDEN[1:]) / "part-9.parquet", -1)
    if chance.random() < 0.3:
        (folder / "_SUCCESS").touch()
    if chance.random() < 0.2:
        (folder / "part-0.parquet._COPYING_").write_bytes(b"PAR1 half")
    if unfinished and chance.random() < 0.2:
        (folder / "part-0.parquet.tmp").write_bytes(b"PAR1 half")


def _harm(tree: Generated, chance: random.Random) -> None:
    """Add one fault to the tree."""
    columns = list(tree.partitions)
    folders = [path for path in sorted(tree.root.rglob("*=*")) if path.is_dir() and "_temporary" not in str(path)]
    leaf = chance.choice(folders)
    level = len(leaf.relative_to(tree.root).parts) - 1
    column = columns[level]
    kind = COLUMNS[column][0]
    fault = chance.choice(["key", "case", "value", "twice", "above", "level", "escape", "empty", "plain"])
    tree.faults.append(fault)
    beside = {
        "key": f"other={leaf.name.partition('=')[2]}",
        "case": f"{column.swapcase()}={leaf.name.partition('=')[2]}",
        "value": f"{column}=x5" if kind != "string" else f"{column}=%C3%A9",
        "twice": _twice(leaf.name, kind),
        "escape": f"{column}=%C3%A9",
        "empty": f"{column}=",
        "plain": "backup",
    }.get(fault)
    if beside is not None:
        target = leaf.with_name(beside)
        _rows(target.joinpath(*_rest(tree, level)) / "part-0.parquet", -2)
    elif fault == "above":
        _rows(leaf.parent / "part-0.parquet", -2)
    else:
        deepest = leaf.joinpath(*_rest(tree, level))
        _rows(deepest / "more=1" / "part-0.parquet", -2)


def _twice(name: str, kind: str) -> str:
    column, _, text = name.partition("=")
    if kind == "string":
        return f"{column}=%{ord(text[0]):02X}{text[1:]}" if text[0].isascii() and text[0] != "%" else f"{column}=%41"
    if kind == "date":
        return f"{column}={text}" if "-0" not in text else f"{column}={text.replace('-0', '-')}"
    return f"{column}=-00{text.lstrip('-')}" if text.startswith("-") else f"{column}=00{text}"


def _rest(tree: Generated, level: int) -> list[str]:
    """Return the directories of the levels below."""
    return [partition_name(column, str(COLUMNS[column][1][0])) for column in list(tree.partitions)[level + 1 :]]
