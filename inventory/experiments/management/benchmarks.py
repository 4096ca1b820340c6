"""Shared by the commands that run a benchmark: options, progress, report and exit codes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import TimeRemainingColumn

from inventory.exceptions import UnknownStrategy
from inventory.experiments.benchmark import machine, picture, report, rows
from inventory.experiments.benchmark.run import (
    BenchmarkError,
    Course,
    Parameters,
    Progress,
    Result,
    empty_results,
    run,
)
from inventory.experiments.management.output import add_output_options, bar, console_for
from inventory.experiments.parameters import InvalidParameters
from inventory.management import tables
from inventory.management.base import USAGE_ERROR, FoldingCommand, check_writable
from inventory.races.management.output import interruptible, write_json
from inventory.words import counted


class BenchmarkCommand(FoldingCommand):
    """A command that measures rows in rounds, with ``default`` as its default parameters."""

    default: Parameters
    buyers_options: Sequence[str] = ("--buyers",)
    machine = ""
    """The conditions of this run, once they are known."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--only",
            "--row",
            dest="row",
            action="append",
            default=[],
            metavar="NAME",
            help=self.help_on_rows(),
        )
        parser.add_argument(
            *self.buyers_options,
            dest="buyers",
            action="append",
            type=int,
            help="buyers at once, in all processes together; can be repeated "
            f"({', '.join(map(str, self.default.buyers))})",
        )
        parser.add_argument(
            "--processes",
            type=int,
            default=self.default.processes,
            help="processes of buyers (%(default)s)",
        )
        parser.add_argument("--rounds", type=int, default=self.default.rounds, help="(%(default)s)")
        parser.add_argument(
            "--seconds",
            type=float,
            default=self.default.seconds,
            help="seconds for which each row is measured in a round (%(default)s)",
        )
        parser.add_argument(
            "--warm-up",
            type=float,
            default=self.default.warm_up,
            help="seconds for which each row runs before it is measured (%(default)s)",
        )
        parser.add_argument(
            "--picture", metavar="FILE.svg", help="draw rate and p99 over the number of buyers"
        )
        add_output_options(parser)

    def help_on_rows(self) -> str:
        """The help of the option that chooses rows."""
        return (
            "measure only this strategy and the ceilings; can be repeated. Strategies: "
            + ", ".join(rows.candidates())
        )

    def handle(self, **options: Any) -> None:
        parameters = self.valid_parameters(**options)
        check_writable("json", options["json"])
        check_writable("picture", options["picture"])
        console = console_for(self.stdout, json=options["json"], quiet=options["quiet"])
        console.print(
            f"{counted(parameters.number_of_turns(), 'turn')}: about "
            f"{counted(max(1, round(parameters.estimated_minutes())), 'minute')}. "
            "With fewer rows, shapes, buyers or rounds it takes less.",
            highlight=False,
        )
        results: list[Result] = []
        try:
            with (
                interruptible() as interruption,
                self.prepared(parameters, **options) as parameters,
                progress(console, parameters) as show_turn,
            ):
                self.machine = machine.conditions()
                results = empty_results(parameters)
                run(parameters, results, progress=show_turn)
        except BenchmarkError as error:
            self.report(parameters, results, console, **options)
            raise CommandError(str(error)) from error
        self.report(parameters, results, console, **options)
        if interruption.exit_code:
            self.stderr.write("Broken off. The products made for it are removed.")
            sys.exit(interruption.exit_code)
        if any(report.is_wrong(result) for result in results):
            sys.exit(1)

    def report(
        self, parameters: Parameters, results: list[Result], console: Console, **options: Any
    ) -> None:
        """Print and write the results so far."""
        measured = [result for result in results if result.rounds]
        report.show(parameters, measured, console, self.machine)
        if options["json"]:
            found = report.as_json(parameters, measured, self.machine)
            write_json(options["json"], found, self.stdout)
        if options["picture"]:
            Path(options["picture"]).write_text(picture.draw(measured))

    def valid_parameters(self, **options: Any) -> Parameters:
        try:
            return self.parameters(**options)
        except (InvalidParameters, UnknownStrategy) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error

    def parameters(self, **options: Any) -> Parameters:
        """The parameters in the options. Raises InvalidParameters, UnknownStrategy."""
        return Parameters(
            rows=options["row"],
            shapes=options.get("shape", self.default.shapes),
            buyers=options["buyers"] or self.default.buyers,
            rate=options.get("rate", self.default.rate),
            processes=options["processes"],
            rounds=options["rounds"],
            seconds=options["seconds"],
            warm_up=options["warm_up"],
            course=self.course(**options),
        )

    def course(self, **options: Any) -> Course:
        """The rows that the options offer. Raises InvalidParameters."""
        return self.default.course

    @contextmanager
    def prepared(self, parameters: Parameters, **options: Any) -> Iterator[Parameters]:
        """Prepare the database for the benchmark, for the length of a block.

        Raises BenchmarkError, CommandError.
        """
        tables.ensure(self.stderr.write)
        yield parameters


@contextmanager
def progress(console: Console, parameters: Parameters) -> Iterator[Progress]:
    """Show the progress: a bar on a terminal, else a line per round and load."""
    if not console.is_terminal:
        yield lines(console)
        return
    with bar(console, parameters.number_of_turns(), TimeRemainingColumn()) as advance:
        yield lambda result, round_: advance(f"{turn_in_words(result, round_)}, {result.row}", 1)


def lines(console: Console) -> Progress:
    shown: list[str] = [""]

    def show_turn(result: Result, round_: int) -> None:
        words = turn_in_words(result, round_)
        if words != shown[-1]:
            shown.append(words)
            console.print(words, highlight=False)

    return show_turn


def turn_in_words(result: Result, round_: int) -> str:
    return f"round {round_}, {result.shape}, {counted(result.load.buyers, 'buyer')}"
