"""Isolate the Python modules of a model from those of other models.

MLflow adds a model's code folder to `sys.path` and leaves its modules in `sys.modules`. If two models contain a module `features`, both
would use the first one. Here a model's modules are importable only while the model is loaded or called.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType
from typing import Any


class ModelCode:
    """The modules of one model: those of its code folders, and all that it imports from its folder.

    Not thread-safe, because Python workers have one thread.
    """

    def __init__(self, folder: Path | None = None, code: tuple[Path, ...] = ()) -> None:
        self._roots = tuple({f"{path}{os.sep}" for path in (folder, folder.resolve())}) if folder else ()
        self._names = {
            entry.name.partition(".")[0]
            for code_folder in code
            for entry in code_folder.iterdir()
            if entry.is_dir() or entry.name.endswith(tuple(all_suffixes()))
        } - {"__init__", "__pycache__"}
        self._path = [str(code_folder) for code_folder in code]
        self._modules: dict[str, ModuleType] = {}
        self._active = False

    @classmethod
    def of(cls, folder: Path) -> ModelCode:
        """Return the code that a model's MLmodel file names."""
        from mlflow.models import Model

        flavors = Model.load(str(folder)).flavors
        named = {flavor.get("code") for flavor in flavors.values()}
        folders = [folder / name for name in sorted(name for name in named if isinstance(name, str))]
        return cls(folder, tuple(path for path in folders if path.is_dir()))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the model's modules importable inside the block."""
        if not self._roots or self._active:
            yield
            return
        hidden_modules = self._remove_modules(frozenset(self._modules))
        known_modules, path = frozenset(sys.modules), list(sys.path)
        sys.modules.update(self._modules)
        sys.path[:0] = self._path
        if self._path and not self._modules:  # at the first use, importlib may have cached older folders
            importlib.invalidate_caches()
        self._active = True
        try:
            yield
        finally:
            self._active = False
            new = sys.modules.keys() - known_modules if len(sys.modules) != len(known_modules) else ()
            model_modules = {name for name in new if self._belongs_to_model(sys.modules[name])}
            self._modules = self._remove_modules(model_modules)
            sys.modules.update(hidden_modules)
            self._path = [
                entry for entry in sys.path if entry not in path
            ]  # a model may add folders while it is loaded
            sys.path[:] = path

    def wrap(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap a call to activate the model's modules."""

        @wraps(call)
        def with_code(batch: Any) -> Any:
            with self.active():
                return call(batch)

        return with_code

    def _belongs_to_model(self, module: ModuleType) -> bool:
        """Return whether a module was imported from the model's folder."""
        paths = [getattr(module, "__file__", None), *(getattr(module, "__path__", None) or ())]
        return any(isinstance(path, str) and f"{path}{os.sep}".startswith(self._roots) for path in paths)

    def _remove_modules(self, names: Collection[str]) -> dict[str, ModuleType]:
        """Remove the modules with these names and those of the code folders from `sys.modules`, and return them."""
        if not names and not self._names:
            return {}
        return {
            name: sys.modules.pop(name)
            for name in list(sys.modules)
            if name in names or name.partition(".")[0] in self._names
        }
