"""Build hook: give wheels a `firesteel/__init__.py`, which executors need.

In the checkout `firesteel` is a namespace over five component roots. A wheel on `--py-files` is imported by
zipimport, which does not see namespace packages across archives.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FiresteelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        init = Path(self._folder.name, "__init__.py")
        init.write_text('"""Spark-native batch inference pipelines."""\n', encoding="utf-8")
        build_data["force_include"][str(init)] = "firesteel/__init__.py"
