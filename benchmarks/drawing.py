"""Small line charts as SVG, for light and dark pages."""

from __future__ import annotations

import math
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 430, 230, 44, 14, 34, 40
COLOURS = ("#6b7280", "#d97706", "#1f6fb5", "#2f8f5b", "#a33e8f")
Panel = tuple[str, dict[str, list[tuple[float, float]]]]


def lines_chart(panels: list[Panel], across: str) -> str:
    """Draw panels in two columns. x is logarithmic, y starts at 0. The legend is on top."""
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    rows = math.ceil(len(panels) / 2)
    head, parts = 34, []
    for number, name in enumerate(names):
        x = 20 + number * 215
        parts.append(f'<rect x="{x}" y="12" width="16" height="4" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 22}" y="18">{escape(name)}</text>')
    for number, (title, lines) in enumerate(panels):
        parts.append(_panel(title, lines, names, (number % 2) * WIDTH, head + (number // 2) * HEIGHT, across))
    style = "text{font:12px system-ui,sans-serif;fill:#555d68}.t{font-weight:600;fill:#16191d}.g{stroke:#dde1e6}"
    dark = "@media (prefers-color-scheme:dark){text{fill:#a4adb9}.t{fill:#e8ebef}.g{stroke:#323943}}"
    size = f'width="{2 * WIDTH}" height="{head + rows * HEIGHT}" viewBox="0 0 {2 * WIDTH} {head + rows * HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{style}{dark}</style>{"".join(parts)}</svg>\n'


def _panel(
    title: str, lines: dict[str, list[tuple[float, float]]], names: list[str], left: float, top: float, across: str
) -> str:
    points = [point for line in lines.values() for point in line]
    low, high = (math.log10(each([x for x, _ in points])) for each in (min, max))
    most = max(y for _, y in points)
    step = next(each for each in (0.25, 0.5, 1, 2, 5, 10) if most / each <= 6)
    ceiling = math.ceil(most / step) * step

    def x(value: float) -> float:
        return left + LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return top + TOP + (1 - value / ceiling) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="t" x="{left + LEFT}" y="{top + 18}">{escape(title)}</text>']
    for index in range(round(ceiling / step) + 1):
        value = index * step
        parts.append(
            f'<line class="g" x1="{x(10**low):.1f}" x2="{x(10**high):.1f}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(f'<text x="{left + LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts += [
        f'<text x="{x(10**power):.1f}" y="{y(0) + 16:.1f}" text-anchor="middle">{10**power:,}</text>'
        for power in range(math.ceil(low), math.floor(high) + 1)
    ]
    parts.append(f'<text x="{left + WIDTH / 2:.1f}" y="{y(0) + 32:.1f}" text-anchor="middle">{escape(across)}</text>')
    for name, line in lines.items():
        colour = COLOURS[names.index(name)]
        path = "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.5" fill="{colour}"/>' for a, b in line]
    return "".join(parts)
