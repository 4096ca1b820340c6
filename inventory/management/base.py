"""The base of our commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from inventory.management.folding import folded

USAGE_ERROR = 2


class FoldedOutput(OutputWrapper):
    """An output that folds text to the width of the terminal."""

    def write(  # type: ignore[override]  # as Django's own
        self,
        msg: str = "",
        style_func: Callable[[str], str] | None = None,
        ending: str | None = None,
    ) -> None:
        super().write(folded(msg), style_func, ending)


class FoldingParser(CommandParser):
    """A parser that folds its errors, with no list of all options before them.

    argparse folds the help already.
    """

    def error(self, message: str) -> NoReturn:
        if not self.called_from_command_line:
            super().error(message)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\nSee {self.prog} --help.\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(status, message and folded(message))


class FoldingCommand(BaseCommand):
    """A command whose errors fit the terminal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        style = self.stderr.style_func
        self.stderr = FoldedOutput(options.get("stderr") or sys.stderr)
        self.stderr.style_func = style

    def run_from_argv(self, argv: list[str]) -> None:
        """The help lists strategies, and is made before Django's checks look at the settings."""
        try:
            super().run_from_argv(argv)
        except ImproperlyConfigured as error:
            self.stderr.write(str(error))
            sys.exit(USAGE_ERROR)

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        return folding(super().create_parser(prog_name, subcommand, **options))


def folding(parser: CommandParser) -> CommandParser:
    """The same parser as a FoldingParser; Django has no option for it."""
    parser.__class__ = FoldingParser
    return parser


def check_writable(option: str, file: str | Path | None) -> None:
    """Look before the work, not after it, whether a result can be written there ("-" always can).

    Raises CommandError with the option's name.
    """
    if file is None or str(file) == "-":
        return
    try:
        with Path(file).open("a"):
            pass
    except OSError as error:
        raise CommandError(
            f"{option}: {file} can't be written: {error.strerror}.", returncode=USAGE_ERROR
        ) from error
