"""The session side of `resources.shuffle: {manager: rdma}`: add the plugin's jar, and report which shuffle is in use."""

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
    """Add the plugin's jar to settings that name the plugin. The plan lacks it, because it is a path of this machine."""
    if not requests_plugin(conf):
        return dict(conf)
    from firesteel.rdma_shuffle.jar import build_or_find

    return {**conf, "spark.jars": append_item(conf.get("spark.jars", ""), str(build_or_find()))}


def requests_plugin(conf: Mapping[str, str]) -> bool:
    """Return whether the settings name the plugin."""
    return names.PLUGIN in conf.get("spark.plugins", "").split(",")


def append_item(items: str, item: str) -> str:
    """Append an item to a comma-separated list, unless the list has it."""
    present = [text.strip() for text in items.split(",") if text.strip()]
    return ",".join(present if item in present else [*present, item])


def shuffle_in_use(spark: SparkSession, settings: Mapping[str, str]) -> ShuffleUse:
    """Return the shuffle of a session. `settings` are those of the plan.

    Raises
    ------
    RuntimeFault
        FS9110 if it is not the requested one and `resources.shuffle.fallback` is `fail`.
    """
    conf = spark.sparkContext.getConf()
    if conf.get("spark.shuffle.manager", "sort") == names.MANAGER:
        return ShuffleUse("rdma" if requests_plugin(settings) else "sort", "rdma")
    if not requests_plugin(settings):
        return ShuffleUse()
    reason = conf.get(names.REASON, "") or "NO_PLUGIN"
    text = conf.get(names.REASON_TEXT, "") or "the session was started without the plugin"
    if settings.get(names.FALLBACK) == "fail":
        raise fallback_fault(f"{reason}: {text}")
    _log.warning("the run uses Spark's sort shuffle instead of rdma. %s: %s", reason, text)
    return ShuffleUse("rdma", "sort", reason, text)


def fallback_fault(reason: str) -> RuntimeFault:
    """Return the error of a run that needs the rdma shuffle and does not get it."""
    return RuntimeFault(
        "FS9110",
        f"the rdma shuffle is not available, and resources.shuffle.fallback is fail. {reason}",
        hint="Start firesteel-shuffled on the nodes (`firesteel doctor` checks it), or set fallback: sort.",
    )
