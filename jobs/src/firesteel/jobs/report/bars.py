"""Draw a stacked bar, such as time by stage or rows by outcome."""

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
    """One segment of a stacked bar. `colour` is a class of the style sheet."""

    name: str
    amount: float
    text: str
    colour: str


def draw(parts: Sequence[Part], title: str, key: str) -> Markup | None:
    """Draw the bar without text, or return None if all amounts are zero."""
    total = sum(part.amount for part in parts)
    if total <= 0:
        return None
    width, height, x = 1000.0, 28.0, 0.0
    rects = []
    for part in parts:
        part_width = part.amount / total * width
        if part_width <= 0:
            continue
        rects.append(
            element(
                "rect",
                element("title", f"{part.name}: {part.text}"),
                x=x,
                y=0,
                width=part_width,
                height=height,
                class_=f"part {part.colour}",
            )
        )
        x += part_width
    description = ", ".join(f"{part.name} {part.text}" for part in parts if part.amount > 0)
    # The page stretches the bar to its width, which would distort text.
    return picture(width, height, title, description, *rects, class_="stack", key=key, preserveAspectRatio="none")
