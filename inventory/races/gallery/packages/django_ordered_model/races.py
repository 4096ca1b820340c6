"""Items of an ordered list: each must have a place of its own, and no place may be empty."""

from __future__ import annotations

from collections.abc import Callable

from ...locks import in_turn
from ...race import Ended, Race
from .models import Item

Change = Callable[[], object]


def four_items() -> None:
    Item.objects.all().delete()
    for pk, name in enumerate("abcd", start=1):
        Item.objects.create(pk=pk, name=name)


def places_follow_each_other(ended: Ended) -> None:
    places = sorted(Item.objects.values_list("order", flat=True))
    assert places == list(range(len(places))), f"The places are {places}."


def places_in_words() -> str:
    items = Item.objects.order_by("order", "pk")
    return ", ".join(f"{item.name} at {item.order}" for item in items)


def create(name: str) -> Change:
    return lambda: Item.objects.create(name=name).name


def move_up(pk: int) -> Change:
    return lambda: Item.objects.get(pk=pk).up()


def move_to_top(pk: int) -> Change:
    return lambda: Item.objects.get(pk=pk).top()


def delete(pk: int) -> Change:
    return lambda: Item.objects.get(pk=pk).delete()


MEND = (
    "A lock on the list, before the first place is read: here on the table, since two may create "
    "the first item. A list that belongs to a row, as a page's images do, locks that row. "
    "The package could do the same in save(), swap(), to() and delete(), each in atomic(), and "
    "offer a deferred unique constraint, so that nothing wrong can be committed."
)


KNOWN = (
    "Issue 184 of the package, open since 2019: there are two proposals, and the question whether "
    "callers should lock."
)


def race(name: str, title: str, ann: Change, bob: Change) -> Race:
    return Race(
        name=name,
        title=title,
        setup=four_items,
        sessions={"Ann": ann, "Bob": bob},
        invariant=places_follow_each_other,
        describe=places_in_words,
        mended={"Ann": in_turn(Item, ann), "Bob": in_turn(Item, bob)},
        mend=MEND,
        known=KNOWN,
    )


RACES = [
    race("create", "Two new items get the same place.", create("x"), create("y")),
    race("up", "Two items that move up end in one place.", move_up(2), move_up(3)),
    race("top", "Two items that move to the top both get there.", move_to_top(3), move_to_top(4)),
    race("delete", "Two deletions leave an empty place.", delete(1), delete(3)),
]
