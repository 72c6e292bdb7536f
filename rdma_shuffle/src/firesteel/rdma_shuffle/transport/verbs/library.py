"""Where pyverbs is found. It comes with the system's rdma-core and not from PyPI, so it is not in the service's environment.

Debian's `python3-pyverbs` lies in /usr/lib/python3/dist-packages, beside every other Python package of the system. That one
package is loaded from there, and the others stay unseen.
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

from firesteel.rdma_shuffle.transport.verbs.absent import VerbsAbsent, Why

SYSTEM = (Path("/usr/lib/python3/dist-packages"), Path("/usr/lib64/python3/site-packages"))
VARIABLE = "FIRESTEEL_PYVERBS"
_NAME = "pyverbs"
_PARTS = ("enums", "device", "cq", "pd", "mr", "qp", "wr", "addr", "pyverbs_error")


@dataclass(frozen=True, slots=True)
class Library:
    """pyverbs' modules. Untyped: they are compiled and carry no annotations."""

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
        """What its calls raise; `error_code` is an errno where there is one."""
        found: type[Exception] = self.pyverbs_error.PyverbsError
        return found


def load(folders: tuple[Path, ...] | None = None) -> Library:
    """Import pyverbs: from this environment if it is there, else from FIRESTEEL_PYVERBS or the system's packages.

    Raises
    ------
    VerbsAbsent
        NO_LIBRARY: it is not there, or was built for another Python or another libibverbs.
    """
    if _NAME not in sys.modules and importlib.util.find_spec(_NAME) is None:
        _from_system(folders or _folders())
    try:
        return Library(*(importlib.import_module(f"{_NAME}.{part}") for part in _PARTS))
    except ImportError as error:
        raise VerbsAbsent(
            Why.NO_LIBRARY, f"pyverbs does not load: {error}", "install python3-pyverbs and libibverbs1 of one version"
        ) from error


def _folders() -> tuple[Path, ...]:
    named = os.environ.get(VARIABLE)
    return (Path(named),) if named else SYSTEM


def _from_system(folders: tuple[Path, ...]) -> None:
    found = [folder / _NAME for folder in folders if (folder / _NAME / "__init__.py").is_file()]
    if not found:
        raise VerbsAbsent(
            Why.NO_LIBRARY,
            f"there is no pyverbs in {', '.join(map(str, folders))}",
            f"install python3-pyverbs, or set {VARIABLE} to the folder that holds it",
        )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    fitting = [folder for folder in found if (folder / f"device{suffix}").is_file()]
    if not fitting:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise VerbsAbsent(
            Why.NO_LIBRARY,
            f"the pyverbs in {found[0].parent} was not built for Python {version}",
            "run the service under the Python that it was built for, or install one for this",
        )
    place = fitting[0]
    spec = importlib.util.spec_from_file_location(_NAME, place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
