"""Works out the expressions of a statement for one row, as far as its text and the row tell.

It knows the usual operators and a few functions. All else is UNKNOWN.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from uuid import UUID

from .tokens import Form, Token, content_of


class Unknown(Enum):
    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
NULL = "NULL"  # as rows show it

Value = Decimal | str | bool | None | Unknown
"""A value in SQL; None is its NULL. Values of columns are text, whatever their type."""


def is_met(
    condition: Sequence[Token], row: Mapping[str, str], names: Container[str | None] | None = None
) -> bool | None:
    """Whether the row meets the condition; None where that isn't known. No condition: True.

    ``names``: of the row's table, before its columns, and None if they stand without a name, too.
    Without ``names`` every column is one of the row.
    """
    if not condition:
        return True
    value = _truth(value_of(condition, row, names))
    return None if value is UNKNOWN else value is True


def value_of(
    expression: Sequence[Token], row: Mapping[str, str], names: Container[str | None] | None = None
) -> Value:
    """The value of an expression for the row, or UNKNOWN."""
    reader = _Reader(expression, row, names)
    try:
        value = reader.disjunction()
    except _Unreadable:
        return UNKNOWN
    return value if reader.is_at_end else UNKNOWN


def is_equal(one: Value, other: Value) -> Value:
    """Whether two values are equal, in SQL: NULL where one of them is."""
    if UNKNOWN in (one, other):
        return UNKNOWN
    if one is None or other is None:
        return None
    if isinstance(one, str) and isinstance(other, str):
        return _same_text(one, other)
    for value, against in ((one, other), (other, one)):
        if isinstance(value, bool):
            return against == value or (isinstance(against, str) and against == "ft"[value])
    numbers = _number(one), _number(other)
    return UNKNOWN if None in numbers else numbers[0] == numbers[1]


def is_less(one: Value, other: Value) -> Value:
    """Whether a value is less than another. UNKNOWN for text, which has many orders."""
    if one is None or other is None:
        return None
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        first, second = _number(one), _number(other)
        return UNKNOWN if first is None or second is None else first < second
    if isinstance(one, str) and isinstance(other, str):
        instants = instant_of(one), instant_of(other)
        if instants[0] is not None and instants[1] is not None:
            return instants[0] < instants[1]
    return UNKNOWN


class _Unreadable(Exception):
    """The expression has something that isn't known here."""


class _Reader:
    """Reads an expression from left to right, by the precedence of its operators."""

    def __init__(
        self, tokens: Sequence[Token], row: Mapping[str, str], names: Container[str | None] | None
    ) -> None:
        self._tokens = tokens
        self._row = row
        self._names = names
        self._place = 0

    @property
    def is_at_end(self) -> bool:
        return self._place == len(self._tokens)

    def disjunction(self) -> Value:
        value = self.conjunction()
        while self._takes("OR"):
            other = self.conjunction()
            value = not_(and_(not_(value), not_(other)))
        return value

    def conjunction(self) -> Value:
        value = self.negation()
        while self._takes("AND"):
            value = and_(value, self.negation())
        return value

    def negation(self) -> Value:
        return not_(self.negation()) if self._takes("NOT") else self.comparison()

    def comparison(self) -> Value:
        value = self.sum()
        if self._takes("IS"):
            is_not = self._takes("NOT")
            return not_(self._is(value)) if is_not else self._is(value)
        is_not = self._takes("NOT")
        for word, read in (("IN", self._is_in), ("BETWEEN", self._between), ("LIKE", self._like)):
            if self._takes(word):
                found = read(value)
                return not_(found) if is_not else found
        if is_not:
            raise _Unreadable
        for sign, compare in COMPARISONS.items():
            if self._takes(sign):
                return compare(value, self.sum())
        return value

    def sum(self) -> Value:
        value = self.product()
        while (sign := self._taken("+", "-", "||")) is not None:
            value = _combined(sign, value, self.product())
        return value

    def product(self) -> Value:
        value = self.operand()
        while self._takes("*"):
            value = _combined("*", value, self.operand())
        if self._taken("/", "%"):
            self.operand()
            return UNKNOWN
        return value

    def operand(self) -> Value:
        if self._takes("-"):
            return _combined("-", Decimal(0), self.operand())
        value, is_literal = self._primary()
        while self._takes("::"):
            keeps = self._next().name in _SAME_AS_TEXT
            if self._takes("("):
                while not self._takes(")"):
                    self._next()
            if not keeps and not is_literal:
                value = UNKNOWN
        return value

    def _primary(self) -> tuple[Value, bool]:
        token = self._next()
        if token.form is Form.NUMBER:
            return Decimal(token.text), True
        if token.form is Form.STRING:
            content = content_of(token)
            return UNKNOWN if content is None else content, True
        if token.is_sign("("):
            value = self.disjunction()
            self._expect(")")
            return value, False
        if token.word in _CONSTANTS:
            return _CONSTANTS[token.word], True
        if token.word == "CASE":
            return self._case(), False
        if token.name and token.word not in _WORDS:
            if token.form is Form.WORD and self._takes("("):
                return self._call(token.word), False
            return self._column(token.name), False
        raise _Unreadable

    def _column(self, name: str) -> Value:
        qualifier = None
        while self._takes("."):
            qualifier, name = name, self._next().name
        if self._names is not None and qualifier not in self._names:
            return UNKNOWN
        text = self._row.get(name)
        return UNKNOWN if text is None else None if text == NULL else text

    def _case(self) -> Value:
        chosen: list[Value] = []
        is_open = True  # no branch before this one was chosen for certain
        while self._takes("WHEN"):
            condition = _truth(self.disjunction())
            self._expect("THEN")
            value = self.disjunction()
            if is_open and condition in (True, UNKNOWN):
                chosen.append(value if condition is True else UNKNOWN)
                is_open = condition is not True
        default = self.disjunction() if self._takes("ELSE") else None
        self._expect("END")
        return chosen[0] if chosen else default

    def _call(self, function: str) -> Value:
        arguments: list[Value] = []
        if not self._takes(")"):
            arguments = self._list()
        call = FUNCTIONS.get(function)
        return UNKNOWN if call is None or UNKNOWN in arguments else call(arguments)

    def _list(self) -> list[Value]:
        """Values up to a closing bracket."""
        values = [self.disjunction()]
        while self._takes(","):
            values.append(self.disjunction())
        self._expect(")")
        return values

    def _is(self, value: Value) -> Value:
        word = self._next().word
        if word not in _CONSTANTS:
            raise _Unreadable
        if value is UNKNOWN:
            return UNKNOWN
        if word == NULL or value is None:
            return word == NULL and value is None
        return is_equal(value, _CONSTANTS[word])

    def _is_in(self, value: Value) -> Value:
        self._expect("(")
        found: Value = False
        for each in self._list():
            found = not_(and_(not_(found), not_(is_equal(value, each))))
        return found

    def _between(self, value: Value) -> Value:
        low = self.sum()
        self._expect("AND")
        return and_(not_(is_less(value, low)), not_(is_less(self.sum(), value)))

    def _like(self, value: Value) -> Value:
        pattern = self.sum()
        if not isinstance(value, str) or not isinstance(pattern, str) or value.endswith("…"):
            return UNKNOWN
        found = re.fullmatch(
            "".join(
                {"%": ".*", "_": "."}.get(part, re.escape(part.removeprefix("\\")))
                for part in re.findall(r"\\.|.", pattern, re.DOTALL)
            ),
            value,
            re.DOTALL,
        )
        return found is not None

    def _next(self) -> Token:
        if self.is_at_end:
            raise _Unreadable
        self._place += 1
        return self._tokens[self._place - 1]

    def _takes(self, what: str) -> bool:
        """Go on behind this sign or key word, if it comes next."""
        if self.is_at_end:
            return False
        token = self._tokens[self._place]
        if token.is_sign(what) or token.word == what:
            self._place += 1
            return True
        return False

    def _taken(self, *signs: str) -> str | None:
        return next((sign for sign in signs if self._takes(sign)), None)

    def _expect(self, what: str) -> None:
        if not self._takes(what):
            raise _Unreadable


def not_(value: Value) -> Value:
    truth = _truth(value)
    return not truth if isinstance(truth, bool) else truth


def and_(one: Value, other: Value) -> Value:
    values = (_truth(one), _truth(other))
    return next((value for value in (False, UNKNOWN, None) if value in values), True)


def _truth(value: Value) -> Value:
    """A value as a condition: True, False, NULL or UNKNOWN. Columns show booleans as t and f."""
    if isinstance(value, bool) or value is None:
        return value
    return {"t": True, "f": False}.get(str(value), UNKNOWN)


def _combined(sign: str, one: Value, other: Value) -> Value:
    if UNKNOWN in (one, other):
        return UNKNOWN
    if one is None or other is None:
        return None
    if sign == "||":
        return f"{one}{other}" if not _is_cut(one) and not _is_cut(other) else UNKNOWN
    first, second = _number(one), _number(other)
    if first is None or second is None:
        return UNKNOWN
    try:
        result: Decimal = ARITHMETIC[sign](first, second)
    except ArithmeticError:  # too large
        return UNKNOWN
    return result


def _substring(arguments: list[Value]) -> Value:
    text, start, length = (*arguments, None, None)[:3]
    if not isinstance(text, str) or not isinstance(start, Decimal) or start < 1 or _is_cut(text):
        return UNKNOWN
    rest = text[int(start) - 1 :]
    return rest[: int(length)] if isinstance(length, Decimal) else rest


def _of_text(change: Callable[[str], Value]) -> Callable[[list[Value]], Value]:
    def call(arguments: list[Value]) -> Value:
        text = arguments[0] if arguments else None
        return change(text) if isinstance(text, str) and not _is_cut(text) else UNKNOWN

    return call


def _number(value: Value) -> Decimal | None:
    try:
        number = Decimal(value) if isinstance(value, str | Decimal) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def _same_text(one: str, other: str) -> Value:
    if one == other:
        return UNKNOWN if _is_cut(one) else True
    if _is_cut(one) or _is_cut(other):
        short, long = sorted((one, other), key=_is_cut, reverse=True)
        return UNKNOWN if long.startswith(short[:-1]) else False
    for read in (instant_of, _uuid, _document):
        values = read(one), read(other)
        if None not in values:
            return values[0] == values[1]
    return False


def _is_cut(value: Value) -> bool:
    """Whether it is the beginning of a value that was too long to be kept."""
    return isinstance(value, str) and value.endswith("…")


def instant_of(text: str) -> datetime | None:
    """The date or time that a text writes; None if it is another text."""
    if not re.match(r"\d{4}-\d\d-\d\d[ T]", text):
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _document(text: str) -> object:
    try:
        return json.loads(text) if text[:1] in ("{", "[") else None
    except ValueError:
        return None


_CONSTANTS: dict[str, Value] = {"TRUE": True, "FALSE": False, NULL: None}
_WORDS = {"SELECT", "WHEN", "THEN", "ELSE", "END", "AND", "OR", "NOT", "AS", "EXISTS", "ANY", "ALL"}
_SAME_AS_TEXT = {
    *("text", "varchar", "int2", "int4", "int8", "smallint", "integer", "bigint", "uuid", "inet"),
}
COMPARISONS: dict[str, Callable[[Value, Value], Value]] = {
    "=": is_equal,
    "<>": lambda one, other: not_(is_equal(one, other)),
    "!=": lambda one, other: not_(is_equal(one, other)),
    "<": is_less,
    ">": lambda one, other: is_less(other, one),
    "<=": lambda one, other: not_(is_less(other, one)),
    ">=": lambda one, other: not_(is_less(one, other)),
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
FUNCTIONS: dict[str, Callable[[list[Value]], Value]] = {
    "COALESCE": lambda values: next((value for value in values if value is not None), None),
    "UPPER": _of_text(str.upper),
    "LOWER": _of_text(str.lower),
    "LENGTH": _of_text(lambda text: Decimal(len(text))),
    "SUBSTRING": _substring,
}
