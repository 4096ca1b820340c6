"""Reads a statement's text: its kind, its tables, and its wording in short."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum


class Kind(Enum):
    """The kind of a step, by its effect on other sessions."""

    READ = "read"
    WRITE = "write"
    LOCK = "lock"
    LOCAL = "local"  # savepoints, settings: other sessions can't notice
    COMMIT = "commit"
    ROLLBACK = "rollback"
    OTHER = "other"  # unknown effect: DDL, functions


LONGEST_COLUMNS = 40  # characters from SELECT to FROM that are shown

COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

_SAVEPOINT = re.compile(r"\bs\d+_x(\d+)\b")
_CURSOR = re.compile(r"\b_django_curs_\d+_\w+?_(\d+)\b")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_LOCKING = re.compile(r"\bFOR\s+(NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b")
_WRITING = re.compile(r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\b")
_EFFECTS = re.compile(r"\b(PG_\w*LOCK\w*|NEXTVAL|SETVAL|PG_NOTIFY|SET_CONFIG|PG_SLEEP)\s*\(")
_ISOLATION = re.compile(r"\bISOLATION\s+LEVEL\s+(SERIALIZABLE|REPEATABLE\s+READ)\b")
_WORD = re.compile(r"\w+")


def normalised(sql: str) -> str:
    """The text without parts that change from run to run: thread numbers in names, white space.

    >>> normalised('SAVEPOINT "s140050513786560_x1"')
    'SAVEPOINT "s_x1"'
    """
    sql = _SAVEPOINT.sub(r"s_x\1", sql)
    sql = _CURSOR.sub(r"django_cursor_\1", sql)
    return " ".join(sql.split())


def kind_of(sql: str) -> Kind:
    """The kind of a statement, read from its text.

    >>> kind_of("SELECT stock FROM product FOR UPDATE")
    <Kind.LOCK: 'lock'>
    """
    text = _LITERAL.sub("''", sql).upper().strip(" (;")
    first = text.split(None, 1)[0] if text else ""
    if text in ("COMMIT", "END"):
        return Kind.COMMIT
    if text in ("ROLLBACK", "ABORT"):
        return Kind.ROLLBACK
    if first in ("SAVEPOINT", "RELEASE", "SET", "SHOW"):
        return Kind.LOCAL
    if first in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        return Kind.WRITE
    if first in ("SELECT", "WITH", "VALUES", "TABLE"):
        if first == "WITH" and _WRITING.search(_LOCKING.sub("", text)):
            return Kind.WRITE
        if _EFFECTS.search(text):
            return Kind.OTHER
        return Kind.LOCK if _LOCKING.search(text) else Kind.READ
    return Kind.OTHER


def tables_in(sql: str, known: Iterable[str]) -> frozenset[str]:
    """The ``known`` tables that the text names. It may name one too many, and never one too few."""
    words = set(_WORD.findall(sql))
    return frozenset(table for table in known if table in words)


def sets_isolation(sql: str) -> bool:
    """Whether the statement asks for more than READ COMMITTED."""
    return bool(_ISOLATION.search(sql.upper()))


def assignments(sql: str) -> list[tuple[str, str]]:
    """The assignments of an UPDATE: (column, expression).

    >>> assignments('UPDATE product SET stock = (stock - 1), sold = 2 WHERE id = 1')
    [('stock', 'stock - 1'), ('sold', '2')]
    """
    found = re.search(
        r"\bUPDATE\b.*?\bSET\b\s+(.*?)(?:\bWHERE\b|\bRETURNING\b|\bFROM\b|$)", plain(sql), re.I
    )
    if not found:
        return []
    pairs = [part.partition("=") for part in _split(found[1])]
    return [(column.strip(), _bare(value)) for column, equals, value in pairs if equals]


def inserted(sql: str) -> list[tuple[str, str]]:
    """The columns and values of an INSERT of one row of plain values."""
    found = re.match(r"INSERT INTO \w+ \(([^)]*)\) VALUES \((.*?)\)(?: RETURNING.*)?$", plain(sql))
    if not found:
        return []
    columns, values = found[1].split(", "), _split(found[2])
    return list(zip(columns, values, strict=True)) if len(columns) == len(values) else []


def target(sql: str) -> str | None:
    """The table that an INSERT, UPDATE or DELETE names first, or a SELECT reads first."""
    found = re.search(r"\b(?:INTO|UPDATE|FROM)\s+(?:ONLY\s+)?(?:\w+\.)?(\w+)", plain(sql), re.I)
    return found[1] if found else None


def plain(sql: str) -> str:
    """The text without quotes round names, and without the table before a column."""
    sql = re.sub(r'"([^"]+)"', r"\1", sql)
    outside = [
        part if part.startswith("'") else re.sub(r"\b[a-zA-Z_]\w*\.([a-zA-Z_]\w*)", r"\1", part)
        for part in re.split(r"('(?:[^']|'')*')", sql)
    ]
    return " ".join("".join(outside).split())


def in_short(sql: str) -> str:
    """A statement in short, without the columns that matter to nobody.

    >>> in_short('SELECT "product"."id", "product"."sku", "product"."name" FROM "product"'
    ...          ' WHERE "product"."id" = 1 LIMIT 21')
    'SELECT … FROM product WHERE id = 1'
    """
    sql = plain(sql)
    sql = without_columns(sql)
    sql = re.sub(r" LIMIT 21\b", "", sql)
    sql = re.sub(
        r"^WITH \w+ AS \( ?(UPDATE .*?) RETURNING .*?\) (INSERT INTO \w+) .*", r"\1; \2 …", sql
    )
    sql = re.sub(r"^(INSERT INTO \w+) .*", r"\1 …", sql)
    if sql.startswith("UPDATE"):
        sql = re.sub(r" RETURNING .*$", "", sql)
    sql = re.sub(r"\(([\w.]+ [-+*/] [\w.]+)\)", r"\1", sql)
    return re.sub(r"\((\w+ [<>=]+ [\w'.]+(?: AND \w+ [<>=]+ [\w'.]+)*)\)", r"\1", sql)


def without_columns(sql: str) -> str:
    """A SELECT with its list of columns left out, where that is long."""
    if not sql.startswith("SELECT "):
        return sql
    depth = 0
    for place, char in enumerate(sql):
        depth += (char == "(") - (char == ")")
        if depth == 0 and sql.startswith(" FROM ", place):
            return f"SELECT …{sql[place:]}" if place > LONGEST_COLUMNS else sql
    return sql


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for place, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif not quoted:
            depth += (char == "(") - (char == ")")
            if char == "," and depth == 0:
                parts.append(text[start:place].strip())
                start = place + 1
    return [*parts, text[start:].strip()]


def _bare(expression: str) -> str:
    expression = expression.strip()
    while expression.startswith("(") and expression.endswith(")"):
        expression = expression[1:-1].strip()
    return expression
