"""Charts of the admin: data and options for Chart.js, which Unfold brings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GREEN, RED, GREY, BLUE, LIGHT_BLUE, DARK_BLUE = (
    "#16a34a",
    "#dc2626",
    "#7b8794",
    "#3b82f6",
    "#93c5fd",
    "#1e40af",
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
    """What an app has to show on a project's dashboard."""

    title: str
    template: str
    """Rendered with ``card``: the context."""
    context: dict[str, Any] = field(default_factory=dict)


def data(labels: list[str], series: Sequence[tuple[str, Sequence[float], str]]) -> str:
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


def options(*, stacked: bool = False, lying: bool = False) -> str:
    """Chart.js's options; ``lying`` for bars from left to right."""
    return json.dumps(
        {
            "responsive": True,
            "maintainAspectRatio": False,
            "animation": False,
            "indexAxis": "y" if lying else "x",
            "plugins": {
                "legend": {"display": True, "position": "bottom", "labels": {"color": GREY}}
            },
            "scales": {
                "x": {"stacked": stacked, "beginAtZero": True, "ticks": {"color": GREY}},
                "y": {"stacked": stacked, "ticks": {"color": GREY, "display": True}},
            },
        }
    )
