"""Which Spark settings can change a row, and which of them a run fixes, whatever the machine or the spec says.

==========================  ===========================================  ===================================
setting                     from `configuration`                         from the machine or the caller
==========================  ===========================================  ===================================
changes no row              used; in no hash                             used
can change a row            used; in the hash                            not used: the run has Spark's default
loses rows, changes values  refused by `validate` (FS1022)               the run fixes it, or refuses (FS9042)
==========================  ===========================================  ===================================

So a plan's hash covers every setting that its rows depend on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.conf.secrets import references
from firesteel.pipelines.spec.load import LoadedSpec

TIME_ZONE = "spark.sql.session.timeZone"
ANSI = "spark.sql.ansi.enabled"
TIMESTAMP_TYPE = "spark.sql.parquet.outputTimestampType"
"""Spark's own default is INT96. Readers other than Spark may wrap around on years that its nanoseconds do not hold."""

FIXED: Mapping[str, str] = {
    "spark.sql.caseSensitive": "false",
    "spark.sql.files.archive.reader.enabled": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreInvalidPartitionPaths": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoredPathSegmentRegex": "^[._]",
    "spark.sql.legacy.parquet.nanosAsLong": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.parquet.binaryAsString": "false",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.fieldId.read.enabled": "false",
    "spark.sql.parquet.int96AsTimestamp": "true",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96TimestampConversion": "false",
    "spark.sql.parquet.respectSummaryFiles": "false",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "true",
    "spark.sql.sources.validatePartitionColumns": "true",
    "spark.sql.storeAssignmentPolicy": "ANSI",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    # Otherwise Spark replaces `${env:...}` in SQL by what the driver's machine has.
    "spark.sql.variable.substitute": "false",
}
"""Settings of every run. Other values lose rows, change values, or make operators differ."""

_FORBIDDEN = (
    "spark.hadoop.mapred.input.pathFilter.class",
    "spark.hadoop.mapreduce.input.pathFilter.class",
    "spark.hadoop.parquet.private.read.filter.predicate",
    "spark.hadoop.parquet.read.bad.record.threshold",
    "spark.hadoop.parquet.read.filter",
    "spark.hadoop.parquet.read.support.class",
)
"""Settings of a Spark context that leave out files or rows. No session can set them otherwise."""

_FALSE = ("spark.files.ignoreCorruptFiles", "spark.files.ignoreMissingFiles")
"""Settings of a Spark context that lose rows unless they are false."""

_LEGACY = "spark.sql.legacy."

_PERFORMANCE = (
    "spark.sql.adaptive.",
    "spark.sql.autoBroadcastJoinThreshold",
    "spark.sql.broadcastTimeout",
    "spark.sql.execution.arrow.",
    "spark.sql.files.maxPartitionBytes",
    "spark.sql.files.maxPartitionNum",
    "spark.sql.files.maxRecordsPerFile",
    "spark.sql.files.minPartitionNum",
    "spark.sql.files.openCostInBytes",
    "spark.sql.join.preferSortMergeJoin",
    "spark.sql.parquet.compression.codec",
    "spark.sql.shuffle.partitions",
)
"""SQL settings that say how, and never what."""

_MACHINE = (
    *_PERFORMANCE,
    "spark.sql.artifact.",  # PySpark itself sets it: where workers find files
    "spark.sql.catalog.",
    "spark.sql.classic.",
    "spark.sql.codegen.",
    "spark.sql.debug.",
    "spark.sql.event",
    "spark.sql.execution.",
    "spark.sql.extensions",
    "spark.sql.hive.",
    "spark.sql.inMemoryColumnarStorage.",
    "spark.sql.parquet.output.committer.class",
    "spark.sql.pyspark.",
    "spark.sql.queryExecutionListeners",
    "spark.sql.redaction.",
    "spark.sql.shuffle",
    "spark.sql.sources.commitProtocolClass",
    "spark.sql.sources.outputCommitterClass",
    "spark.sql.streaming.",
    "spark.sql.ui.",
    "spark.sql.warehouse.dir",
)
"""SQL settings that a run takes over from spark-defaults.conf, `--conf` or the caller's session."""

_OFFSET = re.compile(r"[+-](?:(?:0\d|1[0-7]):[0-5]\d|18:00)")
"""Offsets that Java and Arrow both take: up to 18 hours."""
_NO_ZONES = frozenset({"Factory", "localtime"})
"""Files of the time zone database that Java does not know."""


def changes_results(key: str) -> bool:
    """Return whether a Spark setting can change rows: SQL's semantics can, memory and parallelism cannot."""
    return key.startswith("spark.sql.") and not key.startswith(_PERFORMANCE)


def of_the_machine(key: str) -> bool:
    """Return whether a run takes a setting over from where Spark is configured."""
    return not key.startswith("spark.sql.") or key.startswith(_MACHINE)


def loses_rows(key: str, value: str) -> bool:
    """Return whether a setting of a Spark context makes files or rows disappear; a session of it cannot help that."""
    return key in _FORBIDDEN or (key in _FALSE and not _same(value, "false"))


def differs_by_operator(conf: Mapping[str, str]) -> str:
    """Return a setting under which Spark's SQL may give other rows than the operator `direct`; "" when there is none."""
    known = {TIME_ZONE, ANSI, TIMESTAMP_TYPE, *FIXED}
    return next(
        (key for key in sorted(conf) if changes_results(key) and key not in known and not of_the_machine(key)), ""
    )


def setting_errors(loaded: LoadedSpec) -> list[FiresteelError]:
    """Return what `configuration` sets that no run may have."""
    return [
        SpecError(code, what, where=loaded.tree.nearest(("configuration", key)).where, hint=hint)
        for key, value in loaded.spec.configuration.items()
        if not references(value)
        for code, what, hint in _problems(key, value)
    ]


def _problems(key: str, value: str) -> Iterator[tuple[str, str, str]]:
    said = f"configuration.{key} is {value}"
    if key in FIXED:
        if not _same(value, FIXED[key]):
            why = "a run could lose rows or change values"
            yield "FS1022", f"{said}, expected {FIXED[key]}: {why}.", "Remove the setting."
    elif key == TIMESTAMP_TYPE and _same(value, "TIMESTAMP_MILLIS"):
        yield "FS1022", f"{said}: milliseconds lose the digits after the third.", "Use TIMESTAMP_MICROS."
    elif key.startswith(_LEGACY):
        yield (
            "FS1022",
            f"{said}: legacy settings make SQL give other values.",
            "Remove it, and write the SQL for today's rules.",
        )
    elif loses_rows(key, value):
        yield "FS1022", f"{said}: files or rows could disappear.", "Remove the setting."
    elif key == TIME_ZONE and not _is_zone(value):
        hint = "Write an IANA time zone, such as America/New_York, or an offset, such as +02:00."
        yield "FS1004", f"{said}, which is not a time zone.", hint


def _same(value: str, wanted: str) -> bool:
    return value.strip().lower() == wanted.lower()


def _is_zone(name: str) -> bool:
    if _OFFSET.fullmatch(name):
        return True
    if name in _NO_ZONES:
        return False
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True
