"""The pairs of a project's views that are worth a race: they write the same tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

from .effects import (
    CREATE,
    DELETE,
    SAVE,
    SQL,
    UPDATE,
    Effects,
)
from .views import OwnView, own_views

__all__ = ["Listing", "OwnView", "Pair", "list_views"]

PLACEHOLDER_OF_SETUP = "MODULE:FUNCTION"
PLACEHOLDER_OF_USER = "USERNAME"
# How much a way of writing is worth looking at: an update that rests on what was read before may
# be lost, or be out of date. A lock or a lone statement may be all that it needs.
READ_AND_SAVED, READ_AND_ADDED, READ_AND_CHANGED, WRITTEN = 5.0, 4.0, 3.0, 1.0
LOCKED_BY_BOTH, LOCKED_BY_ONE = 0.2, 0.7
FOR_STAFF = 0.7  # few people use the admin at the same time
OF_LITTLE_WORTH = {"django_session": 0.2, "django_admin_log": 0.1}
WORTH_OF_ONE_MORE_TABLE = 0.05
WORDS = {
    SAVE: "saves it",
    CREATE: "adds rows",
    UPDATE: "updates it",
    DELETE: "deletes rows",
    SQL: "writes it in SQL",
}


@dataclass(frozen=True)
class Pair:
    """Two views that write the same tables, or one view twice."""

    one: OwnView
    other: OwnView
    tables: tuple[str, ...]
    """The most promising first."""
    worth: float

    @property
    def is_the_same_twice(self) -> bool:
        return self.one is self.other

    def command_line(self, program: str) -> str:
        """The race of this pair, to paste into a shell."""
        views = (self.one, self.other)
        words = [*program.split(), "races", self.one.url, url_beside(self.one.url, self.other.url)]
        methods = [view.method for view in views]
        if methods != ["POST", "POST"]:
            words += [f"--method={method}" for method in dict.fromkeys(methods)][:2]
        if any(view.needs_login for view in views):
            words.append(f"--as={PLACEHOLDER_OF_USER}")
        return shlex.join([*words, f"--setup={PLACEHOLDER_OF_SETUP}"])

    def as_dict(self, program: str) -> dict[str, Any]:
        return {
            "requests": [view.as_request for view in (self.one, self.other)],
            "tables": list(self.tables),
            "worth": round(self.worth, 2),
            "command": self.command_line(program),
        }


def url_beside(first: str, second: str) -> str:
    """The second URL, in which a name of the first one stands for the same thing or is another one.

    ``/orders/{pk}/pay/`` and ``/orders/{pk}/cancel/`` are about one order. The names after other
    words, as in ``/refunds/{pk}/``, are about something else: there it becomes ``{pk_b}``.
    """

    def name_of_its_own(found: re.Match[str]) -> str:
        before, is_there, _ = first.partition(found[0])
        is_the_same = not is_there or before == second[: found.start()]
        return found[0] if is_the_same else f"{{{found[1]}_b}}"

    return re.sub(r"\{(\w+)\}", name_of_its_own, second)


@dataclass(frozen=True)
class Listing:
    """The project's own views that change something, and the pairs of them."""

    views: list[OwnView]
    pairs: list[Pair]

    @property
    def without_writes(self) -> list[OwnView]:
        """Views that take POST, and whose source tells of no write."""
        return [view for view in self.views if not view.effects.writes]

    def as_dict(self, program: str) -> dict[str, Any]:
        return {
            "views": [view.as_dict() for view in self.views],
            "pairs": [pair.as_dict(program) for pair in self.pairs],
        }


def list_views(urlconf: str | None = None) -> Listing:
    """Find the project's own views below ``urlconf``, and rank the pairs that write together."""
    views = own_views(urlconf)
    pairs = [
        Pair(one, other, tables, worth)
        for one, other in combinations_with_replacement(views, 2)
        for tables, worth in [shared_tables(one, other)]
        if tables
    ]
    pairs.sort(
        key=lambda pair: (-pair.worth, not pair.is_the_same_twice, pair.one.url, pair.other.url)
    )
    return Listing(views, pairs)


def shared_tables(one: OwnView, other: OwnView) -> tuple[tuple[str, ...], float]:
    """The tables that both write, the most promising first, and what the pair is worth."""
    both = one.effects.writes.keys() & other.effects.writes.keys()
    factor = FOR_STAFF ** (one.is_for_staff + other.is_for_staff)
    worth = {table: factor * worth_of(table, one.effects, other.effects) for table in both}
    ranked = tuple(sorted(both, key=lambda table: (-worth[table], table)))
    if not ranked:
        return (), 0.0
    return ranked, worth[ranked[0]] + WORTH_OF_ONE_MORE_TABLE * (len(ranked) - 1)


def worth_of(table: str, one: Effects, other: Effects) -> float:
    total = worth_of_writing(table, one) + worth_of_writing(table, other)
    return total * factor_of_locks(one, other) * OF_LITTLE_WORTH.get(table, 1.0)


def factor_of_locks(one: Effects, other: Effects) -> float:
    """Less than 1 if locks come first: two that lock the same rows seldom race later."""
    if one.locks & other.locks or (one.has_advisory_lock and other.has_advisory_lock):
        return LOCKED_BY_BOTH
    if any(effects.locks or effects.has_advisory_lock for effects in (one, other)):
        return LOCKED_BY_ONE
    return 1.0


def worth_of_writing(table: str, effects: Effects) -> float:
    if table not in effects.reads:
        return WRITTEN
    ways = effects.writes[table]
    if SAVE in ways:
        return READ_AND_SAVED
    return READ_AND_ADDED if CREATE in ways else READ_AND_CHANGED


def in_words(table: str, effects: Effects) -> str:
    """The acts of a view on a table, as “reads it, locks it, saves it”."""
    return ", ".join(acts(table, effects))


def acts(table: str, effects: Effects) -> Iterator[str]:
    if table in effects.reads:
        yield "reads it"
    if table in effects.locks:
        yield "locks rows"
    elif effects.locks:
        yield f"locks rows of {listed(sorted(effects.locks), most=1)}"
    if effects.has_advisory_lock:
        yield "takes an advisory lock"
    yield from (words for way, words in WORDS.items() if way in effects.writes.get(table, ()))


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
