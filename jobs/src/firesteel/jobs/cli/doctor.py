"""`doctor`: check the machine."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.core import ParameterSource

from firesteel.conf.errors import SpecError
from firesteel.jobs.cli.options import json_option, spec_options


@click.command()
@spec_options
@click.option("--security", is_flag=True, help="Check what is not secure instead.")
@json_option
def doctor(spec: Path, profile: str, params: dict[str, str], security: bool, as_json: bool) -> int:
    """Check Java, Python, Spark, HDFS, MLflow and RDMA, and say how to fix faults. With a SPEC, its storage and tracking are checked too."""
    if security:
        from firesteel.jobs.exposure import exposure as look
    else:
        from firesteel.jobs.doctor import examine as look

    given = click.get_current_context().get_parameter_source("spec") is not ParameterSource.DEFAULT
    if given and not spec.is_file():
        raise SpecError("FS1001", f"cannot read {spec}: no such file.")
    findings = look(spec if spec.exists() else None, profile, params)
    failed = any(finding.state == "fail" for finding in findings)
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
        return int(failed)
    colours = {"ok": "green", "note": "cyan", "fail": "red"}
    for finding in findings:
        mark = click.style(f"{finding.state:<5}", fg=colours[finding.state])
        click.echo(f"{mark} {finding.subject:<9} {finding.found}")
        if finding.advice:
            click.echo(f"{'':<16}{click.style(finding.advice, fg='cyan')}")
    return int(failed)
