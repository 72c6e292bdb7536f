"""Classify Spark settings: which can change rows, and which a run fixes for all machines and specs.

==========================  ===========================================  ===================================
setting                     in `configuration`                           from the machine or the caller
==========================  ===========================================  ===================================
changes no row              used; not hashed                             used
can change a row            used; hashed                                 ignored: the run uses Spark's default
loses rows, changes values  refused by `validate` (FS1022)               overridden, or refused (FS9042)
==========================  ===========================================  ===================================

A plan's hash therefore covers every setting that can change its rows.
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
"""Spark's default is INT96. Other readers convert it to nanoseconds, and years out of their range may overflow."""

FIXED: Mapping[str, str] = {
    # The analysis reads SQL with these rules.
    "spark.sql.ansi.doubleQuotedIdentifiers": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.parser.quotedRegexColumnNames": "false",
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
    # Otherwise Spark replaces `${env:...}` in SQL with variables of the driver's machine.
    "spark.sql.variable.substitute": "false",
}
"""Settings of every run. Other values lose rows, change values, or make the operators' results differ."""

_FORBIDDEN = (
    "spark.hadoop.mapred.input.pathFilter.class",
    "spark.hadoop.mapreduce.input.pathFilter.class",
    "spark.hadoop.parquet.private.read.filter.predicate",
    "spark.hadoop.parquet.read.bad.record.threshold",
    "spark.hadoop.parquet.read.filter",
    "spark.hadoop.parquet.read.support.class",
)
"""Settings of a Spark context that exclude files or rows. A session cannot override them."""

_FALSE = ("spark.files.ignoreCorruptFiles", "spark.files.ignoreMissingFiles")
"""Settings of a Spark context that lose rows unless they are false."""

_LOCALE = re.compile(r"-Duser\.(?:country|extensions|language|locale|region|script|variant)\b")
_LOCALE_VARIABLES = ("spark.executorEnv.LC_ALL", "spark.executorEnv.LC_MESSAGES")
_NEUTRAL_LOCALE = re.compile(r"(?:C|POSIX|en)(?:[._@].*)?")

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
"""SQL settings that change only the execution."""

_MACHINE = (
    *_PERFORMANCE,
    "spark.sql.artifact.",  # set by PySpark: where workers find files
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
"""SQL settings that a run inherits from spark-defaults.conf, `--conf` or the caller's session."""

_OFFSET = re.compile(r"[+-](?:(?:0\d|1[0-7]):[0-5]\d|18:00)")
"""Offsets that Java and Arrow both accept: up to 18 hours."""
_NO_ZONES = frozenset({"Factory", "localtime"})
"""Entries of the time zone database that Java does not support."""


def changes_results(key: str) -> bool:
    """Return whether a Spark setting can change rows: settings of SQL semantics can, memory and parallelism cannot."""
    return key.startswith("spark.sql.") and not key.startswith(_PERFORMANCE)


def is_inherited(key: str) -> bool:
    """Return whether a run inherits a setting from the machine's Spark configuration."""
    return not key.startswith("spark.sql.") or key.startswith(_MACHINE)


def loses_rows(key: str, value: str) -> bool:
    """Return whether a setting of a Spark context loses files or rows, or changes values. A session cannot override it."""
    return key in _FORBIDDEN or (key in _FALSE and not _same(value, "false")) or sets_language(key, value)


def sets_language(key: str, value: str) -> bool:
    """Return whether a setting gives a JVM another language. Spark's `upper` and `lower` depend on it: in Turkish, `i` becomes `İ`.

    Examples
    --------
    >>> sets_language("spark.executor.extraJavaOptions", "-Duser.language=tr")
    True
    """
    if key in _LOCALE_VARIABLES:
        return _NEUTRAL_LOCALE.fullmatch(value) is None
    return _LOCALE.search(value) is not None


def differs_by_operator(conf: Mapping[str, str]) -> str:
    """Return a setting with which Spark's SQL may return other rows than the `direct` operator; "" if there is none."""
    known = {TIME_ZONE, ANSI, TIMESTAMP_TYPE, *FIXED}
    return next(
        (key for key in sorted(conf) if changes_results(key) and key not in known and not is_inherited(key)), ""
    )


def setting_errors(loaded: LoadedSpec) -> list[FiresteelError]:
    """Return the errors of settings in `configuration` that no run may use."""
    return [
        SpecError(code, what, where=loaded.tree.nearest(("configuration", key)).where, hint=hint)
        for key, value in loaded.spec.configuration.items()
        if not references(value)
        for code, what, hint in _problems(key, value)
    ]


def _problems(key: str, value: str) -> Iterator[tuple[str, str, str]]:
    setting = f"configuration.{key} is {value}"
    if key in FIXED:
        if not _same(value, FIXED[key]):
            why = "with this value a run could lose rows or change values"
            yield "FS1022", f"{setting}, expected {FIXED[key]}; {why}.", "Remove the setting."
    elif key == TIMESTAMP_TYPE and _same(value, "TIMESTAMP_MILLIS"):
        yield "FS1022", f"{setting}; milliseconds lose the digits after the third.", "Use TIMESTAMP_MICROS."
    elif key.startswith(_LEGACY):
        yield (
            "FS1022",
            f"{setting}; legacy settings change the results of SQL.",
            "Remove the setting, and write the SQL for Spark's current rules.",
        )
    elif sets_language(key, value):
        yield "FS1022", f"{setting}; the results of `upper` and `lower` depend on the language.", "Remove the option."
    elif loses_rows(key, value):
        yield "FS1022", f"{setting}; a run could lose files or rows.", "Remove the setting."
    elif key == TIME_ZONE and not _is_zone(value):
        hint = "Write an IANA time zone, such as America/New_York, or an offset, such as +02:00."
        yield "FS1004", f"{setting}, which is not a time zone.", hint


def _same(value: str, other: str) -> bool:
    return value.strip().lower() == other.lower()


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
