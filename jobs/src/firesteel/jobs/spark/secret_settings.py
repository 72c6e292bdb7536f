"""Spark settings that hold secrets: kept off every command line, and redacted by Spark itself.

::

    settings of the plan --public--> command line of spark-submit and of the JVM
                         `-secret--> SparkConf, in the running JVM          (our own session, and the driver of a submission)
                                     /dev/fd/N, a file in memory only       (spark-submit, which may need them by itself)
                                       with the secrets themselves          (a driver on the cluster, which cannot look
                                                                             where the submitter looks)
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.secret_sources import variable
from firesteel.conf.secrets import references, reveal, secrets_in

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REDACTION = "spark.redaction.regex"
SQL_REDACTION = "spark.sql.redaction.options.regex"
_HADOOP = "spark.hadoop."
_CARRIED = "spark.firesteel.secret."
"""A secret on its way to a driver: the rest of the key is its environment variable, the value is base64."""


def secret_keys(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The settings whose values refer to secrets, sorted."""
    return tuple(sorted(key for key, value in settings.items() if references(value)))


def public_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings without secrets; a literal `$${secret:` among them is what it stands for."""
    keys = secret_keys(settings)
    return {key: reveal(value) for key, value in settings.items() if key not in keys}


def shown_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """All settings, secrets as references: what may be printed."""
    return {**settings, **public_settings(settings)}


def revealed_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that hold secrets, with the values in them, and the redaction that hides them.

    Starts the JVM, if none runs yet, with all the other settings: to leave that to SparkSession's builder would put every
    setting of it on the command line of the JVM. What spark-defaults.conf redacts is known once the JVM runs.
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
    """Start the JVM, if none runs yet, with the settings that hold no secrets: then `SparkConf()` knows the defaults, too."""
    from pyspark import SparkConf, SparkContext

    public = SparkConf(loadDefaults=False)
    for key, value in public_settings(settings).items():
        public.set(key, value)
    SparkContext._ensure_initialized(conf=public)  # noqa: SLF001 - the public way starts a context as well


def redaction_regex(own: str, keys: Sequence[str]) -> str:
    """`own`, or exactly one of `keys`. Hadoop's settings are listed a second time without their prefix.

    Spark compares keys and values with it; the default looks for words such as `password` in either.
    """
    names = dict.fromkeys(name for key in keys for name in (key, key.removeprefix(_HADOOP)))
    return f"(?:{own})|^(?:{'|'.join(map(re.escape, names))})$"


def check_reached(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """FS9022 when a caller's session lacks a secret SQL setting of the plan.

    It is not set here: Spark writes a session's own settings into the event log with every job, and redacts only those
    that its context knows.
    """
    conf = spark.sparkContext.getConf()
    for key in secret_keys(settings):
        if key.startswith("spark.sql.") and not conf.contains(key):
            raise RuntimeFault(
                "FS9022",
                f"configuration.{key} holds a secret, and the session that was passed in does not have it.",
                hint=f"Set it when that session is made, and add the key to its {REDACTION}; or let firesteel start Spark.",
            )


def delivered(texts: Iterable[str]) -> dict[str, str]:
    """Settings that carry the secrets of `texts` to a driver on the cluster. Their names are what Spark redacts by default."""
    found: dict[str, str] = {}
    for reference in dict.fromkeys(each for text in texts for each in secrets_in(text)):
        value = reveal(str(reference))
        found[f"{_CARRIED}{variable(reference.scope, reference.key)}"] = b64encode(value.encode()).decode()
    return found


def take_delivered() -> None:
    """On a driver on the cluster: what `delivered` sent is found as if it stood in the environment.

    In this process only: a change of `os.environ` is not what /proc shows, and executors inherit nothing from here.
    """
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()  # noqa: SLF001 - it attaches to the JVM that started this process
    for key, value in SparkConf().getAll():
        if key.startswith(_CARRIED):
            os.environ.setdefault(key.removeprefix(_CARRIED), b64decode(value).decode())


@contextmanager
def properties_file(settings: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """A properties file of revealed settings that is on no disk: its path for children, and the descriptor to pass on.

    Only processes of this user that inherit it can open it, and it is gone with the last of them, even after SIGKILL.
    """
    descriptor = os.memfd_create("firesteel-settings", 0)
    try:
        os.fchmod(descriptor, 0o600)
        lines = (f"{_escaped(key)}={_escaped(value)}\n" for key, value in sorted(settings.items()))
        data = "".join(lines).encode("ascii")
        while data:
            data = data[os.write(descriptor, data) :]
        yield f"/dev/fd/{descriptor}", descriptor
    finally:
        os.close(descriptor)


def _escaped(text: str) -> str:
    r"""As java.util.Properties reads it: in ASCII, every other UTF-16 unit as \uXXXX.

    Spark trims the values that it reads here; the driver sets them again, whole.
    """
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\u{code:04x}" for code in codes)
