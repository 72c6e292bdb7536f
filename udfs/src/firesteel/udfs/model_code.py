"""The Python files that a model ships: its own modules, for its own calls only.

MLflow puts a model's code folder on `sys.path` and leaves its modules in `sys.modules`. Two models in one process that both
ship a module `features` would share the first one's. Here the modules of a model are there while it is loaded or called, and
are put away with the model in between.
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
    """The modules of one loaded model: those of its code folders, and all that it imports from files below its folder.

    Not for several threads: Python workers have one.
    """

    def __init__(self, folder: Path | None = None, code: tuple[Path, ...] = ()) -> None:
        self._roots = tuple({f"{path}{os.sep}" for path in (folder, folder.resolve())}) if folder else ()
        self._names = {
            entry.name.partition(".")[0]
            for each in code
            for entry in each.iterdir()
            if entry.is_dir() or entry.name.endswith(tuple(all_suffixes()))
        } - {"__init__", "__pycache__"}
        self._path = [str(each) for each in code]
        self._modules: dict[str, ModuleType] = {}
        self._active = False

    @classmethod
    def of(cls, folder: Path) -> ModelCode:
        """The code that a model's MLmodel file names."""
        from mlflow.models import Model

        flavors = Model.load(str(folder)).flavors
        named = {flavor.get("code") for flavor in flavors.values()}
        folders = [folder / name for name in sorted(name for name in named if isinstance(name, str))]
        return cls(folder, tuple(each for each in folders if each.is_dir()))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the model's modules those that an import finds."""
        if not self._roots or self._active:
            yield
            return
        hidden = self._take_out(frozenset(self._modules))
        known, path = frozenset(sys.modules), list(sys.path)
        sys.modules.update(self._modules)
        sys.path[:0] = self._path
        if self._path and not self._modules:  # the first time: the folders may be newer than what importlib has cached
            importlib.invalidate_caches()
        self._active = True
        try:
            yield
        finally:
            self._active = False
            new = sys.modules.keys() - known if len(sys.modules) != len(known) else ()
            ours = {name for name in new if self._is_ours(sys.modules[name])}
            self._modules = self._take_out(ours)
            sys.modules.update(hidden)
            self._path = [each for each in sys.path if each not in path]  # models add to it while they are loaded
            sys.path[:] = path

    def wrap(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The call with the model's modules active."""

        @wraps(call)
        def with_code(batch: Any) -> Any:
            with self.active():
                return call(batch)

        return with_code

    def _is_ours(self, module: ModuleType) -> bool:
        """Whether a module was read from the model's folder."""
        places = [getattr(module, "__file__", None), *(getattr(module, "__path__", None) or ())]
        return any(isinstance(place, str) and f"{place}{os.sep}".startswith(self._roots) for place in places)

    def _take_out(self, names: Collection[str]) -> dict[str, ModuleType]:
        """Remove modules from `sys.modules`: those of the code folders, and those of these names."""
        if not names and not self._names:
            return {}
        return {
            name: sys.modules.pop(name)
            for name in list(sys.modules)
            if name in names or name.partition(".")[0] in self._names
        }
