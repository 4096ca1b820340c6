"""Makes statements, their outcomes, and the names of sessions fit into few columns.

The least important goes first: of a SELECT its columns, then the order of rows, of an UPDATE the
columns that no session changes, the app in the name of a table, long values, joins, and further
conditions. A lock stays.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from .statements import in_short
from .tokens import Form, Token, depth_of, place_of, split, text_of, tokens_of, without_brackets

BEFORE_TABLES = ("FROM", "JOIN", "INTO", "UPDATE", "ONLY")
REST = Token(Form.SIGN, "…", has_space=True)
AND = Token(Form.WORD, "AND", has_space=True)
SHORT = 20  # characters of a list that isn't left out
LONGEST_NAME = 12  # characters of a table's name, once names are shortened
LONGEST_VALUE = 12  # characters of a value, once values are shortened
CLAUSES = {
    "SELECT", "UPDATE", "INSERT", "DELETE", "FROM", "SET", "VALUES", "WHERE", "GROUP", "HAVING",
    "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING", "UNION", "CONFLICT",
}  # fmt: skip
NO_CLAUSES = {("FOR", "UPDATE"), ("KEY", "UPDATE"), ("DO", "UPDATE"), ("DISTINCT", "FROM")}

Clause = Sequence[Token]
"""The tokens of a clause; the first is the key word with which it begins."""
Columns = Sequence[Collection[str]]
"""Names of columns that matter: those that matter most, and then others."""
Stage = Callable[[Clause, Columns], Clause]
"""Makes a clause shorter, and keeps the columns that matter."""


def fitted(sql: str, room: int, columns: Columns, *, short_tables: bool = False) -> str | None:
    """The statement in short, in at most ``room`` columns of the terminal.

    Returns None if too little would be left to say what is done with which rows: ``cut_to_fit``
    does it then.
    """
    texts = shorter_and_shorter(sql, columns, LIGHT_STAGES, short_tables)
    return next((text for text in texts if cell_len(text) <= room), None)


def cut_to_fit(sql: str, room: int, columns: Columns) -> str:
    """The statement in at most ``room`` columns, at whatever cost."""
    text = ""
    for text in shorter_and_shorter(sql, columns, STAGES, short_tables=True):
        if cell_len(text) <= room:
            break
    return cut(text, room)


def shorter_and_shorter(
    sql: str, columns: Columns, stages: Sequence[Stage], short_tables: bool
) -> Iterator[str]:
    clauses = clauses_of(sql)
    for shorten in (unchanged, *stages):
        clauses = [shorten(clause, columns) for clause in clauses]
        text = visible(in_short(text_of(token for clause in clauses for token in clause)))
        yield with_short_tables(text) if short_tables else text


def clauses_of(sql: str) -> list[Clause]:
    """The statement cut where a key word outside of brackets begins a clause."""
    clauses: list[list[Token]] = [[]]
    depth, before = 0, ""
    for token in tokens_of(sql):
        depth += depth_of(token)
        if depth == 0 and token.word in CLAUSES and (before, token.word) not in NO_CLAUSES:
            clauses.append([])
        clauses[-1].append(token)
        before = token.word
    return [clause for clause in clauses if clause]


def with_short_tables(statement: str) -> str:
    """The statement in short, without the app in the name of each table.

    >>> with_short_tables("UPDATE catalogue_product SET stock = 0")
    'UPDATE …product SET stock = 0'
    """
    return text_of(
        token._replace(text=f"…{token.name.rpartition('_')[2]}")
        if before.word in BEFORE_TABLES and len(token.name) > LONGEST_NAME and "_" in token.name
        else token
        for before, token in itertools.pairwise((REST, *tokens_of(statement)))
    )


def unchanged(clause: Clause, columns: Columns) -> Clause:
    return clause


def without_columns(clause: Clause, columns: Columns) -> Clause:
    is_long = len(text_of(clause[1:])) > SHORT
    return [clause[0], REST] if clause[0].word in ("SELECT", "RETURNING") and is_long else clause


def without_order(clause: Clause, columns: Columns) -> Clause:
    return [*clause[:2], REST] if clause[0].word in ("ORDER", "GROUP") else clause


def with_columns_that_change(clause: Clause, columns: Columns) -> Clause:
    if clause[0].word != "SET":
        return clause
    parts = split(clause[1:], ",")
    names = [{part[0].name} if part else set() for part in parts]
    return keep(clause, parts, names, Token(Form.SIGN, ",", has_space=False), columns)


def with_short_values(clause: Clause, columns: Columns) -> Clause:
    return [
        token._replace(text=f"{token.text[:LONGEST_VALUE]}…'")
        if token.form is Form.STRING and len(token.text) > LONGEST_VALUE + 3
        else token
        for token in clause
    ]


def without_joins(clause: Clause, columns: Columns) -> Clause:
    place = place_of(clause, ["INNER", "LEFT", "RIGHT", "FULL", "CROSS", "JOIN"])
    has_join = clause[0].word == "FROM" and place < len(clause)
    return [*clause[:place], REST] if has_join else clause


def with_few_conditions(clause: Clause, columns: Columns) -> Clause:
    if clause[0].word != "WHERE":
        return clause
    parts = conditions(without_brackets(clause[1:]))
    names = [{token.name for token in part} for part in parts]
    return keep(clause, parts, names, AND, columns)


LIGHT_STAGES: tuple[Stage, ...] = (without_columns, without_order, with_columns_that_change)
STAGES: tuple[Stage, ...] = (*LIGHT_STAGES, with_short_values, without_joins, with_few_conditions)


def conditions(tokens: Clause) -> list[list[Token]]:
    """The conditions that AND joins; the AND of a BETWEEN is part of its condition."""
    found: list[list[Token]] = []
    for part in split(tokens, "AND"):
        words = [token.word for token in found[-1]] if found else []
        if words.count("BETWEEN") > words.count("AND"):
            found[-1] += [AND, *part]
        else:
            found.append(part)
    return found


def keep(
    clause: Clause,
    parts: Sequence[Clause],
    names: Sequence[Collection[str]],
    separator: Token,
    columns: Columns,
) -> Clause:
    """The clause with the parts that name a column that matters; one “…” for all others.

    If none does, with its first part.
    """
    kept = list(parts[:1])
    for most_important in columns:
        matching = [
            part for part, own in zip(parts, names, strict=True) if {*own} & {*most_important}
        ]
        if matching:
            kept = matching
            break
    if len(kept) == len(parts):
        return clause
    shorter = [clause[0]]
    for first, *others in kept:
        shorter += [first._replace(has_space=True), *others, separator]
    return [*shorter, REST]


def cut(text: str, room: int) -> str:
    """The text with its middle left out, if it is wider than ``room``."""
    if cell_len(text) <= room:
        return text
    end = set_cell_size(text[::-1], room // 3)[::-1].strip()
    start = set_cell_size(text, max(0, room - 1 - cell_len(end))).rstrip()
    return f"{start}…{end}"


def visible(text: str) -> str:
    """The text in one line: line breaks and other control characters as Python writes them."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char)[0] == "C" else char
        for char in text
    )


def short_names(names: Sequence[str], longest: int) -> dict[str, str]:
    """Names of at most ``longest`` characters, each another one, by the whole names."""
    most = longest - 1
    ways: tuple[Callable[[str], str], ...] = (
        lambda name: f"{name[:most]}…",
        lambda name: f"…{name[-most:]}",
        lambda name: f"{name[: most - most // 2]}…{name[-(most // 2) :]}",
    )
    for shorten in ways:
        shorter = {name: name if len(name) <= longest else shorten(name) for name in names}
        if len(set(shorter.values())) == len(names):
            return shorter
    return {name: f"{name[: longest - 3]}…{n}" for n, name in enumerate(names, start=1)}
