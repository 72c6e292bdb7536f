"""The result of a run, as returned in Python, by `--json`, and in the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from pydantic import JsonValue

from firesteel.conf.redaction import redact


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of one interval, which add up: in = scored + dead letter + quarantined + dropped.

    Attributes
    ----------
    rows_in : int
        Rows of the score step's input, and rows that gates excluded before it.
    scored : int
        Rows that were published.
    dead_letter : int
        Rows that the model failed on.
    quarantined, dropped : int
        Rows that gates excluded: kept with the reason, or not kept. `quarantined` also counts rows that cannot be parsed, and `dropped`
        rows that a step after the score left out.
    """

    rows_in: int = 0
    scored: int = 0
    dead_letter: int = 0
    quarantined: int = 0
    dropped: int = 0

    @property
    def balanced(self) -> bool:
        """Return whether all input rows are accounted for. A negative `dropped` means that a step after the score duplicates rows."""
        return self.dropped >= 0 and self.rows_in == self.scored + self.dead_letter + self.quarantined + self.dropped

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows_in + other.rows_in,
            self.scored + other.scored,
            self.dead_letter + other.dead_letter,
            self.quarantined + other.quarantined,
            self.dropped + other.dropped,
        )


@dataclass(frozen=True, slots=True)
class ExpectationResult:
    """The result of one expectation. `observed` is JSON; counts are rows, or None if they do not apply."""

    type: str
    column: str
    severity: str
    success: bool
    observed: JsonValue = None
    element_count: int | None = None
    unexpected_count: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of one gate: `success` is False when a critical expectation failed."""

    gate: str
    on: str
    success: bool
    expectations: tuple[ExpectationResult, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """The agreement of champion and challenger in one output.

    Attributes
    ----------
    compared
        Rows in which both have a value; for numbers, a finite one.
    alike
        Fraction of the rows scored by both in which both have the same value, or both have none.
    within
        For numbers: fraction of the rows scored by both with values within the tolerance.
    mean_difference, max_difference, correlation
        For numbers: mean and largest absolute difference, and Pearson's correlation (None if one side is constant).
    sample
        For numbers: random pairs (champion, challenger), for the report's chart.
    """

    output: str
    compared: int
    alike: float | None
    within: float | None = None
    mean_difference: float | None = None
    max_difference: float | None = None
    correlation: float | None = None
    sample: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of a challenger and its champion.

    Attributes
    ----------
    rows
        Rows that both scored.
    failed, errors
        Rows on which the challenger raised an error, and the count of each error class.
    left_out
        Rows that only the champion scored, because the challenger was disabled or could not be loaded; `problem` has the reason.
    """

    uri: str
    version: str = ""
    digest: str = ""
    rows: int = 0
    failed: int = 0
    left_out: int = 0
    problem: str = ""
    tolerance: float = 0.0
    errors: tuple[tuple[str, int], ...] = ()
    outputs: tuple[OutputAgreement, ...] = ()

    def without_samples(self) -> Agreement:
        """Return the agreement without samples, as stored in the ledger."""
        return replace(self, outputs=tuple(replace(output, sample=()) for output in self.outputs))


IntervalState = Literal["published", "audited", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class IntervalResult:
    """The result of one interval.

    Attributes
    ----------
    interval : str
        Its name, such as ``2013-06-01``.
    state : {"published", "audited", "skipped", "failed"}
        What happened; `reason` says why it was planned or skipped. In an audited interval, changed gates passed on the published rows.
    plan_hash : str
        The hash of everything that its rows depend on.
    counts : Counts
        Its rows.
    partitions : tuple of str
        The published directories, relative to the sink.
    files, bytes : int
        The published files, and their size in bytes.
    output_digest : str
        The SHA-256 of the paths, lengths and digests of the published files.
    gates : tuple of GateResult
        The verdict of each gate that was evaluated.
    seconds : tuple of (str, float)
        The driver's time by stage, in seconds.
    error : str
        Why it failed.
    """

    interval: str
    state: IntervalState
    reason: str
    plan_hash: str
    counts: Counts = Counts()
    partitions: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    gates: tuple[GateResult, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    distributions: tuple[tuple[str, JsonValue], ...] = ()
    """Distribution of each score column: {"min","max","mean","nulls","histogram":[[left,right,count],...]}."""
    error: str = ""
    scoring: tuple[tuple[str, JsonValue], ...] = ()
    """How it was scored: the operator and the inference backend, each with its reason."""
    worker_seconds: tuple[tuple[str, float], ...] = ()
    """Time of the Python workers by phase, summed over tasks: load, read, decode, model, encode, write."""
    agreement: Agreement | None = None
    """Agreement of challenger and champion; None without a challenger, or if nothing was scored."""
    output_digest: str = ""


@dataclass(frozen=True, slots=True)
class ShuffleUse:
    """The requested shuffle (`sort`, `rdma`), the used one, and the reason if they differ: a keyword and a sentence."""

    asked: str = "sort"
    used: str = "sort"
    reason: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"{self.used} instead of {self.asked}: {self.text} ({self.reason})" if self.reason else self.used


@dataclass(frozen=True, slots=True)
class ExecutorLife:
    """One executor. Times are seconds since the session started; `busy` are the spans in which at least one task ran.

    `removed_s` is None if it existed at the end. `idle_s` is its idle time when it was removed. `why` is `idle`, `lost` or `end`, and
    `reason` is Spark's text. `task_s` is the sum of its tasks' durations.
    """

    id: str
    host: str
    cores: int
    added_s: float
    removed_s: float | None
    why: str
    reason: str
    tasks: int
    task_s: float
    idle_s: float
    busy: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class StageSpan:
    """One attempt of a stage, and its interval, if known."""

    id: int
    attempt: int
    name: str
    interval: str
    begin_s: float
    end_s: float
    tasks: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ExecutorUse:
    """The executors of a run, and how the run used them.

    Attributes
    ----------
    seconds
        Duration of the session.
    executor_seconds
        Sum over executors of the time from registration to removal or the end.
    utilisation
        Fraction of the cores' time in which tasks ran.
    peak
        Most executors at the same time.
    scale_out_s
        For each time that tasks waited: seconds until the first task on a new executor.
    scale_in_s
        For each executor that was released: seconds that it was idle before.
    lost
        Executors that ended for another reason.
    """

    seconds: float
    executor_seconds: float
    utilisation: float
    peak: int
    tasks: int
    scale_out_s: tuple[float, ...]
    scale_in_s: tuple[float, ...]
    lost: int
    executors: tuple[ExecutorLife, ...]
    stages: tuple[StageSpan, ...]


@dataclass(frozen=True, slots=True)
class LineageUse:
    """The lineage events of a run: destination, counts, and the reason of the first lost event."""

    place: str
    sent: int
    lost: int = 0
    reason: str = ""

    def __str__(self) -> str:
        lost = f", {self.lost} lost: {self.reason}" if self.lost else ""
        return f"{self.sent} events to {self.place}{lost}"


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run.

    Attributes
    ----------
    run_id : str
        The run's id: in the ledger, in MLflow, in the column `_run_id`.
    pipeline, profile : str
        From the plan.
    state : {"published", "skipped", "failed"}
        ``published`` if at least one interval was, and none failed.
    intervals : tuple of IntervalResult
        One for each interval of the plan that was reached.
    started_at : str
        When the run started, as an ISO 8601 time in UTC.
    seconds : float
        How long it took, in seconds.
    exit_code : int
        0, or the code of the first failure, as the command line returns it.
    mlflow_run_id, mlflow_uri : str
        The MLflow run, and its address.
    report : str
        The path of the HTML report; empty if nothing was done.
    error : str
        The first failure.

    Examples
    --------
    >>> pipeline = firesteel.Pipeline.load("pipeline.yaml")
    >>> result = pipeline.run(pipeline.plan("2013-06-02"), spark=spark)
    >>> result.state, result.exit_code, result.counts.scored
    ('skipped', 0, 0)
    """

    run_id: str
    pipeline: str
    profile: str
    state: Literal["published", "skipped", "failed"]
    intervals: tuple[IntervalResult, ...]
    started_at: str
    seconds: float
    exit_code: int = 0
    mlflow_run_id: str = ""
    mlflow_uri: str = ""
    report: str = ""
    error: str = ""
    shuffle: ShuffleUse | None = None
    """None when the run needed no Spark."""
    executors: ExecutorUse | None = None
    """None when the run needed no Spark, or its session had no event log."""
    lineage: LineageUse | None = None
    """None when the spec configures no lineage, or no interval was scored."""

    @property
    def counts(self) -> Counts:
        """The rows of all intervals together."""
        total = Counts()
        for interval in self.intervals:
            total += interval.counts
        return total

    def to_json(self) -> str:
        """Return the result as one JSON object. Secrets in it are redacted."""
        return redact(json.dumps({**asdict(self), "counts": asdict(self.counts)}, indent=2, ensure_ascii=False))
