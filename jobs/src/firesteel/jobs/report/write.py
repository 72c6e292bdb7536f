"""Render and write the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.report.page import page_values
from firesteel.jobs.report.template import render_template, write_page

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult


def write_report(result: RunResult, plan: Plan, path: Path) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    path
        The file to write. The function creates its folder and replaces an older report.

    Returns
    -------
    Path
        `path`.
    """
    return write_page(render(result, plan), path)


def render(result: RunResult, plan: Plan) -> str:
    """Return the page as text. The text is deterministic."""
    return render_template("report.html.j2", page=page_values(result, plan))
