"""Render page templates and write the pages atomically."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.quantities import byte_size, duration
from firesteel.conf.redaction import redact
from firesteel.jobs.report.formats import count, moment, share, short

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE = "report.css"


def render_template(name: str, **values: object) -> str:
    """Return a page from a template of this package and the common style sheet. The text is deterministic."""
    from markupsafe import Markup

    style = resources.files("firesteel.jobs.report").joinpath("templates", STYLE).read_text("utf-8")
    return redact(_environment().get_template(name).render(style=Markup(style), **values))  # noqa: S704 - a file of this package


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return the cached environment, because compiling a page's template takes 60 ms."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

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
    return environment


def write_page(text: str, path: Path) -> Path:
    """Write a page atomically. Create its folder and replace an older page."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
