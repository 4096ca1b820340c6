"""A flash sale's figures as charts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from inventory.admin.charts import (
    BLUE,
    GREEN,
    LIGHT_BLUE,
    RED,
    VIOLET,
    Chart,
    chart_data,
    chart_options,
)
from inventory.experiments.models import FlashSaleResult


def charts_of(results: Sequence[FlashSaleResult]) -> list[Chart]:
    """Charts of units, throughput and latency per strategy; of several rounds the median."""
    rounds: dict[str, list[FlashSaleResult]] = {}
    for result in results:
        rounds.setdefault(result.strategy, []).append(result)
    return [units_chart(rounds), throughput_chart(rounds), latency_chart(rounds)]


def units_chart(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    """The units sold that existed, and the units oversold."""
    oversold = [_median(each, "oversold") for each in rounds.values()]
    sold = [_median(each, "sold") for each in rounds.values()]
    real = [all_sold - too_many for all_sold, too_many in zip(sold, oversold, strict=True)]
    return Chart(
        "Units sold",
        "Green: sold units that exist. Red: sold units that don’t exist.",
        chart_data(
            list(rounds),
            [("sold", real, GREEN), ("oversold", oversold, RED)],
        ),
        chart_options(stacked=True, horizontal=True),
    )


def throughput_chart(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    return Chart(
        "Purchases per second",
        "Unsafe strategies wait for the payment before they write.",
        chart_data(
            list(rounds),
            [("per second", [_median(each, "per_second") for each in rounds.values()], BLUE)],
        ),
        chart_options(horizontal=True),
    )


def latency_chart(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    return Chart(
        "Latency of reserving, in milliseconds",
        "p50, p95 and p99: 50, 95 and 99 of a hundred buyers were served within this time.",
        chart_data(
            list(rounds),
            [
                (name, [_median(each, field) for each in rounds.values()], colour)
                for name, field, colour in (
                    ("p50", "p50_ms", LIGHT_BLUE),
                    ("p95", "p95_ms", BLUE),
                    ("p99", "p99_ms", VIOLET),
                )
            ],
        ),
        chart_options(horizontal=True),
    )


def _median(results: Sequence[FlashSaleResult], field: str) -> float:
    values = [value for each in results if (value := getattr(each, field)) is not None]
    return round(statistics.median(values), 1) if values else 0
