"""One bar cut into parts: where the time went, where the rows went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.jobs.report.svg import element, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

COLOURS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a whole. `colour` is a class of the style sheet."""

    name: str
    amount: float
    text: str
    colour: str


def draw(parts: Sequence[Part], title: str, key: str) -> Markup | None:
    """The bar; None when there is nothing to show. Its text stands in the table beside it."""
    whole = sum(part.amount for part in parts)
    if whole <= 0:
        return None
    width, height, at = 1000.0, 28.0, 0.0
    boxes = []
    for part in parts:
        wide = part.amount / whole * width
        if wide <= 0:
            continue
        boxes.append(
            element(
                "rect",
                element("title", f"{part.name}: {part.text}"),
                x=at,
                y=0,
                width=wide,
                height=height,
                class_=f"part {part.colour}",
            )
        )
        at += wide
    said = ", ".join(f"{part.name} {part.text}" for part in parts if part.amount > 0)
    # Stretched to the page's width: the bar has no text that could be bent.
    return picture(width, height, title, said, *boxes, class_="stack", key=key, preserveAspectRatio="none")
