"""The inputs of all intervals: listed in parallel, waited for, held to their contracts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from firesteel.conf.errors import FiresteelError, InputNotReady
from firesteel.conf.types import VOID
from firesteel.pipelines.events import Progress
from firesteel.pipelines.plan.inputs import Located, Only, Tree, read_manifest
from firesteel.pipelines.plan.intervals import Slot
from firesteel.pipelines.plan.model import Column, InputFile, SourceInput, SourcePlan
from firesteel.pipelines.planner.contract import (
    FileSchema,
    check_columns,
    common_type,
    known_schema,
    named,
    unreadable_hint,
)
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.sql.select import UNKNOWN
from firesteel.pipelines.storage.open import locate

LISTING_THREADS = 16
"""The NameNode answers while others wait: 100,000 partitions in 12.1 s by 2, 10.9 by 4, 6.9 by 8, 5.0 by 16."""
READY_POLL_S = 10.0
"""How often a marker that is waited for is looked for."""

_WAITED_FOR = frozenset({"FS4001", "FS4002"})
_SHOWN_ERRORS = 5

Inputs = dict[str, tuple[SourceInput, ...] | None]
"""Interval -> what it reads of each source; None where the interval is to be skipped."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Lists the inputs of one spec's intervals."""

    loaded: LoadedSpec
    wanted: Sequence[Slot]
    storages: Mapping[str, Located]
    on_progress: Progress

    @classmethod
    def of(cls, loaded: LoadedSpec, wanted: Sequence[Slot], on_progress: Progress) -> Listing:
        """With the sources' storages opened."""
        storages = {name: Located(*locate(source.path)) for name, source in loaded.spec.sources.items()}
        return cls(loaded, wanted, storages, on_progress)

    def when_ready(self, wait_s: float, only: Mapping[str, Only], sources: Collection[str] | None = None) -> Inputs:
        """As `inputs`, asked again until nothing is missing or `wait_s` seconds have passed."""
        return _patiently(lambda waited_s: self.inputs(only, sources, waited_s), wait_s)

    def inputs(self, only: Mapping[str, Only], sources: Collection[str] | None = None, waited_s: float = 0.0) -> Inputs:
        """List every interval's inputs.

        Parameters
        ----------
        only
            Source -> partition values that alone can matter.
        sources
            The sources to list; all by default.
        waited_s
            How long they were waited for, for the message.

        Raises
        ------
        InputNotReady
            FS4005 where the directories do not fit the spec, else FS4001 or FS4002: the first that is not ready; and how
            many more there are.
        """
        spec = self.loaded.spec
        names = [name for name in spec.sources if sources is None or name in sources]
        work = [(slot, name) for slot in self.wanted for name in names]
        trees = {name: Tree(spec.sources[name], self.storages[name]) for name in names}

        def one(item: tuple[Slot, str]) -> tuple[SourceInput | None, list[FiresteelError]]:
            slot, name = item
            where = self.loaded.tree.nearest(("sources", name, "select")).where
            return read_manifest(
                name,
                trees[name],
                slot,
                ready_column=spec.interval.column,
                where=where,
                only=only.get(name),
                waited_s=waited_s,
            )

        errors: list[FiresteelError] = []
        found: dict[str, list[SourceInput]] = {slot.id: [] for slot in self.wanted}
        skipped: set[str] = set()
        with ThreadPoolExecutor(LISTING_THREADS) as pool:
            for number, ((slot, _), (read, problems)) in enumerate(
                zip(work, pool.map(one, work), strict=True), start=1
            ):
                self.on_progress("listing", number, len(work))
                errors += problems
                if read is not None:
                    found[slot.id].append(read)
                elif not problems:
                    skipped.add(slot.id)
        if errors:
            first = next((error for error in errors if error.code not in _WAITED_FOR), errors[0])
            others = len({error.what for error in errors}) - 1
            more = f" ({others} more like it.)" if others else ""
            raise type(first)(first.code, first.what + more, where=first.where, hint=first.hint)
        return {key: None if key in skipped else tuple(inputs) for key, inputs in found.items()}

    def columns_of(self, name: str, inputs: Inputs) -> tuple[tuple[Column, ...], frozenset[str]]:
        """The columns of a source that declares none: those of all its files, with types that hold the values of all.

        A column that Spark cannot read, or that has types without a common one, is of an unknown type: `check_contracts`
        refuses it where it is read.

        Returns
        -------
        The columns, and the names of those that some files lack or that have no type.

        Raises
        ------
        InputNotReady
            FS4004 when there is no file to look at, FS4003 when one is not Parquet.
        """
        schemas = self._schemas(name, _files_of(name, inputs.values()))
        if not schemas:
            raise InputNotReady(
                "FS4004",
                f"{name}: the spec declares no columns, and there is no file to find them in.",
                where=self.loaded.tree.nearest(("sources", name)).where,
                hint=f"Add sources.{name}.contract.columns.",
            )
        columns = _columns(schemas, self.loaded.spec.sources[name].partitions)
        types = [schema.types for schema in schemas]
        uneven = (each.name for each in columns if each.type == UNKNOWN or any(each.name not in held for held in types))
        return columns, frozenset(uneven)

    def check_contracts(self, inputs: Iterable[tuple[SourceInput, ...]], sources: Sequence[SourcePlan]) -> None:
        """Hold every file that is read against its source's contract, or against the columns that the plan reads.

        Raises
        ------
        InputNotReady
            FS4003 with what differs, by file and column.
        """
        reads = list(inputs)
        errors = [error for source in sources for error in self._differences(source, _files_of(source.name, reads))]
        if errors:
            first, *others = errors
            also = "".join(f" Also: {error.what}" for error in others[: _SHOWN_ERRORS - 1])
            more = f" ({len(errors) - _SHOWN_ERRORS} more like it.)" if len(errors) > _SHOWN_ERRORS else ""
            raise type(first)(first.code, first.what + also + more, where=first.where, hint=first.hint)

    def _differences(self, source: SourcePlan, files: list[InputFile]) -> list[FiresteelError]:
        """FS4003 for each schema among the files that differs from what is declared or, without that, from what is read."""
        contract = self.loaded.spec.sources[source.name].contract
        schemas = self._schemas(source.name, files)
        if contract.columns:
            declared = {column: parse_column_type(text)[0] for column, text in contract.columns.items()}
            return [
                error
                for schema, place in schemas.items()
                for error in check_columns(
                    source.name,
                    declared,
                    schema,
                    place,
                    others=contract.mode == "additive",
                    says="the contract says",
                    partitions=self.loaded.spec.sources[source.name].partitions,
                )
            ]
        errors: list[FiresteelError] = []
        for column in source.columns:
            if column.type == UNKNOWN:
                errors.append(_unreadable(source.name, column.name, schemas))
                continue
            other = next((place for schema, place in schemas.items() if column.name in schema.types), "")
            for schema, place in schemas.items():
                errors += check_columns(
                    source.name, {column.name: column.type}, schema, place, others=True, says=f"in {other} it is"
                )
        return errors

    def _schemas(self, name: str, files: list[InputFile]) -> dict[FileSchema, str]:
        """The distinct schemas among the files, each with the URI of the first that has it. Footers are read in parallel.

        Raises
        ------
        InputNotReady
            FS4003 for the first file that is not Parquet, with the number of others.
        """
        at = self.storages[name]

        def one(file: InputFile) -> FileSchema | InputNotReady:
            try:
                return known_schema(name, at.storage, f"{at.path}/{file.path}", file.length, file.modified_ms)
            except InputNotReady as error:
                return error

        schemas: dict[FileSchema, str] = {}
        damaged: list[InputNotReady] = []
        with ThreadPoolExecutor(LISTING_THREADS) as pool:
            for number, (file, found) in enumerate(zip(files, pool.map(one, files), strict=True), start=1):
                self.on_progress("footers", number, len(files))
                if isinstance(found, InputNotReady):
                    damaged.append(found)
                else:
                    schemas.setdefault(found, f"{at.storage.base_uri}{at.path}/{file.path}")
        if damaged:
            first = damaged[0]
            more = f" ({len(damaged) - 1} more like it.)" if len(damaged) > 1 else ""
            raise InputNotReady(first.code, first.what + more, hint=first.hint)
        return schemas


def _files_of(source: str, inputs: Iterable[tuple[SourceInput, ...] | None]) -> list[InputFile]:
    """The files that intervals read of a source, each once, by path."""
    files = {
        file.path: file for reads in inputs for each in reads or () if each.source == source for file in each.files
    }
    return [files[path] for path in sorted(files)]


def _columns(schemas: Iterable[FileSchema], partitions: Collection[str]) -> tuple[Column, ...]:
    """The columns of files together; a partition's value comes from the path, whatever the files hold."""
    taken = {column.lower() for column in partitions}
    names: dict[str, str] = {}
    types: dict[str, dict[str, None]] = {}
    for schema in schemas:
        for column in schema.columns:
            key = column.name.lower()
            if key not in taken:
                names.setdefault(key, column.name)
                kind = UNKNOWN if column.name in schema.unreadable else column.type
                types.setdefault(key, {})[kind] = None
    found = {name: common_type(types[key]) for key, name in names.items()}
    return tuple(Column(name, UNKNOWN if kind in (None, VOID) else kind) for name, kind in found.items())


def _unreadable(name: str, column: str, schemas: Mapping[FileSchema, str]) -> FiresteelError:
    """FS4003 for a column of an undeclared source that is read and has no type."""
    held = [(schema, place) for schema, place in schemas.items() if column in schema.types]
    for schema, place in held:
        if column in schema.unreadable:
            reason = schema.unreadable[column]
            return InputNotReady(
                "FS4003",
                f"{name}: column `{column}` is {reason} in {place}, which Spark cannot read.",
                hint=unreadable_hint(reason),
            )
    types = list({schema.types[column]: place for schema, place in held}.items())
    if len(types) > 1:
        found = " and ".join(f"{named(kind)} in {place}" for kind, place in types[:2])
        return InputNotReady(
            "FS4003",
            f"{name}: column `{column}` is {found}; there is no type that holds both.",
            hint="Write one of the files again, or read other columns.",
        )
    return InputNotReady(
        "FS4003",
        f"{name}: column `{column}` holds only nulls in {held[0][1]}, and was written without a type.",
        hint=f"Declare it in sources.{name}.contract.columns, or write it with a type.",
    )


def _patiently(ask: Callable[[float], Inputs], wait_s: float) -> Inputs:
    started = time.monotonic()
    while True:
        waited_s = time.monotonic() - started
        try:
            return ask(min(waited_s, wait_s))
        except InputNotReady as error:
            if error.code not in _WAITED_FOR or waited_s >= wait_s:
                raise
            time.sleep(min(READY_POLL_S, wait_s - waited_s))
