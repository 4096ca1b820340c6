"""Lines that fit the terminal.

Tables are as wide as the terminal, and 80 columns in a file or a pipe. Messages are folded to the
terminal's width. In a file or a pipe they stay in one line, so that programs find their words. The
variable COLUMNS overrides both. This module does without Django: it also folds messages about
errors that keep Django from starting.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

COLUMNS = 80
LEAST = 20


def terminal_width() -> int:
    """The number of columns that lines may have."""
    return shutil.get_terminal_size((COLUMNS, 24)).columns


def folded(text: str) -> str:
    """The message with its longer lines folded between words; a longer word stays in one piece."""
    if not (os.environ.get("COLUMNS") or sys.stderr.isatty()):
        return text
    return "\n".join(_folded_line(line) for line in text.split("\n"))


def _folded_line(line: str) -> str:
    width = max(LEAST, terminal_width())
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    lines = textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)
