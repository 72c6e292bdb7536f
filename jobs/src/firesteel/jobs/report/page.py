"""Build the values of the report page from the result and the plan. The template only arranges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.conf.quantities import byte_size, duration, plural
from firesteel.jobs.gates.render import render_expected, render_observed
from firesteel.jobs.report import bars, executors, graph, histogram
from firesteel.jobs.report.agreement import compare_models
from firesteel.jobs.report.formats import count, moment, share
from firesteel.jobs.report.scored import PHASES, scored_by, worker_seconds

if TYPE_CHECKING:
    from markupsafe import Markup

    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, ModelPlan, Plan
    from firesteel.pipelines.result import Counts, ExpectationResult, GateResult, IntervalResult, RunResult

_LISTED = 12
"""Maximum number of interval names in a sentence. Further names become a count."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of the run. `state` is good, warn, idle or bad."""

    state: str
    headline: str
    detail: str


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """The plan and the result of an interval. `result` is None if the run ended before the interval started."""

    plan: IntervalPlan
    result: IntervalResult | None

    @property
    def outcome(self) -> str:
        """Return published, skipped, failed or not run."""
        return self.result.state if self.result else "not run"

    @property
    def state(self) -> str:
        """Return the CSS class of the outcome."""
        return {"published": "good", "skipped": "idle", "failed": "bad"}.get(self.outcome, "idle")

    @property
    def seconds(self) -> float:
        """Return the total time of the stages in seconds."""
        return sum(seconds for _, seconds in self.result.seconds) if self.result else 0.0


@dataclass(frozen=True, slots=True)
class ExpectationRow:
    """One expectation over all intervals."""

    type: str
    column: str
    severity: str
    expected: str
    observed: str
    state: str
    verdict: str
    note: str


@dataclass(frozen=True, slots=True)
class GateTable:
    """The results of one gate: over all intervals (`rows`) and per interval."""

    name: str
    on: str
    state: str
    verdict: str
    rows: tuple[ExpectationRow, ...]
    by_interval: tuple[tuple[str, tuple[ExpectationRow, ...]], ...]


def page_values(result: RunResult, plan: Plan) -> dict[str, Any]:
    """Return the values that the template needs."""
    results = {interval.interval: interval for interval in result.intervals}
    rows = tuple(IntervalRow(interval, results.get(interval.id)) for interval in plan.intervals)
    gates = _gates(result, plan)
    verdicts = _verdicts(gates)
    nodes = graph.nodes_of(plan, verdicts)
    distributions = histogram.combine(result.intervals)
    stages = _stages(result)
    workers = _parts({PHASES[phase]: seconds for phase, seconds in worker_seconds(result.intervals).items()})
    accounts = _accounts(result.counts)
    return {
        "result": result,
        "plan": plan,
        "verdict": verdict(result, gates),
        "tiles": _tiles(result),
        "rows": rows,
        "errors": tuple(interval for interval in result.intervals if interval.error),
        "counts": result.counts,
        "accounts": accounts,
        "accounts_bar": bars.draw(accounts, "Rows by outcome", "rows"),
        "gates": gates,
        "distributions": tuple(
            (
                distribution,
                histogram.draw(distribution, f"dist{index}w", 900),
                histogram.draw(distribution, f"dist{index}n", 340),
            )
            for index, distribution in enumerate(distributions)
        ),
        "comparison": compare_models(result, plan),
        "models": _models(plan),
        "graph_wide": graph.draw(nodes, "dagw", down=False),
        "graph_narrow": graph.draw(nodes, "dagn", down=True),
        "scored_by": scored_by(result),
        "workers": workers,
        "workers_total": sum(part.amount for part in workers),
        "workers_bar": bars.draw(workers, "Python worker time by phase", "workers"),
        "executors": executors_of(result),
        "stages": stages,
        "stages_total": sum(part.amount for part in stages),
        "stages_bar": bars.draw(stages, "Time by stage", "time"),
        "published": tuple(
            (interval.interval, interval.partitions) for interval in result.intervals if interval.partitions
        ),
        "published_total": sum(len(interval.partitions) for interval in result.intervals),
        "facts": _facts(result, plan),
        "mlflow_link": result.mlflow_uri if result.mlflow_uri.startswith(("http://", "https://")) else "",
    }


def _models(plan: Plan) -> tuple[tuple[str, ModelPlan], ...]:
    """Return the pinned models with the challenger."""
    challenger = plan.score_step.challenger if plan.score_step else None
    more = [(f"{challenger.pinned.name}, challenger", challenger.pinned)] if challenger and challenger.pinned else []
    return (*((model.name, model) for model in plan.models), *more)


@dataclass(frozen=True, slots=True)
class Executors:
    """Executor charts for wide and narrow screens, and executor statistics."""

    facts: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, Markup, Markup, str], ...]


_ROWS = "Light: idle. Dark: busy. End mark: released (red: lost)."


def executors_of(result: RunResult) -> Executors | None:
    """Return the executor section, or None if the run has no timeline."""
    use = result.executors
    if use is None:
        return None
    omitted_executors, omitted_stages = executors.count_omitted(use)
    charts = []
    for name, draw, key, note in (
        ("Executors and busy executors", executors.draw_count, "ec", ""),
        (
            "Executor lifetimes",
            executors.draw_executors,
            "ex",
            _ROWS + (f" {omitted_executors} more executors are not drawn." if omitted_executors else ""),
        ),
        (
            "Spark stages by interval",
            executors.draw_stages,
            "st",
            f"{omitted_stages} more stages are not drawn." if omitted_stages else "",
        ),
    ):
        wide, narrow = draw(use, f"{key}w", 900), draw(use, f"{key}n", 340)
        if wide is not None and narrow is not None:
            charts.append((name, wide, narrow, note))
    return Executors(executors.facts(use), tuple(charts))


def verdict(result: RunResult, gates: tuple[GateTable, ...]) -> Verdict:
    """Return the outcome of the run in one headline and one sentence."""
    published = [interval for interval in result.intervals if interval.state == "published"]
    skipped = [interval for interval in result.intervals if interval.state == "skipped"]
    failed = [interval for interval in result.intervals if interval.state == "failed"]
    rows = plural(sum(interval.counts.scored for interval in published), "row")
    if result.state == "failed":
        intervals = f" in {_names(failed)}" if failed else ""
        if published:
            return Verdict(
                "bad",
                f"Failed{intervals}",
                f"{_those(failed)} not published. Published before the failure: {_names(published)} ({rows}).",
            )
        return Verdict("bad", f"Failed{intervals}", "Nothing was published. Earlier versions are unchanged.")
    audited = [interval for interval in result.intervals if interval.state == "audited"]
    if audited and not published:
        detail = (
            f"The changed gates pass on the published rows. {len(skipped)} skipped."
            if skipped
            else "The changed gates pass on the published rows."
        )
        return Verdict("good", f"Audited {plural(len(audited), 'interval')}", detail)
    if not published:
        detail = "Nothing was published: all intervals are up to date." if skipped else "The plan has no intervals."
        return Verdict("idle", f"Skipped {plural(len(skipped), 'interval')}", detail)
    headline = f"Published {rows}"
    detail = f"{plural(len(published), 'interval')} published"
    detail += f", {len(skipped)} skipped." if skipped else "."
    warned = [row for gate in gates for row in gate.rows if row.state == "warn"]
    dead_letters = result.counts.dead_letter
    if warned:
        detail += f" {plural(len(warned), 'expectation')} failed with severity warning."
    if dead_letters:
        detail += f" {plural(dead_letters, 'row')} failed in the model (see dead letters)."
    if result.counts.quarantined:
        detail += f" {plural(result.counts.quarantined, 'row')} failed a gate or could not be parsed (see quarantine)."
    return Verdict("warn" if warned or dead_letters else "good", headline, detail)


def _names(intervals: list[IntervalResult]) -> str:
    names = [interval.interval for interval in intervals]
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({plural(len(names), 'interval')})"


def _those(failed: list[IntervalResult]) -> str:
    return "The failed interval was" if len(failed) == 1 else "The failed intervals were"


def _tiles(result: RunResult) -> tuple[tuple[str, str, str], ...]:
    counts, files = result.counts, sum(interval.files for interval in result.intervals)
    size = sum(interval.bytes for interval in result.intervals)
    rate = counts.rows_in / result.seconds if result.seconds > 0 else 0
    return (
        ("Rows scored", count(counts.scored), f"of {count(counts.rows_in)} in"),
        ("Dead letters", count(counts.dead_letter), share(counts.dead_letter, counts.rows_in)),
        ("Published", byte_size(size), plural(files, "file")),
        ("Duration", duration(result.seconds), f"{count(rate)} rows/s"),
    )


def _accounts(counts: Counts) -> tuple[bars.Part, ...]:
    outcomes = (
        ("scored", counts.scored, "c-scored"),
        ("dead letters", counts.dead_letter, "c-dead"),
        ("quarantined", counts.quarantined, "c-quarantined"),
        ("dropped", counts.dropped, "c-dropped"),
    )
    return tuple(bars.Part(name, amount, count(amount), colour) for name, amount, colour in outcomes)


def _stages(result: RunResult) -> tuple[bars.Part, ...]:
    sums: dict[str, float] = {}
    for interval in result.intervals:
        for stage, seconds in interval.seconds:
            sums[stage] = sums.get(stage, 0.0) + seconds
    return _parts({stage.replace("_", " "): seconds for stage, seconds in sums.items()})


def _parts(times: dict[str, float]) -> tuple[bars.Part, ...]:
    return tuple(
        bars.Part(name, seconds, duration(seconds), f"c{index % bars.COLOURS}")
        for index, (name, seconds) in enumerate(times.items())
    )


def _gates(result: RunResult, plan: Plan) -> tuple[GateTable, ...]:
    tables = []
    for gate in plan.gates:
        runs = [
            (interval.interval, run) for interval in result.intervals for run in interval.gates if run.gate == gate.name
        ]
        if runs:
            tables.append(_gate(gate, runs))
    return tuple(tables)


def _gate(gate: GatePlan, runs: list[tuple[str, GateResult]]) -> GateTable:
    expected = [render_expected(expectation) for expectation in gate.expectations]
    rows = tuple(
        _combine_intervals([(interval, run.expectations[index]) for interval, run in runs], expected[index])
        for index in range(len(gate.expectations))
    )
    failed = [interval for interval, run in runs if not run.success]
    state = "bad" if failed else "warn" if any(row.state == "warn" for row in rows) else "good"
    verdict = {"good": "passed", "warn": "passed, with warnings", "bad": "failed"}[state]
    if failed and len(runs) > 1:
        verdict = f"failed in {_some(failed)}"
    by_interval = tuple(
        (interval, tuple(_row(expectation, expected[index]) for index, expectation in enumerate(run.expectations)))
        for interval, run in runs
    )
    return GateTable(gate.name, gate.on, state, verdict, rows, by_interval if len(runs) > 1 else ())


def _row(expectation: ExpectationResult, expected: str) -> ExpectationRow:
    state = "good" if expectation.success else "bad" if expectation.severity == "critical" else "warn"
    verdict = {"good": "passed", "bad": "failed", "warn": "failed (warning)"}[state]
    return ExpectationRow(
        expectation.type,
        expectation.column,
        expectation.severity,
        expected,
        render_observed(expectation),
        state,
        verdict,
        expectation.note,
    )


def _combine_intervals(results: list[tuple[str, ExpectationResult]], expected: str) -> ExpectationRow:
    """Combine an expectation's results: sum the rows, or show the first failed result if there are no row counts."""
    if len(results) == 1:
        return _row(results[0][1], expected)
    failed = [(interval, result) for interval, result in results if not result.success]
    shown = (failed or results)[0][1]
    row = _row(shown, expected)
    counts = [(result.element_count, result.unexpected_count) for _, result in results]
    if all(total is not None and failing is not None for total, failing in counts):
        total = sum(total or 0 for total, _ in counts)
        failing = sum(failing or 0 for _, failing in counts)
        observed = (
            f"{count(failing)} of {count(total)} rows fail ({share(failing, total)} of all)"
            if failing
            else f"all {count(total)} rows pass"
        )
    else:
        observed = row.observed if failed else f"passed in {plural(len(results), 'interval')}"
    note = f"failed in {_some([interval for interval, _ in failed])}" if failed else ""
    return ExpectationRow(row.type, row.column, row.severity, expected, observed, row.state, row.verdict, note)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _verdicts(gates: tuple[GateTable, ...]) -> dict[str, str]:
    """Return the worst gate result of each relation."""
    labels = {"good": "passed", "warn": "warned", "bad": "failed"}
    order = ("good", "warn", "bad")
    worst: dict[str, str] = {}
    for gate in gates:
        previous = worst.get(gate.on, "good")
        worst[gate.on] = max(previous, gate.state, key=order.index)
    return {on: labels[state] for on, state in worst.items()}


def _facts(result: RunResult, plan: Plan) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Run", result.run_id),
        ("Started", moment(result.started_at)),
        ("Duration", duration(result.seconds)),
        ("Owner", plan.owner),
        ("Code hash", plan.code_hash),
        ("Environment", plan.environment),
        ("Spark master", plan.master),
        ("Storage", plan.storage),
        ("Shuffle", str(result.shuffle or "")),
        ("MLflow run", result.mlflow_run_id),
        ("MLflow", result.mlflow_uri),
    ]
    return tuple((name, value) for name, value in facts if value)
