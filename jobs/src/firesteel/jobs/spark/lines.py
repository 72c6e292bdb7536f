"""Read files without a schema: CSV, JSON lines and text. A row that cannot be parsed has its raw text in a column of its own."""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from firesteel.conf.formats import DEFAULTS, one_byte_lines
from firesteel.conf.identifiers import quoted
from firesteel.jobs.spark.types import schema_of
from firesteel.pipelines.plan.model import Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, DataFrameReader

    from firesteel.pipelines.plan.model import SourcePlan

RECORD, FILE, POSITION, PARSED = "_record", "_file", "_position", "_parsed"
"""Columns of `read_lines`: the raw text of a row that cannot be parsed, its file, and a number that grows within a file."""
_TIMESTAMP = re.compile(r"\btimestamp\b(?!:)")
"""The type in the text of a type, not a field of that name."""
_FIXED = {
    "mode": "PERMISSIVE",
    "enableDateTimeParsingFallback": "false",
    # Otherwise a row counts as parsed if the columns that cannot be parsed are not read.
    "columnPruning": "false",
    # Compare the header with the declared columns.
    "enforceSchema": "false",
}


def helpers(source: SourcePlan) -> dict[str, str]:
    """Return the names of the columns that `read_lines` adds, with more underscores where the data has such columns."""
    taken = {column.name.lower() for column in (*source.file_columns, *source.partitions)}
    names = {}
    for name in (RECORD, FILE, POSITION, PARSED):
        free = name
        while free in taken:
            free += "_"
        names[name] = free
    return names


def read_lines(source: SourcePlan, reader: DataFrameReader, paths: list[str]) -> DataFrame:
    """Return the rows of a source's files: the declared columns, the partitions, and the columns RECORD, FILE and POSITION.

    Parameters
    ----------
    reader
        A reader with the options for the paths.
    """
    from pyspark.sql import functions as F  # noqa: N812

    names = helpers(source)
    record = names[RECORD]
    options = {
        **_FIXED,
        "columnNameOfCorruptRecord": record,
        **DEFAULTS.get(source.format, {}),
        **dict(source.options),
    }
    in_files = (
        (*source.file_columns, Column(record, "string")) if source.format == "csv" else (Column(record, "string"),)
    )
    if source.format != "csv":
        options = {key: value for key, value in options.items() if key == "lineSep"}
    schema = schema_of((*in_files, *source.partitions))
    frame = reader.format("csv" if source.format == "csv" else "text").schema(schema).options(**options).load(paths)
    frame = frame.select(
        *(frame[quoted(name)] for name in schema.names),
        _path(frame).alias(names[FILE]),
        F.monotonically_increasing_id().alias(names[POSITION]),
    )
    if source.format == "text":
        text = frame[record]
        frame = frame.withColumn("value", text).withColumn(
            record, F.when(~F.is_valid_utf8(text), F.make_valid_utf8(text))
        )
    if source.format == "json":
        frame = _parsed(source, frame.where(frame[record].rlike(r"\S")), names)
    added = (record, names[FILE], names[POSITION])
    return frame.select(*(quoted(column.name) for column in (*source.file_columns, *source.partitions)), *added)


def _path(frame: DataFrame) -> SparkColumn:
    """Return the URI of the file of each row, without the encoding of a URL. In this, `+` stands for itself."""
    from pyspark.sql import functions as F  # noqa: N812

    path = F.url_decode(F.replace(frame.metadataColumn("_metadata")["file_path"], F.lit("+"), F.lit("%2B")))
    return F.regexp_replace(path, "^file:/(?!/)", "file:///")  # some readers write `file:/`


def parsed_rows(source: SourcePlan, frame: DataFrame) -> DataFrame:
    """Return the rows of `read_lines` that can be parsed, with the columns of the source's view."""
    from pyspark.sql import functions as F  # noqa: N812

    columns = [quoted(column.name) for column in (*source.columns, *source.partitions)]
    return frame.where(F.isnull(quoted(helpers(source)[RECORD]))).select(*columns)


def unclosed_quotes(source: SourcePlan, reader: DataFrameReader, paths: list[str]) -> DataFrame | None:
    """Return the columns FILE and RECORD of text with a quote that is not closed; None if the files cannot have such text.

    Spark closes the quote at the end of the line, or with `multiLine` at the end of the file. It then reads a part of a row, or
    several rows, as one value. With `multiLine`, a file has an unclosed quote if its number of quotes is odd.

    Parameters
    ----------
    reader
        A reader with the options for the paths.
    """
    from pyspark.sql import functions as F  # noqa: N812

    options = {**DEFAULTS.get(source.format, {}), **dict(source.options)}
    quote, escape = options.get("quote", '"'), options["escape"] if source.format == "csv" else ""
    if source.format != "csv" or len(quote) != 1 or not one_byte_lines(options):
        return None
    names = helpers(source)
    separator = {key: value for key, value in options.items() if key == "lineSep"}
    frame = reader.format("text").schema("value string").options(**separator).load(paths)
    frame = frame.select(F.col("value"), _path(frame).alias(names[FILE]))
    frame = frame.where(F.contains("value", F.lit(quote)))
    if comment := options.get("comment"):
        frame = frame.where(~F.startswith("value", F.lit(comment)))
    if options.get("multiLine", "false").lower() == "true":
        value = F.col("value")
        if escape != quote:
            value = F.replace(F.replace(value, F.lit(escape * 2), F.lit("")), F.lit(escape + quote), F.lit(""))
        quotes = F.length(value) - F.length(F.replace(value, F.lit(quote), F.lit("")))
        files = frame.groupBy(names[FILE]).agg(
            (F.sum(quotes) % 2).alias("odd"), F.max_by("value", quotes % 2).alias(names[RECORD])
        )
        return files.where("odd = 1").select(names[FILE], names[RECORD])
    # A field that is added to the line belongs to the value of a quote that is still open.
    delimiter = options.get("sep", options.get("delimiter", ","))
    added = delimiter.replace("\\t", "\t") + "\x01end"
    fields = [f"c{number}" for number in range(len(source.file_columns) + 1)]
    others = {"header", "lineSep", "encoding", "maxColumns", "maxCharsPerColumn"}
    parsing = {key: value for key, value in options.items() if key not in others}
    schema = ", ".join(f"{name} STRING" for name in fields)
    line = F.concat("value", F.lit(added))
    frame = frame.withColumn("parsed", F.from_csv(line, schema, {**parsing, "mode": "PERMISSIVE"}))
    ends = [F.coalesce(F.endswith(F.col("parsed")[name], F.lit(added)), F.lit(False)) for name in fields]
    return frame.where(reduce(or_, ends)).select(names[FILE], F.col("value").alias(names[RECORD]))


def _parsed(source: SourcePlan, frame: DataFrame, names: Mapping[str, str]) -> DataFrame:
    """Return the columns of JSON lines. RECORD is null if a line is one object with values of the declared types.

    Spark parses the first value of a text and ignores the rest. Each line is therefore parsed within an object that ends after it.
    """
    from pyspark.sql import functions as F  # noqa: N812
    from pyspark.sql.types import ArrayType, IntegerType, StringType, StructType

    # Spark reads 200 as the tinyint -56.
    kinds = {column.name: "smallint" if column.type == "tinyint" else column.type for column in source.file_columns}
    row = schema_of(Column(name, kind) for name, kind in kinds.items())
    schema = StructType().add("rows", ArrayType(row)).add("end", IntegerType()).add(names[RECORD], StringType())
    options = {**_FIXED, "columnNameOfCorruptRecord": names[RECORD], **DEFAULTS["json"], **dict(source.options)}
    text = frame[names[RECORD]]
    whole = F.concat(F.lit('{"rows":['), text, F.lit('],"end":1}'))
    # A column of its own: Spark parses a line once, whatever number of its values is used.
    frame = frame.withColumn(names[PARSED], F.from_json(whole, schema, options))
    parsed, text = frame[names[PARSED]], frame[names[RECORD]]
    value = parsed["rows"][0]
    good = F.is_valid_utf8(text) & parsed[names[RECORD]].isNull() & parsed["end"].isNotNull() & value.isNotNull()
    good &= F.size(parsed["rows"]) == 1
    times = [
        Column(column.name, _TIMESTAMP.sub("date", column.type))
        for column in source.file_columns
        if _TIMESTAMP.search(column.type)
    ]
    if times:
        # Spark reads a number as a timestamp in seconds, but never as a date. A date has the format of a timestamp here.
        formats = {"dateFormat": options["timestampFormat"]}
        only = (
            StructType()
            .add("rows", ArrayType(schema_of(times)))
            .add("end", IntegerType())
            .add(names[RECORD], StringType())
        )
        good &= F.from_json(whole, only, {**options, **formats})[names[RECORD]].isNull()
    columns = {}
    for column in source.file_columns:
        columns[column.name] = value[column.name]
        if column.type == "tinyint":
            good &= F.coalesce(value[column.name].between(-128, 127), F.lit(True))
            columns[column.name] = value[column.name].try_cast("tinyint")
    return frame.select(
        *(value.alias(name) for name, value in columns.items()),
        *(frame[quoted(column.name)] for column in source.partitions),
        F.when(~F.coalesce(good, F.lit(False)), F.make_valid_utf8(text)).alias(names[RECORD]),
        frame[names[FILE]],
        frame[names[POSITION]],
    )
