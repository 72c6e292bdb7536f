"""Write a project: the starter, or the flights demo with its data and model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.testing.model import case_schema
from firesteel.pipelines.spec.schema import spec_schema

Say = Callable[[str], object]
SCHEMAS = {Path(".schema", "pipeline-v1.json"): spec_schema, Path(".schema", "tests-v1.json"): case_schema}


def create_starter(folder: Path) -> list[Path]:
    """Write a commented, valid spec with its SQL and tests to `folder`, and return the paths of the new files."""
    return [*_copy(resources.files("firesteel.jobs.project") / "starter", folder), *_schema(folder)]


def create_flights(folder: Path, root: str | None, say: Say) -> None:
    """Write the flights project with its data at `root` and its model in `folder/mlflow.db`. Keeps existing files.

    Parameters
    ----------
    root
        The hdfs:// or file:// URI of the data. Default: `file://FOLDER/data`.
    say
        Called with each line of output.
    """
    try:
        from firesteel.jobs.demo.flights import load_flights
        from firesteel.jobs.demo.model import train_model
    except ImportError as error:
        raise RuntimeFault(
            "FS9004", f"the demo needs the package {error.name}.", hint='pip install "firesteel[demo]"'
        ) from error
    root = root or f"file://{folder}/data"
    tracking = f"sqlite:///{folder}/mlflow.db"
    for path in [*_copy(resources.files("firesteel.jobs.demo") / "project", folder), *_schema(folder)]:
        say(f"wrote {path}")
    _set_defaults(folder / "pipeline.yaml", root, tracking)
    _load(root, load_flights, say)
    model = train_model(tracking)
    state = "trained and registered" if model.created else "already registered"
    say(f"model: {model.name} v{model.version} @champion, {state} (AUC {model.auc:.3f} on held-out flights)")


def _load(root: str, load: Callable[..., object], say: Say) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"loading flights and weather into {root}", total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        report = load(root, progress=on_progress)
    say(f"data: {report}")


def _copy(source: Traversable, folder: Path) -> Iterator[Path]:
    for item in source.iterdir():
        target = folder / item.name
        if item.is_dir():
            if not item.name.startswith("."):
                target.mkdir(exist_ok=True)
                yield from _copy(item, target)
        elif item.name.endswith((".yaml", ".sql", ".md", ".csv")) and not target.exists():
            target.write_bytes(item.read_bytes())
            yield target


def _schema(folder: Path) -> Iterator[Path]:
    for name, schema in SCHEMAS.items():
        path, text = folder / name, json.dumps(schema(), indent=2) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            yield path


def _set_defaults(spec: Path, root: str, tracking: str) -> None:
    """Set the default of `root` and the tracking URI in the copied spec, so that its commands need no options.

    Lines that a user has edited beyond recognition do not change.
    """
    lines = []
    for line in spec.read_text(encoding="utf-8").splitlines():
        if line.startswith("  root:"):
            lines.append(f'  root:    {{type: uri, default: "{root}", description: Root folder of the data.}}')
        elif line.startswith("tracking: {mlflow:"):
            lines.append(f'tracking: {{mlflow: {{uri: "{tracking}", experiment: /batch/flight_delay}}}}')
        else:
            lines.append(line)
    spec.write_text("\n".join(lines) + "\n", encoding="utf-8")
