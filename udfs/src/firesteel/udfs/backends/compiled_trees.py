"""Compile LightGBM boosters to machine code with lleaves, once per node.

See docs/adr/0005-inference-backends.md for measurements and alternatives.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.base import NativeModel
    from firesteel.udfs.backends.matrix import Layout

TOLERANCE = 1e-6
MAX_TREES = 5000
"""Limit of trees, because compile time grows with them: 200 trees of 31 leaves took 7.5 s."""


@dataclass(frozen=True, slots=True)
class LleavesBackend:
    """See `firesteel.udfs.backends.base.InferenceBackend`."""

    model: Any
    layout: Layout
    threads: int
    name: str = "lleaves"
    tolerance: float = TOLERANCE

    def encode(self, table: pa.Table) -> Any | None:
        """Return the feature matrix."""
        return self.layout.to_matrix(table)

    def predict(self, batch: Any) -> Any:
        """Return the booster's prediction."""
        return self.model.predict(batch, n_jobs=self.threads)


def lleaves_backend(loaded: NativeModel) -> tuple[LleavesBackend | None, str]:
    """Return the backend, or None and the reason. The first worker of a node compiles and the others wait."""
    import lightgbm

    assert loaded.layout is not None
    if not isinstance(loaded.flavor, lightgbm.Booster):
        return None, "lleaves supports only LightGBM boosters"
    if loaded.flavor.pandas_categorical:
        return None, "the model has pandas categories"
    if loaded.flavor.num_trees() > MAX_TREES:
        return None, f"{loaded.flavor.num_trees():,} trees exceed the compile limit of {MAX_TREES:,}"
    try:
        import lleaves
        import llvmlite.binding as llvm
    except ImportError as error:
        return None, f"{error.name} is not installed (pip install 'firesteel[compiled]')"
    if not hasattr(llvm, "PassManagerBuilder"):
        return None, "lleaves 1.3 needs llvmlite < 0.45 (pip install 'firesteel[compiled]')"
    # The object file is specific to the CPU and to the model's bytes.
    target = Path(loaded.scratch, f"firesteel-{loaded.digest[:32]}-{llvm.get_host_cpu_name()}.o")
    with _locked(target.with_suffix(".lock")):
        text = target.with_suffix(f".{os.getpid()}.txt")
        loaded.flavor.save_model(text)
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
    return LleavesBackend(model, loaded.layout.with_dtype("float64"), loaded.threads), ""


class _locked:  # noqa: N801 - used like a function
    """A file lock between the workers of a node. The kernel releases it when the holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()
