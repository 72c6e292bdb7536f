"""Where a secret may stand in a spec: in values of `configuration`, `security` and `tracking`, and there not where Spark shows them."""

from __future__ import annotations

import re

from firesteel.conf.errors import FiresteelError, SpecError, Where
from firesteel.conf.secrets import FORM, SecretRef
from firesteel.pipelines.spec.tree import KeyPath

_REVEALED = {"configuration", "security", "tracking"}
_SEEN = {
    "steps": "SQL and its args stand in Spark's plans and event log",
    "storage": "paths are published",
    "sources": "paths are recorded with every run",
    "sinks": "paths are published",
    "models": "a model's URI is recorded with every run",
    "gates": "expectations and what they observe are reported",
    "params": "params are recorded with every run",
}
_SHOWN_SETTINGS = (
    (re.compile(r".*(JavaOptions|ClassPath|LibraryPath)"), "it stands on a command line that `ps` shows"),
    # SparkConf.isExecutorStartupConf: these reach executors as -D options. Passwords of SSL go another way.
    (
        re.compile(r"spark\.(auth(?!enticate\.secret$)|rpc|network|ssl(?!.*Password)).*|.*\.port(\..*)?"),
        "executors get it on a command line",
    ),
    (
        re.compile(r"spark\.(app\.name|master|yarn\.(queue|tags)|eventLog\.dir|local\.dir)"),
        "Spark shows it in its UI and logs",
    ),
    (re.compile(r"spark\.(sql\.)?redaction\..*"), "it says what is hidden, and is itself not"),
)


def is_revealed(path: KeyPath) -> bool:
    """Whether secrets in the value at `path` are revealed when the value is used."""
    return bool(path) and path[0] in _REVEALED


def secret_errors(inner: str, path: KeyPath, where: Where) -> list[FiresteelError]:
    """What is wrong with the reference `${inner}` in the value at `path`."""
    place = ".".join(map(str, path))
    try:
        SecretRef.parse(inner)
    except ValueError as error:
        return [SpecError("FS1004", f"`${{{inner}}}` is not a secret: {error}.", where=where, hint=f"Write {FORM}.")]
    if not is_revealed(path):
        why = _SEEN.get(str(path[0]) if path else "", "it is recorded with every run")
        hint = "Secrets may stand in values of `configuration`, `security` and `tracking`."
    else:
        key = str(path[-1]) if path[0] == "configuration" else ""
        why = next((reason for pattern, reason in _SHOWN_SETTINGS if pattern.fullmatch(key)), "")
        hint = "Give it a path to a file that holds the secret, or a setting that Spark hides."
    if not why:
        return []
    return [SpecError("FS1020", f"a secret cannot stand in `{place}`: {why}.", where=where, hint=hint)]
