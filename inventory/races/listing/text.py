"""The listing as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from . import Listing, Pair, in_words, listed
from .views import OwnView

MOST_PAIRS = 10  # that are shown unless all are asked for
MOST_UNSEEN = 3
INDENT = "    "
NO_VIEWS = "No view of the project's own changes anything, as far as its source tells."
LIMITS = (
    "This was read from the source: the project's own code, as far as names lead. Nothing was run. "
    "Packages, database triggers, queued jobs, and what is decided at run time aren't seen, and "
    "a write behind an “if” counts as a write. A pair that is missing may race all the same."
)
NEXT = (
    "Replace MODULE:FUNCTION by a function that makes the rows which the requests need, and "
    "returns a mapping of the values that replace names in braces; USERNAME by a user that it "
    "makes. Most forms need --data KEY=VALUE, too."
)


def as_lines(found: Listing, program: str, *, width: int, full: bool = False) -> list[str]:
    """The views with the tables that they write, and the pairs, each with its command line."""
    if not found.views:
        return [
            *folded(
                "No view of the project's own changes anything, as far as its source tells.", width
            ),
            "",
            *folded(LIMITS, width),
        ]
    lines = [*headed("Views that change something, and the tables that they write")]
    for view in found.views:
        lines += lines_on_view(view, width, full)
    lines += ["", *headed("Pairs that write the same tables, the most promising first")]
    shown = found.pairs if full else found.pairs[:MOST_PAIRS]
    for number, pair in enumerate(shown, start=1):
        lines += lines_on_pair(number, pair, program, width)
    if not shown:
        lines.append("None, as far as the source tells.")
    if len(shown) < len(found.pairs):
        lines += ["", f"{len(found.pairs) - len(shown)} more pairs: --list --full"]
    return [*lines, "", *(folded(NEXT, width) if shown else []), "", *folded(LIMITS, width)]


def headed(title: str) -> list[str]:
    return [title, "─" * len(title)]


def lines_on_view(view: OwnView, width: int, full: bool) -> Iterator[str]:
    yield f"{view.as_request}  {view.name}"
    tables = ", ".join(sorted(view.effects.writes))
    yield from folded(
        f"{INDENT}{tables}" if tables else f"{INDENT}no table, as far as its source tells", width
    )
    unseen = list(view.effects.unseen)
    if unseen:
        words = listed(unseen, most=len(unseen) if full else MOST_UNSEEN)
        yield from folded(f"{INDENT}not followed: {words}", width)


def lines_on_pair(number: int, pair: Pair, program: str, width: int) -> Iterator[str]:
    yield ""
    table = pair.tables[0]
    yield from folded(f"{number}. {listed(pair.tables)}", width)
    if pair.is_the_same_twice:
        yield from folded(
            f"{INDENT}{pair.one.as_request}, twice: {in_words(table, pair.one.effects)}", width
        )
    else:
        for view in (pair.one, pair.other):
            yield from folded(f"{INDENT}{view.as_request}: {in_words(table, view.effects)}", width)
    yield from command_lines(pair.command_line(program), width)


def command_lines(command: str, width: int) -> list[str]:
    """The command, broken as a shell takes it: with a backslash at the end of each line."""
    parts, rows = command.split(" "), [INDENT[:-1]]
    for part in parts:
        if len(rows[-1]) + 1 + len(part) + len(" \\") > width and rows[-1].strip():
            rows[-1] += " \\"
            rows.append(INDENT + "   ")
        rows[-1] += f" {part}"
    return rows


def folded(text: str, width: int) -> list[str]:
    """The text in lines that fit; all but the first are indented by two more."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=indent + "  " * bool(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
