"""Reads a statement's text: its kind, its tables, and its wording in short."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from .tokens import (
    Form,
    Token,
    content_of,
    is_in_brackets,
    place_of,
    split,
    tokens_of,
    without_brackets,
)


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


# The rows that a statement names


class Key(NamedTuple):
    """The column of a table's primary key, whose values can be compared as text."""

    column: str
    type_name: str
    """One of COMPARABLE."""


COMPARABLE = ("int2", "int4", "int8", "uuid", "text", "varchar")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, by the values of its primary key."""

    table: str
    keys: frozenset[str]


def rows_named(
    sql: str, primary_keys: Mapping[str, Key], returned: Sequence[Mapping[str, str]] = ()
) -> Rows | None:
    """The rows beyond which a statement reads and writes nothing, where its text tells for certain.

    ``sql``: with its values. ``primary_keys``: by table. ``returned``: all rows that it returned,
    as text, if it was executed: an INSERT may say by them which row it added.
    None: it may concern other rows, or rows of other tables.

    Two statements that name different rows can still meet: in a unique constraint, a foreign
    key, a trigger, or a sequence.

    >>> rows_named('UPDATE "mug" SET "stock" = 0 WHERE "mug"."id" = 7', {"mug": Key("id", "int8")})
    Rows(table='mug', keys=frozenset({'7'}))
    """
    naming = _naming(sql)
    key = primary_keys.get(naming.table) if naming else None
    if naming is None or key is None or key.column in naming.assigned:
        return None
    literals = naming.values.get(key.column)
    if literals is not None:
        keys = {key_of(content, key.type_name) for content in literals}
    elif naming.inserted and len(returned) == naming.inserted:
        keys = {key_of(row.get(key.column), key.type_name) for row in returned}
    else:
        return None
    return Rows(naming.table, frozenset(k for k in keys if k)) if all(keys) else None


def key_of(text: str | None, type_name: str) -> str | None:
    """A value of a primary key in the one form by which it is compared; None if it isn't clear."""
    if not text or text.endswith("…"):  # the end of a value that was too long to be kept
        return None
    try:
        if type_name.startswith("int"):
            return str(int(text))
        return str(UUID(text)) if type_name == "uuid" else text
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Naming:
    """The text of a statement on one table, as far as it tells which rows it concerns."""

    table: str
    values: Mapping[str, tuple[str, ...]]
    """Column → values: each row has one of them there."""
    assigned: frozenset[str] = frozenset()
    """The columns that an UPDATE sets."""
    inserted: int = 0
    """The number of rows that an INSERT adds."""


# Words before a bracket, and functions that read their arguments only.
_HARMLESS = {
    *(
        "IN",
        "ANY",
        "AND",
        "OR",
        "NOT",
        "WHERE",
        "VALUES",
        "SET",
        "AS",
        "ON",
        "BY",
        "SELECT",
        "CASE",
    ),
    *("WHEN", "THEN", "ELSE", "CAST", "RETURNING", "DISTINCT", "INTERVAL", "ARRAY", "EXTRACT"),
    *("COUNT", "SUM", "MIN", "MAX", "AVG", "COALESCE", "NULLIF", "GREATEST", "LEAST", "ABS"),
    *(
        "CONCAT",
        "LOWER",
        "UPPER",
        "LENGTH",
        "SUBSTRING",
        "REPLACE",
        "TRIM",
        "LEFT",
        "RIGHT",
        "LPAD",
    ),
    *("RPAD", "ROUND", "FLOOR", "CEILING", "DATE_TRUNC", "NOW", "STATEMENT_TIMESTAMP", "DECIMAL"),
    *("CLOCK_TIMESTAMP", "NUMERIC", "VARCHAR", "CHAR"),
}
# With these a statement concerns more than the one table that it names first, or several parts.
_MORE = {"JOIN", "UNION", "INTERSECT", "EXCEPT", "USING", "CONFLICT", "TABLESAMPLE", "INHERITS"}
_CASTS = {*COMPARABLE, "bigint", "integer", "smallint"}
_AFTER_WHERE = {
    *("GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING"),
}


@lru_cache(maxsize=10_000)
def _naming(sql: str) -> _Naming | None:
    """What the text of a statement on a single table tells; None for all other statements."""
    tokens = tokens_of(sql)
    if tokens and tokens[-1].is_sign(";"):
        tokens.pop()
    if not _is_simple(tokens):
        return None
    if tokens[0].word == "INSERT":
        return _naming_of_insert(tokens)
    start = 0 if tokens[0].word == "UPDATE" else place_of(tokens, ["FROM"])
    setting, where = place_of(tokens, ["SET"]), place_of(tokens, ["WHERE"])
    named = _table_alone(tokens[start + 1 : min(setting, where)])
    end = place_of(tokens, _AFTER_WHERE, where)
    equalities = dict(_equalities(tokens[where + 1 : end]))
    if tokens[0].word != "UPDATE":
        return _Naming(named, equalities) if named and setting == len(tokens) else None
    columns = [part[0].name for part in split(tokens[setting + 1 : where], ",") if part]
    if not named or place_of(tokens, ["FROM"]) < len(tokens) or not all(columns):
        return None
    return _Naming(named, equalities, frozenset(columns))


def _is_simple(tokens: Sequence[Token]) -> bool:
    """Whether it is one statement that names one table, and calls no function of unknown effect."""
    if not tokens or tokens[0].word not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        return False
    words = [token.word for token in tokens]
    into = words.index("INTO") if "INTO" in words else len(words)
    return not (
        _MORE.intersection(words)
        or words.count("SELECT") != (words[0] == "SELECT")
        or (into < len(words)) != (words[0] == "INSERT")
        or any(token.is_sign(";") for token in tokens)
        or any(
            bracket.is_sign("(") and token.name and token.word not in _HARMLESS
            for place, (token, bracket) in enumerate(pairwise(tokens))
            if not into < place <= into + 3  # the table that an INSERT names, with its schema
        )
    )


def _table_alone(tokens: Sequence[Token]) -> str:
    """The table, if there is nothing else but its schema and its alias; else the empty string."""
    names = [token for token in tokens if token.word not in ("ONLY", "AS")]
    if len(names) > 2 and names[1].is_sign("."):
        names = names[2:]
    return names[0].name if len(names) in (1, 2) and all(each.name for each in names) else ""


def _naming_of_insert(tokens: Sequence[Token]) -> _Naming | None:
    """INSERT INTO table (columns) VALUES (…), (…)"""
    start, end = place_of(tokens, ["VALUES"]), place_of(tokens, ["RETURNING"])
    opening = next((p for p, token in enumerate(tokens) if token.is_sign("(")), start)
    table = _table_alone(tokens[2:opening])
    rows = split(tokens[start + 1 : end], ",")
    if not (table and opening < start and all(is_in_brackets(row) for row in rows)):
        return None
    columns = [part[0].name for part in split(tokens[opening + 1 : start - 1], ",") if part]
    values = [[_literal(part) for part in split(row[1:-1], ",")] for row in rows]
    if any(len(row) != len(columns) for row in values):
        return None
    literals = {
        column: tuple(content for row in values if (content := row[place]) is not None)
        for place, column in enumerate(columns)
    }
    full = {column: found for column, found in literals.items() if len(found) == len(rows)}
    return _Naming(table, full, inserted=len(rows))


def _equalities(condition: Sequence[Token]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The columns that a condition compares with values, each with the values that it may have."""
    condition = without_brackets(condition)
    if place_of(condition, ["OR", "BETWEEN", "CASE"]) < len(condition):
        return
    parts = split(condition, "AND")
    if len(parts) > 1:
        for part in parts:
            yield from _equalities(part)
        return
    while len(condition) > 2 and condition[0].name and condition[1].is_sign("."):
        condition = condition[2:]
    if len(condition) < 3 or not condition[0].name:
        return
    operator, right = condition[1], condition[2:]
    if operator.is_sign("="):
        literals = [_literal(right)]
    elif operator.word == "IN" and is_in_brackets(right):
        literals = [_literal(part) for part in split(right[1:-1], ",")]
    else:
        return
    if all(literal is not None for literal in literals):
        yield condition[0].name, tuple(literal for literal in literals if literal is not None)


def _literal(tokens: Sequence[Token]) -> str | None:
    """The text of a number or a string, with or without a cast; None for every other expression."""
    sign = ""
    if tokens and tokens[0].is_sign("-"):
        sign, tokens = "-", tokens[1:]
    if len(tokens) == 3 and tokens[1].is_sign("::") and tokens[2].name in _CASTS:
        tokens = tokens[:1]
    if len(tokens) != 1:
        return None
    if tokens[0].form is Form.NUMBER:
        return sign + tokens[0].text
    return None if sign else content_of(tokens[0])
