"""The keys of a spec that may use secrets: `configuration`, `security` and `tracking`, except settings that Spark shows."""

from __future__ import annotations

import re

from firesteel.conf.errors import FiresteelError, SpecError, Where
from firesteel.conf.secrets import FORM, SecretRef, replace_references
from firesteel.pipelines.spec.tree import KeyPath, Node

_PASSWORD = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@:\s]*:(?!\x00+@)[^/@\s]+@"
    r"|\S*[?&;](?i:password|passwd|pwd|token|secret|access_?key|api_?key)(?:=|%3D)(?!\x00+(?:[&;]|$))[^&;\s])"
)
"""A URI with a password after the user or in the query. References to secrets are replaced by NUL characters before."""
_REVEALED = {"configuration", "security", "tracking"}
_SEEN = {
    "steps": "Spark's plans and event log show SQL and its args",
    "storage": "paths are published",
    "sources": "paths are recorded with every run",
    "sinks": "paths are published",
    "models": "a model's URI is recorded with every run",
    "gates": "the report shows expectations and their observed values",
    "params": "params are recorded with every run",
}
_SHOWN_SETTINGS = (
    (re.compile(r".*(JavaOptions|ClassPath|LibraryPath)"), "Spark puts it on a command line, which `ps` shows"),
    # SparkConf.isExecutorStartupConf: executors get these as -D options. SSL passwords are sent otherwise.
    (
        re.compile(r"spark\.(auth(?!enticate\.secret$)|rpc|network|ssl(?!.*Password)).*|.*\.port(\..*)?"),
        "Spark puts it on the command line of executors",
    ),
    (
        re.compile(r"spark\.(app\.name|master|yarn\.(queue|tags)|eventLog\.dir|local\.dir)"),
        "Spark shows it in its UI and logs",
    ),
    (re.compile(r"spark\.(sql\.)?redaction\..*"), "Spark does not redact its redaction patterns"),
)


def is_revealed(path: KeyPath) -> bool:
    """Return whether secrets in the value at `path` are revealed when the value is used."""
    return bool(path) and path[0] in _REVEALED


def password_errors(node: Node, path: KeyPath = ()) -> list[FiresteelError]:
    """Return FS1020 for each URI with a plain password, which would be recorded with every run."""
    if isinstance(node.value, dict):
        return [error for key, child in node.value.items() for error in password_errors(child, (*path, key))]
    if isinstance(node.value, list):
        return [error for index, child in enumerate(node.value) for error in password_errors(child, (*path, index))]
    if not isinstance(node.value, str) or not _PASSWORD.search(replace_references(node.value, "\0")):
        return []
    what = f"`{'.'.join(map(str, path))}` contains a password, which is recorded with every run."
    hint = f"Write {FORM} in its place." if is_revealed(path) else "Remove it from the URI."
    return [SpecError("FS1020", what, where=node.where, hint=hint)]


def secret_errors(inner: str, path: KeyPath, where: Where) -> list[FiresteelError]:
    """Return the errors of the reference `${inner}` in the value at `path`."""
    place = ".".join(map(str, path))
    try:
        SecretRef.parse(inner)
    except ValueError as error:
        return [
            SpecError(
                "FS1004",
                f"`${{{inner}}}` is not a valid secret reference: {error}.",
                where=where,
                hint=f"Write {FORM}.",
            )
        ]
    if not is_revealed(path):
        why = _SEEN.get(str(path[0]) if path else "", "it is recorded with every run")
        hint = "Use secrets only in values of `configuration`, `security` and `tracking`."
    else:
        key = str(path[-1]) if path[0] == "configuration" else ""
        why = next((reason for pattern, reason in _SHOWN_SETTINGS if pattern.fullmatch(key)), "")
        hint = "Put the secret in a file and its path here, or use a setting that Spark does not show."
    if not why:
        return []
    return [SpecError("FS1020", f"`{place}` must not contain a secret: {why}.", where=where, hint=hint)]
