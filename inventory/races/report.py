"""Runs as one HTML file that needs no other file: to send, to keep, or to show in a talk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.template import Context, Engine

from . import story, transcript
from .result import Result, Run
from .statements import Kind
from .transcript import Line


@dataclass
class Bar:
    """A stretch of a lane: a transaction, or a wait. Rows of the drawing, from and to."""

    lane: int
    first: int
    last: int
    kind: str


@dataclass
class Drawing:
    """A run, ready to be drawn."""

    run: Run
    title: str
    lines: list[Line]
    bars: list[Bar]
    sessions: list[str]
    story: str
    results: list[tuple[str, str, bool]]


@dataclass
class Section:
    """A part of the report: an exploration, and one of its runs."""

    title: str
    result: Result
    text: str = ""
    facts: list[tuple[str, object]] = field(default_factory=list)

    @property
    def drawing(self) -> Drawing:
        return drawing_of(self.result.most_instructive, self.title)


def as_html(
    sections: Sequence[Section],
    *,
    title: str = "Races",
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[object]] = (),
) -> str:
    """A page with a table, if there are ``rows``, and with the sections' runs."""
    engine = Engine(dirs=[str(Path(__file__).parent)], autoescape=True)
    context: dict[str, Any] = {
        "title": title,
        "columns": columns,
        "rows": rows,
        "sections": sections,
        "result": sections[0].result if sections else None,
    }
    return engine.get_template("report.html").render(Context(context))


def result_as_html(result: Result, *, title: str) -> str:
    """A page on one exploration."""
    facts: list[tuple[str, object]] = [
        ("schedules", result.schedules),
        ("broken", len(result.broken)),
        ("like no serial order", len(result.not_serializable)),
        ("with waits", result.waits),
        ("deadlocks", result.deadlocks),
        ("seen", result.coverage),
    ]
    return as_html([Section(title, result, facts=facts)], title=title)


def drawing_of(run: Run, title: str) -> Drawing:
    found = transcript.lines(run)
    return Drawing(
        run,
        title,
        found,
        list(bars_of(found)),
        sorted(run.sessions),
        story.describe_run(run),
        [(name, result, name in run.raised) for name, result in run.results.items()],
    )


def bars_of(found: list[Line]) -> list[Bar]:
    """The stretches in which each session has a transaction open, or waits."""
    bars = []
    opened: dict[int, Bar] = {}
    waiting: dict[int, Bar] = {}
    for row, line in enumerate(found, start=1):
        step = line.step
        if line.tone == "wait":
            waiting[line.lane] = Bar(line.lane, row, len(found), "waiting")
            bars.append(waiting[line.lane])
        elif line.lane in waiting:
            waiting.pop(line.lane).last = row
        if not step.is_autocommit and line.lane not in opened:
            opened[line.lane] = Bar(line.lane, row, len(found), "transaction")
            bars.append(opened[line.lane])
        if step.kind in (Kind.COMMIT, Kind.ROLLBACK) and line.tone != "wait":
            ended = opened.pop(line.lane, None)
            if ended is not None:
                ended.last = row
    return bars
