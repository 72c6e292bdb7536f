"""How two models agree: sums over rows that both scored, which tasks keep apart and the driver brings together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE = 200
"""Pairs of scores that are kept for a picture."""


@dataclass(slots=True)
class OutputTally:
    """One output over `rows` rows that both models scored.

    A number that is null, NaN or infinite is missing. `compared` are the rows in which it is missing on neither side, `alike` those
    in which both are equal (or both missing), `near` those of numbers that are within the tolerance (or both missing). `mean_*`,
    `m2_*` and `co` are the running moments of Chan, Golub and LeVeque (1983), which are merged without losing digits.

    `sample` are (priority, champion, challenger): those with the least random priorities, so that merging samples gives a sample.
    """

    rows: int = 0
    compared: int = 0
    alike: int = 0
    near: int = 0
    numeric: bool = True
    sum_abs: float = 0.0
    max_abs: float = 0.0
    mean_x: float = 0.0
    mean_y: float = 0.0
    m2_x: float = 0.0
    m2_y: float = 0.0
    co: float = 0.0
    sample: list[list[float]] = field(default_factory=list)

    def add(self, champion: pa.Array, challenger: pa.Array, tolerance: float, chance: np.random.Generator) -> None:
        """Take in rows that both scored."""
        numeric = _is_number(champion.type)
        found = (
            _numbers(_doubles(champion), _doubles(challenger), tolerance, chance)
            if numeric
            else _labels(champion, challenger)
        )
        found.numeric = numeric
        self.merge(found)

    def merge(self, other: OutputTally) -> None:
        """Take in what another task has found."""
        n, m = self.compared, other.compared
        self.rows += other.rows
        self.alike += other.alike
        self.near += other.near
        self.numeric = other.numeric
        self.sum_abs += other.sum_abs
        self.max_abs = max(self.max_abs, other.max_abs)
        self.sample = sorted([*self.sample, *other.sample])[:SAMPLE]
        self.compared = n + m
        if m:
            dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
            share = n * m / (n + m)
            self.m2_x += other.m2_x + dx * dx * share
            self.m2_y += other.m2_y + dy * dy * share
            self.co += other.co + dx * dy * share
            self.mean_x += dx * m / (n + m)
            self.mean_y += dy * m / (n + m)

    @property
    def mean_abs(self) -> float | None:
        """Mean absolute difference of numbers."""
        return _finite(self.sum_abs / self.compared) if self.numeric and self.compared else None

    @property
    def correlation(self) -> float | None:
        """Pearson's, from -1 to 1; None where one side is constant."""
        if not self.numeric or self.compared < 2:
            return None
        spread = math.sqrt(self.m2_x) * math.sqrt(self.m2_y)
        # What is left of a constant by rounding is no spread.
        constant = any(
            m2 <= self.compared * (1e-12 * abs(mean)) ** 2
            for m2, mean in ((self.m2_x, self.mean_x), (self.m2_y, self.mean_y))
        )
        if constant or not spread or not math.isfinite(spread) or not math.isfinite(self.co):
            return None
        return max(-1.0, min(1.0, self.co / spread))


@dataclass(slots=True)
class Tally:
    """A challenger in one task, or in all: rows that both scored, rows that only the champion did, and why.

    `failed` are rows on which the challenger raised, by class in `errors`. `gave_up` says why it was given no more rows, if so.
    """

    rows: int = 0
    failed: int = 0
    gave_up: str = ""
    errors: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, OutputTally] = field(default_factory=dict)

    def merge(self, other: Tally) -> None:
        """Take in another task's."""
        self.rows += other.rows
        self.failed += other.failed
        self.gave_up = self.gave_up or other.gave_up
        for name, count in other.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        for name, tally in other.outputs.items():
            self.outputs.setdefault(name, OutputTally()).merge(tally)


def tally_from(value: dict[str, Any]) -> Tally:
    """From JSON."""
    outputs = {name: OutputTally(**each) for name, each in value["outputs"].items()}
    return Tally(**{**value, "outputs": outputs})


def _numbers(x: Any, y: Any, tolerance: float, chance: np.random.Generator) -> OutputTally:
    both = np.isfinite(x) & np.isfinite(y)
    neither = int((~np.isfinite(x) & ~np.isfinite(y)).sum())
    priorities = chance.random(len(x))[both]
    a, b = x[both], y[both]
    found = OutputTally(rows=len(x), compared=len(a), alike=neither, near=neither)
    if not len(a):
        return found
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.abs(a - b)
        found.alike += int((a == b).sum())
        found.near += int((apart <= tolerance).sum())
        found.sum_abs, found.max_abs = float(apart.sum()), float(apart.max())
        found.mean_x, found.mean_y = float(a.mean()), float(b.mean())
        dx, dy = a - found.mean_x, b - found.mean_y
        found.m2_x, found.m2_y, found.co = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    least = np.argsort(priorities, kind="stable")[:SAMPLE]
    found.sample = [[float(priorities[i]), float(a[i]), float(b[i])] for i in least]
    return found


def _labels(x: pa.Array, y: pa.Array) -> OutputTally:
    here, there = x.is_valid().to_numpy(zero_copy_only=False), y.is_valid().to_numpy(zero_copy_only=False)
    try:
        equal = pc.fill_null(pc.equal(x, y), fill_value=False).to_numpy(zero_copy_only=False)
    except pa.ArrowNotImplementedError:  # arrays, maps, structs
        equal = np.array([one == other for one, other in zip(x.to_pylist(), y.to_pylist(), strict=True)], bool) & here
    neither = int((~here & ~there).sum())
    return OutputTally(len(x), int((here & there).sum()), int(equal.sum()) + neither, int(equal.sum()) + neither)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)


def _doubles(values: pa.Array) -> Any:
    """As doubles; nulls are NaN."""
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
