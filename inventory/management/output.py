"""What the commands share: exit codes, progress, ending, and files that results go to."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import CommandError, OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

USAGE_ERROR = 2
INTERRUPTED = 130

Tell = Callable[[str, int], object]
"""Called with whose turn it is, and the number of buyers just served."""


def check_writable(option: str, file: str | None) -> None:
    """Before the work, not after it. Raises CommandError with the option's name."""
    if file in (None, "-"):
        return
    try:
        with Path(file).open("a"):
            pass
    except OSError as error:
        raise CommandError(f"{option}: {error}", returncode=USAGE_ERROR) from error


def write_json(file: str, results: dict[str, Any], standard_output: OutputWrapper) -> None:
    """Write it to that file; "-" is standard output."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    if file == "-":
        standard_output.write(text)
    else:
        Path(file).write_text(text + "\n")


def add_output_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="FILE", help='write the results there; "-" for standard output'
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print errors only, and the JSON if asked for"
    )


def console_for(standard_output: OutputWrapper, *, json: str | None, quiet: bool) -> Console:
    """Where people read: standard output, unless the JSON goes there."""
    return Console(file=sys.stderr if json == "-" else standard_output, quiet=quiet)  # type: ignore[arg-type]


@contextmanager
def progress(console: Console, turns: int, buyers: int) -> Iterator[Tell]:
    """Show how far a sale is: a bar on a terminal, else a line after each turn of ``buyers``."""
    if not console.is_terminal:
        yield _lines(console, buyers)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=turns * buyers)
        yield lambda turn, served: bars.update(bar, advance=served, description=turn)


def _lines(console: Console, buyers: int) -> Tell:
    done: dict[str, int] = {}

    def tell(turn: str, served: int) -> None:
        done[turn] = done.get(turn, 0) + served
        if done[turn] == buyers:
            console.print(f"{turn}: {buyers} buyers served", highlight=False)

    return tell


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command like an exception, so that what it made is removed."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
