"""The work that PostgreSQL does for statements, counted and not timed: rows and blocks read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")


@dataclass
class Work:
    """The work of some statements; ``rows`` are those that were read from tables."""

    rows: int = 0
    blocks: int = 0
    dearest: tuple[int, str] = field(default=(0, ""))
    """The rows of the statement that read the most, and its text and plan."""

    def add(self, statement: str, plan: dict[str, Any]) -> None:
        rows = _rows_read(plan)
        self.rows += rows
        self.blocks += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        if rows >= self.dearest[0]:
            self.dearest = rows, f"{statement}\n{_outline(plan)}"


@contextmanager
def count_work() -> Iterator[Work]:
    """Count the work of all statements that the block sends.

    Each is explained just before it is executed: PostgreSQL executes it for that, and it is rolled
    back. So the plan is that of the very statement, with its values.
    """
    work = Work()

    def explain(
        execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        for statement in _statements(sql, params, context["cursor"]):
            with transaction.atomic(), connection.connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}")
                [[[explained]]] = cursor.fetchall()
                transaction.set_rollback(True)
            work.add(statement, explained["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield work


def _statements(sql: str, params: Any, cursor: Any) -> list[str]:
    """The statements in ``sql`` that have a plan, with their values."""
    text = cursor.mogrify(sql, params) if params else sql
    parts = re.split(r";\s*", text.strip())
    return [part for part in parts if part.startswith(EXPLAINED)]


def _rows_read(node: dict[str, Any]) -> int:
    rows = 0
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        each = node["Actual Rows"] + sum(node.get(name, 0) for name in removed)
        rows = round(each * node["Actual Loops"])
    return rows + sum(_rows_read(child) for child in node.get("Plans", ()))


def _outline(node: dict[str, Any], depth: int = 0) -> str:
    """The plan in a few words for each node."""
    names = ("Node Type", "Index Name", "Relation Name", "Plan Rows", "Actual Rows", "Actual Loops")
    line = "  " * depth + ", ".join(str(node[name]) for name in names if name in node)
    return "\n".join([line, *(_outline(child, depth + 1) for child in node.get("Plans", ()))])
