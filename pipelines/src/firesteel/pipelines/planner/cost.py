"""The estimated executor-hours of a run, and the number of executors that a limit allows."""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.conf.errors import SpecError, Where
from firesteel.pipelines.plan.model import ResourcePlan
from firesteel.pipelines.planner.allocation import START_S


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of executors: the work, which they share, and the overhead of each (start, idle time and pauses).

    Attributes
    ----------
    work_s
        Seconds of work for executors with all slots busy.
    each_s
        Seconds of overhead per executor.
    """

    work_s: float
    each_s: float

    @classmethod
    def of(cls, work_s: float, idle_s: float, pause_s: float, intervals: int) -> Cost:
        """Return the cost. A pause longer than the idle timeout costs the timeout and a new start."""
        pauses = max(0, intervals - 1) * min(pause_s, idle_s + START_S)
        return cls(work_s, START_S + idle_s + pauses)

    def hours(self, executors: int) -> float:
        """Return the executor-hours with a number of executors."""
        return (self.work_s + executors * self.each_s) / 3600

    def affordable(self, budget_hours: float) -> int:
        """Return the most executors within a limit; below 1, the limit is too low for the work alone."""
        return int((budget_hours * 3600 - self.work_s) / self.each_s)


def check_executor_hours(proposal: ResourcePlan, where: Where) -> None:
    """Raise FS1018 when even one executor would exceed the limit."""
    budget_hours, hours = proposal.max_executor_hours, proposal.executor_hours
    if budget_hours is not None and hours is not None and hours > budget_hours:
        raise SpecError(
            "FS1018",
            f"the plan would need {hours:.2f} executor-hours, estimated from earlier runs; resources.executors.max_executor_hours is "
            f"{budget_hours:g}.",
            where=where,
            hint="Plan fewer intervals, or raise the limit. Nothing was read.",
        )
