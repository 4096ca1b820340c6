"""The reports of a flash sale have the right words for every way to fail."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from inventory.experiments.flash_sale.buyers import Buyer, Ending, Outcome
from inventory.experiments.flash_sale.report import as_json, breaks_promise, show, verdict
from inventory.experiments.flash_sale.sale import _falsely_refused
from inventory.experiments.latencies import percentile_ms
from inventory.experiments.models import FlashSale, FlashSaleResult
from tests.conftest import MakeProduct


def sale(**fields: Any) -> FlashSale:
    values = {"stock": 10, "buyers": 15, "quantity_min": 1, "quantity_max": 1}
    return FlashSale(**{**values, "processes": 2, "threads": 8, "payment_ms": 50, **fields})


def result(**fields: Any) -> FlashSaleResult:
    values = {"strategy": "mutex", "safe": True, "sold": 10, "refused": 5, "failed": 0}
    numbers = {"stock_left": 0, "oversold": 0, "drift": 0, "per_second": 97.3, "p50_ms": 39.1}
    return FlashSaleResult(**{**values, **numbers, **fields})


def naive(**fields: Any) -> FlashSaleResult:
    return result(strategy="naive", safe=False, stock_left=9, **fields)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({}, "exact"),
        ({"sold": 11, "oversold": 1}, "sold 11 of 10: 1 buyer will be disappointed"),
        ({"drift": 3}, "the count is wrong by +3"),
        ({"drift": -2}, "the count is wrong by -2"),
        (
            {"falsely_refused": 2, "stock_left": 4},
            "2 buyers wrongly refused with 4 left",
        ),
        ({"failed": 1, "first_error": "Oops: no"}, "1 buyer failed: Oops: no"),
        ({"unrecorded": 2}, "2 units sold without a record"),
    ],
)
def test_the_verdict(numbers: dict[str, Any], words: str) -> None:
    judged = result(**numbers)
    assert verdict(judged, sale()) == words
    assert breaks_promise(judged) is (words != "exact")
    judged.safe = False
    assert not breaks_promise(judged)


def test_the_verdict_speaks_of_units_where_a_buyer_takes_several() -> None:
    words = verdict(result(sold=13, oversold=3), sale(quantity_max=4))
    assert words == "sold 13 of 10: 3 units too many"


def test_a_refusal_is_false_if_enough_was_left_all_the_time() -> None:
    refused = [Outcome(Buyer(n, quantity), Ending.REFUSED) for n, quantity in enumerate([1, 2, 3])]
    assert _falsely_refused(refused, 0) == 0
    assert _falsely_refused(refused, 2) == 2


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    hundred = [n / 1000 for n in range(1, 101)]
    assert [percentile_ms(hundred, p) for p in (50, 95, 99)] == pytest.approx([50, 95, 99])
    assert percentile_ms([0.007], 99) == pytest.approx(7)
    assert percentile_ms([], 50) is None


@pytest.fixture
def held_sale(make_product: MakeProduct) -> FlashSale:
    held = sale(rounds=2)
    held.save()
    rows = [
        result(
            safe=False, strategy="naive", sold=15, refused=0, oversold=5, stock_left=9, drift=14
        ),
        result(
            safe=False, strategy="naive", sold=13, refused=2, oversold=3, stock_left=9, drift=12
        ),
        result(strategy="mutex", per_second=10),
        result(strategy="mutex", per_second=30),
    ]
    for number, row in enumerate(rows):
        row.flash_sale, row.product, row.round = held, make_product(0), number % 2 + 1
        row.verdict = verdict(row, held)
        row.save()
    return held


@pytest.mark.django_db
@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_and_tells_all(held_sale: FlashSale, width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        show(held_sale, console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "15 buyers after 10 units, 1 each; 2 processes × 8 threads" in text
    [naive] = [line for line in text.splitlines() if line.startswith("naive") and "…" in line]
    assert naive.split()[:7] == ["naive", "13…15", "0…2", "0", "9", "3…5", "+12…+14"]
    [mutex] = [line for line in text.splitlines() if line.startswith("mutex") and "20" in line]
    assert "20" in mutex.split()  # the median of 10 and 30 a second
    assert "broken in 2 of 2 rounds" in text
    assert "exact in every round" in text
    assert "Oversold: units promised that don't exist." in text


@pytest.mark.django_db
def test_the_json(held_sale: FlashSale) -> None:
    data = as_json(held_sale)
    assert (data["stock"], data["buyers"], data["quantity"]) == (10, 15, [1, 1])
    first = data["results"][0]
    assert set(first) >= {
        "strategy", "safe", "sold", "refused", "failed", "stock_left", "oversold", "drift",
        "per_second", "p50_ms", "p95_ms", "p99_ms", "verdict",
    }  # fmt: skip
    assert (first["strategy"], first["sold"], first["drift"]) == ("naive", 15, 14)
    assert first["p95_ms"] is None
