"""The Python files that a model ships: its own modules, for its own calls only.

MLflow puts a model's code folder on `sys.path` and leaves its modules in `sys.modules`. Two models in one process that both
ship a module `features` would share the first one's. Here the modules of a model are there while it is loaded or called, and
are put away with the model in between.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any


class ModelCode:
    """The modules of one loaded model. Not for several threads: Python workers have one."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = [str(folder) for folder in folders]
        names = {entry.name.partition(".")[0] for folder in folders for entry in folder.iterdir()}
        self._names = names - {"", "__pycache__", "__init__"}
        self._modules: dict[str, ModuleType] = {}
        self._active = False

    @classmethod
    def of(cls, folder: Path) -> ModelCode:
        """The code that a model's MLmodel file names."""
        from mlflow.models import Model

        flavors = Model.load(str(folder)).flavors
        named = {flavor.get("code") for flavor in flavors.values()}
        folders = [folder / name for name in sorted(name for name in named if isinstance(name, str))]
        return cls(tuple(each for each in folders if each.is_dir()))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the model's modules those that an import finds."""
        if not self._folders or self._active:
            yield
            return
        hidden = self._take_out()
        path = list(sys.path)
        sys.modules.update(self._modules)
        sys.path[:0] = self._folders
        importlib.invalidate_caches()
        self._active = True
        try:
            yield
        finally:
            self._active = False
            self._modules = self._take_out()
            sys.modules.update(hidden)
            sys.path[:] = path

    def wrap(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The call with the model's modules active."""
        if not self._folders:
            return call

        @wraps(call)
        def with_code(batch: Any) -> Any:
            with self.active():
                return call(batch)

        return with_code

    def _take_out(self) -> dict[str, ModuleType]:
        """Remove the modules of these names from `sys.modules`."""
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in self._names}
