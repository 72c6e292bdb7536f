"""`validate` and `schema`: check a spec, and print its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from firesteel.jobs.cli.files import write_text
from firesteel.jobs.cli.options import OutputFile, json_option, spec_options


@click.command()
@spec_options
@click.option("--strict", is_flag=True, help="Refuse sources without declared columns: only `plan` can check them.")
@json_option
def validate(spec: Path, profile: str, params: dict[str, str], strict: bool, as_json: bool) -> None:
    """Check the keys, types, references, SQL and columns of a spec, and show all errors. Starts no JVM and reads no data."""
    from firesteel.conf.errors import SpecError, SpecErrors
    from firesteel.pipelines import Pipeline

    pipeline = Pipeline.load(spec, profile=profile, params=params)
    loaded = pipeline.loaded.spec
    unchecked = [name for name in (*loaded.sources, *loaded.steps) if name in pipeline.analysis.unknown]
    if strict and unchecked:
        raise SpecErrors.of(
            [
                SpecError(
                    "FS1016",
                    f"{name} declares no columns.",
                    where=pipeline.loaded.tree.nearest(("sources", name)).where,
                    hint=f"Add sources.{name}.contract.columns.",
                )
                for name in unchecked
                if name in loaded.sources
            ]
        )
    facts = {
        "pipeline": loaded.name,
        "profile": profile,
        "sources": list(loaded.sources),
        "steps": list(loaded.steps),
        "gates": list(loaded.gates),
        "sinks": list(loaded.sinks),
    }
    if as_json:
        click.echo(json.dumps({"valid": True, **facts, "unchecked": unchecked}))
        return
    counts = ", ".join(
        f"{len(names)} {kind if len(names) != 1 else kind[:-1]}"
        for kind, names in facts.items()
        if isinstance(names, list)
    )
    click.echo(f"{spec}: valid. {loaded.name}: {counts}.")
    if unchecked:
        click.echo(f"`plan` checks the columns of {', '.join(unchecked)}: a source declares no columns.")


@click.command()
@click.option("--tests", is_flag=True, help="Print the schema of test files (tests/*.yaml) instead.")
@click.option("-o", "--output", type=OutputFile(), help="Write to this file instead of standard output.")
def schema(tests: bool, output: Path | None) -> None:
    """Print the JSON Schema of a spec, for editors. Name it in the first line of a spec: `# yaml-language-server: $schema=PATH`."""
    from firesteel.jobs.testing.model import case_schema
    from firesteel.pipelines.spec.schema import spec_schema

    text = json.dumps(case_schema() if tests else spec_schema(), indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    write_text(output, text)
    click.echo(f"wrote {output}")
