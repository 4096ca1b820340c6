"""Let buyers race for the last unit, in every order of their statements, for each strategy."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from inventory.database import alias
from inventory.exceptions import UnknownStrategy
from inventory.experiments.management.output import console_on
from inventory.experiments.parameters import chosen_strategies
from inventory.experiments.strategy_races import StrategyRace, race
from inventory.management.base import FoldingCommand
from inventory.management.folding import folded
from inventory.races import RacesError, Run, report, transcript
from inventory.races.management.commands import races as of_urls
from inventory.races.management.output import (
    FOUND,
    USAGE_ERROR,
    interruptible,
    print_rich,
    whole_number,
    write_json,
)
from inventory.races.progress import Watch, progress_on
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
OF_STRATEGIES = {"--show": "show", "--buyers": "buyers", "--stock": "stock"}
"""Options that are about strategies, and the names of their values."""
# Without --buyers: two buyers in every order, and three with a bound, which keeps it short.
DEFAULT_RACES: tuple[tuple[int, int | None], ...] = ((2, None), (3, 1))


class Command(FoldingCommand, of_urls.Command):
    """The races of strategies; those of requests to URLs come with the explorer itself."""

    help = (
        "Let buyers race for the last unit, in every order of their SQL statements, with each "
        "strategy. Exits 1 if a strategy that calls itself safe has a schedule that breaks the "
        "law of stock. Or let requests to URLs race, as in /basket/ /checkout/. Exits 1 if a "
        "schedule breaks the invariant, or, without one, if it ends as the requests can't end one "
        "after the other. All races have a database of their own."
    )
    metavar = "STRATEGY|URL"
    help_on_names = (
        "the strategies (default: all); or the URLs, whose requests are named A, B, … One URL "
        "alone is requested twice"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        of_strategies = parser.add_argument_group("strategies")
        of_strategies.add_argument(
            "--show",
            metavar="STRATEGY",
            help="explore this strategy, and print its shortest failing transcript, or if it is "
            "safe, its most instructive one",
        )
        of_strategies.add_argument(
            "--buyers",
            type=whole_number(2, MOST_BUYERS),
            metavar="N",
            help="number of buyers (default: two, and three with at most one preemption)",
        )
        of_strategies.add_argument(
            "--stock", type=whole_number(0, 1000), metavar="N", help="units (default 1)"
        )

    def handle(self, **options: Any) -> None:
        names = options["names"]
        is_of_urls = options["list"] or any(name.startswith("/") for name in names)
        check_options(options, OF_STRATEGIES if is_of_urls else of_urls.OF_REQUESTS, is_of_urls)
        if is_of_urls:
            super().handle(**options)
        else:
            self.explore_strategies(options)

    def explore_strategies(self, options: dict[str, Any]) -> None:
        chosen = self.slugs_to_explore(options["names"], options["show"])
        races: list[StrategyRace] = []
        try:
            with interruptible() as interruption, scratch_database(alias()):
                self.race_strategies(chosen, races, options)
        except RacesError as error:
            self.report_strategies(races, options)
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        self.report_strategies(races, options)
        if interruption.exit_code:
            self.stderr.write("Broken off. The races' database is dropped.")
            sys.exit(interruption.exit_code)
        if any(each.breaks_promise for each in races):
            sys.exit(FOUND)

    def slugs_to_explore(self, slugs: list[str], show: str | None) -> list[str]:
        """The slugs of the strategies to explore. Raises CommandError for an unknown one."""
        slugs = [*slugs, show] if show and show not in slugs else slugs
        try:
            return [strategy.slug for strategy in chosen_strategies(slugs)]
        except UnknownStrategy as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error

    def race_strategies(
        self, slugs: list[str], races: list[StrategyRace], options: dict[str, Any]
    ) -> None:
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
        for slug, buyers, most in todo:
            with progress_on(sys.stderr, title=f"{slug}, {buyers} buyers") as show_progress:

                def watch(begun: StrategyRace, show: Watch = show_progress) -> None:
                    races.append(begun)
                    show(begun.result)

                race(
                    slug,
                    buyers=buyers,
                    units=1 if options["stock"] is None else options["stock"],
                    max_preemptions=most,
                    isolation=options["isolation"],
                    budget=options["budget"],
                    seed=options["seed"],
                    watch=watch,
                )

    def report_strategies(self, begun: list[StrategyRace], options: dict[str, Any]) -> None:
        """Print and write the results so far."""
        races = [each for each in begun if each.result.runs]
        if not races:
            return
        self.for_people = self.stderr if options["json"] == "-" else self.stdout
        self.print_rich(*tables_of(races, console_on(self.for_people).width))
        shown = [each for each in races if each.strategy.slug == options["show"]]
        if shown:
            self.print_rich("")
            self.print_transcript(shown[0].result.most_instructive, options)
        if options["json"]:
            results = {"results": [each.as_dict() for each in races]}
            write_json(options["json"], results, self.stdout)
        if options["html"]:
            Path(options["html"]).write_text(page_of(races), encoding="utf-8")
        for note in dict.fromkeys(note for each in races for note in each.result.notes):
            self.for_people.write(folded(f"Note: {note}"))
        for each in races:
            if each.breaks_promise:
                is_printed = each in shown[:1]
                self.for_people.write(
                    self.style.ERROR(
                        folded(
                            f"{each.strategy.slug} calls itself safe, and is broken in "
                            f"{len(each.result.broken)} of {each.result.schedules} schedules"
                            + (", as shown above." if is_printed else ":")
                        )
                    )
                )
                assert each.result.shortest is not None
                if not is_printed:
                    self.print_transcript(each.result.shortest, options)

    def print_transcript(self, run: Run, options: dict[str, Any]) -> None:
        self.print_rich(transcript.Rendered(run, full=options["full"] or None))
        if transcript.is_folded(run) and not options["full"]:
            self.print_rich(f"To see all {len(run.events)} lines: with --full")

    def print_rich(self, *renderables: RenderableType) -> None:
        print_rich(self.for_people, *renderables, width=console_on(self.for_people).width)


def check_options(options: dict[str, Any], others: dict[str, str], is_of_urls: bool) -> None:
    """Raise CommandError if an option is given that is about the other kind of race."""
    values = {option: options[name] for option, name in others.items()}
    given = next((option for option in values if is_given(values[option])), None)
    if given is None:
        return
    if is_of_urls:
        text = f"{given} is about strategies, and this is about URLs."
    else:
        text = f"{given} is about requests, and no URL is named: it begins with a slash."
    raise CommandError(text, returncode=USAGE_ERROR)


def is_given(value: object) -> bool:
    return value is not None and value is not False


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
