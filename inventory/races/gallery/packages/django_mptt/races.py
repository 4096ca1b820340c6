"""A tree as nested sets: each node has a left and a right number, and no number is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ...locks import in_turn
from ...race import Ended, Race
from .models import Genre

Change = Callable[[], object]


def rock_and_blues() -> None:
    Genre.objects.all().delete()
    rock = Genre.objects.create(pk=1, name="Rock")
    Genre.objects.create(pk=2, name="Blues", parent=rock)


def trees_are_apart(ended: Ended) -> None:
    """Each number of a tree is the left or right one of a single node."""
    numbers = Counter(
        (genre.tree_id, number)
        for genre in Genre.objects.all()
        for number in (genre.lft, genre.rght)
    )
    for (tree, number), nodes in sorted(numbers.items()):
        assert nodes == 1, f"Number {number} of tree {tree} is there {nodes} times."


def trees_in_words() -> str:
    genres = Genre.objects.order_by("tree_id", "lft", "pk")
    return ", ".join(
        f"{genre.name} {genre.lft}–{genre.rght} in tree {genre.tree_id}" for genre in genres
    )


def add_child(name: str) -> Change:
    return lambda: Genre.objects.create(name=name, parent=Genre.objects.get(pk=1)).name


def add_root(name: str) -> Change:
    return lambda: Genre.objects.create(name=name).name


def race(name: str, title: str, ann: Change, bob: Change) -> Race:
    return Race(
        name=name,
        title=title,
        setup=rock_and_blues,
        sessions={"Ann": ann, "Bob": bob},
        invariant=trees_are_apart,
        describe=trees_in_words,
        mended={"Ann": in_turn(Genre, ann), "Bob": in_turn(Genre, bob)},
        mend=(
            "A lock before the first number is read, here on the table. The package could run "
            "insert_node(), move_node() and delete() in atomic(), and lock the root of the tree "
            "that they change (select_for_update) before they refresh the target. New trees need "
            "a lock of their own, or a unique constraint on tree_id and lft."
        ),
        known=(
            "The package's README and the section “Concurrency” of its documentation say that "
            "concurrent writes can corrupt the tree. It is kept alive, but gets nothing new."
        ),
    )


RACES = [
    race("child", "Two new children overlap.", add_child("Punk"), add_child("Folk")),
    race("root", "Two new trees become one.", add_root("Jazz"), add_root("Ska")),
]
