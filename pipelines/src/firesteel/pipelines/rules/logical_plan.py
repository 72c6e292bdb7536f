"""The logical plan: how each source is read, and which steps run in one stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.model import StagePlan
from firesteel.pipelines.spec.model import Score, ScoreStep, Spec


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan of one source.

    Attributes
    ----------
    source
        The source's name.
    read
        The columns that are read from the files, in the order of the contract.
    only
        Partition column -> the only values that can affect the result.
    filters
        Conditions that the scan may apply early, as Spark SQL.
    """

    source: str
    read: tuple[str, ...]
    only: tuple[tuple[str, tuple[str, ...]], ...] = ()
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogicalPlan:
    """The logical plan of a pipeline.

    Attributes
    ----------
    features
        Score step -> the input columns of its model; None if the model is unknown (offline).
    challengers
        Score step -> the input columns of its challenger, if it has one.
    """

    spec: Spec
    analysis: Analysis
    features: Mapping[str, tuple[str, ...] | None]
    scans: tuple[Scan, ...]
    stages: tuple[StagePlan, ...]
    challengers: Mapping[str, tuple[str, ...]]

    def scan(self, source: str) -> Scan | None:
        """Return the scan of a source; None for a step."""
        return next((scan for scan in self.scans if scan.source == source), None)

    def with_scan(self, scan: Scan) -> LogicalPlan:
        """Return the plan with one scan replaced."""
        return replace(self, scans=tuple(scan if old.source == scan.source else old for old in self.scans))

    def score(self, step: str) -> Score | None:
        """Return the score step with a name; None for other steps."""
        known = self.spec.steps.get(step)
        return known.score if isinstance(known, ScoreStep) else None

    def reads(self) -> Counter[str]:
        """Return how often steps name each relation."""
        counts: Counter[str] = Counter()
        for step in self.analysis.order:
            score = self.score(step)
            if score is not None:
                counts[score.input] += 1
            elif step in self.analysis.selects:
                counts.update(table for table, _ in self.analysis.selects[step].tables)
        return counts

    @property
    def watched(self) -> frozenset[str]:
        """Return the relations whose rows a gate checks; all of their rows must be read."""
        watched = {gate.on for gate in self.spec.gates.values()}
        for gate in self.spec.gates.values():
            watched |= {str(of) for expect in gate.expect if (of := expect.arguments.get("of"))}
        return frozenset(watched)


def first_logical_plan(
    spec: Spec,
    analysis: Analysis,
    features: Mapping[str, tuple[str, ...] | None],
    challengers: Mapping[str, tuple[str, ...]] | None = None,
) -> LogicalPlan:
    """Return the plan before optimization: all columns are read, and every step is a stage."""
    scans = tuple(
        Scan(
            name,
            tuple(column.name for column in analysis.relations[name] if column.name not in source.partitions),
        )
        for name, source in spec.sources.items()
    )
    stages = [StagePlan((step,), ()) for step in analysis.order]
    stages += [
        StagePlan((f"sink:{name}",), (f"distributes by {', '.join(sink.partition_by)}",))
        for name, sink in spec.sinks.items()
    ]
    return LogicalPlan(spec, analysis, features, scans, tuple(stages), challengers or {})
