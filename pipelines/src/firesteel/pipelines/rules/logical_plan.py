"""What rules rewrite: how each source is read, and which steps run as one stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.model import StagePlan
from firesteel.pipelines.spec.model import Score, ScoreStep, Spec


@dataclass(frozen=True, slots=True)
class Scan:
    """How one source is read.

    Attributes
    ----------
    source
        Its name.
    read
        The columns that are read from the files, in the order of the contract.
    only
        Partition column -> the only values that can matter.
    filters
        Conditions that every row that matters fulfils, as Spark SQL.
    """

    source: str
    read: tuple[str, ...]
    only: tuple[tuple[str, tuple[str, ...]], ...] = ()
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogicalPlan:
    """A pipeline on its way to a plan.

    Attributes
    ----------
    features
        Score step -> the columns that its model takes; None where the model is not known (offline).
    challengers
        Score step -> the columns that its challenger takes, where it has one.
    """

    spec: Spec
    analysis: Analysis
    features: Mapping[str, tuple[str, ...] | None]
    scans: tuple[Scan, ...]
    stages: tuple[StagePlan, ...]
    challengers: Mapping[str, tuple[str, ...]]

    def scan(self, source: str) -> Scan | None:
        """The scan of a source; None for a step."""
        return next((scan for scan in self.scans if scan.source == source), None)

    def with_scan(self, scan: Scan) -> LogicalPlan:
        """The same with one scan replaced."""
        return replace(self, scans=tuple(scan if each.source == scan.source else each for each in self.scans))

    def score(self, step: str) -> Score | None:
        """The score step of that name."""
        found = self.spec.steps.get(step)
        return found.score if isinstance(found, ScoreStep) else None

    def reads(self) -> Counter[str]:
        """How often each relation is named by steps."""
        found: Counter[str] = Counter()
        names = {name.lower(): name for name in self.analysis.relations}
        for step in self.analysis.order:
            score = self.score(step)
            if score is not None:
                found[score.input] += 1
            elif step in self.analysis.selects:
                tables = (names.get(table.lower()) for table, _ in self.analysis.selects[step].tables)
                found.update(name for name in tables if name is not None)
        return found

    @property
    def watched(self) -> frozenset[str]:
        """Relations whose rows a gate looks at: they are read whole."""
        found = {gate.on for gate in self.spec.gates.values()}
        for gate in self.spec.gates.values():
            found |= {str(of) for expect in gate.expect if (of := expect.arguments.get("of"))}
        return frozenset(found)


def first_logical_plan(
    spec: Spec,
    analysis: Analysis,
    features: Mapping[str, tuple[str, ...] | None],
    challengers: Mapping[str, tuple[str, ...]] | None = None,
) -> LogicalPlan:
    """Everything is read, and every step is a stage of its own."""
    scans = tuple(
        Scan(
            name,
            tuple(column.name for column in analysis.relations[name] if column.name not in source.partitions),
        )
        for name, source in spec.sources.items()
    )
    stages = [StagePlan((step,), ()) for step in analysis.order]
    stages += [
        StagePlan((f"sink:{name}",), (f"spreads by {', '.join(sink.partition_by)}",))
        for name, sink in spec.sinks.items()
    ]
    return LogicalPlan(spec, analysis, features, scans, tuple(stages), challengers or {})
