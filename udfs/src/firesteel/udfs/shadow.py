"""Score the champion's batches with a challenger in the same scan, without effect on the champion's rows.

The challenger's errors are counted. After `MAX_FAILED_ROWS` failed rows, a timeout or a prediction of another shape, the task continues
without the challenger. If the worker crashes, `attempts.py` retries the task without the challenger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.udfs.agreement import OutputTally, Tally
from firesteel.udfs.dead_letter import FailedRow
from firesteel.udfs.deadline import BatchTimeout
from firesteel.udfs.engine import Engine
from firesteel.udfs.model import load_model
from firesteel.udfs.outputs import outputs_to_arrow
from firesteel.udfs.report import Clock, TaskReport
from firesteel.udfs.requirements import check_module_error

if TYPE_CHECKING:
    from firesteel.udfs.spec import Challenger, ScoreSpec

MAX_FAILED_ROWS = 100
"""Maximum failed rows per task. Finding one takes log2(batch rows) calls."""


class Shadow:
    """The challenger of one task. It adds its counts to the report's tally."""

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
        self._random = np.random.default_rng(report.partition)

    def columns(self, rows: pa.Table, champion: Sequence[pa.Array]) -> list[pa.Array]:
        """Score and compare rows that the champion has scored, and return the published columns, with null for missing scores."""
        published = [pa.nulls(rows.num_rows, kind) for kind in self._types]
        if not self._tally.gave_up:
            try:
                published = self._score(rows, champion)
            except FiresteelError as error:
                self._tally.gave_up = f"{error.code} {error.what}"
            except Exception as error:  # noqa: BLE001 - no error of the challenger may fail the task
                self._tally.gave_up = f"{type(error).__name__} while the challenger was loaded or compared"
        return published if self._challenger.publish else []

    def _score(self, rows: pa.Table, champion: Sequence[pa.Array]) -> list[pa.Array]:
        inputs = self._spec.model_inputs(rows)
        if self._engine is None:
            self._engine = self._open(inputs.schema)
        parts: list[list[pa.Array]] = []
        for result in self._engine.score(inputs, TaskReport(0, 0), Clock({})):
            if isinstance(result, FailedRow):
                check_module_error(result.error, self._spec.model.name)
                name = type(result.error).__name__
                self._tally.failed += 1
                self._tally.errors[name] = self._tally.errors.get(name, 0) + 1
                parts.append([pa.nulls(1, kind) for kind in self._types])
                if self._tally.failed >= MAX_FAILED_ROWS:
                    raise ModelError("FS5006", f"the challenger failed on {MAX_FAILED_ROWS} rows of a task: {name}.")
                continue
            size = result.stop - result.start
            arrays = outputs_to_arrow(result.prediction, self._spec.outputs, self._types, size, self._spec.model.name)
            self._compare([array.slice(result.start, size) for array in champion], arrays, size)
            parts.append(arrays)
        return [pa.concat_arrays([part[column] for part in parts]) for column in range(len(self._types))]

    def _compare(self, champion: Sequence[pa.Array], challenger: Sequence[pa.Array], rows: int) -> None:
        self._tally.rows += rows
        for output, champion_scores, challenger_scores in zip(self._spec.outputs, champion, challenger, strict=True):
            tally = self._tally.outputs.setdefault(output.name, OutputTally())
            tally.add(champion_scores, challenger_scores, self._challenger.tolerance, self._random)

    def _open(self, schema: pa.Schema) -> Engine:
        model = self._challenger.model
        assert model is not None  # `off` is set if there is no model
        loaded, _ = load_model(model, self._spec.threads, self._spec.models_in_memory + 1)
        self._spec = spec = replace(self._spec, model=model)
        types = dict(zip(schema.names, schema.types, strict=True))
        key = ("challenger", *types.items(), spec.backend, spec.threads, spec.timeout_s)
        if key not in loaded.engines:
            loaded.engines[key] = Engine(loaded, spec, types, late=_timeout_error)
        engine: Engine = loaded.engines[key]
        return engine


def _timeout_error(error: BatchTimeout) -> Exception:
    """Return an error that is not bisected, because each half could exceed the timeout, too."""
    return ModelError("FS5006", f"a batch exceeded the timeout: {error}.")
