"""The Spark settings of `security: {mode: strict}`, the settings that conflict with it, and whether it holds here."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.conf.secrets import replace_references
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import HttpLineage, Security, Spec
from firesteel.pipelines.spec.tree import KeyPath

P = ParamSpec("P")
T = TypeVar("T")

REDACTION = "spark.redaction.regex"
REDACTED = "(?i:secret|password|passphrase|token|credential|(access|api|private|signing)[._-]?key)"
"""Spark's own pattern, and the names that it misses, such as `apikey`."""

STRICT: Mapping[str, str] = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    "spark.network.crypto.authEngineVersion": "2",
    "spark.network.crypto.saslFallback": "false",
    "spark.io.encryption.enabled": "true",
    "spark.acls.enable": "true",
}
"""Settings that a strict spec cannot change."""

DEFAULTS: Mapping[str, str] = {
    # Both ends need the same cipher: a cluster with Spark's default needs AES/CTR/NoPadding here.
    "spark.network.crypto.cipher": "AES/GCM/NoPadding",
    "spark.io.encryption.keySizeBits": "256",
}
"""Settings that `configuration` may change."""

SECRET = "spark.authenticate.secret"  # noqa: S105 - the setting's name
CIPHERS = frozenset({"AES/GCM/NoPadding", "AES/CTR/NoPadding"})
"""Ciphers of `spark.network.crypto.cipher` that encrypt."""

UI_FILTER = "org.apache.spark.ui.JWSFilter"
UI_KEY = f"spark.{UI_FILTER}.param.secretKey"


_STRICT: ContextVar[bool] = ContextVar("firesteel_strict", default=False)


def is_strict() -> bool:
    """Return whether the plan or spec that this thread works on has `security: {mode: strict}`; see `held_to_security`."""
    return _STRICT.get()


def held_to_security(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that has a plan or spec as an argument: inside it, connections are held to the `security` of the argument.

    A strict caller stays strict.
    """

    @wraps(function)
    def held(*args: P.args, **given: P.kwargs) -> T:
        token = _STRICT.set(is_strict() or "strict" in map(_mode, (*args, *given.values())))
        try:
            return function(*args, **given)
        finally:
            _STRICT.reset(token)

    return held


def _mode(argument: object) -> object:
    """Return the security mode of a plan, a spec or a loaded spec, and something else for other arguments."""
    security = getattr(getattr(argument, "spec", argument), "security", None)
    return getattr(security, "mode", security) if isinstance(security, str | Security) else None


def security_conf(spec: Spec) -> dict[str, str]:
    """Return the settings of `security`, overridden by `configuration`, except the strict ones."""
    security, configuration = spec.security, spec.configuration
    conf = {**kerberos_conf(security)}
    if not security.strict:
        return {**conf, **configuration}
    conf |= {**DEFAULTS, "spark.ui.enabled": "false"}
    if security.secret:
        conf[SECRET] = security.secret
    if security.ui_key:
        conf |= {"spark.ui.enabled": "true", "spark.ui.filters": UI_FILTER, UI_KEY: security.ui_key}
    own = configuration.get(REDACTION)
    return {**conf, **configuration, **STRICT, REDACTION: f"(?:{own})|{REDACTED}" if own else REDACTED}


def weaknesses(conf: Mapping[str, str]) -> list[str]:
    """Return what in the effective settings of a Spark context `security: {mode: strict}` does not allow.

    The settings count, not their origin: the spec, `--conf`, spark-defaults.conf, the environment, or the session of a caller.
    """
    weak = [
        f"{key} is {conf.get(key) or 'not set'}, expected {value}"
        for key, value in STRICT.items()
        if conf.get(key, "").strip().lower() != value
    ]
    cipher = conf.get("spark.network.crypto.cipher", "AES/CTR/NoPadding").strip()
    if cipher not in CIPHERS:
        weak.append(f"spark.network.crypto.cipher is {cipher}, expected one of {', '.join(sorted(CIPHERS))}")
    if conf.get("spark.ui.enabled", "true").strip().lower() != "false":
        filters = [name.strip() for name in conf.get("spark.ui.filters", "").split(",")]
        if UI_FILTER not in filters or not conf.get(UI_KEY):
            weak.append(f"spark.ui.enabled is not false, and spark.ui.filters has no {UI_FILTER} with a key")
    if REDACTED not in conf.get(REDACTION, ""):
        weak.append(f"{REDACTION} does not contain {REDACTED}")
    if conf.get("spark.master", "").startswith("spark://") and not conf.get(SECRET):
        weak.append(f"{SECRET} is not set, but {conf['spark.master']} is a standalone cluster")
    return weak


def kerberos_conf(security: Security) -> dict[str, str]:
    """Return the Kerberos settings, with which Spark renews HDFS tickets during a run."""
    if security.kerberos is None:
        return {}
    return {"spark.kerberos.principal": security.kerberos.principal, "spark.kerberos.keytab": security.kerberos.keytab}


def security_errors(loaded: LoadedSpec) -> list[FiresteelError]:
    """Return FS1021 for each setting that conflicts with `mode: strict`."""
    if not loaded.spec.security.strict:
        return []
    return [
        SpecError("FS1021", f"`{'.'.join(map(str, path))}` {what}.", where=loaded.tree.nearest(path).where, hint=hint)
        for path, what, hint in _conflicts(loaded.spec)
    ]


def _conflicts(spec: Spec) -> Iterator[tuple[KeyPath, str, str]]:
    security = spec.security
    for key, value in spec.configuration.items():
        if key in STRICT and value.strip().lower() != STRICT[key]:
            yield ("configuration", key), f"is not {STRICT[key]}, but security.mode is strict", "Remove one of them."
        if key == "spark.ui.enabled" and value.strip().lower() == "true" and not security.ui_key:
            yield (
                ("configuration", key),
                "shows the UI to everyone, but security.mode is strict",
                "Set security.ui_key, which requires a token.",
            )
    if spec.resources.master.startswith("spark://") and not (security.secret or SECRET in spec.configuration):
        hint = "Set the secret of the Master and the Workers: `secret: ${secret:SCOPE/KEY}`."
        yield ("security", "secret"), f"is missing: {spec.resources.master} is a standalone cluster", hint
    events = spec.tracking.openlineage
    uris = [(("tracking", "mlflow", "uri"), spec.tracking.mlflow.uri)]
    if isinstance(events, HttpLineage):
        uris.append((("tracking", "openlineage", "url"), events.url))
    for path, uri in uris:
        if is_clear(uri):
            yield path, "is not encrypted, but security.mode is strict", "Use https."


def is_clear(uri: str) -> bool:
    """Return whether a URI is plain HTTP to another machine."""
    parts = urlsplit(replace_references(uri, "secret"))
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
