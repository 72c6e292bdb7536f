"""List the inputs of all intervals in parallel, wait for missing ones, and check their contracts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from firesteel.conf.errors import FiresteelError, InputNotReady
from firesteel.conf.formats import LINES
from firesteel.conf.types import VOID
from firesteel.pipelines.events import Progress
from firesteel.pipelines.plan.digests import DIGEST_THREADS, content_digest
from firesteel.pipelines.plan.inputs import Located, Only, Tree, read_manifest
from firesteel.pipelines.plan.intervals import Slot
from firesteel.pipelines.plan.model import Column, InputFile, SourceInput, SourcePlan
from firesteel.pipelines.planner.contract import (
    check_columns,
    common_type,
    known_schema,
    named,
    unreadable_hint,
)
from firesteel.pipelines.planner.file_schema import FileSchema
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.sql.select import UNKNOWN
from firesteel.pipelines.storage.open import locate

LISTING_THREADS = 16
"""Measured for 100,000 partitions: 12.1 s with 2 threads, 10.9 s with 4, 6.9 s with 8, 5.0 s with 16."""
READY_POLL_S = 10.0
"""Interval between two checks for missing input, in seconds."""

_WAITED_FOR = frozenset({"FS4001", "FS4002", "FS4007"})
_SHOWN_ERRORS = 5

Inputs = dict[str, tuple[SourceInput, ...] | None]
"""Interval -> its input from each source; None if the interval is skipped."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Lists the inputs of one spec's intervals."""

    loaded: LoadedSpec
    slots: Sequence[Slot]
    storages: Mapping[str, Located]
    on_progress: Progress

    @classmethod
    def of(cls, loaded: LoadedSpec, slots: Sequence[Slot], on_progress: Progress) -> Listing:
        """Return a listing with the sources' storages opened."""
        storages = {name: Located(*locate(source.path)) for name, source in loaded.spec.sources.items()}
        return cls(loaded, slots, storages, on_progress)

    def wait_for_inputs(
        self, wait_s: float, only: Mapping[str, Only], sources: Collection[str] | None = None
    ) -> Inputs:
        """Return the result of `inputs`; repeat until nothing is missing or `wait_s` seconds have passed."""
        return _repeat(lambda waited_s: self.inputs(only, sources, waited_s), wait_s)

    def inputs(self, only: Mapping[str, Only], sources: Collection[str] | None = None, waited_s: float = 0.0) -> Inputs:
        """Return every interval's inputs.

        Parameters
        ----------
        only
            Source -> the only partition values that can affect the result.
        sources
            The sources to list; all by default.
        waited_s
            Seconds waited so far, for the message.

        Raises
        ------
        InputNotReady
            FS4005 for the first directory that does not match the spec, else FS4001, FS4002 or FS4007 for the first that is not ready,
            with the number of further errors.
        """
        spec = self.loaded.spec
        names = [name for name in spec.sources if sources is None or name in sources]
        work = [(slot, name) for slot in self.slots for name in names]
        trees = {name: Tree(spec.sources[name], self.storages[name]) for name in names}

        def list_one(item: tuple[Slot, str]) -> tuple[SourceInput | None, list[FiresteelError]]:
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
        inputs: dict[str, list[SourceInput]] = {slot.id: [] for slot in self.slots}
        skipped: set[str] = set()
        with ThreadPoolExecutor(LISTING_THREADS) as pool:
            for number, ((slot, _), (read, problems)) in enumerate(
                zip(work, pool.map(list_one, work), strict=True), start=1
            ):
                self.on_progress("listing", number, len(work))
                errors += problems
                if read is not None:
                    inputs[slot.id].append(read)
                elif not problems:
                    skipped.add(slot.id)
        if errors:
            first = next((error for error in errors if error.code not in _WAITED_FOR), errors[0])
            others = len({error.what for error in errors}) - 1
            more = f" ({others} more.)" if others else ""
            raise type(first)(first.code, first.what + more, where=first.where, hint=first.hint)
        return {slot: None if slot in skipped else tuple(sources) for slot, sources in inputs.items()}

    def with_digests(self, inputs: Inputs) -> Inputs:
        """Return the inputs with the digests of files, for sources that verify the content. A file is read once for all intervals."""
        verify = {name: source.verify for name, source in self.loaded.spec.sources.items()}
        files = dict.fromkeys(
            (read.source, file)
            for reads in inputs.values()
            for read in reads or ()
            if verify[read.source] != "modified"
            for file in read.files
        )

        def digest_of(item: tuple[str, InputFile]) -> InputFile:
            name, file = item
            return replace(file, digest=content_digest(name, self.storages[name], file, verify[name]))

        verified: dict[tuple[str, InputFile], InputFile] = {}
        with ThreadPoolExecutor(DIGEST_THREADS) as pool:
            for number, (item, file) in enumerate(zip(files, pool.map(digest_of, files), strict=True), start=1):
                self.on_progress("checksums", number, len(files))
                verified[item] = file
        return {
            slot: reads
            and tuple(
                replace(read, files=tuple(verified.get((read.source, file), file) for file in read.files))
                for read in reads
            )
            for slot, reads in inputs.items()
        }

    def columns_of(self, name: str, inputs: Inputs) -> tuple[tuple[Column, ...], frozenset[str]]:
        """Return the columns of a source that declares none: the union of its files' columns, with common types.

        A column that Spark cannot read, or that has no common type, gets an unknown type. `check_contracts` refuses it if the plan
        reads it.

        Returns
        -------
        The columns, and the names of those that some files lack or that have an unknown type.

        Raises
        ------
        InputNotReady
            FS4004 when the source has no file, FS4003 when a file does not have the source's format.
        """
        schemas = self._schemas(name, _files_of(name, inputs.values()))
        if not schemas:
            raise InputNotReady(
                "FS4004",
                f"{name}: the spec declares no columns, and the source has no file to infer them from.",
                where=self.loaded.tree.nearest(("sources", name)).where,
                hint=f"Add sources.{name}.contract.columns.",
            )
        columns = _columns(schemas, self.loaded.spec.sources[name].partitions)
        types = [schema.types for schema in schemas]
        incomplete = (
            column.name
            for column in columns
            if column.type == UNKNOWN or any(column.name not in file_types for file_types in types)
        )
        return columns, frozenset(incomplete)

    def check_contracts(self, inputs: Iterable[tuple[SourceInput, ...]], sources: Sequence[SourcePlan]) -> None:
        """Compare every input file with its source's contract, or with the columns that the plan reads.

        Raises
        ------
        InputNotReady
            FS4003 with the differences by file and column.
        """
        reads = list(inputs)
        errors = [error for source in sources for error in self._differences(source, _files_of(source.name, reads))]
        if errors:
            first, *others = errors
            also = "".join(f" Also: {error.what}" for error in others[: _SHOWN_ERRORS - 1])
            more = f" ({len(errors) - _SHOWN_ERRORS} more.)" if len(errors) > _SHOWN_ERRORS else ""
            raise type(first)(first.code, first.what + also + more, where=first.where, hint=first.hint)

    def _differences(self, source: SourcePlan, files: list[InputFile]) -> list[FiresteelError]:
        """Return FS4003 for each file schema that differs from the declared columns, or else from the columns that are read."""
        spec = self.loaded.spec.sources[source.name]
        schemas = self._schemas(source.name, files)
        if source.format in LINES:  # Spark compares each row with the declared types
            return []
        if spec.declared:
            declared = {column: parse_column_type(text)[0] for column, text in spec.declared.items()}
            return [
                error
                for schema, place in schemas.items()
                for error in check_columns(
                    source.name,
                    declared,
                    schema,
                    place,
                    others=spec.contract.mode == "additive",
                    says="the contract says",
                    partitions=spec.partitions,
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
        """Return the distinct schemas of the files, each with the URI of its first file. Footers are read in parallel.

        Raises
        ------
        InputNotReady
            FS4003 for the first file that does not have the source's format, with the number of further ones.
        """
        located = self.storages[name]
        source = self.loaded.spec.sources[name]
        by_time = source.verify == "modified"

        def schema_of(file: InputFile) -> FileSchema | InputNotReady:
            # No digest: the file may have been replaced since the digest was computed.
            version = file.modified_ms if by_time else None
            try:
                path = f"{located.path}/{file.path}"
                return known_schema(name, located.storage, path, file.length, version, source.format)
            except InputNotReady as error:
                return error

        schemas: dict[FileSchema, str] = {}
        damaged: list[InputNotReady] = []
        with ThreadPoolExecutor(LISTING_THREADS) as pool:
            for number, (file, schema) in enumerate(zip(files, pool.map(schema_of, files), strict=True), start=1):
                self.on_progress("footers", number, len(files))
                if isinstance(schema, InputNotReady):
                    damaged.append(schema)
                else:
                    schemas.setdefault(schema, f"{located.storage.base_uri}{located.path}/{file.path}")
        if damaged:
            first = damaged[0]
            more = f" ({len(damaged) - 1} more.)" if len(damaged) > 1 else ""
            raise InputNotReady(first.code, first.what + more, hint=first.hint)
        return schemas


def _files_of(source: str, inputs: Iterable[tuple[SourceInput, ...] | None]) -> list[InputFile]:
    """Return the distinct files that intervals read from a source, sorted by path."""
    files = {
        file.path: file for reads in inputs for read in reads or () if read.source == source for file in read.files
    }
    return [files[path] for path in sorted(files)]


def _columns(schemas: Iterable[FileSchema], partitions: Collection[str]) -> tuple[Column, ...]:
    """Return the union of the files' columns, without partition columns, whose values come from the paths."""
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
    common = {name: common_type(types[key]) for key, name in names.items()}
    return tuple(Column(name, UNKNOWN if kind in (None, VOID) else kind) for name, kind in common.items())


def _unreadable(name: str, column: str, schemas: Mapping[FileSchema, str]) -> FiresteelError:
    """Return FS4003 for a column with an unknown type that the plan reads."""
    holders = [(schema, place) for schema, place in schemas.items() if column in schema.types]
    for schema, place in holders:
        if column in schema.unreadable:
            reason = schema.unreadable[column]
            return InputNotReady(
                "FS4003",
                f"{name}: column `{column}` is {reason} in {place}, which Spark cannot read.",
                hint=unreadable_hint(reason),
            )
    types = list({schema.types[column]: place for schema, place in holders}.items())
    if len(types) > 1:
        differing = " and ".join(f"{named(kind)} in {place}" for kind, place in types[:2])
        return InputNotReady(
            "FS4003",
            f"{name}: column `{column}` is {differing}; no type can hold both.",
            hint="Write one of the files again, or read other columns.",
        )
    return InputNotReady(
        "FS4003",
        f"{name}: column `{column}` has only nulls and no type in {holders[0][1]}.",
        hint=f"Declare it in sources.{name}.contract.columns, or write it with a type.",
    )


def _repeat(list_inputs: Callable[[float], Inputs], wait_s: float) -> Inputs:
    started = time.monotonic()
    while True:
        waited_s = time.monotonic() - started
        try:
            return list_inputs(min(waited_s, wait_s))
        except InputNotReady as error:
            if error.code not in _WAITED_FOR or waited_s >= wait_s:
                raise
            time.sleep(min(READY_POLL_S, wait_s - waited_s))
