"""Sources of secrets: a folder of files, environment variables, and plugins.

A plugin is a class without constructor arguments, registered in the entry point group `firesteel.secrets`::

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
from firesteel.conf.files import UnusableFileError, read_user_file

GROUP = "firesteel.secrets"
FOLDER = "FIRESTEEL_SECRETS_DIR"
PREFIX = "FIRESTEEL_SECRET_"
MAX_BYTES = 64 << 10
"""Limit of a secret's size. For a certificate, put its path into the spec."""


class SecretSource(Protocol):
    """A store of secrets."""

    def find(self, scope: str, key: str) -> str | None:
        """Return the value, or None when this source does not have it. Raise on any other problem."""

    def place(self, scope: str, key: str) -> str:
        """Return the path or variable name of the secret for an error message, never its value."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Files `FOLDER/SCOPE/KEY`, as Kubernetes and Vault agents mount them. One newline at the end is removed."""

    folder: Path

    def place(self, scope: str, key: str) -> str:
        """Return the file's path."""
        return str(self.folder / scope / key)

    def find(self, scope: str, key: str) -> str | None:
        """Return the content of the file.

        Raises
        ------
        RuntimeFault
            FS9021 when the file is outside the folder, is readable by other users, or is not text.
        """
        shown = self.place(scope, key)
        try:
            # Kubernetes mounts links to ..data; links are followed within the folder.
            path = (self.folder / scope / key).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, RuntimeError) as error:
            raise _unusable(shown, f"cannot be read: {_reason(error)}", "Check its owner and mode.") from error
        if not path.is_relative_to(self.folder.resolve()):
            raise _unusable(shown, f"is a link to a file outside {self.folder}", "Put the file itself there.")
        data = _read(path, shown)
        try:
            text = data.decode()
        except UnicodeDecodeError:  # not chained: its message quotes the value
            raise _unusable(shown, "is not UTF-8 text", "Store the secret as text.") from None
        return text.removesuffix("\n").removesuffix("\r")


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    """Variables `FIRESTEEL_SECRET_SCOPE_KEY`: upper case, other characters replaced by `_`. An empty variable counts as unset."""

    environ: Mapping[str, str]

    def place(self, scope: str, key: str) -> str:
        """Return the variable's name."""
        return f"${variable(scope, key)}"

    def find(self, scope: str, key: str) -> str | None:
        """Return the variable's value."""
        return self.environ.get(variable(scope, key)) or None


def variable(scope: str, key: str) -> str:
    """Return the name of a secret's environment variable.

    Examples
    --------
    >>> variable("mlflow", "prod.password")
    'FIRESTEEL_SECRET_MLFLOW_PROD_PASSWORD'
    """
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", f"{scope}_{key}".upper())


def secret_sources(environ: Mapping[str, str] | None = None) -> tuple[SecretSource, ...]:
    """Return the sources in search order: the folder, the environment, then plugins by name.

    Raises
    ------
    RuntimeFault
        FS9004 when a plugin cannot be loaded.
    """
    env = os.environ if environ is None else environ
    sources: list[SecretSource] = []
    if folder := env.get(FOLDER):
        sources.append(FolderSource(Path(folder)))
    sources.append(EnvironmentSource(env))
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            sources.append(entry.load()())
        except Exception as error:
            raise RuntimeFault(
                "FS9004",
                f"the secret source `{entry.name}` ({entry.value}) cannot be loaded: {type(error).__name__}.",
                hint="Fix or remove the package that installs it.",
            ) from error
    return tuple(sources)


def _read(path: Path, shown: str) -> bytes:
    try:
        file = read_user_file(path, MAX_BYTES, follow=False)
    except UnusableFileError as error:
        hint = "Store each secret in a regular file of at most 64 KiB that this user can read."
        raise _unusable(shown, error.why, hint) from None
    if file.state.st_mode & stat.S_IRWXO:
        raise _unusable(
            shown,
            f"is accessible to all users (mode {stat.S_IMODE(file.state.st_mode):04o})",
            "Run `chmod o-rwx` on it; in Kubernetes, set `defaultMode: 0440` on the volume.",
        )
    return file.data


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _unusable(place: str, why: str, hint: str) -> RuntimeFault:
    return RuntimeFault("FS9021", f"secret file {place} {why}.", hint=hint)
