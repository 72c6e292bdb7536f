"""What a run costs in executor-hours, by earlier runs, and how many executors a budget allows."""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.conf.errors import SpecError, Where
from firesteel.pipelines.plan.model import ResourcePlan
from firesteel.pipelines.planner.allocation import START_S


@dataclass(frozen=True, slots=True)
class Cost:
    """Of executors: the work is the same however many share it, and each costs a start, its idle end, and the pauses.

    Attributes
    ----------
    work_s
        Seconds of work of executors with all of their slots busy.
    each_s
        What an executor costs beside its work.
    """

    work_s: float
    each_s: float

    @classmethod
    def of(cls, work_s: float, idle_s: float, pause_s: float, intervals: int) -> Cost:
        """Pauses that are longer than the idle timeout cost that, and a new start."""
        pauses = max(0, intervals - 1) * min(pause_s, idle_s + START_S)
        return cls(work_s, START_S + idle_s + pauses)

    def hours(self, executors: int) -> float:
        """Executor-hours with so many executors."""
        return (self.work_s + executors * self.each_s) / 3600

    def affordable(self, budget_hours: float) -> int:
        """Return the most executors that a budget allows; below 1 it is too low for the work alone."""
        return int((budget_hours * 3600 - self.work_s) / self.each_s)


def check_executor_hours(proposal: ResourcePlan, where: Where) -> None:
    """Raise FS1018 when even one executor would cost more than `max_executor_hours`."""
    budget_hours, hours = proposal.max_executor_hours, proposal.executor_hours
    if budget_hours is not None and hours is not None and hours > budget_hours:
        raise SpecError(
            "FS1018",
            f"the plan would cost {hours:.2f} executor-hours by earlier runs, resources.executors.max_executor_hours allows "
            f"{budget_hours:g}.",
            where=where,
            hint="Plan fewer intervals at a time, or raise the limit. Nothing was read.",
        )
