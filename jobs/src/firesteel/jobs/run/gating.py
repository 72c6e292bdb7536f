"""The gates of one interval: run on a frame, told, and obeyed."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from firesteel.jobs.gates.run import raise_if_failed, run_gate
from firesteel.pipelines.events import Event, OnEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

    from firesteel.jobs.run.findings import Findings
    from firesteel.pipelines.plan.model import GatePlan
    from firesteel.pipelines.profile import Profile
    from firesteel.pipelines.result import GateResult

_NOTHING = MappingProxyType["str", "Profile"]({})


@dataclass(frozen=True, slots=True)
class Gating:
    """Runs gates, and keeps what they found.

    Attributes
    ----------
    rows_of
        Rows of a relation of this interval, for `row_count_matches`; None where it is not made yet.
    """

    interval: str
    findings: Findings
    on_event: OnEvent
    rows_of: Callable[[str], int | None]

    def run(self, gate: GatePlan, frame: DataFrame, measured: Mapping[str, Profile] = _NOTHING) -> GateResult:
        """Hold a frame against a gate.

        Parameters
        ----------
        measured
            Profiles of columns of the frame, where they are known already.

        Raises
        ------
        GateFailed
            FS7001 when a critical expectation failed, FS7003 when one could not be evaluated.
        """
        named = {str(dict(each.kwargs).get("of")) for each in gate.expectations if each.type == "row_count_matches"}
        rows = {name: count for name in named if (count := self.rows_of(name)) is not None}
        with self.findings.timed("gates"):
            result = run_gate(
                gate,
                frame,
                row_counts=rows,
                counts=self.findings.counts,
                drifts=self.findings.drifts,
                measured=measured,
            )
        self.findings.gates.append(result)
        kind: Literal["output_gate", "input_gate"] = "output_gate" if gate.on.startswith("sink:") else "input_gate"
        self.on_event(Event(kind, self.interval, {"gate": gate.name, "success": result.success}))
        raise_if_failed(result, gate)
        return result
