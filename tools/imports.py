"""Check the import contracts of pyproject.toml: `lint-imports` for a package that spans several folders.

grimp, which import-linter uses, follows a package with an `__init__.py` into one folder only. `firesteel/__init__.py` extends its
`__path__` over the component roots, so this script tells grimp the folders.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from grimp.adaptors.packagefinder import ImportLibPackageFinder
from grimp.application.config import settings
from importlinter.cli import lint_imports_command

ROOT = Path(__file__).parent.parent


class ComponentRoots(ImportLibPackageFinder):
    """Finds the folders of `firesteel` in this checkout."""

    def determine_package_directories(self, package_name: str, file_system: Any) -> set[str]:  # noqa: ARG002 - grimp's signature
        """Return one folder for each component root."""
        return {str(path) for path in ROOT.glob(f"*/src/{package_name}")}


if __name__ == "__main__":
    settings.configure(PACKAGE_FINDER=ComponentRoots())
    sys.exit(lint_imports_command())
