"""What the page says: facts and sentences, made from the result and the plan. The template only places them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.conf.quantities import byte_size, duration, plural
from firesteel.jobs.gates.words import expected, observed
from firesteel.jobs.report import bars, executors, graph, histogram
from firesteel.jobs.report.agreement import duel
from firesteel.jobs.report.figures import count, moment, share
from firesteel.jobs.report.scored import PHASES, scored_by, worker_seconds

if TYPE_CHECKING:
    from markupsafe import Markup

    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, ModelPlan, Plan
    from firesteel.pipelines.result import Counts, ExpectationResult, GateResult, IntervalResult, RunResult

_LISTED = 12
"""Names of intervals in a sentence; more become a number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The headline. `state` is good, warn, idle or bad."""

    state: str
    headline: str
    detail: str


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """An interval as planned and as it came out; `result` is None when the run ended before it."""

    plan: IntervalPlan
    result: IntervalResult | None

    @property
    def outcome(self) -> str:
        """In a word."""
        return self.result.state if self.result else "not run"

    @property
    def state(self) -> str:
        """The class of the outcome's mark."""
        return {"published": "good", "skipped": "idle", "failed": "bad"}.get(self.outcome, "idle")

    @property
    def seconds(self) -> float:
        """Time of all its stages."""
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
    """One gate: its expectations over all intervals, and each interval's own numbers."""

    name: str
    on: str
    state: str
    verdict: str
    rows: tuple[ExpectationRow, ...]
    by_interval: tuple[tuple[str, tuple[ExpectationRow, ...]], ...]


def page(result: RunResult, plan: Plan) -> dict[str, Any]:
    """All that the template needs."""
    found = {each.interval: each for each in result.intervals}
    rows = tuple(IntervalRow(interval, found.get(interval.id)) for interval in plan.intervals)
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
        "errors": tuple(each for each in result.intervals if each.error),
        "counts": result.counts,
        "accounts": accounts,
        "accounts_bar": bars.draw(accounts, "Where the rows went", "rows"),
        "gates": gates,
        "distributions": tuple(
            (each, histogram.draw(each, f"dist{n}w", 900), histogram.draw(each, f"dist{n}n", 340))
            for n, each in enumerate(distributions)
        ),
        "duel": duel(result, plan),
        "models": _models(plan),
        "graph_wide": graph.draw(nodes, "dagw", down=False),
        "graph_narrow": graph.draw(nodes, "dagn", down=True),
        "scored_by": scored_by(result),
        "workers": workers,
        "workers_total": sum(part.amount for part in workers),
        "workers_bar": bars.draw(workers, "Time of the Python workers", "workers"),
        "executors": executors_of(result),
        "stages": stages,
        "stages_total": sum(part.amount for part in stages),
        "stages_bar": bars.draw(stages, "Time by stage", "time"),
        "published": tuple((each.interval, each.partitions) for each in result.intervals if each.partitions),
        "published_total": sum(len(each.partitions) for each in result.intervals),
        "facts": _facts(result, plan),
        "mlflow_link": result.mlflow_uri if result.mlflow_uri.startswith(("http://", "https://")) else "",
    }


def _models(plan: Plan) -> tuple[tuple[str, ModelPlan], ...]:
    """The models that were pinned, a challenger among them."""
    challenger = plan.score_step.challenger if plan.score_step else None
    more = [(f"{challenger.pinned.name}, challenger", challenger.pinned)] if challenger and challenger.pinned else []
    return (*((model.name, model) for model in plan.models), *more)


@dataclass(frozen=True, slots=True)
class Executors:
    """Pictures of the executors, each for wide and narrow screens, and their numbers."""

    facts: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, Markup, Markup, str], ...]


_ROWS = "Pale: there. Full: at work. A line at its end: let go; a red one: lost."


def executors_of(result: RunResult) -> Executors | None:
    """The section on executors; None where the run has no timeline."""
    use = result.executors
    if use is None:
        return None
    fewer, stages = executors.left_out(use)
    drawn = []
    for name, draw, key, note in (
        ("Executors there, and at work", executors.draw_count, "ec", ""),
        (
            "Executors one by one",
            executors.draw_executors,
            "ex",
            _ROWS + (f" {fewer} more are not drawn." if fewer else ""),
        ),
        (
            "Stages, coloured by interval",
            executors.draw_stages,
            "st",
            f"{stages} more are not drawn." if stages else "",
        ),
    ):
        wide, narrow = draw(use, f"{key}w", 900), draw(use, f"{key}n", 340)
        if wide is not None and narrow is not None:
            drawn.append((name, wide, narrow, note))
    return Executors(executors.facts(use), tuple(drawn))


def verdict(result: RunResult, gates: tuple[GateTable, ...]) -> Verdict:
    """What happened, for someone who reads nothing else."""
    done = [each for each in result.intervals if each.state == "published"]
    skipped = [each for each in result.intervals if each.state == "skipped"]
    failed = [each for each in result.intervals if each.state == "failed"]
    rows = plural(sum(each.counts.scored for each in done), "row")
    if result.state == "failed":
        place = f" in {_names(failed)}" if failed else ""
        if done:
            return Verdict(
                "bad",
                f"Failed{place}",
                f"Nothing of {_those(failed)} was published. Published before the failure: {_names(done)} ({rows}).",
            )
        return Verdict("bad", f"Failed{place}", "Nothing was published. What was published before is as it was.")
    if not done:
        detail = "Nothing was published: there was nothing new to do." if skipped else "The plan has no intervals."
        return Verdict("idle", f"Skipped {plural(len(skipped), 'interval')}", detail)
    headline = f"Published {rows}"
    detail = f"{plural(len(done), 'interval')} published"
    detail += f", {len(skipped)} skipped." if skipped else "."
    warned = [row for gate in gates for row in gate.rows if row.state == "warn"]
    dead = result.counts.dead_letter
    if warned:
        detail += f" {plural(len(warned), 'expectation')} failed with severity warning."
    if dead:
        detail += f" {plural(dead, 'row')} could not be scored and went to the dead letter."
    if result.counts.quarantined:
        detail += f" {plural(result.counts.quarantined, 'row')} failed a gate and went to quarantine."
    return Verdict("warn" if warned or dead else "good", headline, detail)


def _names(intervals: list[IntervalResult]) -> str:
    names = [each.interval for each in intervals]
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({plural(len(names), 'interval')})"


def _those(failed: list[IntervalResult]) -> str:
    return "that interval" if len(failed) == 1 else "those intervals"


def _tiles(result: RunResult) -> tuple[tuple[str, str, str], ...]:
    counts, files = result.counts, sum(each.files for each in result.intervals)
    size = sum(each.bytes for each in result.intervals)
    rate = counts.rows_in / result.seconds if result.seconds > 0 else 0
    return (
        ("Rows scored", count(counts.scored), f"of {count(counts.rows_in)} in"),
        ("Dead letter", count(counts.dead_letter), share(counts.dead_letter, counts.rows_in)),
        ("Published", byte_size(size), plural(files, "file")),
        ("Took", duration(result.seconds), f"{count(rate)} rows a second"),
    )


def _accounts(counts: Counts) -> tuple[bars.Part, ...]:
    given = (
        ("scored", counts.scored, "c-scored"),
        ("dead letter", counts.dead_letter, "c-dead"),
        ("quarantined", counts.quarantined, "c-quarantined"),
        ("dropped", counts.dropped, "c-dropped"),
    )
    return tuple(bars.Part(name, amount, count(amount), colour) for name, amount, colour in given)


def _stages(result: RunResult) -> tuple[bars.Part, ...]:
    sums: dict[str, float] = {}
    for interval in result.intervals:
        for stage, seconds in interval.seconds:
            sums[stage] = sums.get(stage, 0.0) + seconds
    return _parts({stage.replace("_", " "): seconds for stage, seconds in sums.items()})


def _parts(times: dict[str, float]) -> tuple[bars.Part, ...]:
    return tuple(
        bars.Part(name, seconds, duration(seconds), f"c{number % bars.COLOURS}")
        for number, (name, seconds) in enumerate(times.items())
    )


def _gates(result: RunResult, plan: Plan) -> tuple[GateTable, ...]:
    tables = []
    for gate in plan.gates:
        runs = [(each.interval, run) for each in result.intervals for run in each.gates if run.gate == gate.name]
        if runs:
            tables.append(_gate(gate, runs))
    return tuple(tables)


def _gate(gate: GatePlan, runs: list[tuple[str, GateResult]]) -> GateTable:
    wanted = [expected(each) for each in gate.expectations]
    rows = tuple(
        _over_intervals([(interval, run.expectations[number]) for interval, run in runs], wanted[number])
        for number in range(len(gate.expectations))
    )
    failed = [interval for interval, run in runs if not run.success]
    state = "bad" if failed else "warn" if any(row.state == "warn" for row in rows) else "good"
    said = {"good": "passed", "warn": "passed, with warnings", "bad": "failed"}[state]
    if failed and len(runs) > 1:
        said = f"failed in {_some(failed)}"
    by_interval = tuple(
        (interval, tuple(_row(each, wanted[n]) for n, each in enumerate(run.expectations))) for interval, run in runs
    )
    return GateTable(gate.name, gate.on, state, said, rows, by_interval if len(runs) > 1 else ())


def _row(each: ExpectationResult, wanted: str) -> ExpectationRow:
    state = "good" if each.success else "bad" if each.severity == "critical" else "warn"
    said = {"good": "passed", "bad": "failed", "warn": "failed (warning)"}[state]
    return ExpectationRow(each.type, each.column, each.severity, wanted, observed(each), state, said, each.note)


def _over_intervals(found: list[tuple[str, ExpectationResult]], wanted: str) -> ExpectationRow:
    """One row for all intervals: rows are summed; else the first that fails speaks, or the first."""
    if len(found) == 1:
        return _row(found[0][1], wanted)
    failed = [(interval, each) for interval, each in found if not each.success]
    speaker = (failed or found)[0][1]
    row = _row(speaker, wanted)
    counted = [(each.element_count, each.unexpected_count) for _, each in found]
    if all(total is not None and bad is not None for total, bad in counted):
        total = sum(total or 0 for total, _ in counted)
        bad = sum(bad or 0 for _, bad in counted)
        seen = (
            f"{count(bad)} of {count(total)} rows fail ({share(bad, total)} of all)"
            if bad
            else f"all {count(total)} rows pass"
        )
    else:
        seen = row.observed if failed else f"holds in {plural(len(found), 'interval')}"
    note = f"fails in {_some([interval for interval, _ in failed])}" if failed else ""
    return ExpectationRow(row.type, row.column, row.severity, wanted, seen, row.state, row.verdict, note)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _verdicts(gates: tuple[GateTable, ...]) -> dict[str, str]:
    """What a gate is on -> its verdict; the worst, where several gates are on one relation."""
    words = {"good": "passed", "warn": "warned", "bad": "failed"}
    order = ("good", "warn", "bad")
    worst: dict[str, str] = {}
    for gate in gates:
        before = worst.get(gate.on, "good")
        worst[gate.on] = max(before, gate.state, key=order.index)
    return {on: words[state] for on, state in worst.items()}


def _facts(result: RunResult, plan: Plan) -> tuple[tuple[str, str], ...]:
    found = [
        ("Run", result.run_id),
        ("Started", moment(result.started_at)),
        ("Took", duration(result.seconds)),
        ("Owner", plan.owner),
        ("Code hash", plan.code_hash),
        ("Environment", plan.environment),
        ("Spark master", plan.master),
        ("Storage", plan.storage),
        ("Shuffle", str(result.shuffle or "")),
        ("MLflow run", result.mlflow_run_id),
        ("MLflow", result.mlflow_uri),
    ]
    return tuple((name, value) for name, value in found if value)
