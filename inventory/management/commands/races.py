"""Try every order of the statements of buyers after the last unit, for each strategy."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console, RenderableType
from rich.table import Table

from inventory import strategies
from inventory.exceptions import UnknownStrategy
from inventory.management.output import ended_by_sigterm
from inventory.races import RacesError, report, transcript
from inventory.races.explorer import ISOLATION_LEVELS
from inventory.races.scratch import scratch_database
from inventory.strategy_races import StrategyRace, race

USAGE_ERROR = 2
COLUMNS = (
    "strategy", "safe", "buyers", "schedules", "broken", "waits", "deadlocks", "seen", "seconds",
    "what went wrong",
)  # fmt: skip
MOST_BUYERS = 6
WIDTH = 160  # of what is printed into a file or a pipe, in characters
# Without --buyers: two in every order, and three with a bound that keeps it short.
USUAL: tuple[tuple[int, int | None], ...] = ((2, None), (3, 1))


class Command(BaseCommand):
    help = (
        "Let buyers race for the last unit: every strategy, in every order of their SQL "
        "statements, on a database of its own. Exits 1 if a strategy that calls itself safe has "
        "a schedule that breaks the law of stock."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "strategies", nargs="*", metavar="STRATEGY", help="only these (default: all)"
        )
        parser.add_argument(
            "--show",
            metavar="STRATEGY",
            help="explore this one, and print its shortest failing transcript; of a safe one, its "
            "most instructive",
        )
        parser.add_argument(
            "--buyers",
            type=whole_number(2, MOST_BUYERS),
            metavar="N",
            help="how many buyers (default: two, and three with at most one preemption)",
        )
        parser.add_argument(
            "--stock", type=whole_number(0, 1000), default=1, metavar="N", help="units (default 1)"
        )
        parser.add_argument(
            "--max-preemptions",
            type=whole_number(0, 100),
            metavar="N",
            help="leave out schedules that interrupt buyers more often than that",
        )
        parser.add_argument(
            "--isolation",
            type=isolation_level,
            metavar="LEVEL",
            help=f"of the buyers' transactions: {', '.join(ISOLATION_LEVELS)}",
        )
        parser.add_argument(
            "--budget",
            type=whole_number(1, 1_000_000),
            default=5000,
            metavar="N",
            help="the most schedules per strategy; past it, some at random (default 5000)",
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="N", help="of the random ones (default 0)"
        )
        parser.add_argument("--html", type=Path, metavar="FILE", help="write a page to show around")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")

    def handle(self, **options: Any) -> None:
        chosen = self.chosen(options["strategies"], options["show"])
        check_writable(options["html"], options["json"])
        try:
            with ended_by_sigterm(), scratch_database():
                races = list(self.races(chosen, options))
                self.report(races, options)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted; the races' database is dropped.")
            sys.exit(128 + signal.SIGINT)
        except RacesError as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        if any(each.breaks_promise for each in races):
            sys.exit(1)

    def chosen(self, slugs: list[str], show: str | None) -> list[str]:
        """The strategies to explore. Raises CommandError for one that there isn't."""
        slugs = [*slugs, show] if show and show not in slugs else slugs
        try:
            for slug in slugs:
                strategies.get(slug)
        except UnknownStrategy as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        return list(dict.fromkeys(slugs)) or [s.slug for s in strategies.all_strategies()]

    def races(self, slugs: list[str], options: dict[str, Any]) -> Iterator[StrategyRace]:
        bound = options["max_preemptions"]
        if options["buyers"] is not None:
            fields: tuple[tuple[int, int | None], ...] = ((options["buyers"], bound),)
        elif options["show"]:
            fields = ((2, bound),)
        else:
            fields = tuple((buyers, usual if bound is None else bound) for buyers, usual in USUAL)
        todo = [(slug, buyers, most) for buyers, most in fields for slug in slugs]
        progress = Console(stderr=True)
        with progress.status("Racing …") as status:
            for slug, buyers, most in todo:
                status.update(f"{slug}, {buyers} buyers …")
                yield race(
                    slug,
                    buyers=buyers,
                    units=options["stock"],
                    max_preemptions=most,
                    isolation=options["isolation"],
                    budget=options["budget"],
                    seed=options["seed"],
                )

    def report(self, races: list[StrategyRace], options: dict[str, Any]) -> None:
        self.print(table_of(races))
        if options["show"]:
            [shown] = [each for each in races if each.strategy.slug == options["show"]][:1]
            self.print("")
            self.print(transcript.Rendered(shown.result.most_instructive))
        if options["json"]:
            results = {"results": [each.as_dict() for each in races]}
            options["json"].write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        if options["html"]:
            options["html"].write_text(page_of(races))
        for each in races:
            if each.breaks_promise:
                self.stdout.write(
                    self.style.ERROR(
                        f"{each.strategy.slug} calls itself safe, and is broken in "
                        f"{len(each.result.broken)} of {each.result.schedules} schedules:"
                    )
                )
                assert each.result.shortest is not None
                self.print(transcript.Rendered(each.result.shortest))

    def print(self, what: RenderableType) -> None:
        """In colour on a terminal, else as plain text."""
        on_terminal = self.stdout.isatty()
        console = Console(
            force_terminal=on_terminal, width=None if on_terminal else WIDTH, highlight=False
        )
        with console.capture() as captured:
            console.print(what)
        lines = [line.rstrip() for line in captured.get().splitlines()]
        self.stdout.write("\n".join(lines))


def whole_number(least: int, most: int) -> Any:
    """A type of argparse: a whole number from ``least`` to ``most``."""

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


def check_writable(*files: Path | None) -> None:
    """Raise CommandError now rather than after minutes of work."""
    for file in files:
        if file is not None:
            try:
                with file.open("a"):
                    pass
            except OSError as error:
                raise CommandError(
                    f"{file} can't be written: {error.strerror}.", returncode=USAGE_ERROR
                ) from error


def table_of(races: list[StrategyRace]) -> Table:
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(COLUMNS):
        if column in ("buyers", "schedules", "broken", "waits", "deadlocks", "seconds"):
            table.columns[place].justify = "right"
    for each in races:
        style = "bold red" if each.breaks_promise else ""
        table.add_row(*(str(cell) for cell in row_of(each)), style=style)
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
