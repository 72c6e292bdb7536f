"""`doctor`: check the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from firesteel.conf.errors import SpecError
from firesteel.jobs.cli.options import json_option, spec_options

if TYPE_CHECKING:
    from firesteel.conf.check import Check


@click.command()
@spec_options
@click.option("--security", is_flag=True, help="Check which protections are off instead.")
@click.option(
    "--rdma",
    is_flag=True,
    help="Check RDMA in detail instead: devices, limits, and a read from this machine to itself.",
)
@json_option
def doctor(spec: Path, profile: str, params: dict[str, str], security: bool, rdma: bool, as_json: bool) -> int:
    """Check Java, Python, Spark, HDFS, MLflow and RDMA, and say how to fix faults. With a SPEC, check its storage, tracking and permissions, too."""
    if security and rdma:
        raise click.UsageError("--security and --rdma exclude each other.")
    given = click.get_current_context().get_parameter_source("spec") is not ParameterSource.DEFAULT
    if given and not spec.is_file():
        raise SpecError("FS1001", f"cannot read {spec}: no such file.")
    checks = _checks(spec if spec.exists() else None, profile, params, security=security, rdma=rdma)
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        click.echo(json.dumps([check.as_dict() for check in checks], indent=2))
        return int(failed)
    colours = {"ok": "green", "note": "cyan", "fail": "red"}
    width = max(len(check.subject) for check in checks)
    for check in checks:
        mark = click.style(f"{check.state:<5}", fg=colours[check.state])
        click.echo(f"{mark} {check.subject:<{width}} {check.found}")
        if check.advice:
            click.echo(f"{'':<{width + 7}}{click.style(check.advice, fg='cyan')}")
    return int(failed)


def _checks(spec: Path | None, profile: str, params: dict[str, str], *, security: bool, rdma: bool) -> list[Check]:
    if rdma:
        from firesteel.rdma_shuffle.checks import rdma_checks

        return rdma_checks()
    if security:
        from firesteel.jobs.doctor.security import security_checks

        return security_checks(spec, profile, params)
    from firesteel.jobs.doctor.machine import machine_checks

    return machine_checks(spec, profile, params)
