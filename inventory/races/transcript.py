"""A run as a reader follows it: one lane per session, line by line. As text and for JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text

from . import story
from .conductor import Event
from .result import Run, preemptions_in_words
from .session import Step
from .statements import Kind, in_short

LANE_COLOURS = ("cyan", "magenta", "yellow", "green")
LANE_WIDTH = 6
INDENT = 2
LEAST_STATEMENT = 20  # characters of it that are shown beside its outcome
FEW_COLUMNS = 3
LONGEST_RESULT = 60  # characters


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


def lines(run: Run) -> list[Line]:
    columns = story.changed_columns(run)
    lanes = {name: place for place, name in enumerate(sorted(run.sessions))}
    return [line(event, lanes[event.step.session], columns) for event in run.events]


def line(event: Event, lane: int, columns: set[str]) -> Line:
    step = event.step
    text = step.shown if step.is_in_python else without_long_ids(in_short(step.shown))
    waits = step.wait is not None and not event.is_completion
    if waits:
        result, tone = f"<{step.wait}>", "wait"
    else:
        result = result_in_words(step, columns)
        tone = "error" if step.error else step.kind.value
    if event.is_completion:
        text = f"<… completed> {text.split(None, 1)[0]}"
    label = f"{step.number}'" if event.is_completion else str(step.number)
    return Line(label, step.session, lane, text, result, tone, step)


def result_in_words(step: Step, columns: set[str]) -> str:
    if step.error:
        return f"ERROR {step.sqlstate or ''} {step.error}".replace("  ", " ")
    if step.kind in (Kind.COMMIT, Kind.ROLLBACK, Kind.LOCAL):
        return ""
    if step.values:
        shown = [values_in_words(values, columns) for values in step.values]
        if all(shown) and len(step.values) == step.rows and step.kind is not Kind.WRITE:
            return "; ".join(shown)
    return "" if step.rows is None else f"{step.rows} row{'' if step.rows == 1 else 's'}"


def values_in_words(values: dict[str, str], columns: set[str]) -> str:
    """The values of a row that matter: those that a session changes, or all if they are few."""
    shown = {name: value for name, value in values.items() if name in columns}
    if not shown and len(values) <= FEW_COLUMNS:
        shown = values
    if len(values) == 1:
        return next(iter(shown.values()), "")
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def as_text(run: Run, *, width: int = 160) -> str:
    """Without colours, for messages and files."""
    console = Console(width=width, no_color=True, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(Rendered(run))
    return "\n".join(row.rstrip() for row in captured.get().splitlines())


class Rendered:
    """A run for a rich console. Statements are cut to fit, their outcomes never.

    The outcomes stand in a column of their own if no statement has to be cut for that.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run, found = self.run, lines(self.run)
        yield heading(run)
        if run.before:
            yield indented(Text(f"before: {run.before}", style="dim"))
        names = max((len(name) for name in run.sessions), default=0)
        room = options.max_width - len("   1  │ ") - names
        column = max((LANE_WIDTH * each.lane + len(each.text) for each in found), default=0)
        if column + max((len(arrow_and_result(each)) for each in found), default=0) > room:
            column = 0
        for each in found:
            yield from rendered_line(each, room - LANE_WIDTH * each.lane, names, column)
        if run.after:
            style = "bold red" if run.broken else "dim"
            yield indented(Text(f"after:  {run.after}", style=style))
        yield indented(Text(results_in_words(run)))
        yield indented(Text(story.describe_run(run), style="bold"))


def indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, INDENT))


def heading(run: Run) -> Text:
    text = Text("BROKEN" if run.broken else "not serializable" if run.is_flagged else "holds")
    text.stylize("bold red" if run.is_flagged else "bold green")
    text.append(f"  {run.schedule}", style="bold")
    text.append(f"  ({preemptions_in_words(run.preemptions)})")
    if run.broken:
        text.append(f"  {run.broken.splitlines()[0]}", style="red")
    return text


def rendered_line(each: Line, room: int, names: int, column: int) -> Iterator[Text]:
    """The line, with ``room`` for its statement and outcome; in two lines if they don't fit.

    ``column``: where the outcome begins, counted as ``room`` is; 0: behind the statement.
    """
    colour = LANE_COLOURS[each.lane % len(LANE_COLOURS)]
    result = arrow_and_result(each)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{each.label:>4} ", style="dim")
    text.append(" " * LANE_WIDTH * each.lane)
    text.append(f"{each.session:<{names}} │ ", style=f"bold {colour}")
    before = len(text)
    is_split = room - len(result) < min(LEAST_STATEMENT, len(each.text))
    statement = shortened(each.text, room if is_split else room - len(result))
    if result and not is_split:
        statement = statement.ljust(column - LANE_WIDTH * each.lane)
    text.append(statement, style=f"dim {colour}" if each.tone == "wait" else colour)
    result_style = {"wait": "yellow", "error": "bold red"}.get(each.tone, "")
    if is_split:
        yield text
        yield Text(" " * before + shortened(result, room), style=result_style)
    else:
        yield text.append(result, style=result_style)


def arrow_and_result(each: Line) -> str:
    if not each.result:
        return ""
    return ("  " if each.tone == "wait" else "  → ") + shortened(each.result, LONGEST_RESULT)


def results_in_words(run: Run) -> str:
    words = []
    for name, result in run.results.items():
        words.append(f"{name} {'raised' if name in run.raised else 'returned'} {result}")
    return "; ".join(words)


def as_dict(run: Run) -> dict[str, Any]:
    """The whole run, for JSON."""
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
            }
            for each in lines(run)
        ],
    }


def without_long_ids(text: str) -> str:
    return re.sub(r"'([0-9a-f]{8})-[0-9a-f-]{27}'", r"'\1…'", text)


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
