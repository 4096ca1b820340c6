"""Let requests race: ``manage.py races /a/ /b/``; or list the views that are worth it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import shlex
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import RenderableType
from rich.text import Text

from ... import report, transcript
from ...errors import RacesError
from ...options import taking_run
from ...progress import progress_on
from ...result import Result, Run, serial_orders_that_break
from ...url_race import Alone, Asked, UrlRace, race_of
from ..output import (
    FOUND,
    STANDARD_OUTPUT,
    USAGE_ERROR,
    ErrorsFirstParser,
    interruptible,
    isolation_level,
    print_rich,
    seconds,
    whole_number,
    writable_file,
    write_json,
)

OF_REQUESTS = {
    "--setup": "setup", "--invariant": "invariant", "--as": "users", "--data": "data",
    "--header": "header", "--method": "methods", "--replay": "replay", "--database": "database",
    "--first": "first", "--seconds": "seconds", "--max-steps": "max_steps", "--clock": "clock",
    "--cache": "cache",
}  # fmt: skip
"""Options that are about requests, and the names of their values."""
OF_ALL = ("isolation", "max_steps", "clock", "cache")  # also for a replay
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLUMNS = 80  # of a line where there is no terminal


class Command(BaseCommand):
    help = (
        "Let requests to these URLs race, in every order of their SQL statements, in a database "
        "of their own. Exits 1 if a schedule breaks the invariant, or, without one, if it ends as "
        "the requests can't end one after the other. --list shows which views are worth it."
    )
    metavar = "URL"
    help_on_names = "the requests, named A, B, … One URL alone is requested twice"

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **options)
        parser.__class__ = ErrorsFirstParser  # Django has no option for it
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar=self.metavar, help=self.help_on_names)
        self.add_options_of_requests(parser)
        self.add_options_of_exploring(parser)

    def add_options_of_requests(self, parser: ArgumentParser) -> None:
        of_urls = parser.add_argument_group("requests")
        of_urls.add_argument(
            "--list",
            action="store_true",
            help="list the project's own views that change something, and the pairs that write "
            "the same tables, the most promising first",
        )
        of_urls.add_argument(
            "--setup",
            metavar="MODULE:FUNCTION",
            help="makes the rows that the requests need, and commits. It may return a mapping: "
            "its values replace names in braces, as in /orders/{token}/",
        )
        of_urls.add_argument(
            "--invariant",
            metavar="MODULE:FUNCTION",
            help="gets the finished run; returns False or raises AssertionError if it is broken",
        )
        of_urls.add_argument(
            "--as",
            dest="users",
            action="append",
            metavar="USERNAME",
            help="the user who is logged in; once for all requests, or once for each",
        )
        of_urls.add_argument(
            "--data",
            action="append",
            type=form_field_or_json,
            metavar="KEY=VALUE",
            help="a form's field; A:KEY=VALUE is only for request A. Or a JSON document: {…}",
        )
        of_urls.add_argument(
            "--header",
            action="append",
            type=header,
            metavar="NAME:VALUE",
            help='as "Cookie: basket={key}"',
        )
        of_urls.add_argument(
            "--method",
            dest="methods",
            action="append",
            type=http_method,
            metavar="METHOD",
            help="once for all requests, or once for each (default: POST)",
        )
        of_urls.add_argument(
            "--get", dest="methods", action="append_const", const="GET", help="same as --method GET"
        )
        of_urls.add_argument(
            "--replay",
            metavar="SCHEDULE",
            help='perform only this schedule, as "A*3 B*2 A", and show it',
        )
        of_urls.add_argument(
            "--database", metavar="ALIAS", help="the database of the race (default: default)"
        )
        of_urls.add_argument("--first", action="store_true", help="stop at the first broken one")
        of_urls.add_argument(
            "--seconds", type=seconds, metavar="N", help="begin no schedule later than that"
        )
        of_urls.add_argument(
            "--clock", action="store_true", help="make each reading of the clock a step"
        )
        of_urls.add_argument(
            "--cache",
            action="store_true",
            help="make each operation on one of Django's caches a step",
        )
        of_urls.add_argument(
            "--max-steps",
            type=whole_number(1, 10_000),
            metavar="N",
            help="at most N statements of a request in a schedule (default 100)",
        )

    def add_options_of_exploring(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--max-preemptions",
            type=whole_number(0, 100),
            metavar="N",
            help="leave out schedules that interrupt sessions more than N times",
        )
        parser.add_argument(
            "--isolation", type=isolation_level, metavar="LEVEL",
            help="isolation level: read committed, repeatable read, serializable",
        )  # fmt: skip
        parser.add_argument(
            "--budget",
            type=whole_number(1, 1_000_000),
            default=5000,
            metavar="N",
            help="at most N schedules, fewest preemptions first; if there are more, 200 others are "
            "drawn at random besides (default 5000)",
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="N", help="seed of the random choice (default 0)"
        )
        parser.add_argument(
            "--full",
            action="store_true",
            help="show all lines of a long transcript; with --list all pairs",
        )
        parser.add_argument(
            "--html", type=writable_file, metavar="FILE", help="write the results as a page"
        )
        parser.add_argument(
            "--json",
            type=writable_file,
            metavar="FILE",
            help='write the results to FILE; "-" for standard output',
        )

    def handle(self, **options: Any) -> None:
        if not getattr(settings, "ROOT_URLCONF", None):
            raise CommandError("The settings have no ROOT_URLCONF.", returncode=USAGE_ERROR)
        if options["list"]:
            self.list_views(options)
            return
        try:
            asked = requests_asked_for(options)
            setup = named_function("setup", options["setup"])
            invariant = invariant_from(named_function("invariant", options["invariant"]))
            if options["replay"] and options["html"]:
                raise ValueError("--replay shows one schedule; --html is for all of them.")
        except ValueError as error:
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        self.race(asked, setup, invariant, options["database"] or "default", options)

    def list_views(self, options: dict[str, Any]) -> None:
        if options["names"]:
            raise CommandError("--list takes no URLs.", returncode=USAGE_ERROR)
        from ...listing import list_views
        from ...listing.text import as_lines

        found = list_views()
        if options["json"]:
            write_json(options["json"], found.as_dict(program()), self.stdout)
        if options["json"] != STANDARD_OUTPUT:
            lines = as_lines(found, program(), width=width(), full=options["full"])
            self.stdout.write("\n".join(lines))

    def race(
        self,
        asked: list[Asked],
        setup: Callable[[], object] | None,
        invariant: Callable[[Run], object] | None,
        using: str,
        options: dict[str, Any],
    ) -> None:
        begun: list[Result] = []
        looks: list[Alone] = []
        run: Run | None = None
        try:
            with (
                interruptible() as interruption,
                race_of(asked, setup=setup, invariant=invariant, using=using) as race,
            ):
                looks += race.look()
                self.print_requests(looks, options)
                if options["replay"]:
                    run = race.replay(options["replay"], **chosen(options, *OF_ALL))
                else:
                    self.explore(race, begun, options)
        except RacesError as error:
            self.report(looks, begun, options)
            raise CommandError(str(error), returncode=USAGE_ERROR) from error
        if run is not None:
            self.report_run(run, options)
        self.report(looks, begun, options)
        if interruption.exit_code:
            self.stderr.write("Broken off. The scratch database is dropped.")
            sys.exit(interruption.exit_code)
        if (run is not None and run.is_flagged) or any(result.broken for result in begun):
            sys.exit(FOUND)

    def explore(self, race: UrlRace, begun: list[Result], options: dict[str, Any]) -> None:
        names = ("max_preemptions", "budget", "seed", "first", "seconds")
        with progress_on(sys.stderr) as show_progress:

            def watch(result: Result) -> None:
                begun.append(result)
                show_progress(result)

            race.explore(watch=watch, **chosen(options, *names, *OF_ALL))

    # Showing

    def print_requests(self, looks: list[Alone], options: dict[str, Any]) -> None:
        for alone in looks:
            line = Text()
            line.append(f"{alone.asked.name}  {alone.asked}", style="bold")
            line.append(f"  alone: {alone}")
            self.print(options, line)

    def report(self, looks: list[Alone], begun: list[Result], options: dict[str, Any]) -> None:
        """Print and write the results so far."""
        for result in [each for each in begun if each.runs]:
            self.print(options, "", f"{as_options(result.summary)}\n{result.seconds:.1f} seconds.")
            if result.shortest is not None:
                self.print_shortest(result, result.shortest, options)
            if options["json"]:
                requests = [alone.as_dict() for alone in looks]
                write_json(options["json"], {"requests": requests, **result.as_dict()}, self.stdout)
            if options["html"]:
                title = " and ".join(str(alone.asked) for alone in looks)
                page = report.result_as_html(result, title=title)
                Path(options["html"]).write_text(page, encoding="utf-8")

    def print_shortest(self, result: Result, run: Run, options: dict[str, Any]) -> None:
        if result.serial_broken:
            self.print(options, serial_orders_that_break(result.serial_broken))
        sentence = "" if run.breaks_without_race else None
        shown = transcript.Rendered(run, full=options["full"] or None, sentence=sentence)
        again = f"--replay={shlex.quote(run.schedule)}"
        self.print(options, "", shown, "", f"To see it again: the same command with {again}")
        if transcript.is_folded(run) and not options["full"]:
            self.print(options, f"To see all {len(run.events)} lines: with --full")

    def report_run(self, run: Run, options: dict[str, Any]) -> None:
        self.print(options, "", transcript.Rendered(run, full=options["full"] or None))
        if options["json"]:
            write_json(options["json"], transcript.as_dict(run), self.stdout)

    def print(self, options: dict[str, Any], *renderables: RenderableType) -> None:
        """Print for people: to standard error if JSON goes to standard output."""
        stream = self.stderr if options["json"] == STANDARD_OUTPUT else self.stdout
        print_rich(stream, *renderables, width=width())


def as_options(text: str) -> str:
    """A text of the library, with options as this command has them."""
    return text.replace("clock=True", "--clock").replace("cache=True", "--cache")


def chosen(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """The options of these names that were given."""
    return {name: options[name] for name in names if options[name] is not None}


def width() -> int:
    return shutil.get_terminal_size((COLUMNS, 24)).columns


def program() -> str:
    """The command that runs Django's commands here, as it was typed."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return "python -m django"
    return f"python {name}" if name.endswith(".py") else name


# Options


def requests_asked_for(options: dict[str, Any]) -> list[Asked]:
    """The requests that the options describe. Raises ValueError."""
    urls = options["names"]
    if not urls:
        raise ValueError("Name the URLs that race, as in /orders/1/pay/ /orders/1/cancel/.")
    urls = urls * 2 if len(urls) == 1 else urls
    if len(urls) > len(NAMES):
        raise ValueError(f"At most {len(NAMES)} requests can race, not {len(urls)}.")
    for url in urls:
        if not url.startswith("/"):
            raise ValueError(f"A URL begins with a slash, as in /orders/1/pay/; {url!r} doesn't.")
    names = NAMES[: len(urls)]
    users: list[str] | list[None] = one_for_each("--as", options["users"], names)
    methods = one_for_each("--method", options["methods"], names) or ["POST"] * len(urls)
    return [
        Asked(name, method, url, user, data_of(name, names, options["data"] or []), headers)
        for name, method, url, user, headers in zip(
            names,
            methods,
            urls,
            users or [None] * len(urls),
            [tuple(options["header"] or ())] * len(urls),
            strict=True,
        )
    ]


def one_for_each(option: str, values: list[str] | None, names: str) -> list[str]:
    """The values, one for each request; a single one is for all. Raises ValueError."""
    if not values:
        return []
    if len(values) == 1:
        return values * len(names)
    if len(values) != len(names):
        raise ValueError(
            f"Give {option} once for all requests, or once for each of the {len(names)}: "
            f"not {len(values)} times."
        )
    return values


def data_of(
    name: str, names: str, given: list[tuple[str, str] | str]
) -> tuple[tuple[str, str], ...] | str:
    """The data of the request of that name. Raises ValueError."""
    fields: list[tuple[str, str]] = []
    documents: list[str] = []
    for each in given:
        if isinstance(each, str):
            documents.append(each)
            continue
        key, value = each
        of, colon, rest = key.partition(":")
        if colon and len(of) == 1 and of in NAMES:
            if of not in names:
                raise ValueError(f"--data {key}={value}: the requests are {', '.join(names)}.")
            if of == name:
                fields.append((rest, value))
        else:
            fields.append((key, value))
    if documents and (fields or len(documents) > 1):
        raise ValueError("--data takes fields, or one JSON document, not both.")
    return documents[0] if documents else tuple(fields)


def form_field_or_json(text: str) -> tuple[str, str] | str:
    """A type for argparse."""
    if text.startswith(("{", "[")):
        return text
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ArgumentTypeError(f"must be KEY=VALUE, or a JSON document, not {text!r}")
    return key, value


def header(text: str) -> tuple[str, str]:
    """A type for argparse."""
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):
        raise ArgumentTypeError(f'must be "NAME: VALUE", not {text!r}')
    return name.strip(), value.strip()


def http_method(text: str) -> str:
    """A type for argparse."""
    if text.upper() not in METHODS:
        raise ArgumentTypeError(f"must be one of {', '.join(METHODS)}, not {text!r}")
    return text.upper()


def named_function(option: str, text: str | None) -> Callable[..., Any] | None:
    """The function MODULE:FUNCTION. Raises ValueError, which says what is wrong with it."""
    if text is None:
        return None
    module_name, colon, name = text.partition(":")
    if not (module_name and colon and name):
        raise ValueError(
            f"--{option} must be MODULE:FUNCTION, as in orders.races:one_order, not {text!r}."
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ValueError(f"--{option}: there is no module “{error.name}”.") from error
        raise ValueError(f"--{option}: {module_name} can't be imported: {error}") from error
    except Exception as error:
        raise ValueError(
            f"--{option}: {module_name} can't be imported: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        functions = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        close = difflib.get_close_matches(name, functions, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(f"--{option}: {module_name} has no function “{name}”.{hint}")
    most = {"setup": 0, "invariant": 1}[option]
    if needed_by(found) > most:
        takes = "no arguments" if not most else "the run, and nothing else"
        raise ValueError(f"--{option}: {text} must take {takes}.")
    function: Callable[..., Any] = found
    return function


def needed_by(function: Callable[..., Any]) -> int:
    """The number of arguments that it can't do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return 0
    return sum(
        each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        for each in parameters
    )


def invariant_from(function: Callable[..., Any] | None) -> Callable[[Run], object] | None:
    """The invariant; also a function that takes no run."""
    return None if function is None else taking_run(function)
