"""Build hook: wheels get the jar of the shuffle plugin.

The jar is compiled against the jars of pyspark, so an isolated build installs pyspark. The build needs a JDK.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FiresteelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def dependencies(self) -> list[str]:
        if importlib.util.find_spec("pyspark"):
            return []
        return [line for line in self.metadata.core.dependencies if line.startswith("pyspark")]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        jar = Path(self._folder.name, "shuffle.jar")
        self._compile(jar)
        build_data["force_include"][str(jar)] = "firesteel/rdma_shuffle/firesteel-shuffle.jar"

    def _compile(self, target: Path) -> None:
        """Compile the jar with the code of this checkout, even if firesteel is installed."""
        roots = [str(Path(self.root, component, "src")) for component in ("api", "conf", "rdma_shuffle")]
        sys.path[:0] = roots
        try:
            from firesteel.rdma_shuffle.jar import compile_jar, spark_jars

            compile_jar(target, Path(self.root, "rdma_shuffle", "java", "src"), spark_jars())
        finally:
            del sys.path[: len(roots)]
