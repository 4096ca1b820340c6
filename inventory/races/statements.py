"""Reads a statement's text: its kind, its tables, and its wording in short."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import lru_cache
from itertools import pairwise

from .parts import parts_of
from .tokens import (
    Form,
    Token,
    closing_of,
    first_brackets,
    place_of,
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
    return words_in(sql).intersection(known)


@lru_cache(maxsize=10_000)
def functions_in(sql: str) -> frozenset[str]:
    """The functions that the text calls, and all else before an opening bracket."""
    return frozenset(
        name.name for name, bracket in pairwise(tokens_of(sql)) if bracket.is_sign("(")
    )


@lru_cache(maxsize=10_000)
def words_in(sql: str) -> frozenset[str]:
    """All words of the text, keywords and values included."""
    return frozenset(_WORD.findall(sql))


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
    inner, behind = first_brackets(tokens)
    if inner and behind and (inner[0].word, behind[0].word) == ("UPDATE", "INSERT"):
        return inner, behind
    return [], []


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
