"""Trees by path, and by nested sets: a node that is moved must arrive somewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ...locks import in_turn
from ...race import Ended, Race
from .models import Category, Department

Change = Callable[[], object]

# By path


def three_roots() -> None:
    Category.objects.all().delete()
    for name in ("Arts", "Books", "Comics"):
        Category.objects.add_root({"name": name})


def no_node_is_lost(ended: Ended) -> None:
    """The package's own check finds no problem."""
    problems = Category.objects.find_problems()
    orphans = Category.objects.filter(pk__in=problems[2])
    assert not orphans, f"{orphans[0].name} has no parent any more: no tree shows it."
    assert not any(problems), f"find_problems() finds {problems}."


def paths_in_words() -> str:
    return ", ".join(f"{each.name} {each.path}" for each in Category.objects.order_by("path"))


def move(name: str, target: str) -> Change:
    """Make the one category the first child of the other."""

    def move_below() -> None:
        category = Category.objects.get(name=name)
        below = Category.objects.get(name=target)
        Category.objects.move(category, below, "first-child")

    return move_below


# By nested sets


def a_department_of_two() -> None:
    Department.objects.all().delete()
    sales = Department.objects.add_root({"name": "Sales"})
    Department.objects.add_child(sales, {"name": "Europe"})


def numbers_are_apart(ended: Ended) -> None:
    numbers = Counter(
        (each.tree_id, number)
        for each in Department.objects.all()
        for number in (each.lft, each.rgt)
    )
    for (_, number), nodes in sorted(numbers.items()):
        assert nodes == 1, f"Number {number} is there {nodes} times."


def numbers_in_words() -> str:
    departments = Department.objects.order_by("tree_id", "lft")
    return ", ".join(f"{each.name} {each.lft}–{each.rgt}" for each in departments)


def add_child(name: str, parent: str) -> Change:
    def add_below() -> object:
        department = Department.objects.get(name=parent)
        return Department.objects.add_child(department, {"name": name}).name

    return add_below


MOVE_IN_TURN = (
    "A lock before the nodes are read, here on the table. The package could lock both nodes in "
    "move(), in the order of their keys, and read their paths after that. Their ancestors must "
    "stay, too: so it recommends the lock on the table."
)
ADD_IN_TURN = (
    "A lock before the nodes are read, here on the table. The package locks the parent in "
    "add_child(). But all nodes of a tree share their numbers: it could lock the root instead."
)
KNOWN = (
    "“Inconsistent state” among the known caveats of the package's documentation, which recommends "
    "locks in projects that need them."
)

RACES = [
    Race(
        name="move",
        title="A category is moved below one that is being moved, and is lost.",
        setup=three_roots,
        sessions={"Ann": move("Arts", "Books"), "Bob": move("Books", "Comics")},
        invariant=no_node_is_lost,
        describe=paths_in_words,
        mended={
            "Ann": in_turn(Category, move("Arts", "Books")),
            "Bob": in_turn(Category, move("Books", "Comics")),
        },
        mend=MOVE_IN_TURN,
        known=KNOWN,
    ),
    Race(
        name="nested_child",
        title="Two new children, one of Sales and one of Europe, overlap.",
        setup=a_department_of_two,
        sessions={"Ann": add_child("Lyon", "Europe"), "Bob": add_child("Africa", "Sales")},
        invariant=numbers_are_apart,
        describe=numbers_in_words,
        mended={
            "Ann": in_turn(Department, add_child("Lyon", "Europe")),
            "Bob": in_turn(Department, add_child("Africa", "Sales")),
        },
        mend=ADD_IN_TURN,
        known=KNOWN,
    ),
]
