"""What commands that run a benchmark share: options, progress, report and exit codes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import TimeRemainingColumn

from inventory.exceptions import UnknownStrategy
from inventory.experiments.benchmark import picture, report, rows
from inventory.experiments.benchmark.run import (
    BenchmarkError,
    Parameters,
    Result,
    planned,
    run,
)
from inventory.experiments.benchmark.run import Progress as Tell
from inventory.experiments.management.output import (
    add_output_options,
    bar,
    breakable,
    console_for,
    write_json,
)
from inventory.experiments.parameters import InvalidParameters
from inventory.management import tables
from inventory.management.base import USAGE_ERROR, FoldingCommand, check_writable
from inventory.words import counted


class BenchmarkCommand(FoldingCommand):
    """A command that measures rows in rounds; ``default`` are its parameters."""

    default: Parameters

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--row",
            action="append",
            default=[],
            metavar="NAME",
            help="only this strategy, beside the ceilings; may be given again. There are: "
            + ", ".join(rows.candidates()),
        )
        parser.add_argument(
            "--buyers",
            action="append",
            type=int,
            help="at once, in all processes together; may be given again "
            f"({', '.join(map(str, self.default.buyers))})",
        )
        parser.add_argument(
            "--processes",
            type=int,
            default=self.default.processes,
            help="of buyers (%(default)s)",
        )
        parser.add_argument("--rounds", type=int, default=self.default.rounds, help="(%(default)s)")
        parser.add_argument(
            "--seconds",
            type=float,
            default=self.default.seconds,
            help="how long each row is measured in a round (%(default)s)",
        )
        parser.add_argument(
            "--warm-up",
            type=float,
            default=self.default.warm_up,
            help="how long it runs before that, in seconds (%(default)s)",
        )
        parser.add_argument(
            "--picture", metavar="FILE.svg", help="draw rate and p99 over the number of buyers"
        )
        add_output_options(parser)

    def handle(self, **options: Any) -> None:
        parameters = self.valid_parameters(**options)
        check_writable("json", options["json"])
        check_writable("picture", options["picture"])
        console = console_for(self.stdout, json=options["json"], quiet=options["quiet"])
        console.print(
            f"{counted(parameters.turns(), 'turn')}: about "
            f"{counted(max(1, round(parameters.minutes())), 'minute')}. "
            "Fewer rows, shapes, buyers or rounds are sooner done.",
            highlight=False,
        )
        results: list[Result] = []
        try:
            with (
                breakable() as ending,
                self.ready(parameters, **options) as parameters,
                progress(console, parameters) as tell,
            ):
                results = planned(parameters)
                run(parameters, results, progress=tell)
        except BenchmarkError as error:
            self.report(parameters, results, console, **options)
            raise CommandError(str(error)) from error
        self.report(parameters, results, console, **options)
        if ending.code:
            self.stderr.write("Broken off; what was made for it is removed.")
            sys.exit(ending.code)
        if any(report.is_wrong(result) for result in results):
            sys.exit(1)

    def report(
        self, parameters: Parameters, results: list[Result], console: Console, **options: Any
    ) -> None:
        """Show and write what was measured: all of it, or as much as there is."""
        measured = [result for result in results if result.rounds]
        report.show(parameters, measured, console)
        if options["json"]:
            write_json(options["json"], report.as_json(parameters, measured), self.stdout)
        if options["picture"]:
            Path(options["picture"]).write_text(picture.draw(measured))

    def valid_parameters(self, **options: Any) -> Parameters:
        try:
            return self.parameters(**options)
        except (InvalidParameters, UnknownStrategy) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error

    def parameters(self, **options: Any) -> Parameters:
        """What the options ask for. Raises InvalidParameters, UnknownStrategy."""
        return Parameters(
            rows=options["row"],
            shapes=options.get("shape", self.default.shapes),
            buyers=options["buyers"] or self.default.buyers,
            rate=options.get("rate", self.default.rate),
            processes=options["processes"],
            rounds=options["rounds"],
            seconds=options["seconds"],
            warm_up=options["warm_up"],
            course=self.default.course,
        )

    @contextmanager
    def ready(self, parameters: Parameters, **options: Any) -> Iterator[Parameters]:
        """Make ready what is to be measured, for the length of a block.

        Raises BenchmarkError, CommandError.
        """
        tables.ensure(self.stderr.write)
        yield parameters


@contextmanager
def progress(console: Console, parameters: Parameters) -> Iterator[Tell]:
    """Show how far it is: a bar on a terminal, else a line per round and load."""
    if not console.is_terminal:
        yield lines(console)
        return
    with bar(console, parameters.turns(), TimeRemainingColumn()) as advance:
        yield lambda result, round_: advance(f"{turn(result, round_)}, {result.row}", 1)


def lines(console: Console) -> Tell:
    told: list[str] = [""]

    def tell(result: Result, round_: int) -> None:
        words = turn(result, round_)
        if words != told[-1]:
            told.append(words)
            console.print(words, highlight=False)

    return tell


def turn(result: Result, round_: int) -> str:
    return f"round {round_}, {result.shape}, {counted(result.load.buyers, 'buyer')}"
