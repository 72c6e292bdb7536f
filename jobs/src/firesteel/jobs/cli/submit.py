"""`submit`: print or run the spark-submit command of a plan."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from firesteel.jobs.cli.files import write_text
from firesteel.jobs.cli.options import interval_options, spec_options
from firesteel.jobs.cli.run_options import cluster_options, on_cluster, registered, run_id_option

if TYPE_CHECKING:
    from firesteel.jobs.submit.application import Application
    from firesteel.jobs.submit.package import SubmitPackage
    from firesteel.pipelines.plan.model import Plan

_KUBERNETES = "k8s://https://kubernetes.default.svc"


@click.command()
@spec_options
@interval_options
@cluster_options
@click.option(
    "--deploy-mode",
    type=click.Choice(["client", "cluster"]),
    default=None,
    help="Run the driver here (client) or on the cluster. Default: spark.submit.deployMode of the spec, else client.",
)
@click.option(
    "--py-files", type=click.Path(path_type=Path, exists=True), help="Send this firesteel wheel to machines without it."
)
@click.option(
    "--archive",
    default="",
    metavar="ARCHIVE",
    help="Send a Python environment that `pack` has written: a path, or a URI that the cluster can read.",
)
@click.option(
    "--python",
    default="",
    metavar="PATH",
    help="Use this Python interpreter on every machine. Default on YARN: the one of this process.",
)
@click.option(
    "--target",
    type=click.Choice(["k8s"]),
    default=None,
    help="Write Kubernetes files to --render instead, for spark-submit and for the Spark operator.",
)
@click.option(
    "--render", type=click.Path(path_type=Path, file_okay=False), help="Write the files of --target to this folder."
)
@click.option("--image", default="", help="Container image with Spark and firesteel. [k8s]")
@click.option("--namespace", default="", help="Namespace of all objects. [k8s]")
@run_id_option
@click.option("--run", "execute", is_flag=True, help="Run the command. Without it, the command is only printed.")
def submit(
    spec: Path,
    profile: str,
    params: dict[str, str],
    start: str,
    end: str | None,
    force: bool,
    master: str | None,
    settings: dict[str, str],
    deploy_mode: Literal["client", "cluster"] | None,
    py_files: Path | None,
    archive: str,
    python: str,
    target: str | None,
    render: Path | None,
    image: str,
    namespace: str,
    run_id: str,
    execute: bool,
) -> int:
    """Write the plan to .firesteel/plans, and print or run the spark-submit command that executes it.

    In cluster mode the exit code comes from the ledger's records of the planned intervals, not from spark-submit.
    """
    from firesteel.jobs.submit.command import submit_line
    from firesteel.jobs.submit.package import MODE_KEY, PYTHON_KEY, SubmitPackage, copy_as_zip
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.planner.models import sets_python
    from firesteel.pipelines.publish.signers import write_plan

    if (target is None) != (render is None):
        raise click.UsageError("--target k8s needs --render DIR, and --render needs --target.")
    if run_id and not execute:
        raise click.UsageError("--run-id needs --run.")
    pipeline = Pipeline.load(spec, profile=profile, params=params)
    if master or target:
        pipeline = pipeline.on_master(master or _KUBERNETES)
    with registered(pipeline, run_id) as reporter:
        other = bool(archive or image) or sets_python(master or "", {PYTHON_KEY: python, **settings})
        plan = pipeline.plan(start, end, force=force, wait=execute, other_python=other)
        plan = on_cluster(plan, None, settings)
        if render is not None:
            return _render(plan, render, image, namespace, python)
        mode = deploy_mode or ("cluster" if dict(plan.spark_conf).get(MODE_KEY) == "cluster" else "client")
        submission = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        package = SubmitPackage(mode, py_files, archive, python, submission)
        package.check(plan.master)
        folder = Path(".firesteel", "plans")
        folder.mkdir(parents=True, exist_ok=True)
        if py_files:
            package = replace(package, py_files=copy_as_zip(py_files, folder))
        path = folder / f"{plan.short_hash}-{plan.intervals[0].id}-{plan.intervals[-1].id}.json"
        write_text(path, write_plan(plan))
        click.echo(shlex.join(submit_line(plan, path, package, run_id=run_id)))
        if not execute:
            return 0
        code = _execute(plan, path, package, run_id)
        reporter.code(code)
    return code


def _execute(plan: Plan, path: Path, package: SubmitPackage, run_id: str) -> int:
    from firesteel.jobs.cli.console import show_result
    from firesteel.jobs.submit.submission import run_submission

    if package.mode == "cluster" and all(interval.action == "skip" for interval in plan.intervals):
        click.echo(f"nothing to do: {plan.intervals[0].reason}", err=True)
        return 0
    ended = run_submission(plan, path, package, _show_application, run_id=run_id)
    if ended.result is not None:
        show_result(ended.result, as_json=False)
    if ended.text:
        click.echo(click.style(ended.text, fg="red" if ended.exit_code else None), err=True)
    return ended.exit_code


def _render(plan: Plan, folder: Path, image: str, namespace: str, python: str) -> int:
    from firesteel.jobs.kubernetes.deployment import Deployment
    from firesteel.jobs.kubernetes.render import render

    for path in render(Deployment.of(plan, image=image, namespace=namespace, python=python), folder):
        click.echo(path)
    return 0


def _show_application(application: Application) -> None:
    attempt = f"  driver {application.attempt}" if application.attempt > 1 else ""
    url = f"  {application.tracking_url}" if application.tracking_url.startswith("http") else ""
    click.echo(f"  {application}{attempt}{url}", err=True)
