"""Build inline SVG with escaped text and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """Return an element with escaped text and attribute values. Underscores in attribute names become hyphens."""
    from markupsafe import Markup, escape

    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _attribute_text(value))
        for key, value in attributes.items()
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)  # noqa: S704 - all element names are constants


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
    """Return an `svg` element with a title and a description for screen readers. `key` makes its ids unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{key}-t"),
        element("desc", description, id=f"{key}-d"),
        *children,
        viewBox=f"0 0 {_attribute_text(width)} {_attribute_text(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
        class_=class_,
        **attributes,
    )


def _attribute_text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
