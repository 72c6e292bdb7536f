"""The page docs/reference/api.md: the public names with their signatures and NumPy docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import firesteel
from firesteel.conf.errors import FiresteelError
from firesteel.pipelines.result import Counts, IntervalResult

ABOUT = """# The Python API

`import firesteel` gives these names, and imports none of pyspark, MLflow and pandas before they are used.

The examples run in this order in the folder of the [flights example](../../examples/flights), with `spark` a local session.
"""
PUBLIC: tuple[tuple[str, Any], ...] = (
    ("firesteel.score", firesteel.score),
    ("firesteel.Pipeline", firesteel.Pipeline),
    ("Pipeline.load", firesteel.Pipeline.load),
    ("Pipeline.plan", firesteel.Pipeline.plan),
    ("Pipeline.run", firesteel.Pipeline.run),
    ("Pipeline.frame", firesteel.Pipeline.frame),
    ("Pipeline.sinks", firesteel.Pipeline.sinks),
    ("Pipeline.name", firesteel.Pipeline.name),
    ("Pipeline.on_master", firesteel.Pipeline.on_master),
    ("Pipeline.sketch", firesteel.Pipeline.sketch),
    ("firesteel.read", firesteel.read),
    ("firesteel.Plan", firesteel.Plan),
    ("Plan.to_json", firesteel.Plan.to_json),
    ("Plan.from_json", firesteel.Plan.from_json),
    ("firesteel.RunResult", firesteel.RunResult),
    ("RunResult.counts", firesteel.RunResult.counts),
    ("RunResult.to_json", firesteel.RunResult.to_json),
    ("IntervalResult", IntervalResult),
    ("Counts", Counts),
)
"""What the page shows, in its order. Tests run the examples in this order."""
MAX_WIDTH = 100
"""Of a signature in one line, in characters."""

_SECTION = re.compile(r"^(?P<title>[A-Z]\w+)\n-+$", re.MULTILINE)


def page() -> str:
    """Return the page."""
    parts = [ABOUT, *(_entry(name, value) for name, value in PUBLIC), _errors()]
    return "\n".join(parts)


def _entry(name: str, value: Any) -> str:
    text = inspect.getdoc(value.fget if isinstance(value, property) else value) or ""
    head, *sections = _SECTION.split(text)
    signature = "" if isinstance(value, property | type) else _signature(value)
    call = [f"```text\n{name}{signature}\n```", ""] if signature else []
    lines = [f"## {name}", "", *call, _prose(head)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        lines += [f"**{title}**", "", _section(title, body.strip("\n")), ""]
    return "\n".join(lines).rstrip() + "\n"


def _signature(value: Any) -> str:
    """Return the parameters, one per line if there are many. Their types are in the text below."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_named(parameter.default))
        for parameter in inspect.signature(value).parameters.values()
        if parameter.name != "self"
    ]
    short = str(inspect.Signature(parameters))
    if len(short) < MAX_WIDTH:
        return short
    keyword_only = next((parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY), None)
    lines = [f"    {'*, ' if parameter is keyword_only else ''}{parameter}," for parameter in parameters]
    return "\n".join(["(", *lines, ")"])


def _named(default: Any) -> Any:
    """Return a default as text: a function by its name."""
    if not inspect.isfunction(default):
        return default
    return type("Name", (), {"__repr__": lambda _: default.__name__})()


def _section(title: str, body: str) -> str:
    """Return a section as Markdown: a list where it is `name : type` lines with indented texts."""
    if title == "Examples":
        return f"```pycon\n{body}\n```"
    if title == "Notes":
        return _prose(body)
    items: list[str] = []
    for line in body.splitlines():
        if line.startswith(" "):
            items[-1] += f" {line.strip()}"
        elif line.strip():
            name, separator, kind = line.partition(" : ")
            items.append(f"- **{name}**{f' ({kind})' if separator else ''}:")
    return _prose("\n".join(item.removesuffix(":") if item.endswith(":") else item for item in items)).rstrip()


def _prose(text: str) -> str:
    """Return paragraphs of RST as Markdown: double backticks are single ones there."""
    return text.strip().replace("``", "`") + "\n"


def _errors() -> str:
    rows = []
    for name in sorted(firesteel.__all__):
        kind = getattr(firesteel, name)
        if isinstance(kind, type) and issubclass(kind, FiresteelError):
            summary = (inspect.getdoc(kind) or "").splitlines()[0]
            rows.append(f"| `{name}` | {kind.exit_code} | {summary} |")
    table = "\n".join(rows)
    return (
        "## Errors\n\nEach has `code`, `what`, `where` and `hint`; [the catalogue](errors.md) explains the codes. "
        "All are subclasses of `FiresteelError`.\n\n"
        f"| error | exit code of the command line | meaning |\n|---|---|---|\n{table}\n"
    )
