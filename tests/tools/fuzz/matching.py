"""A random text that matches a regular expression, as converters of addresses have them."""

from __future__ import annotations

import random
import string
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

LONGEST = 3  # repetitions, where the expression allows any number
LETTERS = string.ascii_letters + string.digits + "-_"
CATEGORIES = {
    codes.CATEGORY_DIGIT: string.digits,
    codes.CATEGORY_WORD: string.ascii_letters,
    codes.CATEGORY_SPACE: " ",
    codes.CATEGORY_NOT_DIGIT: string.ascii_letters,
    codes.CATEGORY_NOT_WORD: "-",
    codes.CATEGORY_NOT_SPACE: string.ascii_letters,
}


def text_matching(expression: str, chance: random.Random) -> str:
    """A text that the expression matches; look-arounds in it are not heeded."""
    return _text(_parser.parse(expression), chance)


def _text(parsed: Any, chance: random.Random) -> str:
    return "".join(_part(code, argument, chance) for code, argument in parsed)


def _part(code: Any, argument: Any, chance: random.Random) -> str:
    if code is codes.LITERAL:
        return chr(argument)
    if code in (codes.ANY, codes.NOT_LITERAL):
        return chance.choice([each for each in LETTERS if ord(each) != argument])
    if code is codes.IN:
        return chance.choice(_letters(argument))
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, repeated = argument
        times = chance.randint(least, max(least, min(int(most), least + LONGEST)))
        return "".join(_text(repeated, chance) for _ in range(times))
    if code is codes.BRANCH:
        return _text(chance.choice(argument[1]), chance)
    if code is codes.SUBPATTERN:
        return _text(argument[-1], chance)
    return ""  # the beginning, the end, a look-around


def _letters(members: Any) -> str:
    """The letters of a class such as ``[a-f0-9]``."""
    if members[0][0] is codes.NEGATE:
        excluded = _letters(members[1:])
        return "".join(each for each in LETTERS if each not in excluded)
    letters = ""
    for code, argument in members:
        if code is codes.LITERAL:
            letters += chr(argument)
        elif code is codes.RANGE:
            letters += "".join(map(chr, range(argument[0], argument[1] + 1)))
        elif code is codes.CATEGORY:
            letters += CATEGORIES[argument]
    return letters
