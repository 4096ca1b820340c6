"""Reads a statement's text: its kind, its tables, and its wording in short."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from .tokens import (
    Form,
    Token,
    closing_of,
    content_of,
    is_in_brackets,
    place_of,
    split,
    text_of,
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
    POINT = "point"  # a named point in Python
    CLOCK = "clock"  # Python reads the clock
    CACHE = "cache"  # an operation on a cache of Django's
    OTHER = "other"  # unknown effect: DDL, functions


LONGEST_COLUMNS = 40  # characters from SELECT to FROM that are shown

COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

_UNSTABLE = re.compile(
    r"""
    (?P<quoted> '(?: [^'] | '' )*' )
    | (?P<space> \s+ )
    | \b s\d+_x (?P<savepoint> \d+ ) \b
    | \b _django_curs_\d+_\w+?_ (?P<cursor> \d+ ) \b
    """,
    re.VERBOSE,
)
_EFFECTS = re.compile(r"PG_\w*LOCK\w*|NEXTVAL|SETVAL|PG_NOTIFY|SET_CONFIG|PG_SLEEP")
_CLOCK = re.compile(
    r"\b(now|\w+_timestamp|current_date|current_time|localtime|localtimestamp|timeofday"
    r"|uuidv7|uuid_generate_v1\w*|default)\b",
    re.I,
)
_WORD = re.compile(r"\w+")
_END_OF_LINE = re.compile(r"\r?\n|\r")


def normalised(sql: str) -> str:
    """The text without parts that change from run to run: thread numbers in names, white space.

    Values in quotes stay as they are.

    >>> normalised('SAVEPOINT "s140050513786560_x1"')
    'SAVEPOINT "s_x1"'
    """
    return _UNSTABLE.sub(_stable, sql).strip()


def _stable(found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return found[0]
    if found["space"] is not None:
        return " "
    return f"s_x{found['savepoint']}" if found["savepoint"] else f"django_cursor_{found['cursor']}"


@lru_cache(maxsize=10_000)
def kind_of(sql: str) -> Kind:
    """The kind of a statement, read from its text.

    >>> kind_of("SELECT stock FROM product FOR UPDATE")
    <Kind.LOCK: 'lock'>
    """
    tokens = [token for token in tokens_of(sql) if not token.is_sign(";")]
    words = [token.word for token in tokens]
    first = next((word for word in words if word), "")
    if words in (["COMMIT"], ["END"]):
        return Kind.COMMIT
    if words in (["ROLLBACK"], ["ABORT"]):
        return Kind.ROLLBACK
    if words[:2] == ["SET", "CONSTRAINTS"]:
        return Kind.OTHER  # it may check foreign keys now
    if first in ("SAVEPOINT", "RELEASE", "SET", "SHOW"):
        return Kind.LOCAL
    if first in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        return Kind.WRITE
    if first in ("SELECT", "WITH", "VALUES", "TABLE"):
        locks = [place for place in range(len(words)) if _locks_at(words, place)]
        if first == "WITH" and _writes(words, locks):
            return Kind.WRITE
        if any(
            _EFFECTS.fullmatch(token.name.upper()) and bracket.is_sign("(")
            for token, bracket in pairwise(tokens)
        ):
            return Kind.OTHER
        return Kind.LOCK if locks else Kind.READ
    return Kind.OTHER


def _locks_at(words: Sequence[str], place: int) -> bool:
    """Whether FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE or FOR KEY SHARE begins here."""
    behind = [*words[place + 1 : place + 4], "", "", ""]
    without = behind[behind[0] == "NO" :]
    return words[place] == "FOR" and without[without[0] == "KEY"] in ("UPDATE", "SHARE")


def _writes(words: Sequence[str], locks: Iterable[int]) -> bool:
    """Whether a part of a WITH statement writes."""
    locked = {place + behind for place in locks for behind in (1, 2, 3)}
    return any(
        (word == "UPDATE" and place not in locked)
        or (word, following) in (("INSERT", "INTO"), ("DELETE", "FROM"), ("MERGE", "INTO"))
        for place, (word, following) in enumerate(pairwise(words))
    )


def tables_in(sql: str, known: Iterable[str]) -> frozenset[str]:
    """The ``known`` tables that the text names. It may name one too many, and never one too few."""
    words = words_in(sql)
    return frozenset(table for table in known if table in words)


def words_in(sql: str) -> set[str]:
    """All words of the text, keywords and values included."""
    return set(_WORD.findall(sql))


def sets_isolation(sql: str) -> bool:
    """Whether the statement asks for more than READ COMMITTED."""
    words = [token.word for token in tokens_of(sql)]
    return any(
        pair == ("ISOLATION", "LEVEL") and words[place + 2 : place + 4] != ["READ", "COMMITTED"]
        for place, pair in enumerate(pairwise(words))
    )


def reads_clock(sql: str) -> bool:
    """Whether the text of a statement, or of a column's default, names a clock of PostgreSQL."""
    return bool(_CLOCK.search(sql))


def assignments(sql: str) -> list[tuple[str, str]]:
    """The assignments of an UPDATE: (column, expression).

    >>> assignments('UPDATE product SET stock = (stock - 1), sold = 2 WHERE id = 1')
    [('stock', 'stock - 1'), ('sold', '2')]
    """
    return [(column, in_words(expression)) for column, expression in parts_of(sql).assigned]


def target(sql: str) -> str | None:
    """The table that an INSERT, UPDATE or DELETE names first, or a SELECT reads first."""
    return parts_of(sql).table or None


# A statement in short


def plain(sql: str) -> str:
    """The text without quotes round names, and without the table before a column. In one line.

    >>> plain('SELECT "product"."name" FROM "product"')
    'SELECT name FROM product'
    """
    return _text(_plain(tokens_of(sql)))


def in_short(sql: str) -> str:
    """A statement in short, without the columns that matter to nobody.

    >>> in_short("SELECT p.id, p.sku, p.name, p.slug, p.price, p.description, p.weight "
    ...          "FROM product p WHERE p.id = 1 LIMIT 21")
    'SELECT … FROM product p WHERE id = 1'
    """
    return _in_short(_plain(tokens_of(sql)))


def in_words(expression: Sequence[Token]) -> str:
    """An expression as a reader wants it: plain, and without brackets round all of it."""
    return _text(_plain(without_brackets(expression)))


def _plain(tokens: Sequence[Token]) -> list[Token]:
    """The tokens without the table before a column."""
    shown: list[Token] = []
    for token in tokens:
        if token.name and len(shown) > 1 and shown[-1].is_sign(".") and shown[-2].name:
            token = token._replace(has_space=shown[-2].has_space)
            del shown[-2:]
        shown.append(token)
    return shown


def _text(tokens: Iterable[Token]) -> str:
    """The tokens in one line, without quotes round names that need none to be read."""
    return text_of(token._replace(text=_shown(token)) for token in tokens)


def _shown(token: Token) -> str:
    if token.form is Form.NAME and _WORD.fullmatch(token.text[1:-1]):
        return token.text[1:-1]
    return _END_OF_LINE.sub("↵", token.text) if token.form is Form.STRING else token.text


def _in_short(tokens: list[Token]) -> str:
    """Of plain tokens."""
    first = tokens[0].word if tokens else ""
    if first == "WITH":
        inner, behind = _with_update(tokens)
        return f"{_in_short(inner)}; {_in_short(behind)}" if inner else _text(tokens)
    if first == "INSERT" and len(tokens) > 3:
        return f"{_text(tokens[:3])} …"
    if first == "UPDATE":
        tokens = tokens[: place_of(tokens, ["RETURNING"])]
    if first == "SELECT":
        tokens = _without_columns(_without_limit(tokens))
    return _text(_without_needless_brackets(tokens))


def _with_update(tokens: list[Token]) -> tuple[list[Token], list[Token]]:
    """The two parts of WITH name AS (UPDATE …) INSERT …; empty for other statements."""
    inner, behind = _first_brackets(tokens)
    if inner and behind and (inner[0].word, behind[0].word) == ("UPDATE", "INSERT"):
        return inner, behind
    return [], []


def _first_brackets(tokens: Sequence[Token]) -> tuple[list[Token], list[Token]]:
    """The tokens in the first brackets, and those behind them."""
    opening = next((place for place, token in enumerate(tokens) if token.is_sign("(")), 0)
    closing = closing_of(tokens, opening)
    return list(tokens[opening + 1 : closing]), list(tokens[closing + 1 :])


def _without_limit(tokens: list[Token]) -> list[Token]:
    """Without the LIMIT 21 of Django's get()."""
    place = place_of(tokens, ["LIMIT"])
    is_of_get = [token.text for token in tokens[place + 1 : place + 2]] == ["21"]
    return tokens[:place] + tokens[place + 2 :] if is_of_get else tokens


def _without_columns(tokens: list[Token]) -> list[Token]:
    """A SELECT with its list of columns left out, where that is long."""
    place = place_of(tokens, ["FROM"])
    if place == len(tokens) or len(_text(tokens[:place])) <= LONGEST_COLUMNS:
        return tokens
    return [tokens[0], Token(Form.SIGN, "…", True), *tokens[place:]]


def _without_needless_brackets(tokens: list[Token]) -> list[Token]:
    """Without brackets round a sum, or round comparisons joined by AND, where none are needed."""
    place = 0
    while place < len(tokens):
        end = closing_of(tokens, place) if tokens[place].is_sign("(") else place
        inner = tokens[place + 1 : end]
        if inner and _is_needless(tokens[place - 1] if place else None, inner, tokens[end + 1 :]):
            inner[0] = inner[0]._replace(has_space=tokens[place].has_space)
            tokens = tokens[:place] + inner + tokens[end + 1 :]
        else:
            place += 1
    return tokens


def _is_needless(before: Token | None, inner: Sequence[Token], behind: Sequence[Token]) -> bool:
    following = behind[0].text if behind else ""
    if len(inner) == 3 and inner[1].text in _ARITHMETIC and following not in (*_ARITHMETIC, "::"):
        return before is None or before.text in ("=", ",", "(", ">", "<", ">=", "<=", "<>")
    words = {token.word for token in inner}
    return (
        (
            before is None
            or before.is_sign("(")
            or before.word in ("WHERE", "AND", "OR", "ON", "WHEN")
        )
        and (not following or following == ")" or behind[0].form is not Form.SIGN)
        and any(token.text in _COMPARING for token in inner)
        and not words & {"OR", "SELECT", "CASE"}
    )


_ARITHMETIC = ("+", "-", "*", "/", "||")
_COMPARING = ("=", "<", ">", "<=", ">=", "<>", "!=")


# The parts of a statement


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
    """Of an UPDATE: (column, expression)."""
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
    inner, _ = _first_brackets(tokens)
    if inner and inner[0].word in ("UPDATE", "DELETE"):
        return replace(_parts_of_one(inner), is_inner=True)
    return Parts("WITH", _first_table(tokens), {})


def _parts_of_one(tokens: Sequence[Token]) -> Parts:
    verb = tokens[0].word if tokens else ""
    if verb not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        return Parts("", _first_table(tokens), {})
    if verb == "INSERT":
        table = _first_table(tokens)
        return Parts(verb, table, {table: frozenset({table})}, inserted=_rows_inserted(tokens))
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
    for place, token in enumerate(tokens):
        if is_next and token.name and token.word not in ("ONLY", "LATERAL"):
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
