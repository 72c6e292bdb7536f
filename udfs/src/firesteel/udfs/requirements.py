"""Compare the packages that a model declares with those that are installed here.

::

    requirements.txt, else conda.yaml, else python_env.yaml --+--> requirements --compare--> mismatches --> errors, one warning
    python_version of MLmodel --------------------------------+         installed packages --^

Nothing is installed, and no file or address that the requirements name is read. `-r`, `-e`, options, paths and addresses are skipped.
"""

from __future__ import annotations

import platform
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from firesteel.conf.errors import ModelError
from firesteel.conf.files import UnusableFileError, read_user_text
from firesteel.udfs.mlmodel import flavors_of, printable, read_mlmodel, safe_yaml
from firesteel.udfs.trust import CODE

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

Policy = Literal["enforce", "warn", "ignore"]
"""What differences of packages are: errors where scoring can fail and else warnings, warnings only, or nothing."""

_FILES = ("requirements.txt", "conda.yaml", "python_env.yaml")
_MAX_BYTES = 1 << 20
_MAX_LINES = 5_000
_MAX_LINE = 500
_MAX_SPECIFIER = 80
_SHOWN = 8

_LOADERS = {
    "catboost": "catboost",
    "fastai": "fastai",
    "h2o": "h2o",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "onnx": "onnxruntime",
    "paddle": "paddlepaddle",
    "pmdarima": "pmdarima",
    "prophet": "prophet",
    "pytorch": "torch",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "spacy": "spacy",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "transformers": "transformers",
    "xgboost": "xgboost",
}
"""MLflow flavor -> the package whose major versions do not load each other's models."""
_FORMATS = {"skops": ("sklearn", "lightgbm"), "onnx": ("onnx",), "lightgbm": ("lightgbm",), "xgboost": ("xgboost",)}
"""Format -> flavors, for the formats that firesteel loads itself."""
INSTALL = "Install the packages of the model's requirements.txt, in these versions, where the model is loaded."
_NEVER_ERRORS = frozenset({"cloudpickle", "mlflow", "mlflow-skinny", "numpy", "pip", "pyspark", "setuptools", "wheel"})
_VARIANTS = {
    "lightgbm": ("lightgbm-cuda",),
    "mlflow": ("mlflow-skinny",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "psycopg2": ("psycopg2-binary",),
    "tensorflow": ("tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tensorflow-macos"),
    "xgboost": ("xgboost-cpu",),
}
"""Package -> distributions that install the same modules."""
_SAME_MODULES = [{name, *variants} for name, variants in _VARIANTS.items()]
_PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Module -> package, for packages that are not installed."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a model requires. `python` is empty if it is unknown. `loaders` are the packages that read the model's files.

    `needs_all` says whether loading the model may import every package that it requires.
    """

    requirements: tuple[Requirement, ...]
    python: str
    loaders: frozenset[str]
    needs_all: bool


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A requirement that the environment does not meet. `found` is empty if the package is not installed."""

    package: str
    required: str
    found: str
    is_error: bool

    def __str__(self) -> str:
        return f"{self.package}{self.required} ({f'found {self.found}' if self.found else 'not installed'})"


def check_requirements(
    folder: Path,
    model: str,
    policy: Policy,
    format_: str,
    place: str = "this Python environment",
    mlmodel: dict[str, Any] | None = None,
) -> tuple[str, ...]:
    """Return a warning if packages differ from the model's requirements, and scoring can work nevertheless.

    Parameters
    ----------
    format_
        What loads the model, see `firesteel.udfs.trust`.
    place
        The environment, for messages.
    mlmodel
        The MLmodel file, if it was read before.

    Raises
    ------
    ModelError
        FS3001 if the requirements cannot be read. FS3013 if `policy` is `enforce`, and a package is missing or has another major
        version than the model needs.
    """
    if policy == "ignore":
        return ()
    found = mismatches(read_requirements(folder, format_, mlmodel))
    errors = [mismatch for mismatch in found if mismatch.is_error]
    if errors and policy == "enforce":
        wanted = " ".join(
            f"'{error.package}{error.required}'" for error in errors[:_SHOWN] if error.package != "Python"
        )
        install = f"Install them where the model is loaded (pip install {wanted})" if wanted else "Use that Python"
        raise ModelError(
            "FS3013",
            f"model {model} requires {_listed(errors)} in {place}.",
            hint=f"{install}, log the model again with the installed packages, or set `requirements: warn` for it.",
        )
    if not found:
        return ()
    risk = "Loading or scoring can fail." if errors else "Scores can differ."
    return (f"its requirements differ from {place}: {_listed(found)}. {risk}",)


def this_executor() -> str:
    """Return this Python environment, for messages."""
    return f"the Python environment of executor {socket.gethostname()}"


def check_module_error(error: BaseException, model: str) -> None:
    """Raise FS3013 if an error of a model says that a module is missing: no other row can be scored either."""
    if module := missing_module(error):
        raise ModelError(
            "FS3013",
            f"model {model} fails in {this_executor()}: {describe_missing(module)}.",
            hint=f"{INSTALL} A dead letter cannot help: the rows are not the cause.",
        ) from error


def missing_module(error: BaseException) -> str:
    """Return the module that an import error, or its cause, could not import; empty for other errors.

    An error from another process has only its class name and text.
    """
    current: BaseException | None = error
    for _ in range(_CAUSES):
        if current is None:
            break
        if isinstance(current, ImportError) or type(current).__name__ in {"ImportError", "ModuleNotFoundError"}:
            named = getattr(current, "name", None) or next(iter(_QUOTED.findall(str(current))), "")
            return printable(named)
        current = current.__cause__
    return ""


def describe_missing(module: str) -> str:
    """Return why a module cannot be imported: its package is not installed, or another version of it is."""
    top = module.partition(".")[0]
    for package in metadata.packages_distributions().get(top, ()):
        return f"the installed {package} {metadata.version(package)} cannot give the module `{module}`"
    return f"the package {_PACKAGES.get(top, top)} (module `{module}`) is not installed"


def read_requirements(folder: Path, format_: str, mlmodel: dict[str, Any] | None = None) -> Declared:
    """Return what a model requires. Lines that pip would not look up in an index are skipped.

    Raises
    ------
    ModelError
        FS3001 if a file cannot be read.
    """
    flavors = flavors_of(read_mlmodel(folder) if mlmodel is None else mlmodel)
    code = format_ == CODE
    names = _LOADERS if code else _FORMATS.get(format_, ())
    loaders = frozenset(_LOADERS[flavor] for flavor in names if code or flavor in flavors)
    python = flavors.get("python_function", {}).get("python_version")
    return Declared(
        _parse(_lines(folder)), python if isinstance(python, str) else "", loaders, code or format_ == "skops"
    )


def _lines(folder: Path) -> list[str]:
    """Return the lines of the first file of requirements that the model has."""
    name = next((name for name in _FILES if (folder / name).exists()), "")
    if not name:
        return []
    try:
        text = read_user_text(folder / name, _MAX_BYTES)
        lines = _YAML[name](safe_yaml(text)) if name in _YAML and text.strip() else text.splitlines()
    except UnusableFileError as error:
        raise _unreadable(name, error.why) from error
    except Exception as error:  # the YAML parser's
        raise _unreadable(name, f"is not valid: {printable(error)}") from error
    if len(lines) > _MAX_LINES:
        raise _unreadable(name, f"has more than {_MAX_LINES:,} lines")
    return lines


def _unreadable(name: str, why: str) -> ModelError:
    return ModelError("FS3001", f"the model's {name} {why}.", hint="Log the model again.")


def _conda_lines(content: dict[str, Any]) -> list[str]:
    """Return the `pip` part of conda.yaml, and the loaders among conda's own packages, where old versions of MLflow put them."""
    lines: list[str] = []
    for dependency in _texts_and_mappings(content):
        if isinstance(dependency, str):
            conda = _CONDA.fullmatch(dependency)
            lines += [f"{conda[1]}=={conda[2]}"] if conda and conda[1] in _LOADERS.values() else []
        elif isinstance(pip := dependency.get("pip"), list):
            lines += [line for line in pip if isinstance(line, str)]
    return lines


def _virtualenv_lines(content: dict[str, Any]) -> list[str]:
    return [line for line in _texts_and_mappings(content) if isinstance(line, str)]


def _texts_and_mappings(content: dict[str, Any]) -> list[str | dict[str, Any]]:
    dependencies = content.get("dependencies")
    return [item for item in dependencies if isinstance(item, str | dict)] if isinstance(dependencies, list) else []


_YAML = {"conda.yaml": _conda_lines, "python_env.yaml": _virtualenv_lines}
_CAUSES = 10
_QUOTED = re.compile(r"['\"`]([A-Za-z_][\w.-]*)['\"`]")
_CONDA = re.compile(r"([a-z0-9-]+)={1,2}([0-9][0-9a-z.]*)")


def _parse(lines: Iterable[str]) -> tuple[Requirement, ...]:
    """Return the requirements whose markers hold here. Other lines of a requirements file are skipped."""
    from packaging.requirements import Requirement

    found = []
    for line in "\n".join(lines).replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        text = _COMMENT.split(line, maxsplit=1)[0].split(" --", 1)[0].strip()
        if not text or text.startswith("-") or len(text) > _MAX_LINE:
            continue
        try:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                found.append(requirement)
        except (ValueError, RecursionError):  # an address, a path, or no requirement; a marker that cannot be evaluated
            continue
    return tuple(found)


_COMMENT = re.compile(r"(?:^|\s)#")


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, an empty string if it is unknown, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "" if _is_module(package.replace("-", "_")) else None  # code on PYTHONPATH has no metadata


def _is_module(name: str) -> bool:
    try:
        return name.isidentifier() and find_spec(name) is not None
    except ValueError:  # a module that another tool has made
        return True


def mismatches(
    declared: Declared,
    installed: Callable[[str], str | None] = installed_version,
    python: str | None = None,
) -> list[Mismatch]:
    """Return the requirements that the installed packages do not meet, errors first.

    Parameters
    ----------
    installed
        Returns the version of a package by its normalized name, see `installed_version`.
    python
        The version of Python here; by default, that of this process.
    """
    from packaging.utils import canonicalize_name

    found: dict[str, Mismatch] = {}
    for requirement in declared.requirements:
        name = canonicalize_name(requirement.name)
        version = _first_installed(name, installed)
        if version is None:
            is_error = name not in _NEVER_ERRORS and (declared.needs_all or name in declared.loaders)
            mismatch = Mismatch(name, _shortened(requirement.specifier), "", is_error)
        elif version and not requirement.url and not _allows(requirement.specifier, version):
            is_error = name in declared.loaders and other_major(requirement.specifier, version)
            mismatch = Mismatch(name, _shortened(requirement.specifier), version, is_error)
        else:
            continue
        found.setdefault(str(mismatch), mismatch)
    here = python or platform.python_version()
    if declared.python and (difference := _other_python(declared.python, here)) is not None:
        found.setdefault("", difference)
    return sorted(found.values(), key=lambda mismatch: not mismatch.is_error)


def _first_installed(name: str, installed: Callable[[str], str | None]) -> str | None:
    """Return the version of a package or of one that installs the same modules."""
    same = next((group for group in _SAME_MODULES if name in group), set())
    versions = (installed(candidate) for candidate in (name, *sorted(same - {name})))
    return next((version for version in versions if version is not None), None)


def _allows(specifier: SpecifierSet, version: str) -> bool:
    """Return whether a version is allowed, as PEP 440 says. A version that PEP 440 does not know is."""
    from packaging.version import InvalidVersion, Version

    try:
        return specifier.contains(Version(version), prereleases=True)
    except (InvalidVersion, ValueError):
        return True


def other_major(specifier: SpecifierSet, version: str) -> bool:
    """Return whether no version of the same major series is allowed. For versions 0.x, each minor version is a series."""
    from packaging.version import Version

    here = Version(version)
    series = _series(here)
    head = f"{here.epoch}!{here.major}" if here.major else f"{here.epoch}!0.{here.minor}"
    candidates = [Version(f"{head}.0"), Version(f"{head}.{_LAST}"), *_edges(specifier)]
    return not any(_series(edge) == series and specifier.contains(edge, prereleases=True) for edge in candidates)


_LAST = 10**9
"""Higher than any part of a version."""


def _series(version: Version) -> tuple[int, int, int]:
    return version.epoch, version.major, -1 if version.major else version.minor


def _edges(specifier: SpecifierSet) -> Iterable[Version]:
    """Return the versions that a specifier names, and for each the next higher one that can be allowed."""
    from packaging.version import InvalidVersion, Version

    for clause in specifier:
        text = clause.version.removesuffix(".*")
        try:
            named = Version(text)
        except (InvalidVersion, ValueError):  # `===` takes any text
            continue
        yield named
        release = ".".join(map(str, named.release))
        yield Version(f"{named.epoch}!{release}.0.0.1")
        if clause.version.endswith(".*"):
            yield Version(f"{named.epoch}!{'.'.join(map(str, (*named.release[:-1], named.release[-1] + 1)))}")


def _other_python(required: str, here: str) -> Mismatch | None:
    """Return the mismatch if the minor versions of Python differ."""
    from packaging.version import InvalidVersion, Version

    try:
        wanted, actual = Version(required).release[:2], Version(here).release[:2]
    except (InvalidVersion, ValueError):
        return None
    return None if wanted == actual else Mismatch("Python", f" {printable(required)}", here, wanted[0] != actual[0])


def _shortened(specifier: SpecifierSet) -> str:
    text = str(specifier)
    return text if len(text) <= _MAX_SPECIFIER else f"{text[:_MAX_SPECIFIER]}..."


def _listed(found: list[Mismatch]) -> str:
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return ", ".join(map(str, found[:_SHOWN])) + more
