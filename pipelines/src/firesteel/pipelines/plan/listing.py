"""The inputs of all intervals: listed in parallel, waited for, held to their contracts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from firesteel.conf.errors import FiresteelError, InputNotReady
from firesteel.pipelines.events import Progress
from firesteel.pipelines.plan.contract import check_footer, read_columns
from firesteel.pipelines.plan.inputs import Located, Only, read_manifest
from firesteel.pipelines.plan.intervals import Slot
from firesteel.pipelines.plan.model import Column, InputFile, SourceInput
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.storage.open import locate

LISTING_THREADS = 16
"""The NameNode answers while others wait: 100,000 partitions in 12.1 s by 2, 10.9 by 4, 6.9 by 8, 5.0 by 16."""
READY_POLL_S = 10.0
"""How often a marker that is waited for is looked for."""

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
            FS4001 or FS4002: the first that is not ready, and how many more there are.
        """
        spec = self.loaded.spec
        names = [name for name in spec.sources if sources is None or name in sources]
        work = [(slot, name) for slot in self.wanted for name in names]

        def one(item: tuple[Slot, str]) -> tuple[SourceInput | None, list[FiresteelError]]:
            slot, name = item
            where = self.loaded.tree.nearest(("sources", name, "select")).where
            return read_manifest(
                name,
                spec.sources[name],
                self.storages[name],
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
            first = errors[0]
            more = f" ({len(errors) - 1} more like it.)" if len(errors) > 1 else ""
            raise type(first)(first.code, first.what + more, where=first.where, hint=first.hint)
        return {key: None if key in skipped else tuple(inputs) for key, inputs in found.items()}

    def columns_of(self, name: str, inputs: Inputs) -> tuple[Column, ...]:
        """The columns in the newest file of a source that declares none.

        Raises
        ------
        InputNotReady
            FS4004 when there is no file to look at, FS4003 when it is not Parquet.
        """
        file = _newest(name, inputs)
        if file is None:
            raise InputNotReady(
                "FS4004",
                f"{name}: the spec declares no columns, and there is no file to find them in.",
                where=self.loaded.tree.nearest(("sources", name)).where,
                hint=f"Add sources.{name}.contract.columns.",
            )
        at = self.storages[name]
        return read_columns(name, at.storage, f"{at.path}/{file.path}", file.length)

    def check_contracts(self, inputs: Inputs) -> None:
        """Hold each source's contract to the newest file, where a producer's change shows first.

        Raises
        ------
        InputNotReady
            FS4003 with all that differs.
        """
        errors: list[FiresteelError] = []
        for name, source in self.loaded.spec.sources.items():
            file = _newest(name, inputs)
            if file is not None and source.contract.columns:
                at = self.storages[name]
                errors += check_footer(name, source, at.storage, f"{at.path}/{file.path}", file.length)
        if errors:
            first = errors[0]
            more = "".join(f" Also: {error.what}" for error in errors[1:])
            raise type(first)(first.code, first.what + more, where=first.where, hint=first.hint)


def _newest(source: str, inputs: Inputs) -> InputFile | None:
    files = [file for reads in inputs.values() for each in reads or () if each.source == source for file in each.files]
    return max(files, key=lambda file: (file.modified_ms, file.path), default=None)


def _patiently(ask: Callable[[float], Inputs], wait_s: float) -> Inputs:
    started = time.monotonic()
    while True:
        waited_s = time.monotonic() - started
        try:
            return ask(min(waited_s, wait_s))
        except InputNotReady as error:
            if error.code not in {"FS4001", "FS4002"} or waited_s >= wait_s:
                raise
            time.sleep(min(READY_POLL_S, wait_s - waited_s))
