"""Read what is published in a sink."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import StorageError
from firesteel.conf.formats import format_of
from firesteel.conf.redaction import scrubbed
from firesteel.pipelines.plan.model import SinkPlan
from firesteel.pipelines.read import current_files
from firesteel.pipelines.sql.select import UNKNOWN

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@scrubbed
def read(
    spark: SparkSession,
    sink: str | os.PathLike[str] | SinkPlan,
    intervals: Sequence[str] = (),
    *,
    timeout_s: float = 60.0,
    refuse_suspect: bool = False,
) -> DataFrame:
    """Return the published rows of a sink: of each interval its current version, all of it or an error.

    The files are those that the ledger names, never those of a listing. An interval that is being published is waited for, so a swap
    is never seen half done. A failed or cancelled run leaves no trace, and an interval that was rolled back has its earlier rows.

    Parameters
    ----------
    spark : SparkSession
        The session that reads.
    sink : str, os.PathLike or SinkPlan
        The sink's URI (``hdfs://nn:8020/ml/scores``) or local path, or ``pipeline.sinks[NAME]``. With a path, Spark infers the types of
        partition columns from their values: ``007`` becomes 7. A sink of a pipeline has the types of the spec.
    intervals : sequence of str, optional
        The intervals to read, such as ``2013-06-01``; by default all that were ever published.
    timeout_s : float, optional
        How long to wait for an interval that is being published, in seconds.
    refuse_suspect : bool, optional
        Raise an error for an interval whose published rows fail gates that were changed after the publish.

    Returns
    -------
    DataFrame
        One row for each published row: the columns of the files, then the partition columns. It reads the version that was current
        when this function returned. If a later run replaces that version, an action on the frame fails and never mixes the two.

    Raises
    ------
    GateFailed
        FS7006 if an interval is suspect and `refuse_suspect` is true.
    StorageError
        FS8003 if nothing is published there. FS8011 if an interval is not complete within `timeout_s`.

    Examples
    --------
    >>> pipeline = firesteel.Pipeline.load("pipeline.yaml")
    >>> scores = firesteel.read(spark, pipeline.sinks["scores"])
    >>> scores.columns
    ['flight_id', 'p_delay', '_run_id', '_model_version', '_plan_hash', 'dt', 'origin']
    >>> firesteel.read(spark, pipeline.sinks["scores"].path, ["2013-06-01"]).select("dt").distinct().collect()
    [Row(dt=datetime.date(2013, 6, 1))]
    """
    from firesteel.jobs.spark.lower import BY_NAME
    from firesteel.jobs.spark.types import schema_of

    columns = sink.columns if isinstance(sink, SinkPlan) else ()
    uri = _uri(sink.path if isinstance(sink, SinkPlan) else os.fspath(sink))
    files = current_files(uri, intervals, timeout_s=timeout_s, refuse_suspect=refuse_suspect)
    schema = None
    if columns and all(column.type != UNKNOWN for column in columns):
        schema = schema_of(columns)
        if not files:
            return spark.createDataFrame([], schema)
    if not files:
        hint = "Declare `contract.columns`" if columns else "Pass a sink of a pipeline"
        raise StorageError("FS8003", f"{uri} has no published rows.", hint=f"{hint} to get an empty DataFrame.")

    def load(format_: str) -> DataFrame:
        reader = spark.read.format(format_).option("basePath", uri).option(*BY_NAME)
        # Intervals may be published by different versions of a spec: one file does not have the columns of all.
        reader = reader.option("mergeSchema", "true") if schema is None else reader.schema(schema)
        return reader.load([file for file in files if format_of(file) == format_])

    # They may have different formats, too.
    frames = [load(format_) for format_ in dict.fromkeys(map(format_of, files))]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)


def _uri(path: str) -> str:
    """Return a local path as a URI; `Path.as_uri` would escape characters that directories really have."""
    return path if "://" in path or path.startswith("file:") else f"file://{Path(path).absolute()}"
