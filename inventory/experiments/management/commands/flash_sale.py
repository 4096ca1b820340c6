"""Let many real buyers buy little stock at once, and show which strategies oversell."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console

from inventory import strategies
from inventory.exceptions import UnknownStrategy
from inventory.experiments.flash_sale import report
from inventory.experiments.flash_sale.buyers import FlashSaleError
from inventory.experiments.flash_sale.sale import Parameters, plan, run_planned
from inventory.experiments.management.output import add_output_options, console_for, progress
from inventory.experiments.models import FlashSale
from inventory.experiments.parameters import InvalidParameters
from inventory.management import tables
from inventory.management.base import USAGE_ERROR, FoldingCommand, check_writable
from inventory.races.management.output import interruptible, write_json


class Command(FoldingCommand):
    help = (
        "Let many buyers buy the same few units at the same instant, once per strategy, on "
        "products made for it. The buyers have their own processes, threads and connections. "
        "Exits 1 if a strategy that calls itself safe sold too much, refused a buyer wrongly, or "
        "failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = Parameters()
        parser.add_argument(
            "--strategy",
            action="append",
            default=[],
            metavar="NAME",
            help="run only this strategy; can be repeated. Strategies: "
            + ", ".join(strategy.slug for strategy in strategies.all_strategies()),
        )
        parser.add_argument(
            "--stock", type=int, default=default.stock, help="units on sale (%(default)s)"
        )
        parser.add_argument("--buyers", type=int, default=default.buyers, help="(%(default)s)")
        parser.add_argument(
            "--quantity",
            type=parse_quantity,
            default=default.quantity,
            metavar="N or N-M",
            help="units that each buyer asks for (1)",
        )
        parser.add_argument(
            "--processes", type=int, default=default.processes, help="(%(default)s)"
        )
        parser.add_argument(
            "--threads",
            type=int,
            help="threads in each process, each with a connection (enough for all buyers at once, "
            "if the server has as many connections)",
        )
        parser.add_argument(
            "--payment-ms",
            type=int,
            default=default.payment_ms,
            help="milliseconds that a payment takes (%(default)s)",
        )
        parser.add_argument("--rounds", type=int, default=default.rounds, help="(%(default)s)")
        parser.add_argument(
            "--backstop",
            action="store_true",
            help="let PostgreSQL's CHECK refuse stock below zero, as in the shop",
        )
        add_output_options(parser)

    def handle(self, **options: Any) -> None:
        parameters = self.parameters(**options)
        check_writable("json", options["json"])
        console = console_for(self.stdout, json=options["json"], quiet=options["quiet"])
        sale = None
        try:
            with interruptible() as interruption:
                tables.ensure(self.stderr.write, "experiments")
                sale = plan(parameters)
                self.run(sale, parameters, console)
        except InvalidParameters as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        except FlashSaleError as error:
            if sale is not None:
                report.show(sale, console)
            raise CommandError(str(error)) from error
        if sale is not None:
            report.show(sale, console)
            if options["json"]:
                write_json(options["json"], report.as_json(sale), self.stdout)
        if interruption.exit_code:
            self.stderr.write("Broken off. The results until then are stored.")
            sys.exit(interruption.exit_code)
        if sale is not None and any(map(report.breaks_promise, sale.results.all())):
            sys.exit(1)

    def run(self, sale: FlashSale, parameters: Parameters, console: Console) -> None:
        """Run the sale, and show its progress."""
        with progress(console, number_of_turns(parameters), parameters.buyers) as advance:
            run_planned(
                sale,
                progress=lambda strategy, round_, served: advance(
                    turn_in_words(strategy, round_, parameters), served
                ),
            )

    def parameters(self, **options: Any) -> Parameters:
        try:
            return Parameters(
                strategies=options["strategy"],
                stock=options["stock"],
                buyers=options["buyers"],
                quantity=options["quantity"],
                processes=options["processes"],
                threads=options["threads"],
                payment_ms=options["payment_ms"],
                rounds=options["rounds"],
                backstop=options["backstop"],
            )
        except (InvalidParameters, UnknownStrategy) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error


def parse_quantity(text: str) -> tuple[int, int]:
    """Read "3" or "1-4" as (least, most)."""
    least, dash, most = text.partition("-")
    try:
        return int(least), int(most if dash else least)
    except ValueError:
        raise ArgumentTypeError(
            f"must be a number of units such as 2 or 1-4, not {text!r}"
        ) from None


def number_of_turns(parameters: Parameters) -> int:
    return len(parameters.chosen_strategies()) * parameters.rounds


def turn_in_words(strategy: strategies.Strategy, round_: int, parameters: Parameters) -> str:
    return f"{strategy.slug}, round {round_}" if parameters.rounds > 1 else strategy.slug
