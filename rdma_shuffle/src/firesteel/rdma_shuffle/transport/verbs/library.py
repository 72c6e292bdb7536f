"""Finds and loads pyverbs. It comes with the system's rdma-core and not from PyPI, so it is not in the environment.

Debian installs `python3-pyverbs` into /usr/lib/python3/dist-packages, next to all other Python packages of the system. Only
this package is loaded from there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, VerbsUnavailable

SYSTEM = (Path("/usr/lib/python3/dist-packages"), Path("/usr/lib64/python3/site-packages"))
VARIABLE = "FIRESTEEL_PYVERBS"
_NAME = "pyverbs"
_PARTS = ("enums", "device", "cq", "pd", "mr", "qp", "wr", "addr", "pyverbs_error")


@dataclass(frozen=True, slots=True)
class Library:
    """The modules of pyverbs, untyped because they are compiled and have no annotations."""

    enums: Any
    device: Any
    cq: Any
    pd: Any
    mr: Any
    qp: Any
    wr: Any
    addr: Any
    pyverbs_error: Any

    @property
    def error(self) -> type[Exception]:
        """The error of its calls. `error_code` is an errno if there is one."""
        error: type[Exception] = self.pyverbs_error.PyverbsError
        return error


def load(folders: tuple[Path, ...] | None = None) -> Library:
    """Import pyverbs from this environment, else from FIRESTEEL_PYVERBS or the packages of the system.

    Raises
    ------
    VerbsUnavailable
        NO_LIBRARY: it is missing, or was built for another Python or another libibverbs.
    """
    if _NAME not in sys.modules and importlib.util.find_spec(_NAME) is None:
        _from_system(folders or _folders())
    try:
        return Library(*(importlib.import_module(f"{_NAME}.{part}") for part in _PARTS))
    except ImportError as error:
        raise VerbsUnavailable(
            FallbackReason.NO_LIBRARY,
            f"pyverbs does not load: {error}.",
            "Install python3-pyverbs and libibverbs1 of the same version.",
        ) from error


def _folders() -> tuple[Path, ...]:
    named = os.environ.get(VARIABLE)
    return (Path(named),) if named else SYSTEM


def _from_system(folders: tuple[Path, ...]) -> None:
    packages = [folder / _NAME for folder in folders if (folder / _NAME / "__init__.py").is_file()]
    if not packages:
        raise VerbsUnavailable(
            FallbackReason.NO_LIBRARY,
            f"pyverbs is not installed in {', '.join(map(str, folders))}.",
            f"Install python3-pyverbs, or set {VARIABLE} to its parent folder.",
        )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    matching = [folder for folder in packages if (folder / f"device{suffix}").is_file()]
    if not matching:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise VerbsUnavailable(
            FallbackReason.NO_LIBRARY,
            f"the pyverbs in {packages[0].parent} was not built for Python {version}.",
            "Run the service with the Python that it was built for, or install one for this Python.",
        )
    package = matching[0]
    spec = importlib.util.spec_from_file_location(
        _NAME, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
