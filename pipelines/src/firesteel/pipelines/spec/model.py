"""The model of a spec: the one source of the parser's checks, the JSON Schema and the reference.

Every key of the language is here, and each is supported.
"""

from __future__ import annotations

import re
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
    field_validator,
    model_validator,
)

from firesteel.conf.secrets import FORM, references
from firesteel.pipelines.spec.values import PARAM_TYPES, parse_column_type, parse_duration, parse_size

NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _bytes(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _whole(seconds: float) -> float:
    if seconds % 1:
        raise ValueError(f"{seconds:g} s: Spark counts it in whole seconds")
    return seconds


def _column_type(text: str) -> str:
    parse_column_type(text)
    return text


ColumnTypes = dict[Name, Annotated[str, AfterValidator(_column_type)]]
Seconds = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str | float), Field(ge=0)]
WholeSeconds = Annotated[Seconds, AfterValidator(_whole)]
Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=str | int), Field(gt=0)]


class Part(BaseModel):
    """Any mapping of the spec: unknown keys are errors, values are never changed after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Param(Part):
    """A typed value from outside: `--param NAME=VALUE`. Params of type `uri` are locations: they leave hashes alone."""

    type: Literal[PARAM_TYPES] = Field(description="Type of the value.")  # type: ignore[valid-type]
    default: JsonValue = Field(None, description="Value when none is given.")
    required: bool = Field(default=False, description="Refuse to run without a value.")
    min: float | None = Field(None, description="Smallest number allowed.")
    max: float | None = Field(None, description="Largest number allowed.")
    choices: tuple[JsonValue, ...] = Field((), description="The only values allowed.")
    description: str = ""


class Interval(Part):
    """How time is cut: one run of the transaction per interval."""

    column: Name = Field(description="The partition column that holds the interval.")
    unit: Literal["hour", "day", "month"] = "day"
    begin: str = Field(description="First interval, an ISO date.")
    timezone: str = Field("UTC", description="IANA time zone of interval boundaries.")
    lookback: int = Field(0, ge=0, description="Intervals before the one asked for that are planned again.")
    batch_concurrency: int = Field(
        1, ge=1, le=64, description="Intervals in flight at once in one application, each a transaction of its own."
    )

    @field_validator("begin", mode="before")
    @classmethod
    def _text(cls, value: Any) -> str:
        return str(value)


class Range(Part):
    """A closed range of interval values: `{from: "${interval.ds} - 1d", to: "${interval.ds}"}`."""

    from_: str = Field(alias="from")
    to: str


def _select_kind(value: Any) -> str:
    if isinstance(value, dict | Range):
        return "range"
    return "list" if isinstance(value, list | tuple) else "value"


def _item_text(value: Any) -> Any:
    """A partition's value as its directory is named: by text, whatever YAML reads in it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


SelectItem = Annotated[str, BeforeValidator(_item_text, json_schema_input_type=str | int | float | bool)]
Select = Annotated[
    Annotated[SelectItem, Tag("value")]
    | Annotated[tuple[SelectItem, ...], Tag("list")]
    | Annotated[Range, Tag("range")],
    Discriminator(_select_kind),
]


class Ready(Part):
    """When an input partition counts as complete."""

    marker: str = Field(
        "_SUCCESS",
        pattern=r"^\.?[\w-][\w.-]*$",
        description="A file in each directory of the interval column, or of the last column whose `select` names the interval.",
    )
    timeout: Seconds = Field(0.0, description="How long a run waits for it, in seconds or as 2h.")


class Contract(Part):
    """What the data promises. `enforce` refuses columns of other types and missing ones; `additive` allows more columns. Every file is checked."""

    mode: Literal["enforce", "additive"] = "enforce"
    columns: ColumnTypes = Field({}, description="Column -> type; `!` after the type means not null.")


class Source(Part):
    """A partitioned data set to read. Partitions are declared, never inferred."""

    format: Literal["parquet"] = "parquet"
    path: str = Field(description="URI of the data set.")
    partitions: ColumnTypes = Field(description="Partition column -> type, in the order of the path.")
    select: dict[Name, Select] = Field(
        description="Which partitions one interval reads: a value, a list or a range of a column. `${interval.NAME}` (id, ds, hour, "
        "start or end) is filled for each interval, also with a step: `${interval.ds} - 1d`."
    )
    ready: Ready | None = None
    on_missing: Literal["fail", "skip", "empty"] = Field(
        "fail", description="What a selected value without a directory means, at every partition level."
    )
    key: tuple[str, ...] = Field((), description="Columns that identify a row.")
    contract: Contract = Contract()


class Trust(Part):
    """Which model formats may be loaded, decided here and never by the model. Pickle runs code when it is loaded."""

    formats: tuple[Literal["skops", "onnx", "lightgbm", "xgboost", "pickle", "unknown"], ...] = Field(
        ("skops", "onnx"), min_length=1
    )
    max_size: Bytes | None = None


class Challenger(Part):
    """A second model that scores the same rows in the same scan. How far it agrees is recorded; its scores are published on request."""

    uri: str = Field(description="As the model's own.")
    tolerance: float = Field(0.01, ge=0, description="Two numbers agree whose absolute difference is at most this.")


def _challenger(value: Any) -> Any:
    return {"uri": value} if isinstance(value, str) else value


class Model(Part):
    """A registered model. An alias is resolved to a version and the digest of its bytes when the plan is made."""

    uri: str = Field(
        description="models:/NAME@ALIAS, models:/NAME/VERSION or a folder; a relative one starts at the spec's folder."
    )
    method: Literal["predict", "predict_proba"] = "predict"
    trust: Trust = Trust()
    challenger: Annotated[
        Challenger | None, BeforeValidator(_challenger, json_schema_input_type=str | Challenger | None)
    ] = Field(
        None,
        description="A second model that is scored in the same scan, by its URI or with a tolerance, too. Method and trust are the model's.",
    )


class Batch(Part):
    """A batch ends at `rows` or `bytes`, whichever comes first."""

    rows: int = Field(8192, ge=1)
    bytes: Bytes = 32 << 20


class Workers(Part):
    """What one Python worker may use. Spark counts it for every task of the run, not for the score's alone."""

    cpus: int = Field(1, ge=1, description="spark.task.cpus.")
    threads: Literal["auto"] | int = Field("auto", description="Of each numerical library's pool; auto is `cpus`.")
    gpus: int = Field(0, ge=0, description="GPUs of a task and of an executor, which then runs one task at a time.")
    models_in_memory: int = Field(1, ge=1)


class RowErrors(Part):
    """What happens to rows that the model fails on."""

    action: Literal["fail", "dead_letter"] = "fail"
    retries: int = Field(0, ge=0, le=10)
    max_rows: int | None = Field(None, ge=0, description="Most dead letters of an interval. Default: 1000.")
    max_fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest fraction of an interval's rows that may be dead letters. Default: 0.5, and 1 where `max_rows` is given.",
    )

    @property
    def rows_allowed(self) -> int:
        """Most dead letters of an interval."""
        return MAX_ROWS if self.max_rows is None else self.max_rows

    @property
    def fraction_allowed(self) -> float:
        """Largest fraction of dead letters: a budget in rows is the user's own word on what may be lost."""
        if self.max_fraction is not None:
            return self.max_fraction
        return MAX_FRACTION if self.max_rows is None else 1.0


MAX_ROWS = 1000
MAX_FRACTION = 0.5
"""The budget of a spec that gives none: an interval is not published when more than half of its rows cannot be scored."""


class Score(Part):
    """Apply a model to a relation."""

    input: Name
    model: Name
    features: Literal["signature"] | tuple[str, ...] | dict[str, str] = Field(
        "signature",
        description="The model's columns: those of its signature, a list, or model column -> SQL expression over the input.",
    )
    keep: tuple[str, ...] = Field((), description="Input columns that stand beside the scores.")
    output: dict[Name, str] = Field(description="Column -> `TYPE`, `TYPE from [INDEX]` or `TYPE from COLUMN`.")
    batch: Batch = Batch()
    workers: Workers = Workers()
    warmup: Literal["input_example", "none"] = "none"
    timeout: Seconds | None = None
    on_error: RowErrors = RowErrors()
    operator: Literal["auto", "pandas", "arrow", "direct"] = "auto"
    accelerate: Literal["auto", "off"] = "off"
    publish_challenger: str | None = Field(
        None,
        pattern=NAME,
        description="A prefix: each output of the model's challenger becomes a column PREFIX + OUTPUT, null where it has no score.",
    )


class SqlStep(Part):
    """A view: one SELECT over sources and other steps, inline or in a file beside the spec."""

    sql: str | None = None
    sql_file: str | None = None
    args: dict[Name, JsonValue] = Field(
        {},
        description="Values of :markers, bound and never pasted. `${interval.NAME}` in them is filled for each interval, as in "
        "`select`; in the SQL itself no reference is resolved.",
    )


class ScoreStep(Part):
    """A view made by scoring."""

    score: Score


def _step_kind(value: Any) -> str:
    scores = "score" in value if isinstance(value, dict) else isinstance(value, ScoreStep)
    return "score-step" if scores else "sql-step"


Step = Annotated[
    Annotated[SqlStep, Tag("sql-step")] | Annotated[ScoreStep, Tag("score-step")], Discriminator(_step_kind)
]


class Expect(BaseModel):
    """One expectation: Great Expectations' name and arguments, a severity, and what follows from a failure."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    severity: Literal["critical", "warning"] = "critical"
    on_fail: Literal["fail", "quarantine", "drop", "warn"] | None = Field(
        None,
        description="What happens when it fails. `fail` stops the interval, `warn` only reports it. `quarantine` and `drop` "
        "exclude the rows that fail it and score the others; `quarantine` keeps these rows with the reason. They need an expectation "
        "on each value of a column, on a relation before the score. `mostly` is the fraction of rows that must pass.",
    )

    @property
    def excludes_rows(self) -> bool:
        """Whether rows that fail it are not scored."""
        return self.on_fail in {"quarantine", "drop"}

    @property
    def arguments(self) -> dict[str, Any]:
        """All that is said beside type and consequences."""
        return self.model_extra or {}


class Drift(Part):
    """A column is as it was at the last success of the sink: in its distribution, its nulls, its mean. Say at least one limit.

    Numbers are cut into ten bins, strings and booleans into their twenty most frequent values and the rest: those of the
    first success, for good.
    """

    type: Literal["drift"]
    column: str
    against: Literal["last_success"] = Field(
        "last_success", description="The newest interval before this one that is published."
    )
    psi_max: float | None = Field(
        None,
        ge=0,
        description="Largest population stability index; below 0.1 little has changed, above 0.25 much has. 0.2 where no limit "
        "is said.",
    )
    null_rate_max_change: float | None = Field(
        None, ge=0, le=1, description="Largest change of the fraction of nulls, up or down."
    )
    mean_shift_max: float | None = Field(
        None, ge=0, description="Largest shift of a number's mean, in standard deviations of then."
    )
    rows_min: int = Field(
        500, ge=1, description="With fewer rows, then or now, nothing is compared: chance moves small samples."
    )
    severity: Literal["critical", "warning"] = "critical"
    on_fail: Literal["fail", "warn"] | None = Field(None, description="The same as severities, in a word.")
    description: str = ""

    @property
    def excludes_rows(self) -> bool:
        """It says nothing of single rows."""
        return False

    @property
    def arguments(self) -> dict[str, Any]:
        """What is compared, with the limit that holds where none is said."""
        said = self.model_dump(exclude={"type", "severity", "on_fail", "description"}, exclude_none=True)
        limits = {"psi_max", "null_rate_max_change", "mean_shift_max"}
        return said if limits & said.keys() else {**said, "psi_max": PSI_MAX}


PSI_MAX = 0.2
"""Between the customary 0.1 (look at it) and 0.25 (act on it)."""


def _expect_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "")
    return "drift-gate" if kind == "drift" else "gx-gate"


Expectations = tuple[
    Annotated[Annotated[Drift, Tag("drift-gate")] | Annotated[Expect, Tag("gx-gate")], Discriminator(_expect_kind)],
    ...,
]


class Gate(Part):
    """Expectations on a source, a step, or the staged files of a sink (`sink:NAME`)."""

    on: str = Field(pattern=r"^(sink:)?[A-Za-z_][A-Za-z0-9_]*$")
    suite: str | None = Field(
        None,
        description="A suite of Great Expectations beside the spec, unchanged: its JSON file. Its expectations come before those "
        "of `expect`.",
    )
    expect: Expectations = Field((), min_length=1)

    @property
    def excludes_rows(self) -> bool:
        """Whether rows of its relation may not go on."""
        return any(expect.excludes_rows for expect in self.expect)

    @model_validator(mode="after")
    def _some(self) -> Gate:
        if not self.expect and self.suite is None:
            raise ValueError("a gate has expectations: say some under `expect`, or name a `suite`")
        return self


class Files(Part):
    """How files are cut."""

    target_size: Bytes | None = Field(
        None,
        ge=1 << 20,
        description="Size of a published file where a partition has as much, e.g. 128MiB; at least 1MiB. Without it Spark decides. "
        "How many rows that is follows from earlier runs; the first goes by what rows weigh in a shuffle.",
    )


class Retain(Part):
    """How long what a run leaves is kept."""

    dead_letter: Seconds | None = Field(
        None,
        description="Dead letters older than this are deleted after a run, e.g. 30d; they cannot be replayed then.",
    )
    quarantine: Seconds | None = Field(None, description="Quarantined rows older than this are deleted after a run.")
    versions: int = Field(2, ge=0, description="Replaced versions of an interval that are kept.")


class Sink(Part):
    """Where results are published."""

    from_: Name = Field(alias="from", description="The step that is published.")
    format: Literal["parquet"] = "parquet"
    path: str
    partition_by: tuple[Name, ...] = Field(min_length=1)
    mode: Literal["replace_partitions", "append_once"] = Field(
        "replace_partitions",
        description="`replace_partitions` replaces every planned partition, empty ones included. `append_once` adds files, "
        "those of one plan once, `--force` or not; a changed input or model is another plan, and adds its rows, too.",
    )
    on_empty: Literal["fail", "allow"] = Field(
        "fail",
        description="Whether an interval may publish no rows. `fail` refuses it, unless nothing was published before and the input is "
        "missing with `on_missing: empty`, or every row is a dead letter within the budget of `on_error`.",
    )
    min_rows: int | None = Field(
        None, ge=1, description="Fewest rows that an interval may publish; it also holds where `on_empty` is `allow`."
    )
    files: Files = Files()
    lineage_columns: tuple[Literal["_run_id", "_model_version", "_plan_hash", "_scored_at"], ...] = ()
    retain: Retain = Retain()


class Executors(Part):
    """Executors under dynamic allocation: how many, how large, when they come and go, and what they may cost.

    A plan proposes how many to begin with, and how many are worth it, from the bytes to read and from earlier runs.
    """

    min: int = Field(0, ge=0, description="Executors that stay when there is nothing to do.")
    max: int | None = Field(None, ge=1, description="Most executors at once; a plan may set itself a lower limit.")
    initial: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="Executors asked for at the start; `auto` is what the plan proposes."
    )
    cores: int = Field(1, ge=1, description="Cores of an executor.")
    memory: str = Field("1g", pattern=r"^\d+[kmg]$", description="Heap of an executor's JVM.")
    python_memory: str | None = Field(
        None,
        pattern=r"^\d+[kmg]$",
        description="Address space of an executor's Python workers together; a worker has its part of `cores`.",
    )
    idle_timeout: Literal["auto"] | WholeSeconds = Field(
        "auto",
        description="How long an executor may be idle before it goes; `auto` is what a new one costs, or a little more than "
        "the pause between two intervals, as earlier runs had it.",
    )
    backlog_timeout: Literal["auto"] | Annotated[WholeSeconds, Field(ge=1)] = Field(
        "auto", description="How long tasks wait before executors are asked for: 1, then 2, 4, 8 ... `auto` is 1s."
    )
    utilisation: float | None = Field(
        None,
        ge=0.1,
        le=0.95,
        description="Part of an executor's time that should be work: fewer executors where it would be less.",
    )
    max_executor_hours: float | None = Field(
        None,
        gt=0,
        description="What a run may cost. A plan that would cost more by earlier runs is refused, and a run that has cost as "
        "much is stopped: what is published stays, and the next run goes on from there.",
    )
    decommission: bool = Field(
        True,
        description="Idle executors hand on what they hold before they go; else they stay as long as they hold something.",
    )


class Speculation(Part):
    """Tasks that take far longer than the others are started once more elsewhere; the first to finish counts."""

    quantile: float = Field(0.9, gt=0, lt=1, description="Part of a stage's tasks that must be done before.")
    multiplier: float = Field(3.0, gt=1, description="Times the median that a task may take.")
    min_runtime: Seconds = Field(
        30.0, description="No task is started again before; a worker's first one also loads the model."
    )


class Shuffle(Part):
    """Which shuffle: Spark's own, or that of the nodes' services, which frees executors; and what to do without them."""

    manager: Literal["sort", "rdma"] = "sort"
    fallback: Literal["sort", "fail"] = "sort"


class Resources(Part):
    """Compiles to Spark settings; never hashed."""

    master: str = "local[*]"
    queue: str | None = None
    executors: Executors | None = None
    shuffle: Shuffle = Shuffle()
    speculation: Speculation | None = None

    @property
    def local_cores(self) -> int | None:
        """Cores of a local master, 0 for as many as there are; None for a cluster."""
        local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", self.master)
        if not local:
            return None
        return int(local[1]) if local[1] and local[1].isdigit() else 0 if local[1] == "*" else 1


class Kerberos(Part):
    """Who the run is on a cluster with Kerberos."""

    principal: str = Field(min_length=1, description="e.g. ml@EXAMPLE.ORG")
    keytab: str = Field(pattern="^/", description="Its keytab, a file on the driver.")


class Security(Part):
    """Authenticated, encrypted Spark: docs/concepts/security.md. Never hashed."""

    mode: Literal["strict", "none"] = Field(
        "strict",
        description="`strict`: Spark authenticates every connection, encrypts network and disks, and has no UI without a key; "
        "servers that are named in the spec are reached over TLS.",
    )
    secret: str | None = Field(
        None,
        description="`${secret:SCOPE/KEY}`: what a standalone cluster shares. Other masters make a secret for each run.",
    )
    ui_key: str | None = Field(
        None,
        description="`${secret:SCOPE/KEY}`: base64url of at least 32 bytes; whoever has a JWT signed by it sees Spark's UI.",
    )
    kerberos: Kerberos | None = None

    @field_validator("secret", "ui_key")
    @classmethod
    def _hidden(cls, value: str | None) -> str | None:
        if value is not None and not references(value):
            raise ValueError(f"a secret cannot stand in a spec; write {FORM}")
        return value

    @property
    def strict(self) -> bool:
        """Whether security is on."""
        return self.mode == "strict"


class Mlflow(Part):
    """Where runs are recorded and models are looked up."""

    uri: str = ""
    experiment: str = ""
    required: bool = Field(
        default=True,
        description="Refuse to run when MLflow cannot be reached. Otherwise the record is kept in `storage` and delivered later. "
        "Models by `models:/` URI come from MLflow all the same.",
    )


class _Lineage(Part):
    """What all transports of lineage have in common."""

    transport: Literal["file", "http"] = "file"
    namespace: str = Field(
        "", description="Of the jobs in the events; `firesteel`, with `.PROFILE` where one is chosen, by default."
    )
    timeout: Seconds = Field(
        5.0, gt=0, le=300, description="For one event, and what a run waits at its end for those that are not sent yet."
    )
    required: bool = Field(
        default=False,
        description="Refuse to run when the first event cannot be sent. Otherwise lineage never stops a run.",
    )


class FileLineage(_Lineage):
    """Lineage events as lines of JSON, one file a run."""

    path: str = Field(description="URI of the folder.")

    @field_validator("path")
    @classmethod
    def _public(cls, value: str) -> str:
        if references(value):
            raise ValueError("a path is published with the run's record and cannot hold a secret")
        return value


class HttpLineage(_Lineage):
    """Lineage events posted to a server, such as Marquez."""

    url: str = Field(pattern=r"^https?://.", description="The server.")
    endpoint: str = Field("api/v1/lineage", description="Where it takes events, below its URL.")
    auth: str | None = Field(None, description="A bearer token: `${secret:SCOPE/KEY}`.")
    ca: str | None = Field(
        None, description="A file of CA certificates on the driver, where the system's do not know the server's."
    )

    @field_validator("auth")
    @classmethod
    def _hidden(cls, value: str | None) -> str | None:
        if value is not None and not references(value):
            raise ValueError(f"a token cannot stand in a spec; write {FORM}")
        return value


def _lineage_kind(value: Any) -> str:
    transport = value.get("transport") if isinstance(value, dict) else getattr(value, "transport", None)
    return "http-lineage" if transport == "http" else "file-lineage"


OpenLineage = Annotated[
    Annotated[FileLineage, Tag("file-lineage")] | Annotated[HttpLineage, Tag("http-lineage")],
    Discriminator(_lineage_kind),
]


class Tracking(Part):
    """Records outside the storage."""

    mlflow: Mlflow = Mlflow()
    openlineage: OpenLineage | None = None


class Spec(Part):
    """A whole pipeline, after profiles and params."""

    spec_version: Literal[1]
    name: Name
    owner: str = ""
    description: str = ""
    storage: str = Field(description="URI of ledger, leases, staging, journals and dead letters.")
    params: dict[Name, Param] = {}
    interval: Interval
    sources: dict[Name, Source] = Field(min_length=1)
    models: dict[Name, Model] = {}
    steps: dict[Name, Step] = Field(min_length=1)
    gates: dict[Name, Gate] = {}
    sinks: dict[Name, Sink] = Field(min_length=1)
    resources: Resources = Resources()
    security: Security = Security(mode="none")
    configuration: dict[str, str] = Field({}, description="Raw Spark settings, applied last.")
    tracking: Tracking = Tracking()
    profiles: dict[Name, dict[str, JsonValue]] = {}

    @property
    def workers(self) -> Workers:
        """What a task of the run may use: what its score step says."""
        return next((step.score.workers for step in self.steps.values() if isinstance(step, ScoreStep)), Workers())
