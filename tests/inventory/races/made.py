"""Runs that never ran: made of their lines, to see how they are told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any, cast

from inventory.races.conductor import Event, Performance, Point
from inventory.races.explorer import Explorer
from inventory.races.parts import Key
from inventory.races.result import Result, Run
from inventory.races.server import Wait
from inventory.races.session import Step
from inventory.races.statements import COMMIT, Kind, kind_of


def made_step(session: str, sql: str, **fields: Any) -> Step:
    """A step of a transaction. A read returned nothing, a write changed one row, unless said."""
    kind = kind_of(sql)
    if kind is Kind.WRITE:
        fields.setdefault("rows", 1)
    tables = frozenset(re.findall(r'(?:FROM|UPDATE|INTO|JOIN) "?(\w+)', sql))
    keys = {table: Key("id", "int8") for table in tables}
    return Step(session, sql, sql, kind, tables, False, primary_keys=keys, **fields)


def made_run(lines: Iterable[Step], *, broken: str | None = None, **fields: Any) -> Run:
    """A run of these steps. A step that comes twice had to wait, and completes there."""
    events: list[Event] = []
    points: list[Point] = []
    for step in lines:
        is_completion = any(event.step is step for event in events)
        if not is_completion:
            points.append(Point(((step.session, step),), step.session))
            step.number = len(points)
        events.append(Event(step, is_completion))
    names = sorted({event.step.session for event in events})
    turns = [name for name, _ in itertools.groupby(point.chosen for point in points)]
    is_in_turn = len(turns) == len(names) and len(events) == len(points)
    performance = Performance(points, events, dict.fromkeys(names), {}, is_in_turn=is_in_turn)
    values = {"preemptions": 1, "results": dict.fromkeys(names, "None"), "before": "", "after": ""}
    return Run(performance, broken=broken, **{**values, **fields})


def made_result(runs: Iterable[Run], **fields: Any) -> Result:
    result = Result(cast(Explorer, None), "18.6", "read committed", exhaustive=True, **fields)
    for run in runs:
        result.add(run, None)
    return result


def checkout(session: str, number: int) -> list[Step]:
    """A long session, as of a shop: it reads the stock, works on its basket, and takes a unit."""
    stock = f"SELECT id, sku, stock FROM shop_mug WHERE id = {number}"
    basket = [
        made_step(session, f"SELECT id, mug FROM basket_line WHERE id = {place}", rows=1)
        for place in range(33)
    ]
    return [
        made_step(session, stock, rows=1, values=({"id": "1", "sku": "MUG", "stock": "1"},)),
        *basket,
        made_step(session, f"UPDATE shop_mug SET sku = 'MUG', stock = 0 WHERE id = {number}"),
        made_step(session, f"INSERT INTO shop_sale (buyer) VALUES ('{session}')"),
        made_step(session, COMMIT),
    ]


def two_checkouts(first: str = "Ann", second: str = "Bob") -> Run:
    """Two sessions of 37 statements each; the second runs between two statements of the first."""
    one, other = checkout(first, 1), checkout(second, 1)
    return made_run([*one[:20], *other, *one[20:]], broken="sold 2 of 1")


def in_turns(*sessions: list[Step]) -> list[Step]:
    """One step of each session, then the next of each."""
    return [step for turn in itertools.zip_longest(*sessions) for step in turn if step]


def wait_for(session: str) -> Wait:
    return Wait((session,), "row lock on shop_mug")
