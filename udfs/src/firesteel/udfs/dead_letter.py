"""Rows that the model fails on: found by bisection, kept apart, bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from firesteel.conf.errors import FiresteelError

MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that could not be scored: its features and kept columns, and what the model raised."""

    row: tuple[tuple[str, Any], ...]
    error: str
    message: str


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


def bisect(predict: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> Iterator[Scored | Failed]:
    """Score a frame; where the model raises, halve until the rows that it fails on stand alone.

    k bad rows among n cost about k * log2(n) calls. Rows come in order. A `MemoryError` halves as well, but a single row
    that does not fit is an error of the worker and not of the row. Errors of our own are never a row's.
    """
    pieces = [(0, len(frame))]
    while pieces:
        start, stop = pieces.pop()
        piece = frame if (start, stop) == (0, len(frame)) else frame.iloc[start:stop].reset_index(drop=True)
        try:
            prediction = predict(piece)
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


def message_of(error: Exception) -> str:
    """What the model said, cut; on one line."""
    return " ".join(str(error).split())[:MESSAGE_CHARS]
