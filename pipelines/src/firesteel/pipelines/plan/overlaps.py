"""Find sources, sinks and storage that overlap: a publish would replace input, or a source would read scores.

Two sources may overlap, because both are only read. A location inside another one is harmless if the outer one ignores it: listings
skip folders whose names start with `_` or `.`, and a sink replaces only its partitions. Storage deletes and renames everything below
its path, so nothing may be inside storage.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Literal, Protocol

from firesteel.conf.errors import SpecError, StorageError, Where
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.tree import KeyPath
from firesteel.pipelines.storage.identity import Location, is_hidden
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import IntervalPlan, Plan


_Kind = Literal["source", "sink", "storage"]


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Place:
    kind: _Kind
    key: KeyPath
    uri: str
    location: Location

    def __str__(self) -> str:
        resolved = "" if str(self.location) == self.uri.rstrip("/") else f", which is {self.location}"
        return f"`{'.'.join(map(str, self.key))}` ({self.uri}{resolved})"


def overlap_errors(loaded: LoadedSpec) -> list[SpecError]:
    """Return an FS1025 for each pair of locations of a spec that overlap. Links of local paths are followed."""
    spec, places = loaded.spec, []
    for kind, key, uri in _named(spec.sources, spec.sinks, spec.storage):
        with suppress(StorageError, ValueError):  # `location_errors` reports these
            places.append(_Place(kind, key, uri, Location.of(uri)))
    return [
        _error(outer, inner, loaded.tree.nearest(_changeable(outer, inner).key).where)
        for outer, inner in _overlaps(places)
    ]


def check_overlaps(plan: Plan, interval: IntervalPlan) -> None:
    """Check again, because a link can have changed since the plan was made. Links among the input are followed too.

    Raises
    ------
    SpecError
        FS1025 for the first pair of locations that overlap.
    """
    named = _named({each.name: each for each in plan.sources}, {each.name: each for each in plan.sinks}, plan.storage)
    places = [_Place(kind, key, uri, Location.of(uri)) for kind, key, uri in named]
    roots = {place.key: place for place in places}
    for read in interval.inputs:
        root = roots["sources", read.source, "path"]
        if not root.location.is_local:  # only local paths have links
            continue
        folders = {file.path.rpartition("/")[0] for file in read.files}
        links = {file.path for file in read.files if os.path.islink(f"{root.location.path}/{file.path}")}  # noqa: PTH114
        for path in sorted(folders | links):
            location = Location.of(uri := join(root.uri, path))
            if location.below(root.location) != path:
                places.append(_Place("source", root.key, uri, location))
    for outer, inner in _overlaps(places):
        raise _error(outer, inner, None)


def _named(
    sources: Mapping[str, _HasPath], sinks: Mapping[str, _HasPath], storage: str
) -> Iterator[tuple[_Kind, KeyPath, str]]:
    for name, source in sources.items():
        yield "source", ("sources", name, "path"), source.path
    for name, sink in sinks.items():
        yield "sink", ("sinks", name, "path"), sink.path
    yield "storage", ("storage",), storage


def _overlaps(places: Iterable[_Place]) -> Iterator[tuple[_Place, _Place]]:
    """Yield (outer, inner) of each pair that overlaps."""
    sources: list[_Place] = []
    others: list[_Place] = []
    for place in places:
        (sources if place.kind == "source" else others).append(place)
    for left, right in (*product(sources, others), *combinations(others, 2)):
        for outer, inner in ((left, right), (right, left)):
            path = inner.location.below(outer.location)
            if path is not None and (outer.kind == "storage" or not is_hidden(path)):
                yield outer, inner
                break


def _changeable(outer: _Place, inner: _Place) -> _Place:
    """Return the location that is easier to move: storage, then the sink."""
    return max((outer, inner), key=lambda place: ("source", "sink", "storage").index(place.kind))


def _error(outer: _Place, inner: _Place, where: Where | None) -> SpecError:
    same = inner.location.below(outer.location) == ""
    relation = "is the same location as" if same else "is inside"
    return SpecError(
        "FS1025",
        f"{inner} {relation} {outer}. A publish would replace or hide data of the other; they must not overlap.",
        where=where,
        hint=f"Move `{'.'.join(map(str, _changeable(outer, inner).key))}` to a folder of its own, beside the others.",
    )
