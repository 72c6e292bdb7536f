"""Write a plan as an HTML page: graph, rule effects, column lineage and requested resources."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.jobs.report import graph
from firesteel.jobs.report.template import render_template, write_page

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan


def write_explanation(plan: Plan, interval_stages: Iterable[object], path: Path) -> Path:
    """Write the page and replace an older one. `interval_stages` says what each stage of an interval does."""
    nodes = graph.nodes_of(plan, {})
    text = render_template(
        "explain.html.j2",
        plan=plan,
        interval_stages=interval_stages,
        graph_wide=graph.draw(nodes, "dagw", down=False),
        graph_narrow=graph.draw(nodes, "dagn", down=True),
        graph_text=graph.describe(nodes),
    )
    return write_page(text, path)
