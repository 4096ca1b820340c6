"""Cuts a statement into tokens, so that no text inside a value is taken for SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import accumulate
from typing import NamedTuple


class Form(Enum):
    """The form of a token, by its first characters."""

    WORD = "word"  # a key word, or a name without quotes
    NAME = "name"  # a name in double quotes
    STRING = "string"  # a value in single quotes, or between dollar signs
    NUMBER = "number"
    SIGN = "sign"


class Token(NamedTuple):
    form: Form
    text: str
    """As it is written."""
    has_space: bool
    """Whether white space or a comment stands before it."""

    @property
    def word(self) -> str:
        """A key word in capitals; the empty string for all else."""
        return self.text.upper() if self.form is Form.WORD else ""

    @property
    def name(self) -> str:
        """A name as PostgreSQL knows it; the empty string for all else."""
        if self.form is Form.NAME:
            return self.text[1:-1].replace('""', '"')
        return self.text.lower() if self.form is Form.WORD else ""

    def is_sign(self, text: str) -> bool:
        return self.form is Form.SIGN and self.text == text


_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<string>
        [eE] ' (?: [^'\\] | '' | \\. )* '
        | (?: [bBxXnN] | [uU]& )? ' (?: [^'] | '' )* '
        | \$ (?P<tag> [^\W\d]\w* | ) \$ .*? \$ (?P=tag) \$
    )
    | (?P<name> " (?: [^"] | "" )+ " )
    | (?P<number> \d+ (?: \.\d* )? (?: [eE][+-]?\d+ )? | \.\d+ )
    | (?P<word> [^\W\d] [\w$]* )
    | (?P<sign> :: | <= | >= | <> | != | \|\| | -> >? | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_FORMS = {form.value: form for form in Form}
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.S)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def tokens_of(sql: str) -> list[Token]:
    """The tokens of a statement, without white space and comments.

    >>> [token.text for token in tokens_of("SET a = 'b, c'")]
    ['SET', 'a', '=', "'b, c'"]
    """
    tokens: list[Token] = []
    has_space = False
    for found in _TOKEN.finditer(sql):
        if found.lastgroup == "space":
            has_space = True
            continue
        assert found.lastgroup is not None
        tokens.append(Token(_FORMS[found.lastgroup], found[0], has_space))
        has_space = False
    return tokens


def text_of(tokens: Iterable[Token]) -> str:
    """The tokens as text again, with one space where there was white space."""
    return "".join(" " * token.has_space + token.text for token in tokens).strip()


def content_of(string: Token) -> str | None:
    """The text of a value in quotes; None if its notation isn't known here.

    >>> content_of(*tokens_of("'it''s'"))
    "it's"
    """
    text = string.text
    if string.form is not Form.STRING:
        return None
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    if text[0] in "eE":
        return _ESCAPE.sub(_escaped, text[2:-1].replace("''", "'"))
    if text[0] == "$":
        return text.split("$", 2)[2].rsplit("$", 2)[0]
    return None


def _escaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "01234567":
        return chr(int(code, 8))
    if code[0] in "xuU" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)


def split(tokens: Sequence[Token], at: str) -> list[list[Token]]:
    """The parts between the signs or key words ``at`` that stand outside of brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += depth_of(token)
        if depth == 0 and (token.is_sign(at) or token.word == at):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def place_of(tokens: Sequence[Token], words: Iterable[str], start: int = 0) -> int:
    """The place of the first of these key words outside of brackets; the length without one."""
    wanted, depth = set(words), 0
    for place in range(start, len(tokens)):
        depth += depth_of(tokens[place])
        if depth == 0 and tokens[place].word in wanted:
            return place
    return len(tokens)


def depth_of(token: Token) -> int:
    """1 for an opening bracket, -1 for a closing one, 0 for all else."""
    if token.form is not Form.SIGN:
        return 0
    return (token.text in "([") - (token.text in ")]")


def without_brackets(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens without brackets that stand round all of them."""
    while is_in_brackets(tokens):
        tokens = tokens[1:-1]
    return tokens


def is_in_brackets(tokens: Sequence[Token]) -> bool:
    """Whether the first token is a bracket that the last one closes."""
    return bool(tokens) and tokens[0].is_sign("(") and closing_of(tokens, 0) == len(tokens) - 1


def closing_of(tokens: Sequence[Token], opening: int) -> int:
    """The place of the bracket that closes the one at ``opening``; the length without one."""
    depths = accumulate(depth_of(token) for token in tokens[opening:])
    return next((place for place, depth in enumerate(depths, opening) if depth == 0), len(tokens))


def first_brackets(tokens: Sequence[Token]) -> tuple[list[Token], list[Token]]:
    """The tokens in the first brackets, and those behind them."""
    opening = next((place for place, token in enumerate(tokens) if token.is_sign("(")), 0)
    closing = closing_of(tokens, opening)
    return list(tokens[opening + 1 : closing]), list(tokens[closing + 1 :])
