"""The report of a run as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.report.page import page
from firesteel.jobs.report.template import render_template, write_page

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult


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
    return write_page(render(result, plan), path)


def render(result: RunResult, plan: Plan) -> str:
    """The page as text: the same for the same result and plan."""
    return render_template("report.html.j2", page=page(result, plan))
