"""The report of a flash sale over HTTP: table, verdicts and JSON as in the direct one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from inventory.experiments.flash_sale.report import (
    OVERSOLD_AND_DRIFT,
    Row,
    result_as_json,
    show_broken_off,
    show_table,
    table,
    verdict_of,
)
from inventory.experiments.models import FlashSaleResult
from inventory.words import counted
from shop.load_tests import serving
from shop.load_tests.http_flash_sale.outside import HOW_IT_WAS_CHECKED, Visit
from shop.load_tests.http_flash_sale.sale import Crowd, Parameters

LATENCY = "Latency is that of the request that reserves, as the buyer waits for it."
BY_LANE = "Served by {app}: the fast lane reserves by combined, and Django by all other strategies."
BY_DJANGO = "Served by {app}: Django reserves, since the fast lane is off."


def show(parameters: Parameters, results: Sequence[FlashSaleResult], console: Console) -> None:
    """Print the table, the verdicts, and how to read them; of a broken-off sale, the turns done."""
    turns = len(parameters.chosen_strategies())
    if len(results) < turns:
        show_broken_off(len(results), turns, console)
    if not results:
        return
    title = (
        f"{_buyers(parameters.crowd)} after {counted(parameters.stock, 'unit')} over HTTP; "
        f"{counted(parameters.workers, 'web worker')} × {counted(parameters.threads, 'thread')}, "
        f"{_thinking(parameters.crowd)}"
    )
    rows = [Row(result.strategy, [result], verdict_of([result])) for result in results]
    notes = OVERSOLD_AND_DRIFT, LATENCY, _served_by(parameters)
    show_table(table(rows, title, console.width), notes, console)


def show_visit(visit: Visit, console: Console) -> None:
    title = (
        f"{_buyers(visit.crowd)} after {visit.product} at {visit.host}, whose page had shown "
        f"{counted(visit.shown_before, 'unit')}; {_thinking(visit.crowd)}"
    )
    if visit.is_broken_off:
        words = f"Broken off: {visit.served} of {_buyers(visit.crowd)} served."
        console.print(Text(words, style="bold yellow"))
    verdict = Text(visit.result.verdict, style="red" if visit.is_bad else "green")
    rows = [Row(visit.product, [visit.result], verdict)]
    by_width = table(rows, title, console.width, names_heading="product")
    show_table(by_width, (HOW_IT_WAS_CHECKED, LATENCY), console)


def as_json(parameters: Parameters, results: Sequence[FlashSaleResult]) -> dict[str, Any]:
    """The results, ready for ``json.dump``; their times are in milliseconds."""
    return {
        "stock": parameters.stock,
        **_crowd_as_json(parameters.crowd),
        "workers": parameters.workers,
        "threads": parameters.threads,
        "app": serving.APP,
        "fast_lane": parameters.has_lane,
        "broken_off": len(results) < len(parameters.chosen_strategies()),
        "results": [result_as_json(result) for result in results],
    }


def visit_as_json(visit: Visit) -> dict[str, Any]:
    """The same for a shop that is served already, whose strategy isn't known."""
    result = result_as_json(visit.result)
    for unknown in ("strategy", "safe", "round"):
        del result[unknown]
    return {
        "host": visit.host,
        **_crowd_as_json(visit.crowd),
        "broken_off": visit.is_broken_off,
        "checked": HOW_IT_WAS_CHECKED,
        "results": [{"product": visit.product, "shown_before": visit.shown_before, **result}],
    }


def _served_by(parameters: Parameters) -> str:
    return (BY_LANE if parameters.has_lane else BY_DJANGO).format(app=serving.APP)


def _buyers(crowd: Crowd) -> str:
    return counted(crowd.buyers, "buyer")


def _thinking(crowd: Crowd) -> str:
    return f"thinking {crowd.think:g} s before each click"


def _crowd_as_json(crowd: Crowd) -> dict[str, Any]:
    return {"buyers": crowd.buyers, "think_seconds": crowd.think}
