"""Check which protections are off on the machine and in a spec, and say how to turn them on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firesteel.conf.check import Check
from firesteel.conf.errors import FiresteelError
from firesteel.conf.hadoop import HadoopConf, webhdfs_urls
from firesteel.conf.identity import os_user
from firesteel.conf.quantities import plural
from firesteel.conf.secret_sources import FOLDER
from firesteel.jobs.tracking.connect import without_secrets
from firesteel.pipelines.plan.security import DEFAULTS, SECRET, STRICT, UI_FILTER, is_clear, is_loopback, security_conf
from firesteel.pipelines.publish.policy import SITE, VARIABLE, policies
from firesteel.pipelines.spec.load import load_spec
from firesteel.pipelines.spec.model import HttpLineage

if TYPE_CHECKING:
    from firesteel.pipelines.spec.model import Spec

TURN_ON = "security: {mode: strict}"


def security_checks(spec: Path | None, profile: str, params: dict[str, str]) -> list[Check]:
    """Return the checks of the machine, and of a spec if there is one. A protection that is off is a note: the site decides."""
    checks = [_policy(), _secrets()]
    if spec is None:
        return [*checks, *_hadoop(HadoopConf.load(), "")]
    try:
        loaded = load_spec(spec, profile=profile, params=params)
        if loaded.errors:
            raise loaded.errors[0]
    except FiresteelError as error:
        return [*checks, Check("spec", "fail", str(error).splitlines()[0], f"firesteel validate {spec}")]
    checked = loaded.spec
    authority = urlsplit(checked.storage).netloc if checked.storage.startswith("hdfs:") else ""
    return [*checks, *_spark(checked), *_models(checked), *_servers(checked), *_hadoop(HadoopConf.load(), authority)]


def _policy() -> Check:
    try:
        active = policies()
    except FiresteelError as error:
        return Check("policy", "fail", str(error), error.hint)
    if not active:
        return Check(
            "policy",
            "note",
            "there is none: every user who can write to the storage can publish to any sink",
            f"Write {SITE}, or set {VARIABLE} to a policy file; see docs/concepts/security.md.",
        )
    text = "; ".join(f"{policy.path} ({policy.digest}, {plural(len(policy.rules), 'rule')})" for policy in active)
    own = [policy.path for policy in active if os.geteuid() and Path(policy.path).stat().st_uid == os.geteuid()]
    if own:
        return Check("policy", "note", f"{text}; {os_user()} owns {', '.join(own)}", "Make root the owner.")
    return Check("policy", "ok", text)


def _secrets() -> Check:
    folder = os.environ.get(FOLDER)
    if not folder:
        return Check(
            "secrets",
            "note",
            f"{FOLDER} is not set: secrets come from environment variables, which child processes inherit",
            "Mount them as files.",
        )
    mode = Path(folder).stat().st_mode & 0o077 if Path(folder).is_dir() else None
    if mode is None:
        return Check("secrets", "fail", f"{FOLDER}={folder} is not a folder", "Mount the folder.")
    if mode & 0o007:
        return Check("secrets", "note", f"{folder} is open to all users", "Run `chmod o-rwx` on it.")
    return Check("secrets", "ok", f"files below {folder}")


def _spark(spec: Spec) -> Iterator[Check]:
    conf = security_conf(spec)

    def on(key: str) -> bool:
        return conf.get(key, "").lower() == STRICT[key]

    def check(subject: str, protected: bool, good: str, bad: str, advice: str = TURN_ON) -> Check:
        return Check(subject, "ok", good) if protected else Check(subject, "note", bad, advice)

    secret = "a shared secret" if SECRET in conf else "a secret per run"
    yield check("rpc", on("spark.authenticate"), f"authenticated by {secret}", "anyone who reaches a port may run code")
    cipher = conf.get("spark.network.crypto.cipher", "")
    encrypted = on("spark.network.crypto.enabled") and on("spark.network.crypto.saslFallback")
    yield check("network", encrypted, f"encrypted, {cipher}", "rows cross the network unencrypted")
    if encrypted and cipher != DEFAULTS["spark.network.crypto.cipher"]:
        yield Check("cipher", "note", f"{cipher} encrypts without detecting changes", "Use AES/GCM/NoPadding.")
    yield check(
        "disk",
        on("spark.io.encryption.enabled"),
        f"shuffle and spill are encrypted, {conf.get('spark.io.encryption.keySizeBits', '128')} bits",
        "shuffle files and spills are not encrypted",
    )
    enabled = conf.get("spark.ui.enabled", "true").lower() == "true"
    filtered = UI_FILTER in conf.get("spark.ui.filters", "")
    yield check(
        "ui",
        not enabled or filtered,
        "requires a token" if enabled else "off",
        "Spark's UI shows SQL and settings to everyone who can reach it",
    )
    yield check(
        "redaction",
        spec.security.strict,
        "of keys, tokens and passwords",
        "only Spark's expression, which misses names such as apikey",
    )
    if conf.get("spark.eventLog.enabled", "").lower() == "true":
        yield Check(
            "event log",
            "note",
            f"is written to {conf.get('spark.eventLog.dir', 'its default')}, not encrypted",
            "Restrict the mode of the folder: it has SQL, paths and settings, with secrets redacted.",
        )


def _models(spec: Spec) -> Iterator[Check]:
    for name, model in spec.models.items():
        unsafe = sorted({"pickle", "cloudpickle"} & {*model.trust.formats})
        if unsafe:
            yield Check(
                "model",
                "note",
                f"{name} may be {', '.join(unsafe)}: whoever registers a version runs code on the executors",
                "Log it as skops or onnx.",
            )


def _servers(spec: Spec) -> Iterator[Check]:
    events = spec.tracking.openlineage
    uris = [("mlflow", spec.tracking.mlflow.uri or os.environ.get("MLFLOW_TRACKING_URI", ""))]
    if isinstance(events, HttpLineage):
        uris.append(("lineage", events.url))
    for subject, uri in uris:
        if is_clear(uri):
            yield Check(subject, "note", f"{without_secrets(uri)} is reached without encryption", "Use https.")
        elif subject == "mlflow" and os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
            yield Check(
                subject,
                "fail",
                "MLFLOW_TRACKING_INSECURE_TLS: no certificate is verified",
                "Unset it, and set MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE to your CA.",
            )
        elif uri.startswith("https"):
            yield Check(subject, "ok", f"{without_secrets(uri)}, certificates are verified")


def _hadoop(conf: HadoopConf, authority: str) -> Iterator[Check]:
    """Check the client configuration of HDFS, which runs use. What the NameNodes enforce is not checked."""
    if not authority and not conf.folder:
        return
    if conf.kerberos:
        yield Check("hdfs", "ok", "Kerberos")
    else:
        yield Check(
            "hdfs",
            "note",
            "no Kerberos: HDFS trusts the user name that a client sends",
            "Set hadoop.security.authentication=kerberos.",
        )
    wire = conf.get("hadoop.rpc.protection", "authentication").strip()
    data = conf.get("dfs.encrypt.data.transfer", "false").strip().lower() == "true"
    if "privacy" in wire and data:
        yield Check("hdfs wire", "ok", "RPC and block transfer are encrypted")
    else:
        yield Check(
            "hdfs wire",
            "note",
            "RPC or blocks of HDFS cross the network unencrypted",
            "Set hadoop.rpc.protection=privacy and dfs.encrypt.data.transfer=true on the cluster.",
        )
    clear = [
        url
        for url in (webhdfs_urls(authority) if authority else ())
        if url.startswith("http://") and not is_loopback(urlsplit(url).hostname or "")
    ]
    if clear:
        yield Check("webhdfs", "note", f"{', '.join(clear)}: not encrypted", "Set dfs.http.policy=HTTPS_ONLY.")
    elif authority:
        yield Check("webhdfs", "ok", "over TLS, or on this machine")
