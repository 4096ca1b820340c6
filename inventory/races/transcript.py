"""A run as a reader follows it: one lane per session, line by line. As text and for JSON."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text

from . import story
from .conductor import Event
from .folding import Fold, folded
from .result import Run, preemptions_in_words
from .serial import session_tables
from .session import Step
from .shortening import Columns, cut, cut_to_fit, fitted, short_names, visible
from .statements import Kind, in_short

LANE_COLOURS = ("cyan", "magenta", "yellow", "green")
LANE_WIDTH = 6
INDENT = 2
MARGIN_OF_PYTEST = 12  # columns that pytest may put before each line of a message
NARROWEST = 40  # columns
FEW_COLUMNS = 3
LONGEST_RESULT = 60  # columns of the terminal for the values that a statement returned
STYLES = {"wait": "yellow", "error": "bold red"}


@dataclass(frozen=True)
class Line:
    """One line of a transcript."""

    label: str
    """The number of its step; 5' where step 5 goes on after a wait."""
    session: str
    lane: int
    text: str
    result: str
    tone: str
    """read, write, lock, commit, rollback, local, other; wait or error."""
    step: Step
    is_completion: bool = False
    """Whether the step goes on here, after a wait."""


def as_text(
    run: Run, *, full: bool | None = None, width: int | None = None, sentence: str | None = None
) -> str:
    """Without colours, for messages and files, in ``width`` columns (default: the terminal's).

    ``full`` and ``sentence`` are those of Rendered.
    """
    width = terminal_width() if width is None else width
    console = Console(width=width, no_color=True, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(Rendered(run, full=full, sentence=sentence))
    return "\n".join(row.rstrip() for row in captured.get().splitlines())


def terminal_width() -> int:
    """The columns that the terminal has for a message; 80 where there is no terminal."""
    columns = 80
    with suppress(OSError), open("/dev/tty") as terminal:  # pytest captures the others
        columns = os.get_terminal_size(terminal.fileno()).columns or columns
    columns = shutil.get_terminal_size((columns, 24)).columns
    return max(NARROWEST, columns - MARGIN_OF_PYTEST * ("PYTEST_CURRENT_TEST" in os.environ))


def is_full_wanted() -> bool:
    """Whether to show all lines of a transcript if the caller doesn't say: RACES_FULL=1."""
    return os.environ.get("RACES_FULL", "0") not in ("", "0")


class Rendered:
    """A run for a rich console.

    Statements are shortened to fit, waits and errors aren't. The outcomes stand in a column of
    their own if no statement has to be shortened for that.

    ``full``: show all lines, also of a long transcript; by default as RACES_FULL says.
    ``sentence``: shown below, in place of the story's.
    """

    def __init__(self, run: Run, *, full: bool | None = None, sentence: str | None = None) -> None:
        self.run = run
        self.full = is_full_wanted() if full is None else full
        self.sentence = story.describe_run(run) if sentence is None else sentence

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run = self.run
        yield from heading(run, console, options.max_width)
        if run.before:
            yield indented(f"before: {run.before}", "dim")
        rows = lines(run) if self.full else folded_lines(run)
        yield from Lanes(run, rows, options.max_width).rendered()
        if run.after:
            yield indented(f"after:  {run.after}", "bold red" if run.broken else "dim")
        yield indented(results_in_words(run))
        if self.sentence:
            yield indented(self.sentence, "bold")


def heading(run: Run, console: Console, width: int) -> Iterator[Text | Padding]:
    """The verdict, the schedule, and why it is broken: in a row of its own if the first is full."""
    text = Text("BROKEN" if run.broken else "not serializable" if run.is_flagged else "holds")
    text.stylize("bold red" if run.is_flagged else "bold green")
    text.append(f"  {run.schedule}", style="bold")
    how = "one after the other" if run.is_serial else preemptions_in_words(run.preemptions)
    text.append(f"  ({how})")
    reason = Text("" if run.reason == run.after else run.reason, style="red")
    if reason and text.cell_len + 2 + reason.cell_len <= width:
        text.append("  ").append_text(reason)
        reason = Text()
    for number, row in enumerate(text.wrap(console, width - INDENT)):
        yield Text(" " * INDENT * (number > 0)).append_text(row)
    if reason:
        yield Padding(reason, (0, 0, 0, INDENT))


def indented(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, INDENT))


def results_in_words(run: Run) -> str:
    return "; ".join(
        f"{name} {'raised' if name in run.raised else 'returned'} {first_line(result)}"
        for name, result in run.results.items()
    )


def first_line(text: str) -> str:
    """The first line of a message: pytest's explanation of an assert follows it."""
    return visible((text.strip().splitlines() or [""])[0])


def folded_lines(run: Run) -> list[Line | Fold]:
    return folded(lines(run), steps_told(run))


def is_folded(run: Run) -> bool:
    """Whether lines are left out, unless the caller wants all."""
    return not is_full_wanted() and any(isinstance(row, Fold) for row in folded_lines(run))


def steps_told(run: Run) -> set[int]:
    """The numbers of the steps that the sentence speaks of."""
    found = story.findings(run)
    return {step.number for step in found[0].steps} if found else set()


def lines(run: Run) -> list[Line]:
    columns = columns_that_matter(run)
    lanes = {name: place for place, name in enumerate(sorted(run.sessions))}
    return [line(event, lanes[event.step.session], columns) for event in run.events]


def columns_that_matter(run: Run) -> Columns:
    """The columns of which the sentence speaks, and all that a session changes."""
    changed = story.changed_columns(run)
    words = set(re.findall(r"\w+", story.describe_run(run)))
    return changed & words, changed


def line(event: Event, lane: int, columns: Columns) -> Line:
    step = event.step
    shown = step.shown if step.is_in_python else in_short(step.shown)
    text = visible(without_long_ids(shown))
    waits = step.wait is not None and not event.is_completion
    if waits:
        result, tone = f"<{step.wait}>", "wait"
    else:
        result = visible(result_in_words(step, columns))
        tone = "error" if step.error else step.kind.value
    if event.is_completion:
        text = f"<… completed> {text.split(None, 1)[0]}"
    label = f"{step.number}'" if event.is_completion else str(step.number)
    return Line(label, step.session, lane, text, result, tone, step, event.is_completion)


def result_in_words(step: Step, columns: Columns) -> str:
    if step.error:
        return f"ERROR {step.sqlstate or ''} {step.error}".replace("  ", " ")
    if step.kind in (Kind.COMMIT, Kind.ROLLBACK, Kind.LOCAL):
        return ""
    if step.values:
        # Keys and data of browsers' sessions are unreadable.
        few = 0 if step.tables and step.tables <= session_tables() else FEW_COLUMNS
        shown = [values_in_words(values, columns, few) for values in step.values]
        if all(shown) and len(step.values) == step.rows and step.kind is not Kind.WRITE:
            return "; ".join(shown)
    return "" if step.rows is None else f"{step.rows} row{'' if step.rows == 1 else 's'}"


def values_in_words(values: dict[str, str], columns: Columns, few: int) -> str:
    """The values of a row that matter, the most important first; or all, up to ``few``."""
    names = dict.fromkeys(name for each in columns for name in values if name in each)
    if not names and len(values) <= few:
        names = dict.fromkeys(values)
    if len(values) == 1:
        return "".join(value_in_words(values[name]) for name in names)
    shown = [f"{name}={value_in_words(values[name])}" for name in names]
    told = sum(name in columns[0] for name in names)
    if 0 < told < len(shown) and len(", ".join(shown)) > LONGEST_RESULT:
        shown = [*shown[:told], "…"]
    return ", ".join(shown)


def value_in_words(value: str) -> str:
    """A value as it is; in quotes, as in SQL, where its end wouldn't be clear without them."""
    is_clear = value and value == value.strip() and not re.search("[,;=']", value)
    return value if is_clear else "'" + value.replace("'", "''") + "'"


def without_long_ids(text: str) -> str:
    return re.sub(r"'([0-9a-f]{8})-[0-9a-f-]{27}'", r"'\1…'", text)


class Lanes:
    """The lines of a run in ``width`` columns of a terminal: each session has a lane."""

    def __init__(self, run: Run, rows: Sequence[Line | Fold], width: int) -> None:
        self.rows = rows
        self.columns = columns_that_matter(run)
        self.names = short_names(sorted(run.sessions), max(LANE_WIDTH, width // 6))
        self.longest_name = max(map(cell_len, self.names.values()))
        self.lane_width = min(LANE_WIDTH, max(1, width // 5 // (len(run.sessions) - 1 or 1)))
        self.width = width - cell_len("   1  │ ") - self.longest_name
        """The columns that lane 0 has for statements and outcomes."""
        found = [row for row in rows if not isinstance(row, Fold)]
        self.place_of_outcomes = self._place_of_outcomes(found)
        self.short_tables = any(
            self._statement_beside(row, short_tables=False) is None
            and self._statement_beside(row, short_tables=True) is not None
            for row in found
        )

    def rendered(self) -> Iterator[Text]:
        for row in self.rows:
            if isinstance(row, Fold):
                text = self._start("", row.session, row.lane)
                words = row.in_words(self.names)
                if cell_len(words) > self._room(row.lane):
                    words = cut(row.in_short, self._room(row.lane))
                yield text.append(words, style="dim")
            else:
                yield from self._line(row)

    def _room(self, lane: int) -> int:
        return self.width - self.lane_width * lane

    def _place_of_outcomes(self, found: list[Line]) -> int:
        """The column in which all outcomes stand, from lane 0; 0: each behind its statement."""
        place = max((self.lane_width * row.lane + cell_len(row.text) for row in found), default=0)
        longest = max((cell_len(arrow_and_result(row)) for row in found), default=0)
        return place if place + longest <= self.width else 0

    def _start(self, label: str, session: str, lane: int) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{label:>4} ", style="dim")
        text.append(" " * self.lane_width * lane)
        name = set_cell_size(self.names.get(session, ""), self.longest_name)
        return text.append(f"{name} │ ", style=f"bold {colour_of(lane)}")

    def _line(self, row: Line) -> Iterator[Text]:
        """The line; its outcome stands below if the statement would say too little beside it."""
        text = self._start(row.label, row.session, row.lane)
        before = text.cell_len
        result, style = arrow_and_result(row), STYLES.get(row.tone, "")
        colour = colour_of(row.lane)
        beside = self._statement_beside(row, short_tables=self.short_tables)
        statement = self._statement_above(row) if beside is None else beside
        text.append(statement, style=f"dim {colour}" if row.tone == "wait" else colour)
        if beside is not None:
            place = self.place_of_outcomes - self.lane_width * row.lane
            text.append(" " * (place - cell_len(beside)) * bool(result))
            yield text.append(result, style=style)
            return
        yield text
        for part in textwrap.wrap(result.strip(), self._room(row.lane) - INDENT):
            yield Text(" " * (before + INDENT) + part, style=style)

    def _statement_beside(self, row: Line, *, short_tables: bool) -> str | None:
        """The statement, if it can be made to fit beside its outcome."""
        room = self._room(row.lane) - cell_len(arrow_and_result(row))
        if is_shortened(row):
            return fitted(sql_of(row), room, self.columns, short_tables=short_tables)
        return row.text if cell_len(row.text) <= room else None

    def _statement_above(self, row: Line) -> str:
        room = self._room(row.lane)
        if is_shortened(row):
            sql = sql_of(row)
            best = fitted(sql, room, self.columns, short_tables=self.short_tables)
            return cut_to_fit(sql, room, self.columns) if best is None else best
        return cut(row.text, room)


def is_shortened(row: Line) -> bool:
    """Whether its text is a statement, of which some parts matter more than others."""
    return row.step.kind in (Kind.READ, Kind.WRITE, Kind.LOCK) and not row.is_completion


def sql_of(row: Line) -> str:
    return without_long_ids(row.step.shown)


def colour_of(lane: int) -> str:
    return LANE_COLOURS[lane % len(LANE_COLOURS)]


def arrow_and_result(each: Line) -> str:
    if not each.result:
        return ""
    if each.tone == "wait":
        return f"  {each.result}"
    return "  → " + (each.result if each.tone == "error" else cut(each.result, LONGEST_RESULT))


def as_dict(run: Run) -> dict[str, Any]:
    """The whole run, for JSON; ``folded`` are lines that a reader doesn't see at first."""
    found = lines(run)
    shown = folded(found, steps_told(run))
    return {
        "schedule": run.schedule,
        "preemptions": run.preemptions,
        "broken": run.broken,
        "serializable": run.is_serializable,
        "before": run.before,
        "after": run.after,
        "results": run.results,
        "anomalies": story.anomalies(run),
        "story": story.describe_run(run),
        "lines": [
            {
                "label": each.label,
                "session": each.session,
                "sql": each.step.shown,
                "text": each.text,
                "result": each.result,
                "rows": each.step.rows,
                "waits_on": list(each.step.wait.on)
                if each.step.wait and each.tone == "wait"
                else [],
                "sqlstate": each.step.sqlstate if each.tone != "wait" else None,
                "folded": each not in shown,
            }
            for each in found
        ],
    }
