"""Shared by the experiments' commands: options, consoles, and progress."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from inventory.management.folding import terminal_width
from inventory.words import counted

Advance = Callable[[str, int], object]
"""Called with a description of the turn, and the number of steps just done."""


def add_output_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="FILE", help='write the results to FILE; "-" for standard output'
    )
    parser.add_argument(
        "--quiet", action="store_true", help='print only errors, and the JSON of "--json -"'
    )


def console_for(standard_output: OutputWrapper, *, json: str | None, quiet: bool) -> Console:
    """The console for people: standard output, or standard error if the JSON goes to the former."""
    return console_on(sys.stderr if json == "-" else standard_output, quiet=quiet)


def console_on(stream: OutputWrapper | TextIO, *, quiet: bool = False) -> Console:
    """A console as wide as the terminal; without a terminal, as wide as ``terminal_width``."""
    width = None if stream.isatty() else terminal_width()
    return Console(file=stream, width=width, quiet=quiet, highlight=False)  # type: ignore[arg-type]


@contextmanager
def progress(console: Console, turns: int, buyers: int) -> Iterator[Advance]:
    """Show a sale's progress: a bar on a terminal, else a line after each turn of ``buyers``."""
    if not console.is_terminal:
        yield _lines(console, buyers)
        return
    with bar(console, turns * buyers, MofNCompleteColumn()) as advance:
        yield advance


@contextmanager
def bar(console: Console, total: int, last: ProgressColumn) -> Iterator[Advance]:
    """Show a bar on a terminal during the block; yield the function that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), last)
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda words, advance: bars.update(task, advance=advance, description=words)


def _lines(console: Console, buyers: int) -> Advance:
    done: dict[str, int] = {}

    def advance(turn: str, served: int) -> None:
        done[turn] = done.get(turn, 0) + served
        if done[turn] == buyers:
            console.print(f"{turn}: {counted(buyers, 'buyer')} served", highlight=False)

    return advance
