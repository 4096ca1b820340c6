"""Runs as JSON: of other people's packages, which aren't installed where the tests run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from inventory.races import Run
from inventory.races.conductor import Event, Performance, Point
from inventory.races.parts import Key
from inventory.races.schedule import parse_schedule
from inventory.races.server import Wait
from inventory.races.session import Step
from inventory.races.statements import Kind
from inventory.races.tokens import Form, text_of, tokens_of

FOLDER = Path(__file__).parent / "recordings"
LONGEST_VALUE = 100  # characters of a value in a statement that are kept
ALL = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Run:
    """The run of ``recordings/{name}.json``."""
    return run_of(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def run_of(data: dict[str, Any]) -> Run:
    """The run that ``recording_of`` was given, without what its sessions returned."""
    keys = {table: Key(*key) for table, key in data["primary_keys"].items()}
    steps = [step_of(each, number, keys) for number, each in enumerate(data["steps"], start=1)]
    names = list(data["results"])
    performance = Performance(
        [Point((), name) for name in parse_schedule(data["schedule"], names)],
        [Event(steps[abs(number) - 1], number < 0) for number in data["events"]],
        {},
        {name: Exception(data["results"][name]) for name in data["raised"]},
    )
    return Run(
        performance,
        data["preemptions"],
        data["results"],
        data["before"],
        data["after"],
        data["broken"],
        data["is_serializable"],
    )


def step_of(data: dict[str, Any], number: int, keys: dict[str, Key]) -> Step:
    wait = data.get("wait")
    return Step(
        data["session"],
        data["shown"],
        data["shown"],
        Kind(data["kind"]),
        frozenset(data.get("tables", ())),
        data.get("is_autocommit", False),
        number=number,
        rows=data.get("rows"),
        values=tuple(data.get("values", ())),
        wait=Wait(tuple(wait[0]), wait[1]) if wait else None,
        sqlstate=data.get("sqlstate"),
        error=data.get("error"),
        primary_keys=keys,
    )


def recording_of(run: Run) -> str:
    """The run as JSON, one line a step."""
    named = set(re.findall(r"\w+", " ".join(step.shown for step in run.steps)))
    keys = run.steps[0].primary_keys
    data = {
        "results": run.results,
        "raised": sorted(run.raised),
        "preemptions": run.preemptions,
        "broken": run.broken.splitlines()[0] if run.broken else None,
        "is_serializable": run.is_serializable,
        "before": run.before,
        "after": run.after,
        "schedule": run.schedule,
        "primary_keys": {table: list(key) for table, key in keys.items() if table in named},
        "events": [-e.step.number if e.is_completion else e.step.number for e in run.events],
    }
    head = json.dumps(data, indent=1, ensure_ascii=False).removesuffix("\n}")
    steps = [json.dumps(data_of(step), ensure_ascii=False) for step in run.steps]
    return head + ',\n "steps": [\n  ' + ",\n  ".join(steps) + "\n ]\n}\n"


def shorter(sql: str) -> str:
    """The statement without the rest of long values, such as the text of a message."""
    return text_of(
        token._replace(text=f"{token.text[:LONGEST_VALUE]}…'")
        if token.form is Form.STRING and len(token.text) > LONGEST_VALUE + 2
        else token
        for token in tokens_of(sql)
    )


def data_of(step: Step) -> dict[str, Any]:
    data = {
        "session": step.session,
        "kind": step.kind.value,
        "shown": shorter(step.shown),
        "tables": sorted(step.tables),
        "is_autocommit": step.is_autocommit,
        "rows": step.rows,
        "values": list(step.values),
        "wait": [list(step.wait.on), step.wait.lock] if step.wait else None,
        "sqlstate": step.sqlstate,
        "error": step.error,
    }
    return {name: value for name, value in data.items() if value or (value == 0 and name == "rows")}
