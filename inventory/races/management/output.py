"""Shared by commands that explore races: types of options, result files, and breaking off."""

from __future__ import annotations

import json
import signal
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import CommandParser, OutputWrapper
from rich.console import Console, RenderableType

from ..options import ISOLATION_LEVELS

FOUND, USAGE_ERROR = 1, 2
"""Exit codes: a race was found; the command can't do what was asked."""
EXIT_CODE_OF_SIGNALS = 128  # plus the signal's number, as in shells
BREAK_OFF_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STANDARD_OUTPUT = "-"


class ErrorsFirstParser(CommandParser):
    """A parser whose errors are a sentence, without a list of all options before it."""

    def error(self, message: str) -> NoReturn:
        if not self.called_from_command_line:
            super().error(message)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\nSee {self.prog} --help.\n")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse: a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return number

    return parse


def seconds(text: str) -> float:
    """A type for argparse: a time that is more than nothing."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"must be a number of seconds, more than 0, not {text!r}")
    return number


def isolation_level(text: str) -> str:
    """A type for argparse: one of PostgreSQL's levels, also written with hyphens."""
    level = text.lower().replace("-", " ").replace("_", " ")
    if level not in ISOLATION_LEVELS:
        raise ArgumentTypeError(f"must be one of {', '.join(ISOLATION_LEVELS)}, not {text!r}")
    return level


def writable_file(text: str) -> str:
    """A type for argparse: a file that can be written, as is found out before the work."""
    if text != STANDARD_OUTPUT:
        try:
            with Path(text).open("a"):
                pass
        except OSError as error:
            raise ArgumentTypeError(f"{text} can't be written: {error.strerror}") from error
    return text


def write_json(file: str, results: dict[str, Any], standard_output: OutputWrapper) -> None:
    """Write the results to the file; "-" is standard output."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    if file == STANDARD_OUTPUT:
        standard_output.write(text)
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")


def print_rich(stream: OutputWrapper, *renderables: RenderableType, width: int) -> None:
    """Print in colour on a terminal, else as plain text without blanks at the ends of lines."""
    text = StringIO()
    console = Console(
        file=text, width=width, force_terminal=stream.isatty(), highlight=False, soft_wrap=False
    )
    console.print(*renderables, sep="\n")
    stream.write("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


@dataclass
class Interruption:
    """Whether a block was broken off, and by which signal."""

    exit_code: int | None = None
    """130 after Ctrl-C, 143 after SIGTERM. None: the block was not broken off."""


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Let Ctrl-C and SIGTERM break the block off. Then the code after the block runs.

    So a command can still show its results. While the block cleans up (processes, databases),
    further signals are ignored.
    """
    interruption = Interruption()

    def break_off(number: int, frame: object) -> NoReturn:
        for each in BREAK_OFF_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        interruption.exit_code = EXIT_CODE_OF_SIGNALS + number
        raise KeyboardInterrupt

    before = {each: signal.signal(each, break_off) for each in BREAK_OFF_SIGNALS}
    try:
        yield interruption
    except KeyboardInterrupt:
        interruption.exit_code = interruption.exit_code or EXIT_CODE_OF_SIGNALS + signal.SIGINT
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
