"""Rows that the model fails on: found by bisection, kept apart, bounded."""

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
    """A row that could not be scored: its features and kept columns, and what the model raised.

    `row` holds the values as `firesteel.udfs.dead_letter_codec` encodes them, `types` the columns' Spark types.
    """

    row: tuple[tuple[str, JsonValue], ...]
    error: str
    message: str
    types: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A stretch of rows `[start, stop)` and the model's prediction for it."""

    start: int
    stop: int
    prediction: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """One row and what the model raised for it."""

    index: int
    error: Exception


def bisect(
    predict: Callable[[pd.DataFrame], Any], frame_of: Callable[[int, int], pd.DataFrame], rows: int, *, retries: int = 0
) -> Iterator[Scored | Failed]:
    """Score the rows of a batch. Where the model raises, halve the batch until each row that it fails on is alone.

    Parameters
    ----------
    frame_of
        Makes a new frame of the rows `[start, stop)`. Each call of the model gets its own: models change their input.
    retries
        How often the whole batch, and each row that is alone, is tried again: what failed may have been a service behind
        the model and not the rows.

    k bad rows among n cost about k * log2(n) calls. Rows come in order. A `MemoryError` halves as well, but a single row
    that does not fit is an error of the worker and not of the row. Errors of our own are never a row's.
    """
    pieces = [(0, rows)]
    while pieces:
        start, stop = pieces.pop()
        patient = stop - start in {1, rows}
        try:
            prediction = _try(predict, lambda: frame_of(start, stop), retries if patient else 0)  # noqa: B023 - called here
        except FiresteelError:
            raise
        except MemoryError:
            if stop - start == 1:
                raise
        except Exception as error:  # noqa: BLE001 - a model may raise anything; that is what dead letters are for
            if stop - start == 1:
                yield Failed(start, error)
                continue
        else:
            yield Scored(start, stop, prediction)
            continue
        middle = (start + stop) // 2
        pieces += [(middle, stop), (start, middle)]


def _try(predict: Callable[[pd.DataFrame], Any], frame: Callable[[], pd.DataFrame], retries: int) -> Any:
    for _ in range(retries):
        try:
            return predict(frame())
        except (FiresteelError, MemoryError):
            raise
        except Exception:  # noqa: BLE001, S112 - the last try's error is the one that counts
            continue
    return predict(frame())


def message_of(error: Exception) -> str:
    """What the model said, cut; on one line."""
    return " ".join(str(error).split())[:MESSAGE_CHARS]
