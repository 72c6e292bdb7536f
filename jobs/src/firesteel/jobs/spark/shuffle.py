"""`resources.shuffle: {manager: rdma}` at work: the plugin's jar on the way in, what became of it on the way out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from firesteel.conf import shuffle as names
from firesteel.conf.errors import RuntimeFault
from firesteel.pipelines.result import ShuffleUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


def with_plugin(conf: Mapping[str, str]) -> dict[str, str]:
    """The settings, with the jar of the plugin if they ask for it: a path of this machine, and so not in the plan."""
    if not asked_for(conf):
        return dict(conf)
    from firesteel.rdma_shuffle.jar import build_or_find

    return {**conf, "spark.jars": joined(conf.get("spark.jars", ""), str(build_or_find()))}


def asked_for(conf: Mapping[str, str]) -> bool:
    """Whether the settings ask for the plugin."""
    return names.PLUGIN in conf.get("spark.plugins", "").split(",")


def joined(words: str, word: str) -> str:
    """A comma-separated list with `word` in it."""
    kept = [each.strip() for each in words.split(",") if each.strip()]
    return ",".join(kept if word in kept else [*kept, word])


def shuffle_in_use(spark: SparkSession, settings: Mapping[str, str]) -> ShuffleUse:
    """Which shuffle a session has, where `settings` are those of the plan.

    Raises
    ------
    RuntimeFault
        FS9110 when it is not the one asked for and `resources.shuffle.fallback` is `fail`.
    """
    conf = spark.sparkContext.getConf()
    if conf.get("spark.shuffle.manager", "sort") == names.MANAGER:
        return ShuffleUse("rdma" if asked_for(settings) else "sort", "rdma")
    if not asked_for(settings):
        return ShuffleUse()
    reason = conf.get(names.REASON, "") or "NO_PLUGIN"
    text = conf.get(names.REASON_TEXT, "") or "the session was started without the plugin"
    if settings.get(names.FALLBACK) == "fail":
        raise refused(f"{reason}: {text}")
    _log.warning("shuffle: Spark's own sort shuffle instead of rdma. %s: %s", reason, text)
    return ShuffleUse("rdma", "sort", reason, text)


def refused(why: str) -> RuntimeFault:
    """The error of a run that may not fall back."""
    return RuntimeFault(
        "FS9110",
        f"the rdma shuffle cannot be had, and resources.shuffle.fallback is fail. {why}",
        hint="Start firesteel-shuffled on the nodes (`firesteel doctor` looks), or set fallback: sort.",
    )
