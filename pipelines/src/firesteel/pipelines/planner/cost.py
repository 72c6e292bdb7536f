"""What a run costs in executor-hours, by earlier runs, and how many executors a ceiling allows."""

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

    def affordable(self, ceiling_hours: float) -> int:
        """Most executors that stay below a ceiling; below 1 it is too low for the work alone."""
        return int((ceiling_hours * 3600 - self.work_s) / self.each_s)


def check_ceiling(proposal: ResourcePlan, where: Where) -> None:
    """FS1018 when even one executor would cost more than the plan may."""
    ceiling, hours = proposal.max_executor_hours, proposal.executor_hours
    if ceiling is not None and hours is not None and hours > ceiling:
        raise SpecError(
            "FS1018",
            f"the plan would cost {hours:.2f} executor-hours by earlier runs, resources.executors.max_executor_hours allows "
            f"{ceiling:g}.",
            where=where,
            hint="Plan fewer intervals at a time, or raise the ceiling. Nothing was read.",
        )
