"""The data model of a spec: the source of the parser's checks, the JSON Schema and docs/reference/spec.md.

It contains every key of the spec.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from firesteel.conf.formats import LINES, OPTIONS, TITLES, Compression, SinkFormat, SourceFormat, one_byte_lines
from firesteel.conf.quantities import age
from firesteel.conf.secrets import FORM, references
from firesteel.pipelines.spec.date_formats import check_date_format, is_date_format, split_format
from firesteel.pipelines.spec.values import (
    PARAM_TYPES,
    parse_column_type,
    parse_columns,
    parse_duration,
    parse_size,
)

NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _bytes(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _whole_seconds(seconds: float) -> float:
    if seconds % 1:
        raise ValueError(f"{seconds:g} s: Spark needs whole seconds")
    return seconds


def _not_short(seconds: float) -> float:
    if 0 < seconds < 3600:
        raise ValueError(f"{seconds:g} s is shorter than any partition; write a unit, such as 7d")
    return seconds


def _column_type(text: str) -> str:
    if is_date_format(text):
        split_format(text)  # says what is wrong with the format
    parse_column_type(text)
    return text


ColumnTypes = dict[Name, Annotated[str, AfterValidator(_column_type)]]
Seconds = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str | float), Field(ge=0)]
WholeSeconds = Annotated[Seconds, AfterValidator(_whole_seconds)]
Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=str | int), Field(gt=0)]


class Part(BaseModel):
    """A mapping of the spec. Unknown keys are errors; values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Param(Part):
    """A typed value that the user passes as `--param NAME=VALUE`. Params of type `uri` are locations and do not change hashes."""

    type: Literal[PARAM_TYPES] = Field(description="Type of the value.")  # type: ignore[valid-type]
    default: JsonValue = Field(None, description="Value if the user passes none.")
    required: bool = Field(default=False, description="Refuse to run without a value.")
    min: float | None = Field(None, description="Smallest allowed number.")
    max: float | None = Field(None, description="Largest allowed number.")
    choices: tuple[JsonValue, ...] = Field((), description="Allowed values. Default: any value.")
    description: str = ""


class Interval(Part):
    """The intervals of the pipeline. Each interval is published by one transaction."""

    column: Name | None = Field(
        None,
        description="The partition column that holds the interval. Leave it out where several columns do, such as year, month and day.",
    )
    unit: Literal["hour", "day", "month"] = Field("day", description="Length of an interval.")
    begin: str = Field(description="First interval, as an ISO date.")
    timezone: str = Field("UTC", description="IANA time zone of interval boundaries.")
    lookback: int = Field(0, ge=0, description="Number of previous intervals that are planned again.")
    batch_concurrency: int = Field(
        1, ge=1, le=64, description="Intervals that run concurrently in one application, each in its own transaction."
    )

    @field_validator("begin", mode="before")
    @classmethod
    def _text(cls, value: Any) -> str:
        return str(value)


def _date_format(text: str) -> str:
    try:
        check_date_format(text)
    except ValueError as error:
        raise ValueError(f"`{text}` {error}") from None
    return text


DateFormat = Annotated[str, AfterValidator(_date_format)]


def _at_least(value: Any) -> Any:
    """Return a number, or a percentage as text."""
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip()) if isinstance(value, str) else None
    if share and 0 < float(share[1]) <= 100:
        return f"{share[1]}%"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and value.isdecimal() and int(value):
        return int(value)
    raise ValueError(f"expected a number of partitions such as 20, or a share such as 80%, found {value!r}")


class Range(Part):
    """A closed range of interval values: `{from: "${interval.ds} - 1d", to: "${interval.ds}"}`."""

    from_: str = Field(alias="from", description="First value.")
    to: str = Field(description="Last value, inclusive.")
    format: DateFormat | None = Field(
        None,
        description="Format of the values in the directories' names. Default: the format under `partitions`, else ISO 8601.",
    )
    at_least: Annotated[int | str, BeforeValidator(_at_least, json_schema_input_type=int | str)] | None = Field(
        None,
        description="How many partitions of the range must exist, as a number or a share: `20`, `80%`. The interval reads those that "
        "exist. Default: all, or any number with `on_missing: empty`.",
    )

    def needed(self, count: int) -> int:
        """Return how many of `count` partitions must exist."""
        if isinstance(self.at_least, str):
            return math.ceil(count * float(self.at_least.rstrip("%")) / 100)
        return count if self.at_least is None else self.at_least


class Latest(Part):
    """The newest value of a format that has a partition at or before the interval. `select: latest` sets it."""

    latest: Literal[True] = Field(True, description="Marks this choice.")
    format: DateFormat = Field(description="Format of the values in the directories' names, such as %Y%m%d.")


class Formatted(Part):
    """All values of a format that occur in the interval: `{format: "%Y%m%d"}`."""

    format: DateFormat = Field(description="Format of the values in the directories' names, such as %Y%m%d.")


def _select_kind(value: Any) -> str:
    if isinstance(value, Formatted) or (isinstance(value, dict) and {*value} == {"format"}):
        return "format"
    if isinstance(value, Latest) or (isinstance(value, dict) and {*value} == {"format", "latest"}):
        return "latest"
    if isinstance(value, dict | Range):
        return "range"
    return "list" if isinstance(value, list | tuple) else "value"


def _item_text(value: Any) -> Any:
    """Return a partition's value as text, as in the name of its directory."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


SelectItem = Annotated[str, BeforeValidator(_item_text, json_schema_input_type=str | int | float | bool)]
Select = Annotated[
    Annotated[SelectItem, Tag("value")]
    | Annotated[tuple[SelectItem, ...], Tag("list")]
    | Annotated[Range, Tag("range")]
    | Annotated[Formatted, Tag("format")]
    | Annotated[SkipJsonSchema[Latest], Tag("latest")],
    Discriminator(_select_kind),
]
LATEST = "latest"
_WINDOW = frozenset({"from", "to"})
_UNDATED = "_undated"
"""Marks a `select` that needs dates in a source that has none."""
_ISO_DATE = "%Y-%m-%d"


class Ready(Part):
    """When an input partition is complete."""

    marker: str = Field(
        "_SUCCESS",
        pattern=r"^\.?[\w-][\w.-]*$",
        description="Name of the marker file. It is in each directory of the interval column, or of the last column whose "
        "`select` uses the interval.",
    )
    timeout: Seconds = Field(0.0, description="How long a run waits for the marker, in seconds or as 2h.")


class Contract(Part):
    """The schema that the data must have. Every file is checked."""

    mode: Literal["enforce", "additive"] = Field(
        "enforce", description="Both refuse missing columns and other types; `additive` allows additional columns."
    )
    columns: ColumnTypes = Field({}, description="Column -> type. `!` after the type means not null.")


def _or_text(text: dict[str, JsonValue]) -> Callable[[dict[str, Any]], None]:
    """Return a change of a JSON Schema that also allows a text."""

    def extend(schema: dict[str, Any]) -> None:
        kept = {key: schema.pop(key) for key in list(schema) if key not in {"default", "description", "title"}}
        schema["anyOf"] = [kept, {"type": "string", **text}]

    return extend


class _RowLimits(Part):
    max_rows: int | None = Field(None, ge=0, description="Most such rows of an interval. Default: 1000.")
    max_fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest fraction of an interval's rows that may be such rows. Default: 0.5, or 1 if `max_rows` is set.",
    )

    @property
    def rows_allowed(self) -> int:
        """Return the most such rows of an interval."""
        return MAX_ROWS if self.max_rows is None else self.max_rows

    @property
    def fraction_allowed(self) -> float:
        """Return the largest fraction of such rows; 1 if the user sets a limit in rows only."""
        if self.max_fraction is not None:
            return self.max_fraction
        return MAX_FRACTION if self.max_rows is None else 1.0


MAX_ROWS = 1000
MAX_FRACTION = 0.5
"""Default: an interval is not published when more than half of its rows fail."""


class UnparsedRows(_RowLimits):
    """What happens to rows of CSV, JSON and text files that cannot be parsed."""

    action: Literal["fail", "quarantine"] = Field(
        "fail", description="`fail` the run, or write the raw text to the quarantine and continue."
    )


def _option(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


OptionValue = Annotated[str, BeforeValidator(_option, json_schema_input_type=str | int | bool)]


def _schema(value: Any) -> Any:
    return parse_columns(value) if isinstance(value, str) else value


class Source(Part):
    """A data set that the pipeline reads: partitioned, or one folder of files. Partition columns are declared, never inferred."""

    format: SourceFormat = Field(
        "parquet",
        description="Format of the files. `csv` and `json` (one object per line) need a `schema`; `text` has one column, `value`.",
    )
    options: dict[str, OptionValue] = Field(
        {},
        description='Options of Spark\'s reader for CSV, JSON and text, such as `{header: true, delimiter: ";"}`.',
    )
    schema_: Annotated[ColumnTypes, BeforeValidator(_schema, json_schema_input_type=str | dict[str, str])] = Field(
        {},
        alias="schema",
        description="The columns of the files, in their order: column -> type, or text as in SQL, `id BIGINT NOT NULL, price DOUBLE`. "
        "It is another way to write `contract.columns`.",
    )
    on_error: UnparsedRows = Field(UnparsedRows(), description="Action and limits for rows that cannot be parsed.")
    path: str = Field(description="URI of the data set.")
    partitions: ColumnTypes = Field(
        {},
        description='Partition column -> type, in the order of the directories. A format of dates, such as `"%Y%m%d"`, stands for a type '
        "and a `select`: the interval reads the directories whose names are in it. `int %m` sets the type, too. Text such as "
        '`"%Y/%m/%d"` stands for directories without `column=`. Leave it out for a folder of files that each interval reads as a whole.',
        json_schema_extra=_or_text({"pattern": "%"}),
    )
    layout: str | None = Field(
        None, description="Formats of directories without `column=`. `partitions` as text sets it."
    )
    select: dict[Name, Select] = Field(
        {},
        description="The partitions that one interval reads: column -> a value, a list or a range; or `latest`, the newest partition at "
        "or before the interval; or a range over all columns with a format, `{from: ..., to: ...}`. `${interval.NAME}` (id, ds, "
        "ds_nodash, hour, start or end) is resolved for each interval, also with an offset, `${interval.ds - 1d}`, or a format, "
        "`${interval.start:%Y%m%d}`. Needed unless `partitions` has a format or is left out.",
        json_schema_extra=_or_text({"const": LATEST}),
    )
    max_age: Annotated[Seconds, AfterValidator(_not_short)] | None = Field(
        None,
        description="With `select: latest`, the longest time between the end of the partition and the end of the interval, such as 7d.",
    )
    ready: Ready | None = Field(None, description="The marker of complete partitions. Default: no marker is required.")
    on_missing: Literal["fail", "skip", "empty"] = Field(
        "fail",
        description="What happens when a selected partition has no directory: `fail` the run, `skip` the interval, or read it as "
        "`empty`. Applies to every partition level.",
    )
    verify: Literal["modified", "checksum", "sha256"] = Field(
        "modified",
        description="What identifies a file besides its path and length: the time when it was `modified`, the storage's `checksum` (HDFS "
        "computes it; a local file is read and has its SHA-256), or the `sha256` of its bytes on any storage.",
    )
    key: tuple[str, ...] = Field((), description="Columns that identify a row.")
    contract: Contract = Field(Contract(), description="The schema that the data must have.")

    @model_validator(mode="before")
    @classmethod
    def _formats(cls, value: Any) -> Any:
        """Write a format under `partitions` as a type and a `select`, and a `select` of the whole source as one of its columns."""
        if not isinstance(value, dict):
            return value
        declared, select = value.get("partitions", {}), value.get("select")
        with suppress(ValueError):  # `_has_formats` reports it
            if isinstance(declared, str):
                declared, value = levels_of_layout(declared), {**value, "partitions": {}, "layout": declared}
            elif isinstance(value.get("layout"), str) and not declared:
                declared = levels_of_layout(value["layout"])
        if not isinstance(declared, dict):
            return value
        types: dict[str, Any] = dict(declared)
        formats: dict[str, str] = {}
        for column, text in declared.items():
            if isinstance(text, str) and is_date_format(text):
                with suppress(ValueError):  # the column's own check reports it
                    types[column], formats[column] = split_format(text)
        chosen = _selects_by_column(select, types, formats)
        if value.get("partitions"):
            value = {**value, "partitions": types}
        return {**value, "select": chosen} if chosen or select is not None else value

    @field_validator("partitions", mode="before")
    @classmethod
    def _has_formats(cls, value: Any) -> Any:
        return levels_of_layout(value) if isinstance(value, str) else value

    @field_validator("layout")
    @classmethod
    def _is_layout(cls, value: str | None) -> str | None:
        if value is not None:
            levels_of_layout(value)
        return value

    @field_validator("select", mode="before")
    @classmethod
    def _is_known(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a `select` that is not clear. One that needs dates without having them is marked, for `_selects`."""
        partitions = info.data.get("partitions", {})
        if value == LATEST or _is_window(value, partitions):
            return {_UNDATED: LATEST}
        _check_select(value, partitions)
        return value

    @property
    def declared(self) -> dict[str, str]:
        """Return the declared columns of the files -> their types."""
        lines = {"value": "string"} if self.format == "text" else {}
        return self.schema_ or self.contract.columns or lines

    @model_validator(mode="after")
    def _format_needs(self) -> Source:
        if self.schema_ and self.contract.columns:
            raise ValueError("`schema` and `contract.columns` both declare the columns; remove one of them")
        title, allowed = TITLES[self.format], OPTIONS[self.format]
        for option in self.options:
            if option == "compression":
                raise ValueError(
                    "Spark finds the compression by the name of the file (.gz, .bz2, .zst); remove the option"
                )
            if option not in allowed:
                raise ValueError(
                    f"`{option}` is not an option of {title} sources; known: {', '.join(allowed) or 'none'}"
                )
        if self.format not in LINES:
            if "on_error" in self.model_fields_set:
                raise ValueError(f"`on_error` is for CSV, JSON and text; all rows of {title} files can be parsed")
            return self
        self._check_encoding()
        if not self.declared:
            raise ValueError(f"{title} files have no types; declare the columns in `schema`")
        for column, text in self.declared.items():
            kind = parse_column_type(text)[0]
            if self.format == "text" and (column, kind) != ("value", "string"):
                raise ValueError(f"text files have one column, `value: string`; found `{column}: {kind}`")
            if self.format == "csv" and (kind == "binary" or "<" in kind):
                raise ValueError(f"column `{column}` is {kind}, which CSV files cannot hold; declare a string")
            if self.format == "json" and kind != "tinyint" and "tinyint" in kind:
                raise ValueError(
                    f"column `{column}` has a nested tinyint, which Spark's JSON reader wraps around; declare smallint"
                )
        return self

    def _check_encoding(self) -> None:
        encoding = self.options.get("encoding")
        try:
            usable = one_byte_lines(self.options) or self.options.get("multiLine", "").lower() == "true"
        except LookupError:
            raise ValueError(f"`encoding: {encoding}` is unknown; write a name such as UTF-8 or ISO-8859-1") from None
        if not usable:
            raise ValueError(f"`encoding: {encoding}` needs `multiLine: true`: Spark splits lines at bytes of ASCII")

    @model_validator(mode="after")
    def _selects(self) -> Source:
        choices = self.select.values()
        if self.layout is not None and self.partitions:
            raise ValueError("a source has `partitions` with names, or `layout`, not both")
        undated = next((column for column, choice in self.select.items() if choice == LATEST), None)
        if undated is not None:
            column, literal = (
                ("dt", "") if undated == _UNDATED else (undated, f", or `{undated}: [latest]` for its name")
            )
            raise ValueError(
                f"`select` needs a format of dates under `partitions`, such as `{column}: string %Y%m%d`{literal}"
            )
        if self.levels and "select" not in self.model_fields_set:
            raise ValueError(
                "with `partitions`, a source needs `select`, or a format of dates such as `%Y%m%d` under `partitions`"
            )
        if self.select and not self.levels:
            raise ValueError(
                "`select` needs `partitions`. Declare the partition columns, or leave out `select` to read all files"
            )
        if self.max_age is not None and not any(isinstance(choice, Latest) for choice in choices):
            raise ValueError("`max_age` needs `select: latest`")
        if self.on_missing == "empty" and any(isinstance(choice, Range) and choice.at_least for choice in choices):
            raise ValueError(
                "`at_least` has no effect with `on_missing: empty`, which accepts any number of partitions"
            )
        return self

    @property
    def reads(self) -> str:
        """Return a phrase for what an interval reads; empty for its own partitions."""
        if not self.levels:
            return "all files, in each interval"
        if any(isinstance(choice, Latest) for choice in self.select.values()):
            limit = "" if self.max_age is None else f", at most {age(self.max_age)} old"
            return f"the newest partition at or before the interval{limit}"
        windows = [choice for choice in self.select.values() if isinstance(choice, Range)]
        if windows:
            fewest = "" if windows[0].at_least is None else f", at least {windows[0].at_least} of them"
            return f"the partitions from {windows[0].from_} to {windows[0].to}{fewest}"
        return ""

    @property
    def levels(self) -> dict[str, str]:
        """Return partition column -> type, in the order of the directories. Levels without `column=` have names of their own."""
        if self.layout is None:
            return self.partitions
        return {name: split_format(text)[0] for name, text in levels_of_layout(self.layout).items()}


def levels_of_layout(layout: str) -> dict[str, str]:
    """Return level -> format of directories without `column=`.

    Raise ValueError, with a phrase, when a level has no format of dates.

    Examples
    --------
    >>> levels_of_layout("%Y/%m")
    {'_level_1': '%Y', '_level_2': '%m'}
    """
    if not is_date_format(layout):
        raise ValueError(
            f"`partitions: {layout}` has no format of dates such as `%Y/%m/%d`. Leave out `partitions` to read all files of a folder"
        )
    if "=" in layout:
        raise ValueError(
            f'`partitions: {layout}` has names of columns. Write a mapping, such as `{{year: "%Y", month: "%m"}}` for year=2024/month=06'
        )
    levels = {f"_level_{number}": text for number, text in enumerate(layout.strip("/").split("/"), start=1)}
    for text in levels.values():
        if not text:
            raise ValueError(f"`partitions: {layout}` has an empty level")
        _date_format(text)
    return levels


def _is_window(select: Any, partitions: Mapping[str, Any]) -> bool:
    """Return whether a source's `select` is a range over all columns with dates."""
    return isinstance(select, dict) and select.keys() >= _WINDOW and not _WINDOW & partitions.keys()


def _check_select(select: Any, partitions: Mapping[str, Any]) -> None:
    """Raise ValueError, with a phrase, for a `select` that means the newest partition or a range, and does not say it."""
    if not isinstance(select, dict):
        found = f", found {select!r}" if isinstance(select, str | int | float | bool) else ""
        raise ValueError(f"expected `latest`, or a mapping such as `{{COLUMN: VALUE}}`{found}")  # noqa: TRY004 - pydantic reports ValueError
    keys = select.keys() - partitions.keys()
    if LATEST in keys:
        raise ValueError("write `select: latest`, and `max_age` beside it")
    if _WINDOW & keys:
        raise ValueError("a range needs both `from` and `to`")
    for column, chosen in select.items():
        if isinstance(chosen, dict) and LATEST in chosen and not chosen.keys() <= {LATEST, "format"}:
            raise ValueError(f"write `{column}: latest`, and `max_age` beside `select`")


def _selects_by_column(select: Any, types: dict[str, Any], formats: dict[str, str]) -> Any:
    """Return a source's `select` by column: `latest` and a range of the source apply to all columns with dates.

    A `select` that cannot be read so is returned as it is.
    """
    dates = [column for column, kind in types.items() if column not in formats and kind in ("date", "date!")]
    dated = formats | dict.fromkeys(dates, _ISO_DATE)
    window = _is_window(select, types)
    if dated and (select == LATEST or window):
        return {
            column: {**(select if window else {LATEST: True}), "format": format_} for column, format_ in dated.items()
        }
    chosen: Any = {} if select is None else select
    if not isinstance(chosen, dict) or window:
        return chosen
    newest = [column for column in dated if chosen.get(column) == LATEST]
    default = {LATEST: True} if newest else {}
    for column in newest:
        chosen = {**chosen, column: {LATEST: True, "format": dated[column]}}
    for column, format_ in formats.items():
        own = chosen.get(column, default)
        chosen = {**chosen, column: {"format": format_, **own} if isinstance(own, dict) else own}
    return chosen


class Trust(Part):
    """The model formats that may be loaded. firesteel loads them itself, except `pickle`, which lets MLflow run the model's code."""

    formats: tuple[Literal["skops", "onnx", "lightgbm", "xgboost", "pickle", "unknown"], ...] = Field(
        ("skops", "onnx"),
        min_length=1,
        description="Trusted formats. `pickle` stands for every model that needs its own code to be loaded. `unknown` is accepted and "
        "trusts nothing: a model in another format needs `pickle`.",
    )
    skops_types: tuple[str, ...] = Field(
        (), description="Types like `package.module.Class` that a skops file may have besides those that skops trusts."
    )
    max_size: Bytes = Field(16 << 30, description="Largest allowed size of the model's files.")


class Challenger(Part):
    """A second model that scores the same rows in the same scan. The run records how often both agree; scores are published on request."""

    uri: str = Field(description="As for a model.")
    tolerance: float = Field(0.01, ge=0, description="Largest absolute difference of two scores that agree.")


def _challenger(value: Any) -> Any:
    return {"uri": value} if isinstance(value, str) else value


class Model(Part):
    """A registered model. A plan pins an alias to a version and to the digest of the model's files."""

    uri: str = Field(
        description="models:/NAME@ALIAS, models:/NAME/VERSION or a folder. A relative folder starts at the spec's folder."
    )
    method: Literal["predict", "predict_proba"] = Field("predict", description="The model's method that scores.")
    trust: Trust = Field(Trust(), description="The formats that may be loaded.")
    requirements: Literal["enforce", "warn", "ignore"] = Field(
        "enforce",
        description="What a difference between the installed packages and those that the model requires is. `enforce`: a missing package, "
        "or another major version of one that loads the model, is an error; other differences are warnings. `warn`: a warning. "
        "`ignore`: nothing.",
    )
    challenger: Annotated[
        Challenger | None, BeforeValidator(_challenger, json_schema_input_type=str | Challenger | None)
    ] = Field(
        None,
        description="A second model that scores in the same scan: a URI, or a mapping with a tolerance. It uses the model's "
        "`method`, `trust` and `requirements`.",
    )


class Batch(Part):
    """The rows of one call of the model. A batch ends at `rows` or `bytes`, whichever comes first."""

    rows: int = Field(8192, ge=1, description="Most rows in a batch.")
    bytes: Bytes = Field(32 << 20, description="Most bytes in a batch.")


class Workers(Part):
    """The resources of one Python worker. Spark reserves them for every task of the run, also for tasks that do not score."""

    cpus: int = Field(1, ge=1, description="Cores of a task (spark.task.cpus).")
    threads: Literal["auto"] | int = Field("auto", description="Threads of each numerical library; `auto` is `cpus`.")
    gpus: int = Field(0, ge=0, description="GPUs of a task and of an executor, which then runs one task at a time.")
    models_in_memory: int = Field(1, ge=1, description="Most models that a worker caches.")


class RowErrors(_RowLimits):
    """What happens to rows that fail to score."""

    action: Literal["fail", "dead_letter"] = Field(
        "fail", description="`fail` the run, or write the row to the dead letters and continue."
    )
    retries: int = Field(
        0, ge=0, le=10, description="Times that a failed batch, and each failed row of it, is scored again."
    )


class Score(Part):
    """A score step: apply a model to the rows of a relation."""

    input: Name = Field(description="The source or step whose rows are scored.")
    model: Name = Field(description="The model, a name under `models`.")
    features: Literal["signature"] | tuple[str, ...] | dict[str, str] = Field(
        "signature",
        description="The model's input columns: from its signature, a list, or a mapping of column -> SQL expression over the input.",
    )
    keep: tuple[str, ...] = Field((), description="Input columns that are copied to the output.")
    output: dict[Name, str] = Field(description="Column -> `TYPE`, `TYPE from [INDEX]` or `TYPE from COLUMN`.")
    batch: Batch = Field(Batch(), description="Limits of a batch.")
    workers: Workers = Field(Workers(), description="Resources of a Python worker.")
    warmup: Literal["input_example", "none"] = Field(
        "none", description="`input_example` scores the model's input example once after the model is loaded."
    )
    timeout: Seconds | None = Field(None, description="Longest time for one call of the model.")
    on_error: RowErrors = Field(RowErrors(), description="Action and limits for rows that fail to score.")
    operator: Literal["auto", "pandas", "arrow", "direct"] = Field(
        "auto", description="How rows reach the model; `auto` selects the fastest that supports the step."
    )
    accelerate: Literal["auto", "off"] = Field(
        "off", description="`auto` may use a faster inference backend whose scores agree within a tolerance."
    )
    publish_challenger: str | None = Field(
        None,
        pattern=NAME,
        description="Prefix of the challenger's columns: each output is published as PREFIX + OUTPUT, null where the challenger has "
        "no score.",
    )


class SqlStep(Part):
    """A view: one SELECT over sources and other steps, inline or in a file."""

    sql: str | None = Field(None, description="The SELECT.")
    sql_file: str | None = Field(None, description="File with the SELECT, relative to the spec's folder.")
    args: dict[Name, JsonValue] = Field(
        {},
        description="Values of the :markers in the SQL, passed as bound parameters. `${interval.NAME}` in a value is resolved for "
        "each interval, as in `select`. References in the SQL itself are not resolved.",
    )


class ScoreStep(Part):
    """A view that adds the scores of a model."""

    score: Score = Field(description="The model and its input.")


def _step_kind(value: Any) -> str:
    scores = "score" in value if isinstance(value, dict) else isinstance(value, ScoreStep)
    return "score-step" if scores else "sql-step"


Step = Annotated[
    Annotated[SqlStep, Tag("sql-step")] | Annotated[ScoreStep, Tag("score-step")], Discriminator(_step_kind)
]


class Expect(BaseModel):
    """An expectation of Great Expectations: its type and arguments, a severity, and the action on failure."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="Type of the expectation, such as expect_column_values_to_not_be_null.")
    severity: Literal["critical", "warning"] = Field(
        "critical", description="A failed `critical` expectation stops the run; a `warning` is reported."
    )
    on_fail: Literal["fail", "quarantine", "drop", "warn"] | None = Field(
        None,
        description="Action on failure. `fail` and `warn` equal the severities `critical` and `warning`. `quarantine` excludes the "
        "failing rows and stores them with the reason; `drop` excludes them; the run continues with the other rows. Both work "
        "only for expectations on each value of a column, on relations before the score. `mostly` is the fraction of rows that "
        "must pass.",
    )

    @property
    def excludes_rows(self) -> bool:
        """Return whether failing rows are excluded from scoring."""
        return self.on_fail in {"quarantine", "drop"}

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the expectation's own arguments."""
        return self.model_extra or {}


class Drift(Part):
    """Compare a column with the last published interval: its distribution, its nulls and its mean. Set at least one limit.

    The bins are ten ranges for numbers, and the twenty most frequent values and the rest for strings and booleans. The first
    published interval fixes them.
    """

    type: Literal["drift"] = Field(description="Marks a drift expectation.")
    column: str = Field(description="The column to compare.")
    against: Literal["last_success"] = Field(
        "last_success", description="The baseline: the latest earlier interval that is published."
    )
    psi_max: float | None = Field(
        None,
        ge=0,
        description="Largest population stability index. Below 0.1 means little change, above 0.25 much change. Default: 0.2 if no "
        "limit is set.",
    )
    null_rate_max_change: float | None = Field(
        None, ge=0, le=1, description="Largest change of the fraction of nulls, in either direction."
    )
    mean_shift_max: float | None = Field(
        None, ge=0, description="Largest shift of the mean of a number, in standard deviations of the baseline."
    )
    rows_min: int = Field(
        500,
        ge=1,
        description="Fewest rows for a comparison, in the baseline and in this interval. Small samples vary by chance.",
    )
    severity: Literal["critical", "warning"] = Field(
        "critical", description="A failed `critical` expectation stops the run; a `warning` is reported."
    )
    on_fail: Literal["fail", "warn"] | None = Field(
        None, description="Other notation of the severity: `fail` is critical, `warn` is warning."
    )
    description: str = ""

    @property
    def excludes_rows(self) -> bool:
        """Return False: drift compares whole columns."""
        return False

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the column and the limits, with the default limit if none is set."""
        arguments = self.model_dump(exclude={"type", "severity", "on_fail", "description"}, exclude_none=True)
        limits = {"psi_max", "null_rate_max_change", "mean_shift_max"}
        return arguments if limits & arguments.keys() else {**arguments, "psi_max": PSI_MAX}


PSI_MAX = 0.2
"""Between the customary limits 0.1 (investigate) and 0.25 (act)."""


def _expect_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "")
    return "drift-gate" if kind == "drift" else "gx-gate"


Expectations = tuple[
    Annotated[Annotated[Drift, Tag("drift-gate")] | Annotated[Expect, Tag("gx-gate")], Discriminator(_expect_kind)],
    ...,
]


class Gate(Part):
    """Expectations on a source, a step, or the staged files of a sink."""

    on: str = Field(pattern=r"^(sink:)?[A-Za-z_][A-Za-z0-9_]*$", description="A source, a step, or `sink:NAME`.")
    suite: str | None = Field(
        None,
        description="JSON file of a Great Expectations suite, in the spec's folder. Its expectations come before those of `expect`.",
    )
    expect: Expectations = Field((), min_length=1, description="The expectations.")

    @property
    def excludes_rows(self) -> bool:
        """Return whether the gate excludes rows of its relation."""
        return any(expect.excludes_rows for expect in self.expect)

    @model_validator(mode="after")
    def _some(self) -> Gate:
        if not self.expect and self.suite is None:
            raise ValueError("a gate needs expectations: add `expect` or `suite`")
        return self


class Files(Part):
    """Sizes of published files."""

    target_size: Bytes | None = Field(
        None,
        ge=1 << 20,
        description="Target size of a file, such as 128MiB; at least 1MiB. Default: Spark decides. The number of rows per file is "
        "estimated from earlier runs, and for the first run from the size of the rows in a shuffle.",
    )


class Retain(Part):
    """How long a run's data is kept."""

    dead_letter: Seconds | None = Field(
        None,
        description="A run deletes dead letters older than this, such as 30d. Deleted dead letters cannot be replayed.",
    )
    quarantine: Seconds | None = Field(None, description="A run deletes quarantined rows older than this.")
    versions: int = Field(2, ge=0, description="Number of replaced versions that are kept per interval.")


def _column_format(text: str) -> str:
    split_format(text)
    return text


_PARTITION_BY_SCHEMA: dict[str, JsonValue] = {
    "anyOf": [
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {"type": "string", "pattern": NAME},
                    {"type": "object", "additionalProperties": {"type": "string"}},
                ]
            },
        },
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
    ]
}


class Sink(Part):
    """A data set to which the pipeline publishes."""

    from_: Name = Field(alias="from", description="The step whose rows are published.")
    format: SinkFormat = Field("parquet", description="Format of the files. Another format scores all intervals again.")
    compression: Compression | None = Field(
        None, description="Compression codec of the files. Default: `zstd`, or what `configuration` sets."
    )
    path: str = Field(description="URI of the data set.")
    partition_by: tuple[Name, ...] = Field(
        min_length=1,
        description="Partition columns. The first ones hold the interval: unchanged copies of a source's partition columns, or columns "
        'with a format of dates, which firesteel adds: `{year: "%Y", month: "%-m"}`, or in a list `[dt: "%Y%m%d", region]`.',
        json_schema_extra=_PARTITION_BY_SCHEMA,
    )
    formats: dict[Name, Annotated[str, AfterValidator(_column_format)]] = Field(
        {}, description="Partition column -> format of dates. `partition_by` with formats sets it."
    )
    mode: Literal["replace_partitions", "append_once"] = Field(
        "replace_partitions",
        description="`replace_partitions` replaces every planned partition, also with an empty one. `append_once` adds files, and "
        "appends each plan only once, even with `--force`. A changed input or model makes another plan, which appends again.",
    )
    on_empty: Literal["fail", "allow"] = Field(
        "fail",
        description="Whether an interval may publish no rows. `fail` refuses it, with two exceptions: nothing was published before and "
        "the input is missing with `on_missing: empty`, or every row is a dead letter within the limits of `on_error`.",
    )
    min_rows: int | None = Field(
        None, ge=1, description="Fewest rows that an interval may publish, also with `on_empty: allow`."
    )
    files: Files = Field(Files(), description="Target size of published files.")
    lineage_columns: tuple[Literal["_run_id", "_model_version", "_plan_hash", "_scored_at"], ...] = Field(
        (), description="Columns about the run that are added to each row."
    )
    retain: Retain = Field(Retain(), description="How long dead letters, quarantined rows and versions are kept.")

    @model_validator(mode="before")
    @classmethod
    def _partition_formats(cls, value: Any) -> Any:
        """Write the formats in `partition_by` under `formats`."""
        if not isinstance(value, dict):
            return value
        given = value.get("partition_by")
        items = [{name: text} for name, text in given.items()] if isinstance(given, dict) else given
        if not isinstance(items, list | tuple) or not any(isinstance(item, dict) for item in items):
            return value
        formats = {name: text for item in items if isinstance(item, dict) for name, text in item.items()}
        names = tuple(name for item in items for name in (item if isinstance(item, dict) else (item,)))
        return {**value, "partition_by": names, "formats": {**formats, **value.get("formats", {})}}


class Executors(Part):
    """Executors under dynamic allocation: their number, size, timeouts and cost limit.

    A plan proposes the initial and the maximum number from the bytes to read and from earlier runs.
    """

    min: int = Field(0, ge=0, description="Executors that stay allocated when idle.")
    max: int | None = Field(None, ge=1, description="Most executors at the same time. A plan may use a lower limit.")
    initial: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="Executors requested at the start; `auto` uses the plan's proposal."
    )
    cores: int = Field(1, ge=1, description="Cores of an executor.")
    memory: str = Field("1g", pattern=r"^\d+[kmg]$", description="Heap of an executor's JVM.")
    python_memory: str | None = Field(
        None,
        pattern=r"^\d+[kmg]$",
        description="Address space of all Python workers of an executor. Each worker gets an equal part per core.",
    )
    idle_timeout: Literal["auto"] | WholeSeconds = Field(
        "auto",
        description="Time after which an idle executor is released. `auto` is the duration of an executor's start, or slightly more "
        "than the pause between two intervals in earlier runs.",
    )
    backlog_timeout: Literal["auto"] | Annotated[WholeSeconds, Field(ge=1)] = Field(
        "auto",
        description="How long tasks wait before Spark requests 1 executor, then 2, 4, 8 and so on. `auto` is 1s.",
    )
    utilisation: float | None = Field(
        None,
        ge=0.1,
        le=0.95,
        description="Smallest fraction of an executor's time that is spent on tasks. The plan requests fewer executors to reach it.",
    )
    max_executor_hours: float | None = Field(
        None,
        gt=0,
        description="Most executor-hours of a run. A plan that would need more, estimated from earlier runs, is refused. A run that "
        "reaches the limit is stopped; published intervals stay, and the next run continues with the others.",
    )
    decommission: bool = Field(
        True,
        description="Migrate shuffle and cached blocks before releasing an idle executor. If off, an executor with blocks is not "
        "released.",
    )


class Speculation(Part):
    """Start a second attempt of a task that takes much longer than the others; the first attempt to finish counts."""

    quantile: float = Field(0.9, gt=0, lt=1, description="Fraction of a stage's tasks that must finish first.")
    multiplier: float = Field(3.0, gt=1, description="How many times the median duration a task may take.")
    min_runtime: Seconds = Field(
        30.0, description="Shortest runtime before a second attempt. The first task of a worker also loads the model."
    )


class Shuffle(Part):
    """The shuffle: Spark's own, or firesteel's shuffle service on the nodes, which allows Spark to release executors."""

    manager: Literal["sort", "rdma"] = Field("sort", description="`sort` is Spark's own, `rdma` the shuffle service.")
    fallback: Literal["sort", "fail"] = Field(
        "sort", description="What happens when the shuffle service is not available."
    )


class Resources(Part):
    """Resources of the Spark application. They do not change hashes."""

    master: str = Field("local[*]", description="Spark master URL.")
    queue: str | None = Field(None, description="YARN queue.")
    executors: Executors | None = Field(None, description="Executors under dynamic allocation.")
    shuffle: Shuffle = Field(Shuffle(), description="The shuffle.")
    speculation: Speculation | None = Field(None, description="Second attempts of slow tasks. Default: off.")

    @property
    def local_cores(self) -> int | None:
        """Return the cores of a local master, 0 for all cores of the machine, None for a cluster."""
        local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", self.master)
        if not local:
            return None
        return int(local[1]) if local[1] and local[1].isdigit() else 0 if local[1] == "*" else 1


class Kerberos(Part):
    """The run's identity on a cluster with Kerberos."""

    principal: str = Field(min_length=1, description="Principal, such as ml@EXAMPLE.ORG.")
    keytab: str = Field(pattern="^/", description="Path of the keytab on the driver.")


class Security(Part):
    """Authentication and encryption of Spark; see docs/concepts/security.md. It does not change hashes."""

    mode: Literal["strict", "none"] = Field(
        "strict",
        description="`strict`: Spark authenticates every connection, encrypts network traffic and local disks, and shows no UI without "
        "`ui_key`. Servers in the spec must use TLS.",
    )
    secret: str | None = Field(
        None,
        description="`${secret:SCOPE/KEY}`: the shared secret of a standalone cluster. Other masters create a secret for each run.",
    )
    ui_key: str | None = Field(
        None,
        description="`${secret:SCOPE/KEY}`: base64url of at least 32 bytes. A JWT signed with this key gives access to Spark's UI.",
    )
    signing_key: str | None = Field(
        None,
        description="`${secret:SCOPE/KEY}`: an Ed25519 private key in PEM, which signs the audit log, journals and plan files; "
        "see docs/how-to/sign.md. It is used with `mode: none` too.",
    )
    kerberos: Kerberos | None = Field(None, description="Kerberos identity.")

    @field_validator("secret", "ui_key", "signing_key")
    @classmethod
    def _hidden(cls, value: str | None) -> str | None:
        if value is not None and not references(value):
            raise ValueError(f"a spec must not contain a secret; write {FORM}")
        return value

    @property
    def strict(self) -> bool:
        """Return whether security is on."""
        return self.mode == "strict"


class Mlflow(Part):
    """The MLflow server that records runs and resolves models."""

    uri: str = Field("", description="Tracking URI. Default: MLflow's own default.")
    experiment: str = Field("", description="Experiment of the runs. Default: `firesteel/NAME`.")
    required: bool = Field(
        default=True,
        description="Refuse to run when MLflow cannot be reached. If off, the record is kept in `storage` and sent later; models with "
        "a `models:/` URI still need MLflow.",
    )


class _Lineage(Part):
    """Keys that all transports of lineage share."""

    transport: Literal["file", "http"] = Field("file", description="Where events are sent.")
    namespace: str = Field(
        "",
        description="Namespace of the jobs in the events. Default: `firesteel`, or `firesteel.PROFILE` with a profile.",
    )
    timeout: Seconds = Field(
        5.0,
        gt=0,
        le=300,
        description="Limit for sending one event, and for sending the remaining events at the end of a run.",
    )
    required: bool = Field(
        default=False,
        description="Refuse to run when the first event cannot be sent. If off, lineage never stops a run.",
    )


class FileLineage(_Lineage):
    """Lineage events in files of JSON lines, one file per run."""

    path: str = Field(description="URI of the folder.")

    @field_validator("path")
    @classmethod
    def _public(cls, value: str) -> str:
        if references(value):
            raise ValueError("a path must not contain a secret: it is published with the run's record")
        return value


class HttpLineage(_Lineage):
    """Lineage events sent to a server, such as Marquez."""

    url: str = Field(pattern=r"^https?://.", description="URL of the server.")
    endpoint: str = Field("api/v1/lineage", description="Path of the events endpoint, relative to the URL.")
    auth: str | None = Field(None, description="A bearer token: `${secret:SCOPE/KEY}`.")
    ca: str | None = Field(
        None, description="File of CA certificates on the driver. Default: the system's certificates."
    )

    @field_validator("auth")
    @classmethod
    def _hidden(cls, value: str | None) -> str | None:
        if value is not None and not references(value):
            raise ValueError(f"a spec must not contain a token; write {FORM}")
        return value


def _lineage_kind(value: Any) -> str:
    transport = value.get("transport") if isinstance(value, dict) else getattr(value, "transport", None)
    return "http-lineage" if transport == "http" else "file-lineage"


OpenLineage = Annotated[
    Annotated[FileLineage, Tag("file-lineage")] | Annotated[HttpLineage, Tag("http-lineage")],
    Discriminator(_lineage_kind),
]


class Tracking(Part):
    """Servers that record runs, in addition to `storage`."""

    mlflow: Mlflow = Field(Mlflow(), description="MLflow.")
    openlineage: OpenLineage | None = Field(None, description="OpenLineage events. Default: none.")


class Spec(Part):
    """A pipeline."""

    spec_version: Literal[1] = Field(description="Version of the spec's format.")
    name: Name = Field(description="Name of the pipeline.")
    owner: str = Field("", description="Team or person.")
    description: str = ""
    storage: str = Field(description="URI of the state store: ledger, leases, staging, journals and dead letters.")
    params: dict[Name, Param] = Field({}, description="Values that the user passes: NAME -> [Param](#param).")
    interval: Interval = Field(description="The intervals of the pipeline.")
    sources: dict[Name, Source] = Field(min_length=1, description="Data sets to read: NAME -> [Source](#source).")
    models: dict[Name, Model] = Field({}, description="Models: NAME -> [Model](#model).")
    steps: dict[Name, Step] = Field(
        min_length=1, description="Views: NAME -> [SqlStep](#sqlstep) or [ScoreStep](#scorestep)."
    )
    gates: dict[Name, Gate] = Field({}, description="Checks of the data: NAME -> [Gate](#gate).")
    sinks: dict[Name, Sink] = Field(min_length=1, description="Data sets to publish: NAME -> [Sink](#sink).")
    resources: Resources = Field(Resources(), description="Resources of the Spark application.")
    security: Security = Field(Security(mode="none"), description="Authentication and encryption. Default: off.")
    configuration: dict[str, str] = Field({}, description="Spark settings, applied after all others.")
    tracking: Tracking = Field(Tracking(), description="Servers that record runs.")
    profiles: dict[Name, dict[str, JsonValue]] = Field(
        {}, description="NAME -> keys of the spec that `--profile NAME` overrides."
    )

    @property
    def workers(self) -> Workers:
        """Return the resources of a task, from the score step."""
        return next((step.score.workers for step in self.steps.values() if isinstance(step, ScoreStep)), Workers())
