"""Errors that nobody has caught, and warnings, as log lines. Python would print all of them."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any

log = logging.getLogger("shop")


def log_uncaught() -> None:
    """Log what ends this program, or one of its threads, and Python's warnings.

    Call it in programs, not where this is a library: test runners have hooks of their own.
    """
    sys.excepthook = _log_end_of_program
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_end_of_thread
    logging.captureWarnings(True)


def _log_end_of_program(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, Exception):  # such as Ctrl-C
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("An error has ended the program.", exc_info=(kind, error, trace))


def _log_end_of_thread(args: Any) -> None:
    if args.exc_type is not SystemExit:
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        log.error("An error has ended a thread.", exc_info=trace)


def _log_unraisable(args: Any) -> None:
    trace = (args.exc_type, args.exc_value, args.exc_traceback)
    log.error("%s", args.err_msg or "An error was ignored.", exc_info=trace)
