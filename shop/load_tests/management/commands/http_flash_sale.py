"""A flash sale over HTTP: buyers with cookies and forms, at a shop served by gunicorn."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from contextlib import closing
from typing import IO, Any

from django.core.management.base import CommandError
from rich.console import Console

from inventory import strategies
from inventory.exceptions import UnknownStrategy
from inventory.experiments.flash_sale.buyers import FlashSaleError, Outcome
from inventory.experiments.flash_sale.report import is_surprising
from inventory.experiments.management.output import (
    add_output_options,
    breakable,
    console_for,
    progress,
    write_json,
)
from inventory.experiments.models import FlashSaleResult
from inventory.experiments.parameters import InvalidParameters
from inventory.management.base import USAGE_ERROR, FoldingCommand, check_writable
from shop.load_tests.http_flash_sale import buyers, outside, report, sale
from shop.load_tests.http_flash_sale.sale import Crowd, Parameters
from shop.load_tests.http_flash_sale.target import WrongTarget

OF_OUR_OWN_SHOP = ("strategy", "stock", "workers", "threads")
OF_A_HOST = ("product", "i_own_this_shop")
MOST_LINES = 30  # of the web server's log


class Command(FoldingCommand):
    help = (
        "Let many buyers walk through the shop's pages at once, over HTTP: product, reserve, "
        "checkout, the demo bank. Without --host the shop is served for it by gunicorn on a "
        "database of its own, once per strategy, and the law is checked there; exits 1 if a "
        "strategy that calls itself safe sold too much, turned a buyer away wrongly, or failed. "
        "With --host nothing is known but what customers are told: the orders shown as paid are "
        "compared with the units that the product's page shows before and after; exits 1 if more "
        "was sold than it had shown, a buyer was turned away with units left, or failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        ours, crowd = Parameters(), Crowd()
        parser.add_argument(
            "--strategy",
            action="append",
            metavar="NAME",
            help="only this one; may be given again. There are: "
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
            help="with --host: what all want, as in its page's address",
        )
        parser.add_argument(
            "--i-own-this-shop",
            action="store_true",
            default=None,
            help="with --host: also a shop that doesn't say it is a demo",
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
        """Hold the sale on a shop of our own."""
        refuse(options, OF_A_HOST, "is for a shop that is served already: give --host, too.")
        numbers = {name: options[name] for name in ("stock", "workers", "threads")}
        given = {name: number for name, number in numbers.items() if number is not None}
        parameters = Parameters(crowd_of(options), options["strategy"] or (), **given)
        turns, crowd = len(parameters.chosen()), parameters.crowd
        results: list[FlashSaleResult] = []
        with tempfile.TemporaryFile() as log:
            try:
                with (
                    breakable() as ending,
                    progress(console, turns, crowd.buyers) as tell,
                    closing(sale.run(parameters, log, tell=tell)) as finished,
                ):
                    results.extend(finished)
            except FlashSaleError:
                report.show(parameters, results, console)
                self.complain(lines_of(log)[-MOST_LINES:])
                raise
            report.show(parameters, results, console)
            if any(result.failed for result in results):
                self.complain(last_traceback(lines_of(log)))
        if options["json"]:
            write_json(options["json"], report.as_json(parameters, results), self.stdout)
        if ending.code:
            self.stderr.write("Broken off; what was made for it is removed.")
            sys.exit(ending.code)
        if any(is_surprising(result) for result in results):
            sys.exit(1)

    def complain(self, lines: list[str]) -> None:
        """Repeat what the web server's log says."""
        for line in lines:
            self.stderr.write(line)

    def visit(self, console: Console, **options: Any) -> None:
        """Hold the sale on a shop that is served already."""
        refuse(options, OF_OUR_OWN_SHOP, "can't be chosen with --host: it is as the shop has it.")
        host, product, crowd = options["host"].rstrip("/"), options["product"], crowd_of(options)
        if not product:
            raise WrongTarget(
                "product: with --host it must be named, as in its page's address: --product SLUG"
            )
        own = bool(options["i_own_this_shop"])
        before = outside.units_before(host, product, own=own)
        outcomes: list[Outcome] = []
        with breakable() as ending, progress(console, 1, crowd.buyers) as tell:
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
        if ending.code:
            self.stderr.write("Broken off. What buyers were doing meanwhile is left as it was.")
            sys.exit(ending.code)
        if visit.is_bad:
            sys.exit(1)


def crowd_of(options: dict[str, Any]) -> Crowd:
    return Crowd(options["buyers"], options["think"])


def lines_of(log: IO[bytes]) -> list[str]:
    log.seek(0)
    return log.read().decode(errors="replace").splitlines()


def last_traceback(lines: list[str]) -> list[str]:
    """From the last one in the log on; nothing if there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    return lines[starts[-1] :][:MOST_LINES] if starts else []


def refuse(options: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """Raise InvalidParameters for an option that makes no sense here."""
    for name in names:
        if options[name] is not None:
            raise InvalidParameters(f"{name.replace('_', '-')}: {why}")
