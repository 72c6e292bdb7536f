"""Options of runs that a scheduler starts: --run-id, --master and --conf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from firesteel.conf.identifiers import is_run_id
from firesteel.jobs.cli.options import pairs

if TYPE_CHECKING:
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.publish.heartbeat import RunHeartbeat
    from firesteel.pipelines.result import RunResult

F = TypeVar("F", bound=Callable[..., Any])


def _checked(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if value and not is_run_id(value):
        raise click.BadParameter(
            f"`{value}` is not a run id (1 to 64 letters, digits, `.`, `_` and `-`; the first is a letter or digit)"
        )
    return value


def run_id_option(function: F) -> F:
    """Add --run-id."""
    return click.option(
        "--run-id",
        default="",
        metavar="ID",
        callback=_checked,
        help="Set the run's id, and record its heartbeat and its end in the storage (see `status --run`).",
    )(function)


def cluster_options(function: F) -> F:
    """Add --master and --conf."""
    function = click.option(
        "--conf",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        callback=pairs,
        help="Override a Spark setting of the spec. Repeat it for more settings. Do not pass secrets: other users can read them.",
    )(function)
    return click.option(
        "--master",
        default=None,
        help="Override resources.master of the spec: local[2], spark://HOST:PORT or yarn.",
    )(function)


def on_cluster(plan: Plan, master: str | None, settings: dict[str, str]) -> Plan:
    """Return the plan with another master and more settings. Neither is part of the plan hash.

    Raises
    ------
    SpecError
        FS1021 when the plan is strict and would no longer be. FS1022 when a setting changes rows, which the hash must cover.
    """
    from firesteel.conf.errors import SpecError
    from firesteel.pipelines.plan.security import SECRET, UI_KEY, weaknesses
    from firesteel.pipelines.plan.settings import changes_results, is_inherited, loses_rows

    planned = dict(plan.spark_conf)
    for key, value in settings.items():
        if loses_rows(key, value) or (changes_results(key) and not is_inherited(key) and value != planned.get(key)):
            what = f"--conf {key}={value} can change rows, but the plan's hash does not cover it."
            raise SpecError("FS1022", what, hint="Set it under `configuration` of the spec.")
    if master:
        plan = replace(plan, master=master)
    if settings:
        plan = replace(plan, spark_conf=tuple(sorted({**planned, **settings}.items())))
    if plan.security == "strict":
        weak = weaknesses({**dict(plan.spark_conf), "spark.master": plan.master})
        weak += [
            f"{key} is on the command line, which other users can read" for key in (SECRET, UI_KEY) if key in settings
        ]
        if weak:
            what = f"--conf or --master conflicts with `security: {{mode: strict}}`: {'; '.join(weak)}."
            raise SpecError("FS1021", what, hint="Remove the option. Set secrets under `security` of the spec.")
    return plan


@dataclass(frozen=True, slots=True)
class RunReporter:
    """Records the end of a run in its heartbeat, if the run has one. The first record wins."""

    heartbeat: RunHeartbeat | None = None

    def result(self, result: RunResult, plan: Plan) -> None:
        """Record the result of a run."""
        from firesteel.pipelines.brief import brief

        if self.heartbeat is not None:
            self.heartbeat.end(result.exit_code, brief(result, plan))

    def code(self, exit_code: int) -> None:
        """Record the exit code of a process that may have recorded its result already."""
        if self.heartbeat is not None:
            self.heartbeat.end(exit_code, {})


@contextmanager
def registered(pipeline: Pipeline, run_id: str) -> Iterator[RunReporter]:
    """Register a run in the storage before it is planned, and renew its heartbeat until the block ends."""
    if not run_id:
        yield RunReporter()
        return
    loaded = pipeline.loaded
    with _heartbeat(loaded.spec.storage, loaded.spec.name, loaded.profile, run_id) as heartbeat:
        yield RunReporter(heartbeat)


@contextmanager
def taken_over(plan: Plan, run_id: str) -> Iterator[RunReporter]:
    """Take over, in the driver, the heartbeat of a run that its client has registered."""
    if not run_id:
        yield RunReporter()
        return
    with _heartbeat(plan.storage, plan.pipeline, plan.profile, run_id).taken_over() as heartbeat:
        yield RunReporter(heartbeat)


def _heartbeat(base_uri: str, pipeline: str, profile: str, run_id: str) -> RunHeartbeat:
    from firesteel.pipelines.publish.heartbeat import RunHeartbeat
    from firesteel.pipelines.publish.state_store import StateStore

    return RunHeartbeat(StateStore.at(base_uri, pipeline, profile), run_id)
