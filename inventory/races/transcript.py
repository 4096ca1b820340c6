"""A run as a reader follows it: one lane per session, line by line. As text and for JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from . import story
from .conductor import Event
from .result import Run, preemptions_in_words
from .session import Step
from .statements import Kind, assignments, in_short

LANE_COLOURS = ("cyan", "magenta", "yellow", "green")
LANE_WIDTH = 6
FEW_COLUMNS = 3
LONGEST_STATEMENT = 110  # characters


@dataclass(frozen=True)
class Line:
    """One line of a transcript."""

    label: str
    """The number of its step; 5' where step 5 had to wait and goes on."""
    session: str
    lane: int
    text: str
    result: str
    tone: str
    """read, write, lock, commit, rollback, local, other; wait or error."""
    step: Step


def lines(run: Run) -> list[Line]:
    columns = changed_columns(run)
    lanes = {name: place for place, name in enumerate(sorted(run.sessions))}
    return [line(event, lanes[event.step.session], columns) for event in run.events]


def line(event: Event, lane: int, columns: set[str]) -> Line:
    step = event.step
    text = shortened(in_short(step.shown))
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
    """Those of a row's values that matter: what is changed by anybody, or all of a few."""
    shown = {name: value for name, value in values.items() if name in columns}
    if not shown and len(values) <= FEW_COLUMNS:
        shown = values
    if len(values) == 1:
        return next(iter(shown.values()), "")
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def changed_columns(run: Run) -> set[str]:
    """Columns that somebody changes in this run."""
    changed: set[str] = set()
    for step in run.steps:
        if step.kind is Kind.WRITE:
            for column, value in assignments(step.shown):
                read = {
                    values[column]
                    for other in run.steps
                    for values in other.values
                    if column in values and other.kind is not Kind.WRITE
                }
                if read != {value.strip("'")}:
                    changed.add(column)
    return changed


def as_text(run: Run, *, width: int = 160) -> str:
    """Without colours, for messages and files."""
    console = Console(width=width, no_color=True, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(rendered(run))
    return "\n".join(row.rstrip() for row in captured.get().splitlines())


def rendered(run: Run) -> Group:
    """For a rich console."""
    found = lines(run)
    longest = max((len(each.text) + LANE_WIDTH * each.lane for each in found), default=0)
    rows = [heading(run)]
    if run.before:
        rows.append(Text(f"  before: {run.before}", style="dim"))
    rows += [rendered_line(each, longest) for each in found]
    if run.after:
        rows.append(Text(f"  after:  {run.after}", style="bold red" if run.broken else "dim"))
    rows.append(Text("  " + results_in_words(run)))
    rows.append(Text("  " + story.told(run), style="bold"))
    return Group(*rows)


def heading(run: Run) -> Text:
    text = Text("BROKEN" if run.broken else "not serializable" if run.is_flagged else "holds")
    text.stylize("bold red" if run.is_flagged else "bold green")
    text.append(f"  {run.schedule}", style="bold")
    text.append(f"  ({preemptions_in_words(run.preemptions)})")
    if run.broken:
        text.append(f"  {run.broken.splitlines()[0]}", style="red")
    return text


def rendered_line(each: Line, longest: int) -> Text:
    colour = LANE_COLOURS[each.lane % len(LANE_COLOURS)]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{each.label:>4} ", style="dim")
    text.append(" " * LANE_WIDTH * each.lane)
    text.append(f"{each.session} │ ", style=f"bold {colour}")
    statement = each.text.ljust(longest - LANE_WIDTH * each.lane) if each.result else each.text
    text.append(statement, style=colour if each.tone != "wait" else f"dim {colour}")
    if each.result:
        style = {"wait": "yellow", "error": "bold red"}.get(each.tone, "")
        arrow = "  " if each.tone == "wait" else "  → "
        text.append(arrow + each.result, style=style)
    return text


def results_in_words(run: Run) -> str:
    words = []
    for name, result in run.results.items():
        words.append(f"{name} {'raised' if name in run.raised else 'returned'} {result}")
    return "; ".join(words)


def as_dict(run: Run) -> dict[str, Any]:
    """Everything about a run, for JSON."""
    return {
        "schedule": run.schedule,
        "preemptions": run.preemptions,
        "broken": run.broken,
        "serializable": run.is_serializable,
        "before": run.before,
        "after": run.after,
        "results": run.results,
        "anomalies": story.anomalies(run),
        "story": story.told(run),
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


def shortened(text: str) -> str:
    text = re.sub(r"'([0-9a-f]{8})-[0-9a-f-]{27}'", r"'\1…'", text)  # UUIDs
    return text if len(text) <= LONGEST_STATEMENT else text[: LONGEST_STATEMENT - 1] + "…"
