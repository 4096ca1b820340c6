"""Rate and p99 over the number of buyers, as an SVG: a pair of charts for each closed shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from inventory.experiments.benchmark.run import Result
from inventory.experiments.benchmark.shapes import SHAPES

WIDTH, HEIGHT = 460, 300  # of a chart, in pixels
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 40, 40  # margins; the right one has the lines' names
MOST_TICKS = 7
NAME_HEIGHT = 13  # pixels that the name of a line needs
COLOURS = (  # distinct for colour-blind people, too (Okabe and Ito, 2008)
    ("#555555", "4 3"),
    ("#555555", "1 3"),
    ("#0072b2", ""),
    ("#e69f00", ""),
    ("#009e73", ""),
    ("#cc79a7", ""),
    ("#56b4e9", ""),
    ("#8c6d00", ""),
    ("#d55e00", ""),
)
STYLE = """
    svg { background: #ffffff; font: 11px sans-serif; }
    text { fill: #222222; } .title { font-size: 13px; font-weight: bold; }
    .grid { stroke: #dddddd; } .line { fill: none; stroke-width: 2; }
"""


@dataclass(frozen=True)
class Line:
    name: str
    points: list[tuple[float, float]]
    colour: str
    dashes: str


def draw(results: Sequence[Result]) -> str:
    """Return the picture of these results; both axes are logarithmic."""
    closed = [name for name, shape in SHAPES.items() if not shape.is_open]
    shown = [name for name in closed if any(result.shape == name for result in results)]
    picture = ElementTree.Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {2 * WIDTH} {max(1, len(shown)) * HEIGHT}",
        role="img",
    )
    _add(picture, "title").text = "Rate and p99 of each strategy over the number of buyers"
    _add(picture, "style").text = STYLE
    for index, name in enumerate(shown):
        results_of_shape = [result for result in results if result.shape == name]
        rates = _lines(results_of_shape, lambda result: result.per_second)
        p99s = _lines(results_of_shape, lambda result: result.p99_ms)
        _chart(picture, 0, index * HEIGHT, f"{name}: buyers served per second", rates)
        _chart(picture, WIDTH, index * HEIGHT, f"{name}: p99, milliseconds", p99s)
    ElementTree.indent(picture)
    return ElementTree.tostring(picture, encoding="unicode") + "\n"


def _lines(results: Sequence[Result], value: Callable[[Result], float]) -> list[Line]:
    names = list(dict.fromkeys(result.row for result in results))
    return [
        Line(
            name,
            [
                (result.load.buyers, value(result))
                for result in sorted(results, key=lambda result: result.load.buyers)
                if result.row == name and value(result) > 0
            ],
            *COLOURS[index % len(COLOURS)],
        )
        for index, name in enumerate(names)
    ]


def _chart(picture: ElementTree.Element, x: float, y: float, title: str, lines: list[Line]) -> None:
    group = _add(picture, "g", transform=f"translate({x} {y})")
    _text(group, LEFT, 20, title, "start").set("class", "title")
    points = [point for line in lines for point in line.points]
    if not points:
        return
    across = _scale([buyers for buyers, _ in points], LEFT, WIDTH - RIGHT, padding=1.15)
    up = _scale([value for _, value in points], HEIGHT - BOTTOM, TOP, padding=1.5)
    for value in _ticks([value for _, value in points]):
        _add(group, "line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(value), y2=up(value)).set(
            "class", "grid"
        )
        _text(group, LEFT - 6, up(value) + 4, f"{value:,g}", "end")
    for buyers in sorted({buyers for buyers, _ in points}):
        _text(group, across(buyers), HEIGHT - BOTTOM + 16, f"{buyers:,g}", "middle")
    _text(group, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "buyers at once", "middle")
    for line in lines:
        path = " ".join(f"{across(buyers):.1f},{up(value):.1f}" for buyers, value in line.points)
        drawn = _add(group, "polyline", points=path, stroke=line.colour)
        drawn.set("class", "line")
        drawn.set("stroke-dasharray", line.dashes or "none")
        for buyers, value in line.points:
            _add(group, "circle", cx=across(buyers), cy=up(value), r=3, fill=line.colour)
    for line, height in _names(lines, up):
        _text(group, WIDTH - RIGHT + 8, height + 4, line.name, "start").set("fill", line.colour)


def _names(lines: list[Line], up: Callable[[float], float]) -> Iterator[tuple[Line, float]]:
    """Yield the height of each line's name: at the line's end, but below the name above it."""
    lowest = float("-inf")
    for line in sorted(lines, key=lambda line: up(line.points[-1][1]) if line.points else 0):
        if line.points:
            lowest = max(up(line.points[-1][1]), lowest + NAME_HEIGHT)
            yield line, lowest


def _scale(
    values: list[float], start: float, end: float, *, padding: float
) -> Callable[[float], float]:
    """A logarithmic scale on which all values lie between ``start`` and ``end`` (pixels)."""
    least, most = math.log(min(values) / padding), math.log(max(values) * padding)
    return lambda value: round(
        start + (math.log(value) - least) / (most - least) * (end - start), 1
    )


def _ticks(values: list[float]) -> list[float]:
    """The numbers 1, 2, 5, 10, 20 … in the range of the values; 1, 10, 100 … if it is wide."""
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    within = [tick for tick in ticks if min(values) / 1.5 < tick < max(values) * 1.5]
    return within if len(within) <= MOST_TICKS else [tick for tick in within if tick in ticks[::3]]


def _text(
    parent: ElementTree.Element, x: float, y: float, words: str, anchor: str
) -> ElementTree.Element:
    text = _add(parent, "text", x=x, y=y)
    text.set("text-anchor", anchor)
    text.text = words
    return text


def _add(parent: ElementTree.Element, tag: str, **attributes: object) -> ElementTree.Element:
    return ElementTree.SubElement(
        parent, tag, {name: str(value) for name, value in attributes.items()}
    )
