"""Numbers of things, in words."""

from __future__ import annotations

import pytest

from inventory.words import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 units"), (1, "1 unit"), (2, "2 units"), (-1, "-1 units"), (12345, "12,345 units")],
)
def test_one_thing_or_many(number: int, words: str) -> None:
    assert counted(number, "unit") == words


def test_a_plural_that_takes_more_than_an_s() -> None:
    assert counted(1, "process", "processes") == "1 process"
    assert counted(3, "process", "processes") == "3 processes"
    assert counted(1, "unit is", "units are") == "1 unit is"
