"""Find the rows on which a model fails by bisection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from firesteel.conf.errors import FiresteelError

if TYPE_CHECKING:
    from pydantic import JsonValue

MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that the model failed on: its features, its kept columns and the model's error.

    `row` holds the values encoded by `firesteel.udfs.dead_letter_codec`, and `types` the columns' Spark types.
    """

    row: tuple[tuple[str, JsonValue], ...]
    error: str
    message: str
    types: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The rows `[start, stop)` of a batch and their prediction."""

    start: int
    stop: int
    prediction: Any


@dataclass(frozen=True, slots=True)
class FailedRow:
    """One row and the model's error for it."""

    index: int
    error: Exception


def bisect(
    predict: Callable[[pd.DataFrame], Any], frame_of: Callable[[int, int], pd.DataFrame], rows: int, *, retries: int = 0
) -> Iterator[ScoredBatch | FailedRow]:
    """Score the rows of a batch. If the model raises an error, halve the batch until each failing row is isolated.

    Parameters
    ----------
    frame_of
        Returns a new frame of the rows `[start, stop)`. Each call needs a new frame, because models may change their input.
    retries
        Retries of the whole batch and of each isolated row, in case a service behind the model failed.

    k failing rows among n cost about k * log2(n) calls. The results are in row order. A `MemoryError` also halves the batch, but for a
    single row it is raised as an error of the worker. A `FiresteelError` is always raised.
    """
    ranges = [(0, rows)]
    while ranges:
        start, stop = ranges.pop()
        retryable = stop - start in {1, rows}
        try:
            prediction = _try(predict, lambda: frame_of(start, stop), retries if retryable else 0)  # noqa: B023 - called here
        except FiresteelError:
            raise
        except MemoryError:
            if stop - start == 1:
                raise
        except Exception as error:  # noqa: BLE001 - a model may raise any error
            if stop - start == 1:
                yield FailedRow(start, error)
                continue
        else:
            yield ScoredBatch(start, stop, prediction)
            continue
        middle = (start + stop) // 2
        ranges += [(middle, stop), (start, middle)]


def _try(predict: Callable[[pd.DataFrame], Any], frame: Callable[[], pd.DataFrame], retries: int) -> Any:
    for _ in range(retries):
        try:
            return predict(frame())
        except (FiresteelError, MemoryError):
            raise
        except Exception:  # noqa: BLE001, S112 - only the error of the last try is reported
            continue
    return predict(frame())


def error_message(error: Exception) -> str:
    """Return the truncated error message on one line."""
    return " ".join(str(error).split())[:MESSAGE_CHARS]
