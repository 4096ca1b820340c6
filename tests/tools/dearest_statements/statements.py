"""PostgreSQL's counts of each statement, and the statements that grow with the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.tools.dearest_statements.postgres import Cluster

COUNTED = """
    SELECT query, min(queryid), sum(calls)::bigint, sum(total_exec_time), sum(rows)::bigint,
        sum(shared_blks_hit + shared_blks_read)::bigint
    FROM pg_stat_statements JOIN pg_database AS database ON database.oid = dbid
    WHERE datname = %s GROUP BY query ORDER BY 4 DESC
"""
# Of the tool itself, or of the server's upkeep
NOT_OF_SHOP = re.compile(
    r"\s*(CREATE |VACUUM|ANALYZE|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET )"
)
# A statement grows if it reads so many times as many pages in the large tables, and so many more.
# An index on a hundred times as many rows is one or two levels deeper, and each of the fifty rows
# that a list of the admin shows may lie on a page of its own.
TIMES_AS_MANY = 3
MORE_PAGES = 60


@dataclass(frozen=True)
class Statement:
    """A statement without its values, and what its calls took in all."""

    sql: str
    key: int
    calls: int
    ms: float
    rows: int
    pages: int
    """Of the database, in shared memory or not: each counts as often as it is looked at."""

    @property
    def ms_per_call(self) -> float:
        return self.ms / self.calls

    @property
    def pages_per_call(self) -> float:
        return self.pages / self.calls

    def in_short(self, length: int) -> str:
        """Its text in one line, cut in the middle."""
        line = " ".join(self.sql.split())
        if len(line) <= length:
            return line
        return f"{line[: length // 2 - 2]} … {line[-length // 2 + 1 :]}"


def forget_counts(cluster: Cluster) -> None:
    """Count from zero again."""
    cluster.execute("postgres", "SELECT pg_stat_statements_reset()")


def counted_statements(cluster: Cluster, database: str) -> list[Statement]:
    """The statements that ran in this database, the dearest first."""
    rows = cluster.execute("postgres", COUNTED, [database])
    return [Statement(*row) for row in rows if not NOT_OF_SHOP.match(row[0])]


@dataclass(frozen=True)
class Growth:
    """A statement in small and in large tables."""

    small: Statement
    large: Statement

    @property
    def grows(self) -> bool:
        few, many = self.small.pages_per_call, self.large.pages_per_call
        return many > TIMES_AS_MANY * few and many > few + MORE_PAGES


def compare(small: list[Statement], large: list[Statement]) -> dict[str, Growth]:
    """By its text, each statement that ran in both."""
    of_small = {statement.sql: statement for statement in small}
    return {
        statement.sql: Growth(of_small[statement.sql], statement)
        for statement in large
        if statement.sql in of_small
    }
