"""The plan: a pinned, self-contained description of a run. The same inputs give the same bytes.

A plan contains secrets only as references. `firesteel plan -o` writes it, `apply` executes it, and the spark-submit entry point
needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from firesteel.conf.errors import PlanDrift, Where

PLAN_FORMAT = "firesteel-plan/1"

Verify = Literal["modified", "checksum", "sha256"]
"""What identifies an input file besides its path and length: its modification time, the storage's checksum, or SHA-256 of its bytes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `type` is a Spark SQL type in its simple string form (`double`, `decimal(10,2)`)."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file; `path` is relative to the source's path. `digest` (`ALGORITHM:HEX`) is "" if the source verifies `modified`."""

    path: str
    length: int
    modified_ms: int
    digest: str = ""

    @property
    def identity(self) -> tuple[str, int, int | str]:
        """Return what hashes compare: path, length, and the digest or else the modification time."""
        return self.path, self.length, self.digest or self.modified_ms


@dataclass(frozen=True, slots=True)
class Unparsed:
    """What happens to rows that cannot be parsed, and how many there may be."""

    action: Literal["fail", "quarantine"] = "fail"
    max_rows: int = 0
    max_fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A partitioned data set to read.

    Attributes
    ----------
    columns
        The columns of its view: those that steps, gates and keys use.
    partitions
        The columns whose values come from the paths.
    read
        The columns that are read from the files.
    filters
        Conditions that the scan may apply early; the SQL contains them too.
    on_missing
        What happens when a partition is missing; `empty` allows an interval without rows.
    marker
        The name of ready markers, which are not data.
    verify
        How a run notices that a file has changed: by its modification time or by its content.
    selection
        What an interval reads besides its own partitions, as a phrase; empty for its own partitions.
    file_columns
        All columns of CSV, JSON and text files, in their order.
    options
        Options of Spark's reader.
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
    verify: Verify = "modified"
    selection: str = ""
    file_columns: tuple[Column, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    unparsed: Unparsed = Unparsed()


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model pinned to the digest of its files.

    `digest` is the SHA-256 over the names and bytes of its files. `format` decides what loads it, and `skops_types` are the types that
    the spec trusts in a skops file. `uri` is the spec's, `resolved_uri` has the version.
    `inputs` is the model's signature: optional columns are nullable. `warnings` list reasons why its scores may change.
    `requirements` is the policy for packages that differ from those that the model requires; executors have it, too.
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
    skops_types: tuple[str, ...] = ()
    requirements: Literal["enforce", "warn", "ignore"] = "enforce"


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """An output of a score step: `select` is "" for the whole prediction, `[i]` for an index, or a column name."""

    name: str
    type: str
    select: str = ""


@dataclass(frozen=True, slots=True)
class ChallengerPlan:
    """A second model that scores the same rows, pinned like the first.

    Attributes
    ----------
    pinned
        None if it is not pinned; `error` then has the reason, if pinning failed.
    features, feature_names
        Like those of the step, for the challenger's signature.
    outputs
        Its published columns, one per output of the step; none if it is not published.
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
    """A view: one SELECT over sources and steps. Spark binds `args` as parameters.

    Args that refer to the interval are templates: `IntervalPlan.bound` returns the step with their values.
    """

    name: str
    sql: str
    args: tuple[tuple[str, JsonValue], ...]
    reads: tuple[str, ...]
    columns: tuple[Column, ...]
    kind: Literal["sql"] = "sql"


@dataclass(frozen=True, slots=True)
class OnError:
    """What happens to rows that fail to score, and how many may fail."""

    action: Literal["fail", "dead_letter"] = "fail"
    max_rows: int = 0
    max_fraction: float = 1.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ScoreStepPlan:
    """A model applied to a relation. Batches end at `batch_rows` or `batch_bytes`, whichever comes first.

    `features` are columns of the relation, in the order of the model's signature. `feature_names` are the model's names of them,
    empty if they are the same.
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
        """Return the input columns that the step uses: kept ones, features, and the challenger's features."""
        more = self.challenger.features if self.challenger else ()
        return tuple(dict.fromkeys((*self.keep, *self.features, *more)))

    @property
    def produced(self) -> tuple[OutputColumn, ...]:
        """Return the columns that scoring adds."""
        return (*self.outputs, *(self.challenger.outputs if self.challenger else ()))


StepPlan = Annotated[SqlStepPlan | ScoreStepPlan, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Expectation:
    """An expectation with Great Expectations' type name; `kwargs` are its own arguments.

    `failing_rows` is what happens to failing rows: they are kept, quarantined with the reason, or dropped. An expectation that
    excludes rows does not stop the run.
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
    def compared(self) -> frozenset[str]:
        """Return the relations whose numbers of rows the gate compares with that of its own."""
        checks = (check for check in self.expectations if check.type == "row_count_matches")
        return frozenset(str(dict(check.kwargs).get("of")) for check in checks)

    @property
    def excludes_rows(self) -> bool:
        """Return whether the gate excludes rows of its relation."""
        return any(expectation.failing_rows != "keep" for expectation in self.expectations)


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """A data set to publish. `columns` are in the order of the files, followed by those of `partition_by`."""

    name: str
    source: str
    format: str
    path: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    mode: str
    lineage_columns: tuple[str, ...] = ()
    added_columns: tuple[str, ...] = ()
    """Partition columns that the run adds: `SinkOutput.values` has their values for each interval."""
    keep_versions: int = 2
    keep_dead_letters_s: float | None = None
    keep_quarantine_s: float | None = None
    """Age after which a run deletes dead letters or quarantined rows; None keeps them."""
    file_bytes: int | None = None
    """Target size of a published file."""
    on_empty: Literal["fail", "allow"] = "fail"
    min_rows: int | None = None
    """Fewest rows that an interval may publish."""
    codec: str = ""
    """Spark's name of the compression codec; "" leaves it to the session."""


@dataclass(frozen=True, slots=True)
class SourceInput:
    """The input of one interval from one source: the selected directories and their files."""

    source: str
    directories: tuple[str, ...]
    files: tuple[InputFile, ...]


@dataclass(frozen=True, slots=True)
class SinkOutput:
    """The directories, relative to the sink's path, that one interval replaces, including those that become empty."""

    sink: str
    directories: tuple[str, ...]
    values: tuple[tuple[str, str], ...] = ()
    """Column -> value, for the partition columns that firesteel adds."""


@dataclass(frozen=True, slots=True)
class IntervalPlan:
    """One interval: [start, end) in ISO format, its inputs, its outputs, and the action with its reason."""

    id: str
    start: str
    end: str
    action: Literal["score", "audit", "skip"]
    reason: str
    plan_hash: str
    inputs: tuple[SourceInput, ...]
    outputs: tuple[SinkOutput, ...]
    hash_inputs: tuple[tuple[str, str], ...] = ()
    """The named inputs of `plan_hash`. The ledger stores them, so that the next plan can report what changed."""
    args: tuple[tuple[str, tuple[tuple[str, JsonValue], ...]], ...] = ()
    """SQL step -> its args with their values, for steps whose args refer to the interval."""
    audited_gates: tuple[str, ...] = ()
    """The gates that the action `audit` checks on the published files and on the inputs."""

    def added(self, sink: str) -> dict[str, str]:
        """Return column -> value of the partition columns that the run adds to a sink's rows."""
        return dict(value for output in self.outputs if output.sink == sink for value in output.values)

    def bound(self, step: SqlStepPlan) -> SqlStepPlan:
        """Return a SQL step with the values of its args for this interval."""
        args = dict(self.args).get(step.name)
        return step if args is None else replace(step, args=args)

    @property
    def input_bytes(self) -> int:
        """Return the bytes of all input files."""
        return sum(file.length for source in self.inputs for file in source.files)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Steps that run in one pass over the rows. `exchanges` are the shuffles before the first step."""

    steps: tuple[str, ...]
    exchanges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """Descriptions of the changes that one compiler rule made."""

    rule: str
    did: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColumnLineage:
    """The origin of a published column: the (source, column) pairs that its values depend on, and the `models` between."""

    sink: str
    column: str
    values: tuple[tuple[str, str], ...]
    models: tuple[str, ...] = ()
    copied: bool = False
    """Whether it is an unchanged copy of the only column in `values`."""


@dataclass(frozen=True, slots=True)
class RowLineage:
    """The (source, column) pairs that select a sink's rows: filters, joins, groups."""

    sink: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """The proposed resources of a run, and the reasons. They do not change hashes; the spec overrides them.

    Attributes
    ----------
    executors
        Executors requested at the start; 0 on a local master.
    slots
        Tasks that these executors run at the same time; 0 if the cluster decides.
    tasks
        Scan tasks of the largest interval.
    shuffle_partitions
        Partitions after an exchange; 0 without an exchange, or for Spark's default.
    files
        Expected files of the largest interval.
    file_rows, file_input_bytes
        Rows and input bytes of a file of the sink's target size; 0 without a target size, or before the first run.
    seconds
        Expected duration of all intervals; None before the first run.
    scan_partitions
        Least tasks of a scan, if the work requires more tasks than the bytes; 0 otherwise.
    max_executors
        Most executors at the same time; 0 without a limit.
    idle_timeout_s
        Idle timeout of an executor; 0 on a local master.
    executor_hours, max_executor_hours
        Expected cost of the run (None before the first run), and its limit (None without a limit).
    reasons
        The reasons, one sentence each.
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
    """The destination of OpenLineage events: `place` is a folder or a server's URL, `auth` a reference to a secret.

    `timeout_s` limits sending one event, and sending all remaining events when a run ends.
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
    """The servers that record the run; an empty `uri` means MLflow's default."""

    uri: str = ""
    experiment: str = ""
    openlineage: LineagePlan | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class PlanFile:
    """The file that a plan was read from. `digest` is that of its content; `key` and `signature` are empty if it is not signed."""

    name: str
    digest: str
    key: str = ""
    signature: str = ""

    @staticmethod
    def signed_bytes(digest: str) -> bytes:
        """Return what the signature of a plan with this digest covers."""
        return b"firesteel plan 1\n" + digest.encode()


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
    """Number of concurrent intervals. It does not change hashes, because intervals are independent."""
    tracking: TrackingPlan = TrackingPlan()
    master: str = "local[*]"
    spark_conf: tuple[tuple[str, str], ...] = ()
    security: Literal["none", "strict"] = "none"
    signing_key: str = ""
    """The reference to the secret that signs the plan and the audit log; empty if nothing is signed."""
    spec_text: str = ""
    params: tuple[tuple[str, str], ...] = ()
    """The values of the spec's params, as text and in the order of their names. They are recorded only."""
    format: str = field(default=PLAN_FORMAT)
    file: PlanFile | None = field(default=None, compare=False, repr=False)
    """The file that the plan was read from; None if this process made it. It is not part of the JSON."""

    @property
    def short_hash(self) -> str:
        """Return the first twelve hex digits of the code hash."""
        return self.code_hash[:12]

    @property
    def score_step(self) -> ScoreStepPlan | None:
        """Return the score step; None if the pipeline has none."""
        return next((step for step in self.steps if isinstance(step, ScoreStepPlan)), None)

    def selected_directories(self, source: str) -> str:
        """Return the directories that the intervals read from a source: one, or the first and the last. Empty without partitions."""
        names = {
            name
            for interval in self.intervals
            for read in interval.inputs
            if read.source == source
            for name in read.directories
        }
        first, *others = sorted(names - {""}) or [""]
        return f"{first} to {others[-1]}" if others else first

    @property
    def model_version(self) -> str:
        """Return the version of the score step's model; empty if no model scores."""
        step = self.score_step
        return next((model.version for model in self.models if step and model.name == step.model), "")

    @property
    def model_warnings(self) -> tuple[str, ...]:
        """Return the warnings about the models and their challengers, one sentence or more each."""
        step = self.score_step
        challenger = step.challenger.pinned if step and step.challenger else None
        named = [(f"model {model.name}", model) for model in self.models]
        named += [(f"challenger of {challenger.name}", challenger)] if challenger else []
        return tuple(f"{name}: {warning}" for name, model in named for warning in model.warnings)

    @property
    def scored_relations(self) -> frozenset[str]:
        """Return the names of the score step and of the steps that depend on it."""
        scored = {step.name for step in self.steps if isinstance(step, ScoreStepPlan)}
        for step in self.steps:  # in the order of dependencies
            if isinstance(step, SqlStepPlan) and scored & set(step.reads):
                scored.add(step.name)
        return frozenset(scored)

    @property
    def steps_before_score(self) -> tuple[SqlStepPlan, ...]:
        """Return the SQL steps that do not depend on the score step."""
        scored = self.scored_relations
        return tuple(step for step in self.steps if isinstance(step, SqlStepPlan) and step.name not in scored)

    @property
    def auditable_gates(self) -> frozenset[str]:
        """Return the gates that can be checked without a score: on the sink's files, or on relations that are the same as at the score."""
        scored, sinks = self.scored_relations, {f"sink:{sink.name}" for sink in self.sinks}
        if any(gate.excludes_rows for gate in self.gates):  # the relations of the inputs have lost the excluded rows
            return frozenset(gate.name for gate in self.gates if gate.on in sinks and not gate.compared)
        return frozenset(
            gate.name
            for gate in self.gates
            if not scored & gate.compared and (gate.on in sinks or gate.on not in scored)
        )

    def to_json(self) -> str:
        """Return the plan as JSON: the same bytes for the same plan. Secrets are in it as references only.

        Returns
        -------
        str
            Keys sorted, indented by two spaces, with one final newline. `digest` is the SHA-256 of the content.
        """
        content = json.loads(json.dumps(asdict(self)))
        del content["file"]
        content["digest"] = _digest(content)
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

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
            FS6003 if the text is not a plan of this version, FS6005 if it was edited or damaged after planning.

        Examples
        --------
        >>> plan = firesteel.Pipeline.load("pipeline.yaml").plan("2013-06-03")
        >>> firesteel.Plan.from_json(plan.to_json()) == plan
        True
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            raise _refused("FS6003", f"the file is not a plan: {reason}.", file) from None
        if not isinstance(content, dict) or content.get("format") != PLAN_FORMAT:
            format_ = content.get("format") if isinstance(content, dict) else None
            what = f"the file is not a plan of this version: its format is {format_!r}, not {PLAN_FORMAT!r}."
            raise _refused("FS6003", what, file)
        key, signature = content.pop("key", ""), content.pop("signature", "")
        digest = content.pop("digest", None)
        if digest != _digest(content):
            what = "the plan does not match its digest: the file was edited or damaged after planning. Nothing was run."
            raise _refused("FS6005", what, file)
        try:
            # The content that the digest covers, and not the text, in which a key may stand twice.
            plan = _ADAPTER.validate_json(json.dumps(content))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            what = f"the file is not a plan of this version: {place}{': ' if place else ''}{first['msg']}."
            raise _refused("FS6003", what, file) from None
        return replace(plan, file=PlanFile(file, digest, str(key), str(signature)))


def _digest(content: dict[str, JsonValue]) -> str:
    """Return the SHA-256 (hex) of a plan's content, whatever its white space and the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _refused(code: str, what: str, file: str) -> PlanDrift:
    return PlanDrift(code, what, where=Where(file), hint="Run `firesteel plan` again.")


_ADAPTER = TypeAdapter(Plan)
