"""Write a project: the starter, or the flights demo with its data and model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.testing.schema import case_schema
from firesteel.pipelines.spec.schema import spec_schema

Say = Callable[[str], object]
SCHEMAS = {Path(".schema", "pipeline-v1.json"): spec_schema, Path(".schema", "tests-v1.json"): case_schema}


def create_starter(folder: Path) -> list[Path]:
    """A commented spec, its SQL and its tests that `firesteel validate` accepts, to be edited."""
    return [*_copy(resources.files("firesteel.jobs.project") / "starter", folder), *_schema(folder)]


def create_flights(folder: Path, root: str | None, say: Say) -> None:
    """The flights project with data at `root` and a model in `folder/mlflow.db`. What is there already is kept, and said.

    Parameters
    ----------
    root
        hdfs:// or file:// URI; `file://FOLDER/data` by default.
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
    _place(folder / "pipeline.yaml", root, tracking)
    _load(root, load_flights, say)
    model = train_model(tracking)
    made = "trained and registered" if model.created else "registered already"
    say(f"model: {model.name} v{model.version} @champion, {made} (AUC {model.auc:.3f} on flights it has not seen)")


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


def _place(spec: Path, root: str, tracking: str) -> None:
    """Give the copied spec's `root` a default and its tracking a URI, so that no option is needed.

    The spec's own words are the pattern; a project whose spec was edited beyond them is left alone.
    """
    lines = []
    for line in spec.read_text(encoding="utf-8").splitlines():
        if line.startswith("  root:"):
            lines.append(f'  root:    {{type: uri, default: "{root}", description: Where the data lives.}}')
        elif line.startswith("tracking: {mlflow:"):
            lines.append(f'tracking: {{mlflow: {{uri: "{tracking}", experiment: /batch/flight_delay}}}}')
        else:
            lines.append(line)
    spec.write_text("\n".join(lines) + "\n", encoding="utf-8")
