"""LightGBM boosters as machine code, by lleaves: compiled once per node, loaded by each worker.

docs/adr/0005-inference-backends.md has the numbers and what else was tried.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import Opened
    from firesteel.udfs.backends.matrix import Layout

TOLERANCE = 1e-6
MAX_TREES = 5000
"""Compile time grows with the trees: 200 trees of 31 leaves took 7.5 s."""


@dataclass(frozen=True, slots=True)
class LleavesBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    model: Any
    layout: Layout
    threads: int
    name: str = "lleaves"
    tolerance: float = TOLERANCE

    def encode(self, table: pa.Table) -> Any | None:
        """The matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """The booster's prediction."""
        return self.model.predict(batch, n_jobs=self.threads)


def lleaves_backend(opened: Opened) -> tuple[LleavesBackend | None, str]:
    """The backend, or None and the reason. The first worker of a node compiles; the others wait for it."""
    import lightgbm

    assert opened.layout is not None
    if not isinstance(opened.flavor, lightgbm.Booster):
        return None, "only LightGBM boosters have a compiled backend of trees"
    if opened.flavor.pandas_categorical:
        return None, "the model has pandas categories"
    if opened.flavor.num_trees() > MAX_TREES:
        return None, f"{opened.flavor.num_trees():,} trees are more than {MAX_TREES:,}"
    try:
        import lleaves
        import llvmlite.binding as llvm
    except ImportError as error:
        return None, f"{error.name} is not installed (pip install 'firesteel[compiled]')"
    if not hasattr(llvm, "PassManagerBuilder"):
        return None, "lleaves 1.3 needs llvmlite < 0.45 (pip install 'firesteel[compiled]')"
    # The object is for this machine's processor, and for these bytes.
    target = Path(opened.scratch, f"firesteel-{opened.digest[:32]}-{llvm.get_host_cpu_name()}.o")
    with _locked(target.with_suffix(".lock")):
        text = target.with_suffix(f".{os.getpid()}.txt")
        opened.flavor.save_model(text)
        try:
            model = lleaves.Model(model_file=str(text))
            if target.exists():
                model.compile(cache=str(target))
            else:
                partial = target.with_suffix(f".{os.getpid()}.o")
                model.compile(cache=str(partial))
                partial.replace(target)
        finally:
            text.unlink(missing_ok=True)
    return LleavesBackend(model, opened.layout.with_dtype("float64"), opened.threads), ""


class _locked:  # noqa: N801 - reads as a word
    """A file lock between the workers of a node; the kernel lets go of it when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()
