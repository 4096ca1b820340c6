"""Charts of the admin: data and options for Chart.js, which Unfold brings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GREEN, RED, GREY, BLUE, LIGHT_BLUE, VIOLET = (
    "#16a34a",
    "#dc2626",
    "#7b8794",
    "#3b82f6",
    "#93c5fd",
    "#8b5cf6",
)


@dataclass(frozen=True)
class Chart:
    title: str
    help: str
    data: str
    """Chart.js's data, as JSON."""
    options: str
    """Chart.js's options, as JSON."""


@dataclass
class Card:
    """A part of a project's dashboard that an app brings."""

    title: str
    template: str
    """The path of the template. It finds the card as ``card``."""
    context: dict[str, Any] = field(default_factory=dict)


def chart_data(labels: list[str], series: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """Chart.js's data; each series has a name, a number per label, and a colour."""
    return json.dumps(
        {
            "labels": labels,
            "datasets": [
                {"label": name, "data": values, "backgroundColor": colour, "maxBarThickness": 28}
                for name, values, colour in series
            ],
        }
    )


def chart_options(*, stacked: bool = False, horizontal: bool = False) -> str:
    """Chart.js's options; with ``horizontal``, bars run from left to right."""
    ticks = {"color": GREY, "precision": 0}  # there is no half a unit
    return json.dumps(
        {
            "responsive": True,
            "maintainAspectRatio": False,
            "animation": False,
            "indexAxis": "y" if horizontal else "x",
            "plugins": {
                "legend": {"display": True, "position": "bottom", "labels": {"color": GREY}}
            },
            "scales": {
                "x": {"stacked": stacked, "beginAtZero": True, "ticks": ticks},
                "y": {"stacked": stacked, "ticks": {**ticks, "display": True}},
            },
        }
    )
