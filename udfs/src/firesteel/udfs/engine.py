"""A loaded model at work on batches: the chosen backend where it can, the reference where it must, failing rows bisected."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.udfs.backends.base import REFERENCE, Choice, InferenceBackend, Opened
from firesteel.udfs.backends.choose import candidates, choose, sample_of
from firesteel.udfs.backends.matrix import layout_of
from firesteel.udfs.backends.reference import Reference
from firesteel.udfs.dead_letter import Failed, Scored, bisect
from firesteel.udfs.deadline import BatchTimeout, ordinary_errors, within
from firesteel.udfs.garbage import settle

if TYPE_CHECKING:
    from firesteel.udfs.model import LoadedModel
    from firesteel.udfs.report import Clock, TaskReport
    from firesteel.udfs.spec import ScoreSpec

_ALONE = {"reference": "asked for", "guarded": "a worker died: each call has a process of its own"}


class Engine:
    """One model for one set of columns in one worker. The backend is chosen with the first batch, and kept."""

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
        self._reference = Reference(within(spec.timeout_s, ordinary_errors(loaded.predict), late), tuple(types))
        self._backend: InferenceBackend | None = None
        self.choice = Choice(REFERENCE, "no rows")

    def warm_up(self) -> None:
        """Score the model's input example, so that the first batch does not pay for what a first call opens.

        Raises
        ------
        ModelError
            FS3003 when the model has no example with these features.
        """
        example = self._loaded.example
        if not isinstance(example, pd.DataFrame) or not self._types.keys() <= set(example.columns):
            raise ModelError(
                "FS3003",
                f"model {self._loaded.ref.name} has no input example of its features, and `warmup` is input_example.",
                hint="Log it again with `input_example=frame.head()`, or leave `warmup` out.",
            )
        try:
            self._loaded.predict(example[list(self._types)].copy())
        except Exception as error:
            raise ModelError(
                "FS3003",
                f"model {self._loaded.ref.name} fails on its own input example: {type(error).__name__}.",
                hint="Log it again with an example that it scores, or remove `warmup`.",
            ) from error

    def pieces(self, table: pa.Table, report: TaskReport, clock: Clock) -> Iterator[Scored | Failed]:
        """Score one batch: stretches of rows with their predictions and rows that failed, in order.

        `table` has the model's columns under the model's names.
        """
        backend = self._backend or self._choose(table)
        clock.add("choose")
        if backend is not self._reference:
            prediction = self._fast(backend, table, clock)
            if prediction is not None:
                report.count_backend(backend.name, table.num_rows)
                yield Scored(0, table.num_rows, prediction)
                return
        report.count_backend(REFERENCE, table.num_rows)

        def frame_of(start: int, stop: int) -> pd.DataFrame:
            frame = self._reference.encode(table.slice(start, stop - start))
            clock.add("decode")
            return frame

        retries = self._spec.on_error.retries
        for piece in bisect(self._reference.predict, frame_of, table.num_rows, retries=retries):
            clock.add("model")
            yield piece

    def _fast(self, backend: InferenceBackend, table: pa.Table, clock: Clock) -> Any | None:
        """The backend's prediction. None when the rows need the reference, or when it fails: the reference says on which."""
        try:
            batch = backend.encode(table)
            clock.add("decode")
            predict = ordinary_errors(self._loaded.code.wrap(backend.predict))
            prediction = within(self._spec.timeout_s, predict, self._late)(batch) if batch is not None else None
        except FiresteelError:
            raise
        except Exception:  # noqa: BLE001 - the reference scores these rows again and says what is wrong with which
            prediction = None
        clock.add("model")
        return prediction

    def _choose(self, table: pa.Table) -> InferenceBackend:
        if self._spec.backend in _ALONE:
            self._backend, self.choice = self._reference, Choice(REFERENCE, _ALONE[self._spec.backend])
            settle()
            return self._backend
        opened = self._open()
        samples = [each for each in (self._example(), sample_of(table)) if each is not None]
        with self._loaded.code.active():
            found = candidates(opened, compiled=self._spec.backend == "compiled")
            if not found.backends:
                self._backend, self.choice = self._reference, Choice(REFERENCE, "; ".join(found.reasons))
                settle()
                return self._backend
            self._backend, self.choice = choose(self._reference, found, samples)
        settle()
        return self._backend

    def _open(self) -> Opened:
        loaded = self._loaded
        layout, why = None, loaded.why_opaque
        if not why:
            layout, why = layout_of(self._types, loaded.signature)
        scratch = loaded.scratch or tempfile.mkdtemp(prefix="firesteel-backends-")
        return Opened(loaded.flavor, loaded.ref.method, layout, why, self._spec.threads, scratch, loaded.ref.digest)

    def _example(self) -> pa.Table | None:
        example = self._loaded.example
        if not isinstance(example, pd.DataFrame) or not self._types.keys() <= set(example.columns):
            return None
        try:
            return pa.Table.from_pandas(example[list(self._types)], pa.schema(self._types), preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return None  # of other types than the rows: nothing to compare on
