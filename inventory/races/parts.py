"""Cuts a statement into its parts, and tells the rows that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from .tokens import (
    Form,
    Token,
    content_of,
    depth_of,
    first_brackets,
    is_in_brackets,
    place_of,
    split,
    tokens_of,
    without_brackets,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """A statement, cut into what other statements may meet."""

    verb: str
    """SELECT, INSERT, UPDATE, DELETE or WITH; the empty string for other statements."""
    table: str
    """The table that it writes, or that it reads first."""
    sources: Mapping[str, frozenset[str]]
    """The tables beside FROM and JOIN, or that it writes → their names before a column."""
    condition: tuple[Token, ...] = ()
    """Behind its WHERE."""
    assigned: tuple[tuple[str, tuple[Token, ...]], ...] = ()
    """Of an UPDATE, or of an INSERT that updates rows which are there: (column, expression)."""
    inserted: tuple[Mapping[str, tuple[Token, ...]], ...] = ()
    """Of an INSERT: each row as column → expression."""
    selected: Mapping[str, tuple[str, str]] | None = field(default_factory=dict)
    """Of a SELECT: name in its result → (the table's name before the column, the column). Only
    plain columns; None: all columns (*)."""
    is_inner: bool = False
    """Whether it is the first part of a WITH statement, which returns something else."""


@lru_cache(maxsize=10_000)
def parts_of(sql: str) -> Parts:
    """The parts of a statement, as far as its text tells."""
    tokens = tokens_of(sql)
    verb = tokens[0].word if tokens else ""
    if verb == "WITH":
        return _parts_of_first_write(tokens)
    return _parts_of_one(tokens)


def _parts_of_first_write(tokens: Sequence[Token]) -> Parts:
    """Of WITH name AS (UPDATE …) or (DELETE …): the parts of that one."""
    inner, _ = first_brackets(tokens)
    if inner and inner[0].word in ("UPDATE", "DELETE"):
        return replace(_parts_of_one(inner), is_inner=True)
    return Parts("WITH", _first_table(tokens), {})


def _parts_of_one(tokens: Sequence[Token]) -> Parts:
    verb = tokens[0].word if tokens else ""
    if verb not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        return Parts("", _first_table(tokens), {})
    if verb == "INSERT":
        return _parts_of_insert(tokens)
    sets = place_of(tokens, _SET_OPERATORS)
    if sets < len(tokens):  # the rows of several SELECTs
        first = _parts_of_one(tokens[:sets])
        return replace(first, condition=(*first.condition, tokens[sets]), selected={})
    setting, where = place_of(tokens, ["SET"]), place_of(tokens, ["WHERE"])
    start = 0 if verb == "UPDATE" else place_of(tokens, ["FROM"])
    end = place_of(tokens, _AFTER_WHERE, start)
    sources = _sources(tokens[start + 1 : min(setting, where, end)])
    return Parts(
        verb,
        next(iter(sources), "") or _first_table(tokens),
        sources,
        tuple(tokens[where + 1 : place_of(tokens, _AFTER_WHERE, where)]),
        _assigned(tokens[setting + 1 : min(where, end)]) if verb == "UPDATE" else (),
        selected=_selected(tokens[1:start]) if verb == "SELECT" else {},
    )


def _parts_of_insert(tokens: Sequence[Token]) -> Parts:
    table = _first_table(tokens)
    conflict = next((p for p, token in enumerate(tokens) if token.word == "CONFLICT"), len(tokens))
    setting = place_of(tokens, ["SET"], conflict)
    end = place_of(tokens, ["WHERE", "RETURNING"], setting)
    return Parts(
        "INSERT",
        table,
        {table: frozenset({table})},
        assigned=_assigned(tokens[setting + 1 : end]),
        inserted=_rows_inserted(tokens),
    )


def _selected(tokens: Sequence[Token]) -> dict[str, tuple[str, str]] | None:
    """The plain columns of a SELECT, by their names in the result: the last one of a name wins."""
    selected: dict[str, tuple[str, str]] = {}
    if tokens and tokens[0].word == "DISTINCT":
        tokens = tokens[1:]
    for part in split(tokens, ","):
        column = part[: place_of(part, ["AS"])]
        names = [token.name for token in column[::2]]
        if column and column[-1].is_sign("*"):
            return None
        dots = all(token.is_sign(".") for token in column[1::2])
        is_plain = all(names) and dots and len(column) % 2 == 1
        result = part[-1].name or (column[0].name if column else "")
        selected[result] = ("".join(names[-2:-1]), names[-1]) if is_plain else ("", "")
    return selected


def _first_table(tokens: Sequence[Token]) -> str:
    for place, token in enumerate(tokens):
        if token.word in ("INTO", "UPDATE", "FROM"):
            return next(iter(_sources(tokens[place + 1 : place + 5])), "")
    return ""


def _sources(tokens: Sequence[Token]) -> dict[str, frozenset[str]]:
    """The tables of a FROM, with the names by which columns are said to be theirs."""
    sources: dict[str, frozenset[str]] = {}
    is_next = True
    depth = 0
    for place, token in enumerate(tokens):
        depth += depth_of(token)
        if depth:
            is_next = False  # a sub-select, or a function
        elif is_next and token.name and token.word not in ("ONLY", "LATERAL"):
            rest = tokens[place:]
            if len(rest) > 2 and rest[1].is_sign(".") and rest[2].name:
                rest = rest[2:]
            alias = rest[1 + (len(rest) > 1 and rest[1].word == "AS") :][:1]
            named = alias and alias[0].name and alias[0].word not in _NO_ALIAS
            name = alias[0].name if named else rest[0].name
            sources[rest[0].name] = sources.get(rest[0].name, frozenset()) | {name}
            is_next = False
        elif token.word == "JOIN" or token.is_sign(","):
            is_next = True
    return sources


_SET_OPERATORS = {"UNION", "INTERSECT", "EXCEPT"}
_NO_ALIAS = {
    "SET",
    "WHERE",
    "VALUES",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "ON",
    "SELECT",
}


def _assigned(tokens: Sequence[Token]) -> tuple[tuple[str, tuple[Token, ...]], ...]:
    return tuple(
        (part[0].name, tuple(part[2:]))
        for part in split(tokens, ",")
        if len(part) > 2 and part[0].name and part[1].is_sign("=")
    )


def _rows_inserted(tokens: Sequence[Token]) -> tuple[Mapping[str, tuple[Token, ...]], ...]:
    """The rows of INSERT INTO table (columns) VALUES (…), (…); none of other forms."""
    start, end = place_of(tokens, ["VALUES"]), place_of(tokens, ["RETURNING", "ON"])
    opening = next((place for place, token in enumerate(tokens) if token.is_sign("(")), start)
    rows = split(tokens[start + 1 : end], ",")
    if opening >= start or not all(is_in_brackets(row) for row in rows):
        return ()
    columns = [part[0].name for part in split(tokens[opening + 1 : start - 1], ",") if part]
    found = [[tuple(part) for part in split(row[1:-1], ",")] for row in rows]
    if any(len(row) != len(columns) for row in found):
        return ()
    return tuple(dict(zip(columns, row, strict=True)) for row in found)


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


def is_plain_insert(sql: str) -> bool:
    """Whether it only adds rows with values of its own: no query, no ON CONFLICT."""
    naming = _naming(sql)
    return naming is not None and naming.inserted > 0


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
    """The rows that a statement on a single table names; None for all other statements."""
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
    equalities = dict(equalities_of(tokens[where + 1 : end]))
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
    opening = next((p for p, token in enumerate(tokens) if token.is_sign("(")), len(tokens))
    table, rows = _table_alone(tokens[2:opening]), _rows_inserted(tokens)
    if not table or not rows:
        return None
    literals = {column: [_literal(row[column]) for row in rows] for column in rows[0]}
    values = {
        column: tuple(literal for literal in found if literal is not None)
        for column, found in literals.items()
    }
    full = {column: found for column, found in values.items() if len(found) == len(rows)}
    return _Naming(table, full, inserted=len(rows))


def equalities_of(condition: Sequence[Token]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The columns that a condition compares with values, each with the values that it may have."""
    condition = without_brackets(condition)
    if place_of(condition, ["OR", "BETWEEN", "CASE"]) < len(condition):
        return
    parts = split(condition, "AND")
    if len(parts) > 1:
        for part in parts:
            yield from equalities_of(part)
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
