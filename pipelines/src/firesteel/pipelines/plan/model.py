"""The plan: everything that a run will do, pinned. Frozen, self-contained, the same bytes for the same inputs.

A plan holds secrets only as references. It is what `firesteel plan -o` writes, what `apply` executes, and all that the
spark-submit entry needs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from firesteel.conf.errors import PlanDrift, Where

PLAN_FORMAT = "firesteel-plan/1"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `type` is a Spark SQL type in its simple string form (`double`, `decimal(10,2)`)."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read; `path` is relative to the source's path."""

    path: str
    length: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A partitioned data set to read.

    Attributes
    ----------
    columns
        The columns of its view: all that some step, gate or key names.
    partitions
        The columns that come from the paths.
    read
        Those of `columns` that are read from the files.
    filters
        Conditions that every row that matters fulfils; they stand in the SQL too.
    on_missing
        What a missing partition means; `empty` allows an interval without rows.
    marker
        The name of files that say that a partition is ready, and are no data.
    """

    name: str
    format: str
    path: str
    columns: tuple[Column, ...]
    partitions: tuple[Column, ...]
    key: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    on_missing: Literal["fail", "skip", "empty"] = "fail"
    marker: str = ""


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model pinned to its bytes.

    `digest` is the SHA-256 over the sorted `path sha256` lines of its files; `uri` is what the spec says,
    `resolved_uri` the version behind it. `inputs` is the model's signature: columns that may be missing are nullable.
    `warnings` say what may change its scores.
    """

    name: str
    uri: str
    resolved_uri: str
    version: str
    digest: str
    size_bytes: int
    format: str
    method: str
    inputs: tuple[Column, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """An output of a score step: `select` is "" for the whole prediction, `[i]` for an index, or a column's name."""

    name: str
    type: str
    select: str = ""


@dataclass(frozen=True, slots=True)
class ChallengerPlan:
    """A second model that is scored beside the first, and pinned as it is.

    Attributes
    ----------
    pinned
        None where it could not be, or need not; `error` then says why.
    features, feature_names
        As those of the step, for its own signature.
    outputs
        Its columns of the step, one for each of the step's outputs; none where nothing of it is published.
    """

    uri: str
    pinned: ModelPlan | None
    tolerance: float
    features: tuple[str, ...] = ()
    outputs: tuple[OutputColumn, ...] = ()
    error: str = ""
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SqlStepPlan:
    """A view: one SELECT over sources and steps. `args` are bound by Spark, never pasted.

    Args that refer to the interval are templates here: `IntervalPlan.bound` gives the step with their values.
    """

    name: str
    sql: str
    args: tuple[tuple[str, JsonValue], ...]
    reads: tuple[str, ...]
    columns: tuple[Column, ...]
    kind: Literal["sql"] = "sql"


@dataclass(frozen=True, slots=True)
class OnError:
    """What happens to rows that the model fails on, and how many are too many."""

    action: Literal["fail", "dead_letter"] = "fail"
    max_rows: int = 0
    max_fraction: float = 1.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ScoreStepPlan:
    """A model applied to a relation. Batches end at `batch_rows` or `batch_bytes`, whichever comes first.

    `features` are columns of the relation, in the order of the model's signature; `feature_names` are the model's names of them,
    empty where they are the same.
    """

    name: str
    input: str
    model: str
    features: tuple[str, ...]
    keep: tuple[str, ...]
    outputs: tuple[OutputColumn, ...]
    columns: tuple[Column, ...]
    on_error: OnError
    batch_rows: int = 8192
    batch_bytes: int = 32 << 20
    threads: int = 1
    operator: str = "pandas"
    operator_reason: str = ""
    accelerate: Literal["auto", "off"] = "off"
    warmup: bool = False
    timeout_s: float | None = None
    models_in_memory: int = 1
    challenger: ChallengerPlan | None = None
    feature_names: tuple[str, ...] = ()
    kind: Literal["score"] = "score"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns of the input that are needed: kept ones, features, and those of the challenger."""
        more = self.challenger.features if self.challenger else ()
        return tuple(dict.fromkeys((*self.keep, *self.features, *more)))

    @property
    def made(self) -> tuple[OutputColumn, ...]:
        """The columns that scoring adds."""
        return (*self.outputs, *(self.challenger.outputs if self.challenger else ()))


StepPlan = Annotated[SqlStepPlan | ScoreStepPlan, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation in Great Expectations' names; `kwargs` are its own arguments.

    `failing_rows` says whether the rows that fail it are scored, quarantined with the reason, or dropped. An expectation that
    excludes rows does not stop the interval.
    """

    type: str
    kwargs: tuple[tuple[str, JsonValue], ...]
    severity: Literal["critical", "warning"] = "critical"
    failing_rows: Literal["keep", "quarantine", "drop"] = "keep"


@dataclass(frozen=True, slots=True)
class GatePlan:
    """Expectations on a source, a step or `sink:NAME` (the staged files)."""

    name: str
    on: str
    expectations: tuple[Expectation, ...]

    @property
    def excludes_rows(self) -> bool:
        """Whether rows of its relation may not go on."""
        return any(each.failing_rows != "keep" for each in self.expectations)


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """Where results are published. `columns` in the order of the files; `partition_by` are the last of the path."""

    name: str
    source: str
    format: str
    path: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    mode: str
    lineage_columns: tuple[str, ...] = ()
    keep_versions: int = 2
    keep_dead_letters_s: float | None = None
    keep_quarantine_s: float | None = None
    """Dead letters, or quarantined rows, older than this are deleted after a run; None keeps them."""
    file_bytes: int | None = None
    """Size that published files should have where a partition has as much."""
    on_empty: Literal["fail", "allow"] = "fail"
    min_rows: int | None = None
    """Fewest rows that an interval may publish."""


@dataclass(frozen=True, slots=True)
class SourceInput:
    """What one interval reads of one source: the directories asked for and the files found in them."""

    source: str
    directories: tuple[str, ...]
    files: tuple[InputFile, ...]


@dataclass(frozen=True, slots=True)
class SinkOutput:
    """The directories, relative to the sink's path, that one interval replaces: all of them, empty ones too."""

    sink: str
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IntervalPlan:
    """One interval: [start, end) as ISO dates or times, what it reads, what it replaces, and why."""

    id: str
    start: str
    end: str
    action: Literal["score", "skip"]
    reason: str
    plan_hash: str
    inputs: tuple[SourceInput, ...]
    outputs: tuple[SinkOutput, ...]
    hash_inputs: tuple[tuple[str, str], ...] = ()
    """What `plan_hash` is made of, part by part: the ledger keeps it, so that the next plan can say what changed."""
    args: tuple[tuple[str, tuple[tuple[str, JsonValue], ...]], ...] = ()
    """SQL step -> its args with their values, for the steps whose args refer to the interval."""

    def bound(self, step: SqlStepPlan) -> SqlStepPlan:
        """A SQL step as this interval runs it: its args are values."""
        args = dict(self.args).get(step.name)
        return step if args is None else replace(step, args=args)

    @property
    def input_bytes(self) -> int:
        """Bytes of all files read."""
        return sum(file.length for source in self.inputs for file in source.files)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Steps that run as one pass over the rows. `exchanges` is what brings rows together before the first of them."""

    steps: tuple[str, ...]
    exchanges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """What one rule of the compiler did, in words; nothing when it found nothing to do."""

    rule: str
    did: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColumnLineage:
    """Where a published column comes from: (source, column) pairs its values are made of, by way of `models`."""

    sink: str
    column: str
    values: tuple[tuple[str, str], ...]
    models: tuple[str, ...] = ()
    copied: bool = False
    """Whether it is an unchanged copy of the one column of `values`."""


@dataclass(frozen=True, slots=True)
class RowLineage:
    """The (source, column) pairs that decide which rows a sink gets: filters, joins, groups."""

    sink: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """What the run will ask for, and why. Never hashed; `configuration` and `resources` of the spec have the last word.

    Attributes
    ----------
    executors
        Executors asked for at the start; 0 on a local master.
    slots
        Tasks that can run at once with them; 0 where the cluster decides.
    tasks
        Tasks of the largest interval's scan.
    shuffle_partitions
        Partitions after an exchange; 0 where nothing is exchanged, or Spark's own number stays.
    files
        Files expected of the largest interval.
    file_rows, file_input_bytes
        Rows of a file of the size that the sink asks for, and the input bytes that make one; 0 where that is not asked for,
        or not known before the first run.
    seconds
        Expected time of all intervals; None before the first run.
    scan_partitions
        Least tasks of a scan, where the work asks for more than the bytes do; 0 otherwise.
    max_executors
        Most executors at once; 0 where nothing limits them.
    idle_timeout_s
        How long an executor may idle; 0 on a local master.
    executor_hours, max_executor_hours
        What the run is expected to cost, and what it may; None before the first run, and where nothing limits it.
    reasons
        Why, a sentence each.
    """

    executors: int = 0
    slots: int = 0
    tasks: int = 0
    shuffle_partitions: int = 0
    files: int = 0
    file_rows: int = 0
    file_input_bytes: int = 0
    seconds: float | None = None
    scan_partitions: int = 0
    max_executors: int = 0
    idle_timeout_s: float = 0.0
    executor_hours: float | None = None
    max_executor_hours: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LineagePlan:
    """Where OpenLineage events go: `place` is a folder or a server's URL, `auth` a reference to a secret.

    An event takes at most `timeout_s`, and so does all that is left to be sent when a run ends.
    """

    transport: Literal["file", "http"]
    place: str
    namespace: str
    timeout_s: float = 5.0
    required: bool = False
    endpoint: str = ""
    auth: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class TrackingPlan:
    """Where the run is recorded; an empty uri is MLflow's own default."""

    uri: str = ""
    experiment: str = ""
    openlineage: LineagePlan | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run does, pinned: input files, model bytes, SQL, settings. `Pipeline.plan` makes one.

    Attributes
    ----------
    pipeline, profile, owner : str
        From the spec.
    framework, environment : str
        The version of firesteel, and those of Python and the packages that results depend on. `framework` must match at a run.
    code_hash : str
        The SHA-256 of what the spec says, without data.
    storage : str
        The URI of the ledger and of what a run keeps.
    intervals : tuple of IntervalPlan
        For each interval: `id`, `action` (``score`` or ``skip``) with its `reason`, input files, replaced directories and `plan_hash`.
    sources, models, steps, gates, sinks : tuple
        The parts of the spec, resolved: columns with types, models with version and digest.
    spark_conf : tuple of (str, str)
        Spark settings. They are compiled from the spec's resources and are part of no hash.

    Examples
    --------
    >>> plan = firesteel.Pipeline.load("pipeline.yaml").plan("2013-06-03")
    >>> [model.format for model in plan.models], plan.intervals[0].reason
    (['skops'], 'not published yet')
    """

    pipeline: str
    profile: str
    owner: str
    framework: str
    environment: str
    code_hash: str
    storage: str
    sources: tuple[SourcePlan, ...]
    models: tuple[ModelPlan, ...]
    steps: tuple[StepPlan, ...]
    gates: tuple[GatePlan, ...]
    sinks: tuple[SinkPlan, ...]
    intervals: tuple[IntervalPlan, ...]
    stages: tuple[StagePlan, ...] = ()
    rules: tuple[RuleEffect, ...] = ()
    lineage: tuple[ColumnLineage, ...] = ()
    row_lineage: tuple[RowLineage, ...] = ()
    resources: ResourcePlan = ResourcePlan()
    batch_concurrency: int = 1
    """Intervals in flight at once; in no hash, as they do not know of each other."""
    tracking: TrackingPlan = TrackingPlan()
    master: str = "local[*]"
    spark_conf: tuple[tuple[str, str], ...] = ()
    security: Literal["none", "strict"] = "none"
    spec_text: str = ""
    format: str = field(default=PLAN_FORMAT)

    @property
    def short_hash(self) -> str:
        """Twelve hex digits for people."""
        return self.code_hash[:12]

    @property
    def score_step(self) -> ScoreStepPlan | None:
        """The step that scores; None where rows are only moved."""
        return next((step for step in self.steps if isinstance(step, ScoreStepPlan)), None)

    @property
    def scored_relations(self) -> frozenset[str]:
        """The score step and the steps that depend on it."""
        found = {step.name for step in self.steps if isinstance(step, ScoreStepPlan)}
        for step in self.steps:  # in the order of dependencies
            if isinstance(step, SqlStepPlan) and found & set(step.reads):
                found.add(step.name)
        return frozenset(found)

    def to_json(self) -> str:
        """Return the plan as JSON: the same bytes for the same plan. Secrets are in it as references only.

        Returns
        -------
        str
            Keys sorted, indented by two spaces, with one final newline.
        """
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, file: str = "plan.json") -> Plan:
        """Return the plan of a JSON text, as `to_json` and `firesteel plan -o` write it.

        Parameters
        ----------
        text : str
            The JSON.
        file : str, optional
            The name of the file that it is from, for errors.

        Returns
        -------
        Plan

        Raises
        ------
        PlanDrift
            FS6003 if the text is not a plan of this version.

        Examples
        --------
        >>> plan = firesteel.Pipeline.load("pipeline.yaml").plan("2013-06-03")
        >>> firesteel.Plan.from_json(plan.to_json()) == plan
        True
        """
        try:
            plan = _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise PlanDrift(
                "FS6003",
                f"not a plan of this version: {place}{': ' if place else ''}{first['msg']}.",
                where=Where(file),
                hint="Run `firesteel plan` again.",
            ) from None
        if plan.format != PLAN_FORMAT:
            raise PlanDrift(
                "FS6003",
                f"plan format {plan.format!r}, this version reads {PLAN_FORMAT!r}.",
                where=Where(file),
                hint="Run `firesteel plan` again.",
            )
        return plan


_ADAPTER = TypeAdapter(Plan)
