"""Inline SVG, escaped by construction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """An element; text and attribute values are escaped, underscores in attribute names become hyphens."""
    from markupsafe import Markup, escape

    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value)) for key, value in attributes.items()
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)  # noqa: S704 - names are ours


def picture(
    width: float,
    height: float,
    title: str,
    description: str,
    *children: Markup,
    class_: str,
    key: str,
    **attributes: object,
) -> Markup:
    """An `svg` with a name and a description for those who do not see it; `key` makes its ids unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{key}-t"),
        element("desc", description, id=f"{key}-d"),
        *children,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
        class_=class_,
        **attributes,
    )


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
