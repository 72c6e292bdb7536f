"""A plan as a page: the picture, what rules did, where columns come from, what will be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.report import graph
from firesteel.jobs.report.template import render_template, write_page
from firesteel.jobs.run.stages import interval_stages

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan


def write_explanation(plan: Plan, path: Path) -> Path:
    """Write the page; an older one is replaced."""
    nodes = graph.nodes_of(plan, {})
    text = render_template(
        "explain.html.j2",
        plan=plan,
        interval_stages=interval_stages(plan),
        graph_wide=graph.draw(nodes, "dagw", down=False),
        graph_narrow=graph.draw(nodes, "dagn", down=True),
        words=graph.words(nodes),
    )
    return write_page(text, path)
