"""The command http_flash_sale: buyers with cookies and forms, at a shop served by gunicorn."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from contextlib import closing
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console

from inventory import strategies
from inventory.exceptions import UnknownStrategy
from inventory.experiments.flash_sale.buyers import FlashSaleError, Outcome
from inventory.experiments.flash_sale.report import breaks_promise
from inventory.experiments.management.output import add_output_options, console_for, progress
from inventory.experiments.models import FlashSaleResult
from inventory.experiments.parameters import InvalidParameters
from inventory.management.base import USAGE_ERROR, FoldingCommand, check_writable
from inventory.races.management.output import interruptible, write_json
from shop.load_tests.http_flash_sale import buyers, outside, report, sale
from shop.load_tests.http_flash_sale.sale import Crowd, Parameters
from shop.load_tests.http_flash_sale.target import WrongTarget
from shop.load_tests.server_log import MOST_LINES, last_traceback, lines_of

OF_OUR_OWN_SHOP = ("strategy", "stock", "workers", "threads")
OF_A_HOST = ("product", "i_own_this_shop")


class Command(FoldingCommand):
    help = (
        "Send many buyers through the shop's pages at once, over HTTP: product, reserve, checkout, "
        "the demo bank. Without --host, gunicorn serves the shop on a database of its own, each "
        "strategy has a turn, and the law is checked; exits 1 if a safe strategy sold too much, "
        "refused a buyer wrongly, or failed. With --host, only the pages that customers see can "
        "be checked: the orders shown as paid are compared with the units that the product's page "
        "shows before and after; exits 1 if more was sold than the page had shown, if a buyer was "
        "refused with units left, or if a buyer failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        ours, crowd = Parameters(), Crowd()
        parser.add_argument(
            "--strategy",
            action="append",
            metavar="NAME",
            help="only this strategy; may be repeated. One of: "
            + ", ".join(strategy.slug for strategy in strategies.all_strategies()),
        )
        parser.add_argument("--stock", type=int, help=f"units on sale ({ours.stock})")
        parser.add_argument("--buyers", type=int, default=crowd.buyers, help="(%(default)s)")
        parser.add_argument("--workers", type=int, help=f"gunicorn's processes ({ours.workers})")
        parser.add_argument("--threads", type=int, help=f"in each of them ({ours.threads})")
        parser.add_argument(
            "--think",
            type=float,
            default=crowd.think,
            metavar="SECONDS",
            help="how long a buyer thinks before each click, on average (%(default)s)",
        )
        parser.add_argument(
            "--host",
            metavar="URL",
            help="a shop that is served already, as in http://localhost:8000: one that says it is "
            "a demo (DEMO=true), with its limits per address off",
        )
        parser.add_argument(
            "--product",
            metavar="SLUG",
            help="with --host: the product that all buyers want, as in its page's address",
        )
        parser.add_argument(
            "--i-own-this-shop",
            action="store_true",
            default=None,
            help="with --host: accept a shop that doesn't say it is a demo",
        )
        add_output_options(parser)

    def handle(self, **options: Any) -> None:
        check_writable("json", options["json"])
        console = console_for(self.stdout, json=options["json"], quiet=options["quiet"])
        try:
            if options["host"]:
                self.visit(console, **options)
            else:
                self.serve(console, **options)
        except (InvalidParameters, UnknownStrategy, WrongTarget) as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        except FlashSaleError as error:
            raise CommandError(str(error)) from error

    def serve(self, console: Console, **options: Any) -> None:
        """Run the sale on a shop of our own."""
        reject_options(
            options, OF_A_HOST, "is for a shop that is served already: give --host, too."
        )
        numbers = {name: options[name] for name in ("stock", "workers", "threads")}
        given = {name: number for name, number in numbers.items() if number is not None}
        parameters = Parameters(chosen_crowd(options), options["strategy"] or (), **given)
        turns, crowd = len(parameters.chosen_strategies()), parameters.crowd
        results: list[FlashSaleResult] = []
        with tempfile.TemporaryFile() as log:
            try:
                with (
                    interruptible() as interruption,
                    progress(console, turns, crowd.buyers) as tell,
                    closing(sale.run(parameters, log, tell=tell)) as finished,
                ):
                    results.extend(finished)
            except FlashSaleError:
                report.show(parameters, results, console)
                self.repeat_log(lines_of(log)[-MOST_LINES:])
                raise
            report.show(parameters, results, console)
            if any(result.failed for result in results):
                self.repeat_log(last_traceback(lines_of(log)))
        if options["json"]:
            write_json(options["json"], report.as_json(parameters, results), self.stdout)
        if interruption.exit_code:
            self.stderr.write("Broken off; what was made for it is removed.")
            sys.exit(interruption.exit_code)
        if any(breaks_promise(result) for result in results):
            sys.exit(1)

    def repeat_log(self, lines: list[str]) -> None:
        """Repeat lines of the web server's log."""
        for line in lines:
            self.stderr.write(line)

    def visit(self, console: Console, **options: Any) -> None:
        """Run the sale on a shop that is served already."""
        reject_options(
            options, OF_OUR_OWN_SHOP, "can't be chosen with --host: the shop has its own."
        )
        host, product, crowd = (
            options["host"].rstrip("/"),
            options["product"],
            chosen_crowd(options),
        )
        if not product:
            raise WrongTarget(
                "product: --host needs the product, as in its page's address: --product SLUG"
            )
        own = bool(options["i_own_this_shop"])
        before = outside.units_before(host, product, own=own)
        outcomes: list[Outcome] = []
        with interruptible() as interruption, progress(console, 1, crowd.buyers) as tell:
            buyers.send(
                host,
                product,
                crowd.buyers,
                think=crowd.think,
                own=own,
                served=lambda number: tell(product, number),
                outcomes=outcomes,
            )
        visit = outside.judge(host, product, crowd, before, outcomes)
        report.show_visit(visit, console)
        if options["json"]:
            write_json(options["json"], report.visit_as_json(visit), self.stdout)
        if interruption.exit_code:
            self.stderr.write("Broken off. The shop keeps all that the buyers have done.")
            sys.exit(interruption.exit_code)
        if visit.is_bad:
            sys.exit(1)


def chosen_crowd(options: dict[str, Any]) -> Crowd:
    return Crowd(options["buyers"], options["think"])


def reject_options(options: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """Raise InvalidParameters for an option that makes no sense here."""
    for name in names:
        if options[name] is not None:
            raise InvalidParameters(f"{name.replace('_', '-')}: {why}")
