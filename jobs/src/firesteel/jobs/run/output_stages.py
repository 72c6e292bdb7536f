"""The stages between the staged files and the publish: count the rows, check the limits and the output gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import GateFailed
from firesteel.conf.quantities import plural
from firesteel.jobs.gates.distribution import distribution
from firesteel.jobs.run.scoring import agreement_of, check_error_budget, scoring_facts, write_dead_letters
from firesteel.jobs.run.staged_files import StagedFiles, drift_columns
from firesteel.jobs.spark.lower import read_staged
from firesteel.pipelines.events import Event
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.identity import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame

    from firesteel.jobs.run.interval_context import IntervalContext
    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, Plan, ScoreStepPlan, SinkPlan
    from firesteel.pipelines.publish.state_store import StateStore
    from firesteel.udfs.report import ScoreReport


@dataclass(frozen=True, slots=True)
class CountRows:
    """Count the staged rows, write the dead letters, and check that every row in has exactly one result."""

    step: ScoreStepPlan | None
    sink: SinkPlan

    def __str__(self) -> str:
        return "check that rows in = scored + dead letter + quarantined + dropped"

    def run(self, context: IntervalContext) -> None:
        """Set the counts of the interval.

        Raises
        ------
        RowErrorBudget
            FS5003 when more rows failed than `on_error` allows.
        GateFailed
            FS7002 when a row is lost or doubled.
        """
        metrics, outcome = context.metrics, context.outcome
        staged = StagedFiles.below(context.sink_storage, context.transaction.staging_path)
        with metrics.timed("audit"):
            rows = staged.count(context.spark, context.staging_uri)
        rows_in = outcome.rows_in
        if self.step is None and rows_in != rows:  # Spark counts a part of a stage that ran again twice
            rows_in = context.spark.table(self.sink.source).count()
        metrics.counts = Counts(rows_in=rows_in, scored=rows) + metrics.excluded
        if self.step is not None and outcome.report is not None:
            self._count_scored(context, self.step, outcome.report, rows)
        size = sum(file.length for file in staged.files)
        facts: dict[str, object] = {"rows": rows, "files": len(staged.files), "bytes": size}
        context.on_event(Event("staged", context.interval.id, facts))
        counts = metrics.counts
        if not counts.balanced:
            raise GateFailed(
                "FS7002",
                f"{context.interval.id}: rows do not add up: {counts.rows_in:,} in, {counts.scored:,} scored, "
                f"{counts.dead_letter:,} dead letter, {counts.quarantined:,} quarantined, {counts.dropped:,} dropped. "
                "Nothing was published.",
                hint="Check whether a step after the score doubles or loses rows: a join or a UNION.",
            )

    def _count_scored(self, context: IntervalContext, step: ScoreStepPlan, report: ScoreReport, staged: int) -> None:
        metrics, outcome, dead_letters = context.metrics, context.outcome, report.dead_letters
        metrics.scoring = scoring_facts(step, report, outcome.fallback, metrics.resumed_rows)
        metrics.agreement = agreement_of(step, report)
        # Only steps after the score may drop rows. The operator counts by itself, so a lost row still shows.
        dropped = 0 if self.sink.source == step.name else report.rows_scored - staged
        counts = Counts(rows_in=outcome.rows_in, scored=staged, dead_letter=len(dead_letters), dropped=dropped)
        metrics.counts = counts + metrics.excluded
        for phase, seconds in report.seconds:
            metrics.worker_seconds[phase] = round(seconds, 3)
        if dead_letters:
            store = context.store
            path = f"{store.base}/dead_letter/{step.name}/{context.interval.id}/{context.attempt.run_id}.jsonl"
            write_dead_letters(store.storage, path, dead_letters, context.plan.model_version)
            context.transaction.record_excluded(path)
            check_error_budget(step, dead_letters, outcome.rows_in, f"{store.storage.base_uri}{path}")


@dataclass(frozen=True, slots=True)
class CheckMinRows:
    """Stop an interval that would publish no rows, or fewer than the sink allows."""

    sink: SinkPlan

    def __str__(self) -> str:
        least = self.sink.min_rows or (0 if self.sink.on_empty == "allow" else 1)
        return f"check that the staging folder has at least {plural(least, 'row')}"

    def run(self, context: IntervalContext) -> None:
        check_min_rows(context.plan, context.interval, self.sink, context.metrics.counts, context.store)


@dataclass(frozen=True, slots=True)
class GateOutputs:
    """Check the gates on the sink and on the steps after the score, and measure the distribution of each score."""

    gates: tuple[GatePlan, ...]
    sink: SinkPlan
    scores: Mapping[str, str]
    """Spark SQL types of the numeric score columns."""

    def __str__(self) -> str:
        gates = ", ".join(f"{gate.name} on {gate.on.removeprefix('sink:')}" for gate in self.gates)
        scores = ", ".join(self.scores)
        parts = (("check", gates), ("measure the distribution of", scores))
        return "; ".join(f"{verb} {names}" for verb, names in parts if names)

    def run(self, context: IntervalContext) -> None:
        sink, rows = self.sink, context.metrics.counts.scored
        staged = StagedFiles.below(context.sink_storage, context.transaction.staging_path)

        def read() -> DataFrame:
            return read_staged(context.spark, sink, context.staging_uri, exists=rows > 0)

        check_outputs(context, self.gates, sink, self.scores, staged, read)


def check_outputs(
    context: IntervalContext,
    gates: Sequence[GatePlan],
    sink: SinkPlan,
    scores: Mapping[str, str],
    files: StagedFiles,
    read: Callable[[], DataFrame],
) -> None:
    """Check gates on a sink's files and on the steps after the score, and measure the distributions of `scores`.

    Parameters
    ----------
    read
        Returns the rows of the files. Called only where it is needed: Spark lists the files then.
    """
    metrics = context.metrics
    types = {**drift_columns(context.plan, sink), **scores}
    with metrics.timed("audit"):
        loaded = files.load(tuple(types), metrics.counts.scored) if types else None
    for gate in gates:
        if gate.on.startswith("sink:"):
            context.check_gate(gate, read(), loaded.profiles(gate, metrics.drifts, types) if loaded else {})
        else:
            context.check_gate(gate, context.spark.table(gate.on))
    if scores:
        with metrics.timed("audit"):
            metrics.distributions = (
                tuple(distribution(read(), tuple(scores))) if loaded is None else loaded.distribution(tuple(scores))
            )


def check_min_rows(plan: Plan, interval: IntervalPlan, sink: SinkPlan, counts: Counts, store: StateStore) -> None:
    """Check the staged rows against `min_rows` and `on_empty` of the sink.

    Raises
    ------
    GateFailed
        FS7005 when too few rows are staged.
    """
    if counts.scored < (sink.min_rows or 0):
        raise _too_few(interval, sink, counts, f"at least {sink.min_rows:,} (`min_rows`)", "lower `min_rows`")
    if counts.scored or sink.on_empty == "allow":
        return
    published = Ledger(store).published(sink.name, interval.id, canonical(sink.path))
    before = published.counts.scored if published else 0
    if before or not _may_be_empty(plan, interval, counts):
        now = f", where {before:,} are published now" if before else ""
        raise _too_few(interval, sink, counts, f"at least one{now}", "set `on_empty: allow`")


def _may_be_empty(plan: Plan, interval: IntervalPlan, counts: Counts) -> bool:
    """Return whether the spec allows an empty result: by `on_missing: empty`, or by an error budget that covers every row."""
    read = {source.source: source.files for source in interval.inputs}
    missing = any(source.on_missing == "empty" and not read.get(source.name) for source in plan.sources)
    return missing or counts.dead_letter == counts.rows_in > 0


def _too_few(interval: IntervalPlan, sink: SinkPlan, counts: Counts, expected: str, remedy: str) -> GateFailed:
    return GateFailed(
        "FS7005",
        f"{sink.name} {interval.id}: {plural(counts.scored, 'row')} would be published, expected {expected}. "
        f"{counts.rows_in:,} in, {counts.dead_letter:,} dead letter, {counts.quarantined:,} quarantined, "
        f"{counts.dropped:,} dropped. Nothing was published.",
        hint=f"Check the input, the filters and the gates. If the number is right, {remedy} on sinks.{sink.name}.",
    )
