"""A flash sale's figures as charts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from inventory.admin.charts import (
    BLUE,
    DARK_BLUE,
    GREEN,
    LIGHT_BLUE,
    RED,
    Chart,
    data,
    options,
)
from inventory.experiments.models import FlashSaleResult


def charts_of(results: Sequence[FlashSaleResult]) -> list[Chart]:
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
        options(stacked=True, horizontal=True),
    )


def throughput(rounds: dict[str, list[FlashSaleResult]]) -> Chart:
    return Chart(
        "Purchases per second",
        "The unsafe ones wait for the payment before they write.",
        data(
            list(rounds),
            [("per second", [_median(each, "per_second") for each in rounds.values()], BLUE)],
        ),
        options(horizontal=True),
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
        options(horizontal=True),
    )


def _median(results: Sequence[FlashSaleResult], field: str) -> float:
    values = [value for each in results if (value := getattr(each, field)) is not None]
    return round(statistics.median(values), 1) if values else 0
