"""Spark settings with secrets: they appear on no command line, and Spark redacts them.

::

    settings of the plan --public--> command line of spark-submit and of the JVM
                         `-secret--> SparkConf in the running JVM    (a session of firesteel, and the driver of a submission)
                                     /dev/fd/N, a file in memory     (spark-submit, which may need the settings itself)
                                       with the secrets' values      (a driver on the cluster, which cannot read the
                                                                      submitter's secret sources)
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.secret_sources import variable
from firesteel.conf.secrets import SecretRef, references, reveal, secrets_in

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import Plan

REDACTION = "spark.redaction.regex"
SQL_REDACTION = "spark.sql.redaction.options.regex"
_HADOOP = "spark.hadoop."
_DELIVERED = "spark.firesteel.secret."
"""Prefix of settings that send a secret to a driver. The rest of the key is its environment variable; the value is base64."""


def secret_keys(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys of the settings whose values refer to secrets, sorted."""
    return tuple(sorted(key for key, value in settings.items() if references(value)))


def public_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings without secrets. An escaped `$${secret:` in a value is unescaped."""
    keys = secret_keys(settings)
    return {key: reveal(value) for key, value in settings.items() if key not in keys}


def shown_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return all settings, with secrets as references, so that they can be printed."""
    return {**settings, **public_settings(settings)}


def revealed_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that have secrets, with the secrets' values, and the regular expressions that redact them.

    Starts the JVM if none runs, with all other settings: SparkSession's builder would put every setting on the command line
    of the JVM. The redaction in spark-defaults.conf is known only once the JVM runs.
    """
    keys = secret_keys(settings)
    if not keys:
        return {}
    revealed = {key: reveal(settings[key]) for key in keys}
    from pyspark import SparkConf, SparkContext

    start_jvm(settings)
    jvm = SparkContext._jvm  # noqa: SLF001
    assert jvm is not None
    core = getattr(getattr(jvm, "org.apache.spark.internal.config.package$"), "MODULE$")
    sql = getattr(getattr(jvm, "org.apache.spark.sql.internal.SQLConf$"), "MODULE$")
    inherited = SparkConf()
    for name, default in (
        (REDACTION, core.SECRET_REDACTION_PATTERN()),
        (SQL_REDACTION, sql.SQL_OPTIONS_REDACTION_PATTERN()),
    ):
        own = settings.get(name) or inherited.get(name, None) or default.defaultValueString()
        revealed[name] = redaction_regex(own, keys)
    return revealed


def start_jvm(settings: Mapping[str, str]) -> None:
    """Start the JVM, if none runs, with the settings that have no secrets. `SparkConf()` then has spark-defaults.conf too."""
    from pyspark import SparkConf, SparkContext

    public = SparkConf(loadDefaults=False)
    for key, value in public_settings(settings).items():
        public.set(key, value)
    SparkContext._ensure_initialized(conf=public)  # noqa: SLF001 - the public API starts a context too


def redaction_regex(own: str, keys: Sequence[str]) -> str:
    """Return a regular expression that matches what `own` matches, and exactly each of `keys`.

    Spark lists Hadoop's settings a second time without their prefix. It applies the expression to keys and to values.
    """
    names = dict.fromkeys(name for key in keys for name in (key, key.removeprefix(_HADOOP)))
    return f"(?:{own})|^(?:{'|'.join(map(re.escape, names))})$"


def check_secret_settings(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Check that a caller's session has the SQL settings of the plan that have secrets.

    They are not set here: Spark writes the settings of a session into the event log with every job, and redacts only
    those that its context has.

    Raises
    ------
    RuntimeFault
        FS9022: the session lacks a setting.
    """
    conf = spark.sparkContext.getConf()
    for key in secret_keys(settings):
        if key.startswith("spark.sql.") and not conf.contains(key):
            raise RuntimeFault(
                "FS9022",
                f"configuration.{key} has a secret, and the caller's session lacks this setting.",
                hint=f"Set it where that session is created, and add the key to its {REDACTION}; or let firesteel start Spark.",
            )


def plan_secrets(plan: Plan, conf: Mapping[str, str]) -> tuple[SecretRef, ...]:
    """Return the secrets that the settings, the plan's tracking and its signing key refer to, sorted."""
    texts = (*conf.values(), *_texts(astuple(plan.tracking)), plan.signing_key)
    return tuple(sorted({reference for text in texts for reference in secrets_in(text)}))


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _texts(value)


def delivery_settings(references: Iterable[SecretRef]) -> dict[str, str]:
    """Return settings that send secrets to a driver on the cluster. Spark redacts their names by default."""
    settings: dict[str, str] = {}
    for reference in references:
        value = reveal(str(reference))
        settings[f"{_DELIVERED}{variable(reference.scope, reference.key)}"] = b64encode(value.encode()).decode()
    return settings


def load_delivered_secrets() -> None:
    """On a driver on the cluster: copy the secrets of `delivery_settings` into the environment of this process.

    Other processes do not see them: /proc does not show changes of `os.environ`, and executors do not inherit them.
    """
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()  # noqa: SLF001 - attaches to the JVM that started this process
    for key, value in SparkConf().getAll():
        if key.startswith(_DELIVERED):
            os.environ.setdefault(key.removeprefix(_DELIVERED), b64decode(value).decode())


@contextmanager
def properties_file(settings: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Create a properties file of revealed settings in memory. Yield its path for child processes, and the descriptor to pass.

    Only processes of this user that inherit the descriptor can open it. The kernel frees it with the last of them, even after SIGKILL.
    """
    descriptor = os.memfd_create("firesteel-settings", 0)
    try:
        os.fchmod(descriptor, 0o600)
        lines = (f"{_escape(key)}={_escape(value)}\n" for key, value in sorted(settings.items()))
        data = "".join(lines).encode("ascii")
        while data:
            data = data[os.write(descriptor, data) :]
        yield f"/dev/fd/{descriptor}", descriptor
    finally:
        os.close(descriptor)


def _escape(text: str) -> str:
    r"""Return text in the format of java.util.Properties: ASCII letters and digits, every other UTF-16 unit as \uXXXX.

    Spark trims the values that it reads from the file. The driver sets them again, complete.
    """
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\u{code:04x}" for code in codes)
