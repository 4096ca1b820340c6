"""Runs as one HTML file that needs no other file: to send, to keep, or to show in a talk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.template import Context, Engine

from . import story, transcript
from .folding import Fold
from .result import Result, Run
from .statements import Kind
from .transcript import Line

LANE_COLOURS = 4


@dataclass
class Bar:
    """A stretch of a lane: a transaction, or a wait. Rows of the drawing, from and to."""

    lane: int
    first: int
    last: int
    kind: str
    is_folded: bool = False

    @property
    def colour(self) -> int:
        return self.lane % LANE_COLOURS


@dataclass
class Row:
    """A row of the drawing: a line of the transcript, or a fold before the lines that it hides."""

    number: int
    shown: Line | Fold
    folded_into: int = 0
    """The row of the fold that hides it; 0 if it isn't hidden."""

    @property
    def fold(self) -> str:
        """The words of the fold; the empty string for a line."""
        return self.shown.in_words() if isinstance(self.shown, Fold) else ""

    @property
    def colour(self) -> int:
        return self.shown.lane % LANE_COLOURS


@dataclass
class Drawing:
    """A run, ready to be drawn."""

    run: Run
    title: str
    rows: list[Row]
    bars: list[Bar]
    sessions: list[tuple[str, int]]
    """The name and the colour of each."""
    story: str
    reason: str
    """The reason why it is broken, if nothing else on the page says so."""
    results: list[tuple[str, str, bool]]

    @property
    def folded_lines(self) -> int:
        return sum(bool(row.folded_into) for row in self.rows)

    @property
    def lines(self) -> int:
        return sum(not row.fold for row in self.rows)


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
    return as_html([section_of(result, title)], title=title)


def section_of(result: Result, title: str, text: str = "") -> Section:
    """The part of a page that is on one exploration, with its numbers."""
    facts: list[tuple[str, object]] = [
        ("schedules", result.schedules),
        ("broken", len(result.broken)),
        ("like no serial order", len(result.not_serializable)),
        ("with waits", result.waits),
        ("deadlocks", result.deadlocks),
        ("seen", result.coverage),
    ]
    return Section(title, result, text, facts)


def drawing_of(run: Run, title: str) -> Drawing:
    rows = list(rows_of(run))
    return Drawing(
        run,
        title,
        rows,
        list(bars_in(rows)),
        [(name, place % LANE_COLOURS) for place, name in enumerate(sorted(run.sessions))],
        story.describe_run(run),
        "" if run.reason == run.after else run.reason,
        [
            (name, transcript.first_line(result), name in run.raised)
            for name, result in run.results.items()
        ],
    )


def rows_of(run: Run) -> Iterator[Row]:
    """All lines of the run, and the folds; each fold stands before its lines."""
    numbers = itertools.count(1)
    for each in transcript.folded_lines(run):
        number = next(numbers)
        yield Row(number, each)
        if isinstance(each, Fold):
            yield from (Row(next(numbers), line, folded_into=number) for line in each.lines)


def bars_in(rows: list[Row]) -> Iterator[Bar]:
    """The bars beside these rows. A bar beside folded rows only is folded with them."""
    drawn = [row for row in rows if isinstance(row.shown, Line)]
    for bar in bars_of([row.shown for row in drawn if isinstance(row.shown, Line)]):
        beside = drawn[bar.first - 1 : bar.last]
        is_folded = all(row.folded_into for row in beside)
        first = beside[0].folded_into or beside[0].number
        yield Bar(bar.lane, first, beside[-1].number, bar.kind, is_folded)


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
