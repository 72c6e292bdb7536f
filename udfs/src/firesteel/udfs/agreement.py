"""Compare the scores of two models: tasks collect partial sums and the driver merges them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE = 200
"""Number of sampled score pairs for a chart."""


@dataclass(slots=True)
class OutputTally:
    """The agreement of one output over the rows that both models scored.

    A number is missing if it is null, NaN or infinite.

    Attributes
    ----------
    rows
        Rows that both models scored.
    compared
        Rows in which neither value is missing.
    alike
        Rows in which both values are equal, or both are missing.
    near
        Numbers only: rows in which the values differ by at most the tolerance, or both are missing.
    mean_x, mean_y, m2_x, m2_y, co
        Running moments (Chan, Golub and LeVeque, 1983), which merge without cancellation.
    sample
        (priority, champion, challenger) with the smallest random priorities, so that merged samples are a random sample.
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

    def add(self, champion: pa.Array, challenger: pa.Array, tolerance: float, random: np.random.Generator) -> None:
        """Add rows that both models scored."""
        numeric = _is_number(champion.type)
        tally = (
            _numbers(_doubles(champion), _doubles(challenger), tolerance, random)
            if numeric
            else _labels(champion, challenger)
        )
        tally.numeric = numeric
        self.merge(tally)

    def merge(self, other: OutputTally) -> None:
        """Add the counts of another task."""
        count, other_count = self.compared, other.compared
        self.rows += other.rows
        self.alike += other.alike
        self.near += other.near
        self.numeric = other.numeric
        self.sum_abs += other.sum_abs
        self.max_abs = max(self.max_abs, other.max_abs)
        self.sample = sorted([*self.sample, *other.sample])[:SAMPLE]
        self.compared = count + other_count
        if other_count:
            dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
            weight = count * other_count / (count + other_count)
            self.m2_x += other.m2_x + dx * dx * weight
            self.m2_y += other.m2_y + dy * dy * weight
            self.co += other.co + dx * dy * weight
            self.mean_x += dx * other_count / (count + other_count)
            self.mean_y += dy * other_count / (count + other_count)

    @property
    def mean_abs(self) -> float | None:
        """Return the mean absolute difference of numbers."""
        return _finite(self.sum_abs / self.compared) if self.numeric and self.compared else None

    @property
    def correlation(self) -> float | None:
        """Return Pearson's correlation from -1 to 1, or None if one side is constant."""
        if not self.numeric or self.compared < 2:
            return None
        spread = math.sqrt(self.m2_x) * math.sqrt(self.m2_y)
        # Rounding gives a constant a tiny variance.
        constant = any(
            m2 <= self.compared * (1e-12 * abs(mean)) ** 2
            for m2, mean in ((self.m2_x, self.mean_x), (self.m2_y, self.mean_y))
        )
        if constant or not spread or not math.isfinite(spread) or not math.isfinite(self.co):
            return None
        return max(-1.0, min(1.0, self.co / spread))


@dataclass(slots=True)
class Tally:
    """The agreement of a challenger in one task or in all tasks.

    Attributes
    ----------
    rows
        Rows that both models scored.
    failed
        Rows on which the challenger raised an error. `errors` counts them by class.
    gave_up
        The reason why the challenger got no more rows, or empty.
    """

    rows: int = 0
    failed: int = 0
    gave_up: str = ""
    errors: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, OutputTally] = field(default_factory=dict)

    def merge(self, other: Tally) -> None:
        """Add the counts of another task."""
        self.rows += other.rows
        self.failed += other.failed
        self.gave_up = self.gave_up or other.gave_up
        for name, count in other.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        for name, tally in other.outputs.items():
            self.outputs.setdefault(name, OutputTally()).merge(tally)


def tally_from(value: dict[str, Any]) -> Tally:
    """Return a tally from its JSON value."""
    outputs = {name: OutputTally(**tally) for name, tally in value["outputs"].items()}
    return Tally(**{**value, "outputs": outputs})


def _numbers(x: Any, y: Any, tolerance: float, random: np.random.Generator) -> OutputTally:
    both = np.isfinite(x) & np.isfinite(y)
    neither = int((~np.isfinite(x) & ~np.isfinite(y)).sum())
    priorities = random.random(len(x))[both]
    champion, challenger = x[both], y[both]
    tally = OutputTally(rows=len(x), compared=len(champion), alike=neither, near=neither)
    if not len(champion):
        return tally
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(champion - challenger)
        tally.alike += int((champion == challenger).sum())
        tally.near += int((difference <= tolerance).sum())
        tally.sum_abs, tally.max_abs = float(difference.sum()), float(difference.max())
        tally.mean_x, tally.mean_y = float(champion.mean()), float(challenger.mean())
        dx, dy = champion - tally.mean_x, challenger - tally.mean_y
        tally.m2_x, tally.m2_y, tally.co = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    sampled = np.argsort(priorities, kind="stable")[:SAMPLE]
    tally.sample = [[float(priorities[i]), float(champion[i]), float(challenger[i])] for i in sampled]
    return tally


def _labels(x: pa.Array, y: pa.Array) -> OutputTally:
    valid_x, valid_y = x.is_valid().to_numpy(zero_copy_only=False), y.is_valid().to_numpy(zero_copy_only=False)
    try:
        equal = pc.fill_null(pc.equal(x, y), fill_value=False).to_numpy(zero_copy_only=False)
    except pa.ArrowNotImplementedError:  # arrays, maps, structs
        equal = (
            np.array([left == right for left, right in zip(x.to_pylist(), y.to_pylist(), strict=True)], bool) & valid_x
        )
    neither = int((~valid_x & ~valid_y).sum())
    return OutputTally(len(x), int((valid_x & valid_y).sum()), int(equal.sum()) + neither, int(equal.sum()) + neither)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)


def _doubles(values: pa.Array) -> Any:
    """Return the values as doubles, with NaN for null."""
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
