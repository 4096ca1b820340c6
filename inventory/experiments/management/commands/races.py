"""Let buyers race for the last unit, in every order of their statements, for each strategy."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from inventory.database import alias
from inventory.exceptions import UnknownStrategy
from inventory.experiments.management.output import console_on, interruptible, write_json
from inventory.experiments.parameters import chosen_strategies
from inventory.experiments.strategy_races import StrategyRace, race
from inventory.management.base import USAGE_ERROR, FoldingCommand, check_writable
from inventory.management.folding import folded
from inventory.races import RacesError, report, transcript
from inventory.races.explorer import ISOLATION_LEVELS
from inventory.races.scratch import scratch_database

COLUMNS = (
    "strategy", "safe", "buyers", "schedules", "broken", "waits", "deadlocks", "seen", "seconds",
    "what went wrong",
)  # fmt: skip
NUMBERS = ("buyers", "schedules", "broken", "waits", "deadlocks", "seconds")
NARROW = {
    "strategy": "strategy",
    "safe": "safe",
    "schedules": "schedules",
    "broken": "broken",
    "waits": "waits",
    "deadlocks": "dead-\nlocks",
    "seconds": "sec",
    "what went wrong": "what went wrong",
}
"""The columns of a narrow table, and their headings."""
WIDEST = 1000  # characters: more than any table needs
MOST_BUYERS = 6
# Without --buyers: two buyers in every order, and three with a bound, which keeps it short.
DEFAULT_RACES: tuple[tuple[int, int | None], ...] = ((2, None), (3, 1))


class Command(FoldingCommand):
    help = (
        "Let buyers race for the last unit, in every order of their SQL statements, with each "
        "strategy. The races have a database of their own. Exits 1 if a strategy that calls itself "
        "safe has a schedule that breaks the law of stock."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "strategies", nargs="*", metavar="STRATEGY", help="only these (default: all)"
        )
        parser.add_argument(
            "--show",
            metavar="STRATEGY",
            help="explore this strategy, and print its shortest failing transcript, or if it is "
            "safe, its most instructive one",
        )
        parser.add_argument(
            "--buyers",
            type=whole_number(2, MOST_BUYERS),
            metavar="N",
            help="number of buyers (default: two, and three with at most one preemption)",
        )
        parser.add_argument(
            "--stock", type=whole_number(0, 1000), default=1, metavar="N", help="units (default 1)"
        )
        parser.add_argument(
            "--max-preemptions",
            type=whole_number(0, 100),
            metavar="N",
            help="leave out schedules that interrupt buyers more than N times",
        )
        parser.add_argument(
            "--isolation",
            type=isolation_level,
            metavar="LEVEL",
            help=f"isolation level of the buyers: {', '.join(ISOLATION_LEVELS)}",
        )
        parser.add_argument(
            "--budget",
            type=whole_number(1, 1_000_000),
            default=5000,
            metavar="N",
            help="at most N schedules per strategy; if there are more, choose some at random "
            "(default 5000)",
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="N", help="seed of the random choice (default 0)"
        )
        parser.add_argument("--html", type=Path, metavar="FILE", help="write the results as a page")
        parser.add_argument(
            "--json", metavar="FILE", help='write the results to FILE; "-" for standard output'
        )

    def handle(self, **options: Any) -> None:
        chosen = self.slugs_to_explore(options["strategies"], options["show"])
        check_writable("html", options["html"])
        check_writable("json", options["json"])
        races: list[StrategyRace] = []
        try:
            with interruptible() as interruption, scratch_database(alias()):
                self.race(chosen, races, options)
        except RacesError as error:
            self.report(races, options)
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        self.report(races, options)
        if interruption.exit_code:
            self.stderr.write("Broken off. The races' database is dropped.")
            sys.exit(interruption.exit_code)
        if any(each.breaks_promise for each in races):
            sys.exit(1)

    def slugs_to_explore(self, slugs: list[str], show: str | None) -> list[str]:
        """The slugs of the strategies to explore. Raises CommandError for an unknown one."""
        slugs = [*slugs, show] if show and show not in slugs else slugs
        try:
            return [strategy.slug for strategy in chosen_strategies(slugs)]
        except UnknownStrategy as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error

    def race(self, slugs: list[str], races: list[StrategyRace], options: dict[str, Any]) -> None:
        """Explore all races, and add each one to ``races`` when it begins."""
        bound = options["max_preemptions"]
        if options["buyers"] is not None:
            groups_of_buyers: tuple[tuple[int, int | None], ...] = ((options["buyers"], bound),)
        elif options["show"]:
            groups_of_buyers = ((2, bound),)
        else:
            groups_of_buyers = tuple(
                (buyers, usual if bound is None else bound) for buyers, usual in DEFAULT_RACES
            )
        todo = [(slug, buyers, most) for buyers, most in groups_of_buyers for slug in slugs]
        with console_on(sys.stderr).status("Racing …") as status:
            for slug, buyers, most in todo:
                status.update(f"{slug}, {buyers} buyers …")
                race(
                    slug,
                    buyers=buyers,
                    units=options["stock"],
                    max_preemptions=most,
                    isolation=options["isolation"],
                    budget=options["budget"],
                    seed=options["seed"],
                    watch=races.append,
                )

    def report(self, begun: list[StrategyRace], options: dict[str, Any]) -> None:
        """Print and write the results so far."""
        races = [each for each in begun if each.result.runs]
        if not races:
            return
        self.for_people = self.stderr if options["json"] == "-" else self.stdout
        self.print_rich(*tables_of(races, console_on(self.for_people).width))
        shown = [each for each in races if each.strategy.slug == options["show"]]
        if shown:
            self.print_rich("", transcript.Rendered(shown[0].result.most_instructive))
        if options["json"]:
            results = {"results": [each.as_dict() for each in races]}
            write_json(options["json"], results, self.stdout)
        if options["html"]:
            options["html"].write_text(page_of(races))
        for note in dict.fromkeys(note for each in races for note in each.result.notes):
            self.for_people.write(folded(f"Note: {note}"))
        for each in races:
            if each.breaks_promise:
                self.for_people.write(
                    self.style.ERROR(
                        folded(
                            f"{each.strategy.slug} calls itself safe, and is broken in "
                            f"{len(each.result.broken)} of {each.result.schedules} schedules:"
                        )
                    )
                )
                assert each.result.shortest is not None
                self.print_rich(transcript.Rendered(each.result.shortest))

    def print_rich(self, *renderables: RenderableType) -> None:
        """Print in colour on a terminal, else as plain text."""
        text = StringIO()
        console = Console(
            file=text,
            width=console_on(self.for_people).width,
            force_terminal=self.for_people.isatty(),
            highlight=False,
        )
        console.print(*renderables, sep="\n")
        self.for_people.write("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def whole_number(least: int, most: int) -> Any:
    """A type for argparse: a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return number

    return parse


def isolation_level(text: str) -> str:
    level = text.lower().replace("-", " ").replace("_", " ")
    if level not in ISOLATION_LEVELS:
        raise ArgumentTypeError(f"must be one of {', '.join(ISOLATION_LEVELS)}, not {text!r}")
    return level


def tables_of(races: list[StrategyRace], width: int) -> list[RenderableType]:
    """One table of all races. If it is too wide, one for each number of buyers."""
    wide = table_of(races, COLUMNS)
    if Console(width=WIDEST).measure(wide).maximum <= width:
        return [wide]
    tables: list[RenderableType] = []
    for (buyers, seen), group in groupby(races, lambda each: (each.buyers, each.result.coverage)):
        tables += [
            Text(f"{buyers} buyers, {seen}", style="bold"),
            table_of(list(group), NARROW),
            "",
        ]
    return tables[:-1]


def table_of(races: list[StrategyRace], columns: Iterable[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        is_number = name in NUMBERS
        table.add_column(
            name if columns is COLUMNS else NARROW[name],
            justify="right" if is_number else "left",
            no_wrap=is_number or name == "strategy",
        )
    for each in races:
        cells = dict(zip(COLUMNS, row_of(each), strict=True))
        style = "bold red" if each.breaks_promise else ""
        table.add_row(*(str(cells[name]) for name in columns), style=style)
    return table


def row_of(each: StrategyRace) -> tuple[object, ...]:
    result = each.result
    return (
        each.strategy.slug,
        "yes" if each.strategy.is_safe else "no",
        each.buyers,
        result.schedules,
        len(result.broken),
        result.waits,
        result.deadlocks,
        result.coverage,
        f"{result.seconds:.1f}",
        ", ".join(each.anomalies) or "–",
    )


def page_of(races: list[StrategyRace]) -> str:
    sections = [
        report.Section(
            f"{each.strategy.label}, {each.buyers} buyers, stock {each.stock}",
            each.result,
            text=each.strategy.how,
            facts=list(zip(COLUMNS[3:8], row_of(each)[3:8], strict=True)),
        )
        for each in races
    ]
    return report.as_html(
        sections,
        title="Who gets the last unit?",
        columns=COLUMNS,
        rows=[row_of(each) for each in races],
    )
