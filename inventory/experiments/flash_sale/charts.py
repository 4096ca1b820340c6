"""A flash sale's figures as data for Chart.js."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from inventory.experiments.models import FlashSaleResult

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


def of(results: Sequence[FlashSaleResult]) -> list[Chart]:
    """Units, throughput and latency per strategy; of several rounds the median."""
    rounds: dict[str, list[FlashSaleResult]] = {}
    for result in results:
        rounds.setdefault(result.strategy, []).append(result)
    return [units(rounds), throughput(rounds), latency(rounds)]


def units(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    """Sold, of what was there, and beyond it."""
    oversold = [_median(each, "oversold") for each in rounds.values()]
    sold = [_median(each, "sold") for each in rounds.values()]
    real = [all_sold - too_many for all_sold, too_many in zip(sold, oversold, strict=True)]
    return Chart(
        "Units sold",
        "Green: there was a unit for it. Red: promised, and there is none.",
        data(
            list(rounds),
            [("sold", real, GREEN), ("oversold", oversold, RED)],
        ),
        options(stacked=True, lying=True),
    )


def throughput(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    return Chart(
        "Purchases per second",
        "The unsafe ones wait for the payment before they write.",
        data(
            list(rounds),
            [("per second", [_median(each, "per_second") for each in rounds.values()], BLUE)],
        ),
        options(lying=True),
    )


def latency(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    return Chart(
        "Latency of reserving, in milliseconds",
        "Half of the buyers, 95 and 99 of a hundred were served within.",
        data(
            list(rounds),
            [
                (name, [_median(each, field) for each in rounds.values()], colour)
                for name, field, colour in (
                    ("p50", "p50_ms", LIGHT_BLUE),
                    ("p95", "p95_ms", BLUE),
                    ("p99", "p99_ms", DARK_BLUE),
                )
            ],
        ),
        options(lying=True),
    )


def _median(results: Sequence[FlashSaleResult], field: str) -> float:
    values = [value for each in results if (value := getattr(each, field)) is not None]
    return round(statistics.median(values), 1) if values else 0


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
