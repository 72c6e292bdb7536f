"""A challenger beside the champion: it scores the same batches in the same scan, and whatever it does, the champion's rows stand.

What it raises is counted; after `GIVE_UP` rows, a batch that takes too long, or a prediction of another shape, it is left alone for the
rest of the task. What ends the worker is found out by `attempts.py`: the task is then tried again without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.udfs.agreement import OutputTally, Tally
from firesteel.udfs.dead_letter import Failed
from firesteel.udfs.deadline import BatchTimeout
from firesteel.udfs.engine import Engine
from firesteel.udfs.model import load_model
from firesteel.udfs.outputs import outputs_to_arrow
from firesteel.udfs.report import Clock, TaskReport

if TYPE_CHECKING:
    from firesteel.udfs.spec import Challenger, ScoreSpec

GIVE_UP = 100
"""Rows of a task on which it may fail: to find each takes as many calls as a batch has binary digits."""


class Shadow:
    """The challenger of one task. The report's tally is filled on the way."""

    def __init__(
        self, spec: ScoreSpec, challenger: Challenger, types: Sequence[pa.DataType], report: TaskReport
    ) -> None:
        self._spec = replace(
            spec,
            features=challenger.features,
            feature_names=challenger.feature_names,
            challenger=None,
            warmup=False,
            on_error=replace(spec.on_error, action="dead_letter", retries=0),
        )
        self._challenger = challenger
        self._types = types
        self._tally = report.challenger = Tally(gave_up=challenger.off)
        self._engine: Engine | None = None
        self._chance = np.random.default_rng(report.partition)

    def columns(self, rows: pa.Table, champion: Sequence[pa.Array]) -> list[pa.Array]:
        """Score rows that the champion has scored, and compare; the columns to be published, null where there is no score."""
        published = [pa.nulls(rows.num_rows, kind) for kind in self._types]
        if not self._tally.gave_up:
            try:
                published = self._scored(rows, champion)
            except FiresteelError as error:
                self._tally.gave_up = f"{error.code} {error.what}"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the challenger's own
                self._tally.gave_up = f"{type(error).__name__} while it was loaded or compared"
        return published if self._challenger.publish else []

    def _scored(self, rows: pa.Table, champion: Sequence[pa.Array]) -> list[pa.Array]:
        inputs = self._spec.of_model(rows)
        if self._engine is None:
            self._engine = self._open(inputs.schema)
        found: list[list[pa.Array]] = []
        for piece in self._engine.pieces(inputs, TaskReport(0, 0), Clock({})):
            if isinstance(piece, Failed):
                name = type(piece.error).__name__
                self._tally.failed += 1
                self._tally.errors[name] = self._tally.errors.get(name, 0) + 1
                found.append([pa.nulls(1, kind) for kind in self._types])
                if self._tally.failed >= GIVE_UP:
                    raise ModelError("FS5006", f"it failed on {GIVE_UP} rows of a task: {name}.")
                continue
            size = piece.stop - piece.start
            arrays = outputs_to_arrow(piece.prediction, self._spec.outputs, self._types, size, self._spec.model.name)
            self._compare([each.slice(piece.start, size) for each in champion], arrays, size)
            found.append(arrays)
        return [pa.concat_arrays([piece[place] for piece in found]) for place in range(len(self._types))]

    def _compare(self, champion: Sequence[pa.Array], challenger: Sequence[pa.Array], rows: int) -> None:
        self._tally.rows += rows
        for output, one, other in zip(self._spec.outputs, champion, challenger, strict=True):
            tally = self._tally.outputs.setdefault(output.name, OutputTally())
            tally.add(one, other, self._challenger.tolerance, self._chance)

    def _open(self, schema: pa.Schema) -> Engine:
        model = self._challenger.model
        assert model is not None  # else it is off
        loaded, _ = load_model(model, self._spec.threads, self._spec.models_in_memory + 1)
        self._spec = spec = replace(self._spec, model=model)
        types = dict(zip(schema.names, schema.types, strict=True))
        key = ("challenger", *types.items(), spec.backend, spec.threads, spec.timeout_s)
        if key not in loaded.engines:
            loaded.engines[key] = Engine(loaded, spec, types, late=_late)
        engine: Engine = loaded.engines[key]
        return engine


def _late(error: BatchTimeout) -> Exception:
    """A batch that is late is not halved: each half might be late as well, and the champion waits."""
    return ModelError("FS5006", f"a batch took too long: {error}.")
