"""Write the page: whole or not at all."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.report.figures import byte_size, count, duration, moment, share, short
from firesteel.jobs.report.page import page

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

TEMPLATE = "report.html.j2"
STYLE = "report.css"


def write_report(result: RunResult, plan: Plan, path: Path) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    path
        The file to write; its folder is made, an older report is replaced.

    Returns
    -------
    Path
        `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(render(result, plan), "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def render(result: RunResult, plan: Plan) -> str:
    """The page as text: the same for the same result and plan."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("firesteel.jobs.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "bytes": byte_size,
        "moment": moment,
        "duration": duration,
        "share": share,
        "short": short,
    }
    style = resources.files("firesteel.jobs.report").joinpath("templates", STYLE).read_text("utf-8")
    return environment.get_template(TEMPLATE).render(page=page(result, plan), style=Markup(style))  # noqa: S704 - ours
