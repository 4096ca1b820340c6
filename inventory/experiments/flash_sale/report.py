"""The results of a flash sale: verdicts in words, a table, and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.words import counted

WIDE = 120  # columns that the table needs to include the verdicts
OVERSOLD_AND_DRIFT = "Oversold: units promised that don't exist. Drift that isn't 0: lost updates."
NOTES = (
    OVERSOLD_AND_DRIFT,
    "Latency is that of reserving; unsafe strategies wait for the payment within it.",
)


def is_broken(result: FlashSaleResult) -> bool:
    """Whether the strategy broke the law or a promise, or left a buyer without an answer."""
    return bool(
        result.oversold
        or result.drift
        or result.unrecorded
        or result.falsely_refused
        or result.failed
    )


def breaks_promise(result: FlashSaleResult) -> bool:
    """Whether the strategy calls itself safe, and isn't."""
    return result.safe and is_broken(result)


def verdict(result: FlashSaleResult, sale: FlashSale) -> str:
    """The faults of a result in words, or "exact"."""
    findings = []
    if result.oversold:
        findings.append(_oversold(result, sale))
    elif result.drift:
        findings.append(f"the count is wrong by {result.drift:+d}")
    if result.unrecorded:
        findings.append(f"{counted(result.unrecorded, 'unit')} sold without a record")
    if result.falsely_refused:
        findings.append(
            f"{counted(result.falsely_refused, 'buyer')} wrongly refused with "
            f"{result.stock_left} left"
        )
    if result.failed:
        findings.append(f"{counted(result.failed, 'buyer')} failed: {result.first_error}")
    return "; ".join(findings)[:300] or "exact"


def _oversold(result: FlashSaleResult, sale: FlashSale) -> str:
    promised = sale.stock + result.oversold
    if sale.quantity_max == 1:
        return f"sold {promised} of {sale.stock}: {_disappointed(result.oversold)}"
    return f"sold {promised} of {sale.stock}: {counted(result.oversold, 'unit')} too many"


def _disappointed(buyers: int) -> str:
    return f"{counted(buyers, 'buyer')} will be disappointed"


def as_json(sale: FlashSale) -> dict[str, Any]:
    """The sale and its results, ready for ``json.dump``; times in milliseconds."""
    return {
        "flash_sale": sale.pk,
        "stock": sale.stock,
        "buyers": sale.buyers,
        "quantity": [sale.quantity_min, sale.quantity_max],
        "processes": sale.processes,
        "threads": sale.threads,
        "payment_ms": sale.payment_ms,
        "rounds": sale.rounds,
        "backstop": sale.backstop,
        "broken_off": sale.is_broken_off,
        "results": [result_as_json(result) for result in sale.results.all()],
    }


def result_as_json(result: FlashSaleResult) -> dict[str, Any]:
    return {
        "strategy": result.strategy,
        "safe": result.safe,
        "round": result.round,
        "sold": result.sold,
        "refused": result.refused,
        "falsely_refused": result.falsely_refused,
        "failed": result.failed,
        "stock_left": result.stock_left,
        "oversold": result.oversold,
        "drift": result.drift,
        "per_second": round(result.per_second, 1),
        "p50_ms": _rounded(result.p50_ms),
        "p95_ms": _rounded(result.p95_ms),
        "p99_ms": _rounded(result.p99_ms),
        "verdict": result.verdict,
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)


def show(sale: FlashSale, console: Console) -> None:
    """Print the table, the verdicts and notes. After a break-off, print the turns done so far."""
    done = sale.results.count()
    if sale.is_broken_off:
        show_broken_off(done, sale.number_of_turns, console)
    if done:
        show_table(as_table(sale, console.width), NOTES, console)


def show_broken_off(done: int, turns: int, console: Console) -> None:
    """Print that a sale was broken off after ``done`` of its ``turns``."""
    console.print(
        Text(f"Broken off: {done} of {counted(turns, 'turn')} done.", style="bold yellow")
    )


def show_table(table: RenderableType, notes: Sequence[str], console: Console) -> None:
    console.print(table)
    for line in notes:
        console.print(line, style="dim", highlight=False)


def as_table(sale: FlashSale, width: int) -> RenderableType:
    """The results, a row per strategy. If ``width`` (columns) is small, verdicts stand below."""
    results = sorted(sale.results.all(), key=lambda result: result.round)
    by_strategy: dict[str, list[FlashSaleResult]] = {}
    for result in results:
        by_strategy.setdefault(result.strategy, []).append(result)
    rows = [Row(slug, rounds, verdict_of(rounds)) for slug, rounds in by_strategy.items()]
    return table(rows, _title(sale), width)


@dataclass(frozen=True)
class Row:
    name: str
    rounds: Sequence[FlashSaleResult]
    verdict: Text


def table(
    rows: Sequence[Row], title: str, width: int, *, names_heading: str = "strategy"
) -> RenderableType:
    """A table of these rows, with ``names_heading`` above their names. See ``as_table``."""
    is_wide = width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(names_heading, no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    verdicts = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    if is_wide:
        table.add_column("verdict")
    for row in rows:
        cells = [row.name, *(cell(row.rounds) for cell in HEADINGS.values())]
        is_red = any(map(is_broken, row.rounds))
        table.add_row(*cells, *([row.verdict] if is_wide else []), style="red" if is_red else "")
        verdicts.add_row(row.name, row.verdict)
    below: list[RenderableType] = [] if is_wide else ["", verdicts]
    return Group(Text(title, style="bold"), table, *below)


def _title(sale: FlashSale) -> str:
    quantity = f"{sale.quantity_min}"
    if sale.quantity_max != sale.quantity_min:
        quantity += f" to {sale.quantity_max}"
    title = (
        f"{counted(sale.buyers, 'buyer')} after {counted(sale.stock, 'unit')}, {quantity} each; "
        f"{counted(sale.processes, 'process', 'processes')} × "
        f"{counted(sale.threads, 'thread')}, payment {sale.payment_ms} ms"
    )
    if sale.rounds > 1:
        title += f", {sale.rounds} rounds"
    if sale.backstop:
        title += ", backstop on"
    return title


def verdict_of(rounds: Sequence[FlashSaleResult]) -> Text:
    """The verdict on a strategy, in green or red."""
    broken = [result for result in rounds if is_broken(result)]
    if not broken:
        return Text("exact" if len(rounds) == 1 else "exact in every round", style="green")
    words = broken[0].verdict
    if len(rounds) > 1:
        words = f"broken in {len(broken)} of {len(rounds)} rounds, as in: {words}"
    if breaks_promise(broken[0]):
        words += " (and it calls itself safe!)"
    return Text(words, style="red")


Cell = Callable[[Sequence[FlashSaleResult]], str]


def _counts(field: str) -> Cell:
    """A cell with the field's value; of several rounds, the least and the greatest."""

    def cell(rounds: Sequence[FlashSaleResult]) -> str:
        least, most = (f(getattr(result, field) for result in rounds) for f in (min, max))
        sign = "+" if field == "drift" else ""
        if least == most:
            return f"{least:{sign}d}" if least else "0"
        return f"{least:{sign}d}…{most:{sign}d}"

    return cell


def _median(field: str) -> Cell:
    """A cell with the field's value; of several rounds, the median."""

    def cell(rounds: Sequence[FlashSaleResult]) -> str:
        values = [value for result in rounds if (value := getattr(result, field)) is not None]
        return f"{statistics.median(values):.0f}" if values else "–"

    return cell


HEADINGS: dict[str, Cell] = {
    "sold": _counts("sold"),
    "refused": _counts("refused"),
    "failed": _counts("failed"),
    "stock\nleft": _counts("stock_left"),
    "over-\nsold": _counts("oversold"),
    "drift": _counts("drift"),
    "per\nsec": _median("per_second"),
    "p50\nms": _median("p50_ms"),
    "p95\nms": _median("p95_ms"),
    "p99\nms": _median("p99_ms"),
}
