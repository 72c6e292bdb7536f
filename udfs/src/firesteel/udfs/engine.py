"""Score batches with a loaded model: with the chosen backend if possible, else with the reference."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.udfs.backends.base import REFERENCE, Choice, InferenceBackend, NativeModel
from firesteel.udfs.backends.choose import candidates, choose, sample_of
from firesteel.udfs.backends.matrix import layout_of
from firesteel.udfs.backends.reference import Reference
from firesteel.udfs.dead_letter import FailedRow, ScoredBatch, bisect
from firesteel.udfs.deadline import BatchTimeout, as_exceptions, with_timeout
from firesteel.udfs.garbage import freeze_objects
from firesteel.udfs.requirements import check_module_error

if TYPE_CHECKING:
    from firesteel.udfs.model import LoadedModel
    from firesteel.udfs.report import Clock, TaskReport
    from firesteel.udfs.spec import ScoreSpec

_REFERENCE_ONLY = {"reference": "set in the spec", "guarded": "a worker crashed; each call runs in its own process"}


class Engine:
    """One model for one set of columns in one worker. The first batch determines the backend."""

    def __init__(
        self,
        loaded: LoadedModel,
        spec: ScoreSpec,
        types: Mapping[str, pa.DataType],
        late: Callable[[BatchTimeout], Exception] = lambda error: error,
    ) -> None:
        self._late = late
        self._loaded = loaded
        self._spec = spec
        self._types = types
        self._reference = Reference(with_timeout(spec.timeout_s, as_exceptions(loaded.predict), late), tuple(types))
        self._backend: InferenceBackend | None = None
        self.choice = Choice(REFERENCE, "no rows")

    def warm_up(self) -> None:
        """Score the model's input example, so that the first batch does not pay for the first call.

        Raises
        ------
        ModelError
            FS3003 if the model has no example with these features, or fails on it. FS3013 if a module is missing.
        """
        example = self._loaded.example
        if not isinstance(example, pd.DataFrame) or not self._types.keys() <= set(example.columns):
            raise ModelError(
                "FS3003",
                f"model {self._loaded.ref.name} has no input example with its features, which `warmup: input_example` requires.",
                hint="Log the model again with `input_example=frame.head()`, or remove `warmup`.",
            )
        try:
            self._loaded.predict(example[list(self._types)].copy())
        except Exception as error:
            check_module_error(error, self._loaded.ref.name)
            raise ModelError(
                "FS3003",
                f"model {self._loaded.ref.name} fails on its own input example: {type(error).__name__}.",
                hint="Log the model again with an example that it can score, or remove `warmup`.",
            ) from error

    def score(self, table: pa.Table, report: TaskReport, clock: Clock) -> Iterator[ScoredBatch | FailedRow]:
        """Yield predictions and failed rows of one batch, in row order.

        `table` has the model's columns with the model's names.
        """
        backend = self._backend or self._choose(table)
        clock.add("choose")
        if backend is not self._reference:
            prediction = self._predict_fast(backend, table, clock)
            if prediction is not None:
                report.count_backend(backend.name, table.num_rows)
                yield ScoredBatch(0, table.num_rows, prediction)
                return
        report.count_backend(REFERENCE, table.num_rows)

        def frame_of(start: int, stop: int) -> pd.DataFrame:
            frame = self._reference.encode(table.slice(start, stop - start))
            clock.add("decode")
            return frame

        retries = self._spec.on_error.retries
        for result in bisect(self._reference.predict, frame_of, table.num_rows, retries=retries):
            clock.add("model")
            yield result

    def _predict_fast(self, backend: InferenceBackend, table: pa.Table, clock: Clock) -> Any | None:
        """Return the backend's prediction, or None if the backend does not support the rows or fails."""
        try:
            batch = backend.encode(table)
            clock.add("decode")
            predict = as_exceptions(self._loaded.code.wrap(backend.predict))
            prediction = with_timeout(self._spec.timeout_s, predict, self._late)(batch) if batch is not None else None
        except FiresteelError:
            raise
        except Exception:  # noqa: BLE001 - the reference scores these rows again and reports the error
            prediction = None
        clock.add("model")
        return prediction

    def _choose(self, table: pa.Table) -> InferenceBackend:
        if self._spec.backend in _REFERENCE_ONLY:
            self._backend, self.choice = self._reference, Choice(REFERENCE, _REFERENCE_ONLY[self._spec.backend])
            freeze_objects()
            return self._backend
        model = self._native_model()
        samples = [sample for sample in (self._example(), sample_of(table)) if sample is not None]
        with self._loaded.code.active():
            candidate_backends = candidates(model, compiled=self._spec.backend == "compiled")
            if not candidate_backends.backends:
                self._backend, self.choice = self._reference, Choice(REFERENCE, "; ".join(candidate_backends.reasons))
                freeze_objects()
                return self._backend
            self._backend, self.choice = choose(self._reference, candidate_backends, samples)
        freeze_objects()
        return self._backend

    def _native_model(self) -> NativeModel:
        loaded = self._loaded
        layout, reason = None, loaded.opaque_reason
        if not reason:
            layout, reason = layout_of(self._types, loaded.signature)
        scratch = loaded.scratch or self._new_scratch()
        return NativeModel(
            loaded.flavor, loaded.ref.method, layout, reason, self._spec.threads, scratch, loaded.ref.digest
        )

    def _new_scratch(self) -> str:
        """Return a new folder that is deleted with this engine."""
        folder = tempfile.mkdtemp(prefix="firesteel-backends-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _example(self) -> pa.Table | None:
        example = self._loaded.example
        if not isinstance(example, pd.DataFrame) or not self._types.keys() <= set(example.columns):
            return None
        try:
            return pa.Table.from_pandas(example[list(self._types)], pa.schema(self._types), preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return None  # the example's types differ from the rows' types
