"""The command http_benchmark: the speed of the shop's pages, and of reserving on them."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from inventory.experiments.benchmark.run import BenchmarkError, Course, Parameters, Result
from inventory.experiments.benchmark.shapes import HOT
from inventory.experiments.management.benchmarks import BenchmarkCommand
from inventory.experiments.parameters import InvalidParameters, check_within
from inventory.races.errors import Misuse
from inventory.words import counted
from shop.load_tests import server_log
from shop.load_tests.http_benchmark import rows, servers, wrk
from shop.load_tests.http_benchmark.beside import OtherShop
from shop.load_tests.http_benchmark.course import Turns, course
from shop.load_tests.http_benchmark.wrk import WrkFailed
from shop.load_tests.serving import NotServed

MOST_WORKERS, MOST_THREADS = 64, 256
BUYERS = (32, 256, 2000)
WRK, PYTHON = "wrk", "python"


class Command(BenchmarkCommand):
    help = (
        "Serve the shop with gunicorn on a scratch database, and measure how many buyers a second "
        "it serves, and the processor time that each costs: reserving through the form of the "
        "product's page, the page itself, its stock fragment, a sold-out product, and whole "
        "purchases. The ways of serving take turns, round after round: the fast lane, Django in "
        "the same server, and Django behind gunicorn's threads; with --beside, another checkout, "
        "too. The law is checked after each turn. Exits 1 if the law is broken, or if an answer "
        "was not the expected one."
    )
    default = Parameters(
        shapes=[HOT],
        buyers=BUYERS,
        processes=1,
        seconds=3.0,
        warm_up=1.0,
        course=course(servers.WAYS, BUYERS, with_wrk=True),
    )
    last_traceback: Sequence[str] = ()
    """The last one in the servers' log."""
    buyers_options = ("--connections", "--buyers")

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--workers", type=int, default=2, help="gunicorn's processes (%(default)s)"
        )
        parser.add_argument("--threads", type=int, default=8, help="of each of those (%(default)s)")
        parser.add_argument(
            "--beside",
            metavar="DIR",
            help="serve the checkout in DIR, too, on a scratch database of its own: an earlier "
            "commit, as in git worktree add DIR COMMIT",
        )
        parser.add_argument(
            "--generator",
            choices=[WRK, PYTHON],
            help="wrk, if it is installed (apt install wrk), else a client in Python, which "
            "takes much of the machine itself",
        )

    def help_on_rows(self) -> str:
        found = rows.all_rows(servers.WAYS, with_wrk=True)
        acts = dict.fromkeys(row.act for row in found)
        return (
            "measure only this act, this way of serving, or this row (“reserve, lane”); can be "
            f"repeated. Acts: {', '.join(acts)}. Ways: {', '.join(servers.WAYS)}, and beside"
        )

    def parameters(self, **options: Any) -> Parameters:
        for name, most in (("workers", MOST_WORKERS), ("threads", MOST_THREADS)):
            check_within(name, options[name], 1, most)
        if is_with_wrk(options):  # its seconds are whole
            options["seconds"] = max(1.0, float(round(options["seconds"])))
            options["warm_up"] = float(round(options["warm_up"]))
        parameters = super().parameters(**options)
        served = ways_of(parameters)
        servers.check_connections(served, options["workers"], options["threads"])
        return parameters

    def course(self, **options: Any) -> Course:
        if options["generator"] == WRK and not wrk.is_installed():
            raise InvalidParameters("generator: wrk isn't installed (Debian: apt install wrk).")
        return course(
            ways_offered(options), options["buyers"] or BUYERS, with_wrk=is_with_wrk(options)
        )

    @contextmanager
    def prepared(self, parameters: Parameters, **options: Any) -> Iterator[Parameters]:
        other = other_shop(options)
        workers, threads = options["workers"], options["threads"]
        variables = {"WEB_CONCURRENCY": str(workers), "WEB_THREADS": str(threads)}
        how_served = f"gunicorn: {counted(workers, 'worker')} × {counted(threads, 'thread')}."
        with tempfile.TemporaryFile() as log:
            try:
                with servers.running(ways_of(parameters), variables, other, log) as started:
                    measured = course(
                        ways_offered(options),
                        parameters.buyers,
                        with_wrk=is_with_wrk(options),
                        turns=Turns(started, other, is_with_wrk(options)),
                        how_served=how_served,
                    )
                    yield replace(parameters, course=measured)
            except (Misuse, NotServed, WrkFailed, ConnectionError) as error:
                for line in server_log.lines_of(log)[-server_log.MOST_LINES :]:
                    self.stderr.write(line)
                raise BenchmarkError(str(error)) from error
            finally:
                self.last_traceback = server_log.last_traceback(server_log.lines_of(log))

    def report(
        self, parameters: Parameters, results: list[Result], console: Console, **options: Any
    ) -> None:
        super().report(parameters, results, console, **options)
        if any(result.failed for result in results):
            for line in self.last_traceback:
                self.stderr.write(line)


def is_with_wrk(options: dict[str, Any]) -> bool:
    """Whether wrk generates the load."""
    return options["generator"] != PYTHON and wrk.is_installed()


def other_shop(options: dict[str, Any]) -> OtherShop | None:
    """The checkout to serve beside ours, if any. Raises InvalidParameters."""
    return OtherShop(Path(options["beside"]).resolve()) if options["beside"] else None


def ways_offered(options: dict[str, Any]) -> list[str]:
    return [*servers.WAYS, *([rows.BESIDE] if other_shop(options) else [])]


def ways_of(parameters: Parameters) -> list[str]:
    """The ways of serving that the chosen rows need."""
    return list(dict.fromkeys(rows.find_row(name).way for name in parameters.chosen_rows()))
