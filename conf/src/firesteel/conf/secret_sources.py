"""Where secrets come from: a folder of files, environment variables, and what other packages install.

A source of your own is a class without arguments under the entry point group `firesteel.secrets`::

    [project.entry-points."firesteel.secrets"]
    vault = "example.vault:VaultSource"
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from firesteel.conf.errors import RuntimeFault

GROUP = "firesteel.secrets"
FOLDER = "FIRESTEEL_SECRETS_DIR"
PREFIX = "FIRESTEEL_SECRET_"
MAX_BYTES = 64 << 10
"""More is not a password: a certificate belongs into a file of its own, and its path into the spec."""


class SecretSource(Protocol):
    """A place that holds secrets."""

    def find(self, scope: str, key: str) -> str | None:
        """The value, or None when this source does not have it. Anything else that is wrong is raised."""

    def place(self, scope: str, key: str) -> str:
        """Where it looks, for an error message: a path, a variable's name. Never a value."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Files `FOLDER/SCOPE/KEY`, as Kubernetes and Vault agents mount them. One newline at the end is not the value's."""

    folder: Path

    def place(self, scope: str, key: str) -> str:
        """The file's path."""
        return str(self.folder / scope / key)

    def find(self, scope: str, key: str) -> str | None:
        """Read the file.

        Raises
        ------
        RuntimeFault
            FS9021 when it lies outside the folder, when others may read it, or when it is no text.
        """
        shown = self.place(scope, key)
        try:
            # Kubernetes mounts links to ..data: they are followed, as far as they stay inside.
            path = (self.folder / scope / key).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, RuntimeError) as error:
            raise _unusable(shown, f"cannot be read: {_reason(error)}", "Check its owner and mode.") from error
        if not path.is_relative_to(self.folder.resolve()):
            raise _unusable(shown, f"leads out of {self.folder}", "Put the file itself there.")
        data = _read(path, shown)
        try:
            text = data.decode()
        except UnicodeDecodeError:  # its text would quote the value
            raise _unusable(shown, "is not UTF-8 text", "Store a secret as text.") from None
        return text.removesuffix("\n").removesuffix("\r")


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """Variables `FIRESTEEL_SECRET_SCOPE_KEY`: upper case, all other characters as `_`. An empty one is not set."""

    environ: Mapping[str, str]

    def place(self, scope: str, key: str) -> str:
        """The variable's name."""
        return f"${variable(scope, key)}"

    def find(self, scope: str, key: str) -> str | None:
        """The variable's value."""
        return self.environ.get(variable(scope, key)) or None


def variable(scope: str, key: str) -> str:
    """The name of a secret's environment variable.

    Examples
    --------
    >>> variable("mlflow", "prod.password")
    'FIRESTEEL_SECRET_MLFLOW_PROD_PASSWORD'
    """
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", f"{scope}_{key}".upper())


def secret_sources(environ: Mapping[str, str] | None = None) -> tuple[SecretSource, ...]:
    """All sources in the order in which they are asked: the folder, the environment, then installed ones by name.

    Raises
    ------
    RuntimeFault
        FS9004 when an installed source cannot be loaded.
    """
    env = os.environ if environ is None else environ
    found: list[SecretSource] = []
    if folder := env.get(FOLDER):
        found.append(FolderSource(Path(folder)))
    found.append(EnvironmentSource(env))
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        try:
            found.append(entry.load()())
        except Exception as error:
            raise RuntimeFault(
                "FS9004",
                f"the secret source `{entry.name}` ({entry.value}) cannot be loaded: {type(error).__name__}.",
                hint="Mend or remove the package that installs it.",
            ) from error
    return tuple(found)


def _read(path: Path, shown: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(shown, f"cannot be read: {_reason(error)}", "Check its owner and mode.") from error
    try:
        state = os.fstat(descriptor)  # of the file that is open, not of what stands at the path by now
        if not stat.S_ISREG(state.st_mode):
            raise _unusable(shown, "is not a file", "A secret is one file.")
        if state.st_mode & stat.S_IRWXO:
            raise _unusable(
                shown,
                f"is open to all users (mode {stat.S_IMODE(state.st_mode):04o})",
                "chmod o-rwx it; in Kubernetes set `defaultMode: 0440` on the volume.",
            )
        data = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise _unusable(shown, f"is longer than {MAX_BYTES >> 10} KiB", "Give a path to a large secret, not its text.")
    return data


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _unusable(place: str, why: str, hint: str) -> RuntimeFault:
    return RuntimeFault("FS9021", f"secret file {place} {why}.", hint=hint)
