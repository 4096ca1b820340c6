"""The results of a benchmark: a table for each load, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inventory.experiments.benchmark.run import Parameters, Result
from inventory.experiments.benchmark.shapes import SHAPES
from inventory.words import counted

NOTES = "Medians over the rounds; × is the median of each round's ratio to a ceiling's rate."


def show(parameters: Parameters, results: Sequence[Result], console: Console) -> None:
    """Print a table for each load, with notes. After a break-off, print the turns done so far."""
    done = sum(len(result.rounds) for result in results)
    if done < parameters.number_of_turns():
        words = f"Broken off: {done} of {counted(parameters.number_of_turns(), 'turn')} done."
        console.print(Text(words, style="bold yellow"))
    if not results:
        return
    ceilings = parameters.course.ceilings
    for (shape, load), group in groupby(results, lambda result: (result.shape, result.load)):
        buyers = f"{load.rate:,} buyers a second" if load.rate else counted(load.buyers, "buyer")
        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            title=Text(f"{shape}, {buyers}: {SHAPES[shape].description}", style="bold"),
            title_justify="left",
        )
        table.add_column("row", no_wrap=True)
        ratios = ["× " + ceiling.replace(" ", "\n") for ceiling in ceilings]
        for heading in ("per\nsecond", "p50\nms", "p99\nms", *ratios):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("law")
        for result in group:
            table.add_row(*_cells(result, ceilings))
        console.print(table)
        console.print()
    for line in (NOTES, *parameters.course.notes):
        console.print(line, style="dim", highlight=False)
    processes = counted(parameters.processes, "process", "processes")
    console.print(
        f"{counted(parameters.rounds, 'round')} of {parameters.seconds:g} s after "
        f"{parameters.warm_up:g} s of warm-up; buyers in {processes}.",
        style="dim",
        highlight=False,
    )


def _cells(result: Result, ceilings: Sequence[str]) -> list[str | Text]:
    return [
        result.row,
        f"{result.per_second:,.0f}",
        _milliseconds(result.p50_ms),
        _milliseconds(result.p99_ms),
        *(_ratio(result.ratios_to_ceilings.get(ceiling)) for ceiling in ceilings),
        _verdict(result),
    ]


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _verdict(result: Result) -> Text:
    """The last cell of a row: whether the law held, and how many buyers failed."""
    if result.failed:
        return Text(f"{result.failed} failed: {result.first_error}", style="red")
    if result.law_holds:
        return Text("holds", style="green")
    return Text("BROKEN" if result.guards else "no guard", style="red" if result.guards else "")


def is_wrong(result: Result) -> bool:
    """Whether the row guards the stock and broke the law, or a buyer got no answer."""
    return bool(result.failed) or (result.guards and not result.law_holds)


def as_json(parameters: Parameters, results: Sequence[Result]) -> dict[str, Any]:
    """The results, ready for ``json.dump``; times in milliseconds, ratios of rates."""
    return {
        "processes": parameters.processes,
        "rounds": parameters.rounds,
        "seconds": parameters.seconds,
        "warm_up": parameters.warm_up,
        "broken_off": sum(len(result.rounds) for result in results) < parameters.number_of_turns(),
        "results": [_result_as_json(result, parameters.course.ceilings) for result in results],
    }


def _result_as_json(result: Result, ceilings: tuple[str, str]) -> dict[str, Any]:
    only_inserts, only_reads = ceilings
    return {
        "shape": result.shape,
        "row": result.row,
        "buyers": result.load.buyers,
        "rate": result.load.rate,
        "per_second": round(result.per_second, 1),
        "p50_ms": round(result.p50_ms, 2),
        "p99_ms": round(result.p99_ms, 2),
        "to_insert_only": _rounded(result.ratios_to_ceilings.get(only_inserts)),
        "to_read_only": _rounded(result.ratios_to_ceilings.get(only_reads)),
        "failed": result.failed,
        "law_holds": result.law_holds,
        "rounds": [
            {
                "per_second": round(each.per_second, 1),
                "p50_ms": round(each.p50_ms, 2),
                "p99_ms": round(each.p99_ms, 2),
            }
            for each in result.rounds
        ],
    }


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)
