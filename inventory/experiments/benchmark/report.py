"""The results of a benchmark: a table for each load, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inventory.experiments.benchmark.run import Comparison, Parameters, Result, median_ratio
from inventory.experiments.benchmark.shapes import SHAPES
from inventory.words import counted

NOTES = "Medians over the rounds; × is the median of each round's ratio to a ceiling's rate."
NOTES_OF_SERVER = (
    "Medians over the rounds. Server ms: processor time of the web server for each request. "
    "Load: the share of the machine's processors that the load generator used."
)


def show(
    parameters: Parameters, results: Sequence[Result], console: Console, machine: str = ""
) -> None:
    """Print a table for each load, the comparisons, and notes, with the machine's conditions.

    After a break-off, print the turns done so far.
    """
    done = sum(len(result.rounds) for result in results)
    if done < parameters.number_of_turns():
        words = f"Broken off: {done} of {counted(parameters.number_of_turns(), 'turn')} done."
        console.print(Text(words, style="bold yellow"))
    if not results:
        return
    has_server = any(result.server_ms is not None for result in results)
    for (shape, load), group in groupby(results, lambda result: (result.shape, result.load)):
        buyers = f"{load.rate:,} buyers a second" if load.rate else counted(load.buyers, "buyer")
        table = _table(f"{shape}, {buyers}: {SHAPES[shape].description}")
        table.add_column("row", no_wrap=True)
        ratios = ["× " + ceiling.replace(" ", "\n") for ceiling in parameters.course.ceilings]
        server = ["server\nms", "load\n%"] if has_server else []
        for heading in ("per\nsecond", "p50\nms", "p99\nms", *server, *ratios):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("law")
        for result in group:
            table.add_row(*_cells(result, parameters.course.ceilings, has_server=has_server))
        console.print(table)
        console.print()
    _show_comparisons(parameters.course.comparisons, results, console)
    for result in results:
        if result.collapsed:
            console.print(Text(result.collapsed, style="yellow"))
        if result.beside_per_second is not None:
            words = (
                f"{result.row}: meanwhile the rush served {result.beside_per_second:,.0f} a second."
            )
            console.print(Text(words))
    notes = NOTES_OF_SERVER if has_server else NOTES
    generator = parameters.course.generator
    processes = counted(parameters.processes, "process", "processes")
    rounds = (
        f"{counted(parameters.rounds, 'round')} of {parameters.seconds:g} s after "
        f"{parameters.warm_up:g} s of warm-up; "
        + (f"load generator: {generator}." if generator else f"buyers in {processes}.")
    )
    for line in (notes, *parameters.course.notes, rounds, machine):
        if line:
            console.print(line, style="dim", highlight=False)


def _table(title: str) -> Table:
    return Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        title=Text(title, style="bold"),
        title_justify="left",
    )


def _show_comparisons(
    comparisons: Sequence[Comparison], results: Sequence[Result], console: Console
) -> None:
    """Print a table of the comparisons whose rows were both measured."""
    found = compared(comparisons, results)
    if not found:
        return
    table = _table("compared")
    table.add_column("rows")
    for heading in ("× per\nsecond", "× less\nserver ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for words, rate, saving in found:
        table.add_row(words, _ratio(rate), _ratio(saving))
    console.print(table)
    console.print()


def compared(
    comparisons: Sequence[Comparison], results: Sequence[Result]
) -> list[tuple[str, float, float | None]]:
    """For each comparison its words, the ratio of the rates, and how much less the server works.

    Both are medians of the rounds' ratios. The second is None without processor times.
    """
    rows = {(result.row, result.load.buyers): result for result in results}
    found = []
    for each in comparisons:
        ours = rows.get((each.row, each.buyers))
        theirs = rows.get((each.other_row, each.other_buyers))
        if ours is None or theirs is None:
            continue
        rate = median_ratio(ours, theirs, lambda measured: measured.per_second)
        saving = median_ratio(theirs, ours, lambda measured: measured.server_ms)
        if rate is not None:
            found.append((each.words, rate, saving))
    return found


def _cells(result: Result, ceilings: Sequence[str], *, has_server: bool) -> list[str | Text]:
    share = result.generator_share
    server = [
        "–" if result.server_ms is None else f"{result.server_ms:.2f}",
        "–" if share is None else f"{100 * share:.0f}",
    ]
    return [
        result.row,
        f"{result.per_second:,.0f}",
        _milliseconds(result.p50_ms),
        _milliseconds(result.p99_ms),
        *(server if has_server else []),
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


def as_json(parameters: Parameters, results: Sequence[Result], machine: str = "") -> dict[str, Any]:
    """The results, ready for ``json.dump``; times in milliseconds, ratios of rates."""
    return {
        "machine": machine,
        "generator": parameters.course.generator,
        "processes": parameters.processes,
        "rounds": parameters.rounds,
        "seconds": parameters.seconds,
        "warm_up": parameters.warm_up,
        "broken_off": sum(len(result.rounds) for result in results) < parameters.number_of_turns(),
        "results": [_result_as_json(result, parameters.course.ceilings) for result in results],
        "compared": [
            {"rows": words, "per_second": _rounded(rate), "less_server_ms": _rounded(saving)}
            for words, rate, saving in compared(parameters.course.comparisons, results)
        ],
    }


def _result_as_json(result: Result, ceilings: Sequence[str]) -> dict[str, Any]:
    ratios = {
        f"to_{name}": _rounded(result.ratios_to_ceilings.get(ceiling))
        for name, ceiling in zip(("insert_only", "read_only"), ceilings, strict=False)
    }
    return {
        "shape": result.shape,
        "row": result.row,
        "buyers": result.load.buyers,
        "rate": result.load.rate,
        "per_second": round(result.per_second, 1),
        "p50_ms": round(result.p50_ms, 2),
        "p99_ms": round(result.p99_ms, 2),
        "server_ms": _rounded(result.server_ms),
        "generator_share": _rounded(result.generator_share),
        "beside_per_second": _rounded(result.beside_per_second),
        **ratios,
        "collapsed": result.collapsed,
        "failed": result.failed,
        "law_holds": result.law_holds,
        "rounds": [
            {
                "per_second": round(each.per_second, 1),
                "p50_ms": round(each.p50_ms, 2),
                "p99_ms": round(each.p99_ms, 2),
                "server_ms": _rounded(each.server_ms),
            }
            for each in result.rounds
        ],
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
