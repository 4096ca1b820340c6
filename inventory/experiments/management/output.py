"""What the commands share: exit codes, progress, being broken off, and files for results."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from inventory.management.folding import terminal_width
from inventory.words import counted

OF_A_SIGNAL = 128  # what shells add to its number
BREAKING_OFF = (signal.SIGINT, signal.SIGTERM)

Tell = Callable[[str, int], object]
"""Called with whose turn it is, and the number of buyers just served."""


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
    return console_on(sys.stderr if json == "-" else standard_output, quiet=quiet)


def console_on(stream: OutputWrapper | TextIO, *, quiet: bool = False) -> Console:
    """A console as wide as the terminal, or as ``terminal_width`` says where there is none."""
    width = None if stream.isatty() else terminal_width()
    return Console(file=stream, width=width, quiet=quiet, highlight=False)  # type: ignore[arg-type]


@contextmanager
def progress(console: Console, turns: int, buyers: int) -> Iterator[Tell]:
    """Show how far a sale is: a bar on a terminal, else a line after each turn of ``buyers``."""
    if not console.is_terminal:
        yield _lines(console, buyers)
        return
    with bar(console, turns * buyers, MofNCompleteColumn()) as advance:
        yield advance


@contextmanager
def bar(console: Console, total: int, last: ProgressColumn) -> Iterator[Tell]:
    """A bar on a terminal, gone after the block; call it with words, and how far it goes on."""
    columns = (TextColumn("{task.description}"), BarColumn(), last)
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda words, advance: bars.update(task, advance=advance, description=words)


def _lines(console: Console, buyers: int) -> Tell:
    done: dict[str, int] = {}

    def tell(turn: str, served: int) -> None:
        done[turn] = done.get(turn, 0) + served
        if done[turn] == buyers:
            console.print(f"{turn}: {counted(buyers, 'buyer')} served", highlight=False)

    return tell


@dataclass
class Ending:
    """How a block ended that may be broken off."""

    code: int | None = None
    """The exit code that says so: 130 after Ctrl-C, 143 after SIGTERM. None: it wasn't."""


@contextmanager
def breakable() -> Iterator[Ending]:
    """Let Ctrl-C and SIGTERM break the block off, and then go on with what comes after it.

    So a command can still show what it has found. While the block tidies up behind itself
    (processes, databases), more of these signals change nothing.
    """
    ending = Ending()

    def break_off(number: int, frame: object) -> NoReturn:
        for each in BREAKING_OFF:
            signal.signal(each, signal.SIG_IGN)
        ending.code = OF_A_SIGNAL + number
        raise KeyboardInterrupt

    before = {each: signal.signal(each, break_off) for each in BREAKING_OFF}
    try:
        yield ending
    except KeyboardInterrupt:
        ending.code = ending.code or OF_A_SIGNAL + signal.SIGINT
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
