"""Leaving equal schedules out loses no end: compared with the full search, on sessions made up.

Each session returns all that it has read, so that no difference between two schedules is lost.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable

import pytest
from django.db import DatabaseError, transaction
from django.db.models import F

from inventory.races import explore
from tests.inventory.races.models import Engraving, Mug, Redemption, Sale, Voucher

pytestmark = pytest.mark.django_db(transaction=True)

# With --thorough longer sessions, and more of them; RACES_FIRST_PROGRAM=60 for the next ones.
PROGRAMS = 8
MORE_PROGRAMS = 52
FIRST = int(os.environ.get("RACES_FIRST_PROGRAM", "0"))
TOO_MANY = 2000  # schedules

Seen = list[object]
Operation = Callable[[Seen, int], None]


def some_rows() -> None:
    for model in (Sale, Engraving, Redemption, Voucher, Mug):
        model.objects.all().delete()
    Mug.objects.create(pk=1, sku="ONE", stock=1)
    Mug.objects.create(pk=2, sku="TWO", stock=1)
    Voucher.objects.create(pk=1, code="V", may_be_used=1)


def rows() -> object:
    return (
        sorted(Mug.objects.values_list()),
        sorted(Sale.objects.values_list("sku")),
        sorted(Engraving.objects.values_list("mug")),
        sorted(Voucher.objects.values_list()),
    )


def read_a_row(seen: Seen, key: int) -> None:
    seen.append(Mug.objects.filter(pk=key).values_list("stock", flat=True).first())


def read_all(seen: Seen, key: int) -> None:
    seen.append(sorted(Mug.objects.values_list("sku", "stock")))


def count_sales(seen: Seen, key: int) -> None:
    seen.append(Sale.objects.count())


def read_the_voucher(seen: Seen, key: int) -> None:
    seen.append(Voucher.objects.get(pk=1).may_be_used)


def lock(seen: Seen, key: int) -> None:
    seen.append([mug.stock for mug in Mug.objects.select_for_update().filter(pk=key)])


def lock_without_key(seen: Seen, key: int) -> None:
    mugs = Mug.objects.select_for_update(no_key=True).filter(pk=key)
    seen.append([mug.stock for mug in mugs])


def add_one(seen: Seen, key: int) -> None:
    seen.append(Mug.objects.filter(pk=key).update(stock=F("stock") + 1))


def take_one_if_there(seen: Seen, key: int) -> None:
    seen.append(Mug.objects.filter(pk=key, stock__gte=1).update(stock=F("stock") - 1))


def write_what_was_seen(seen: Seen, key: int) -> None:
    Mug.objects.filter(pk=key).update(stock=10 + len(str(seen)))


def write_all(seen: Seen, key: int) -> None:
    seen.append(Mug.objects.filter(stock__gte=1).update(stock=F("stock") * 2))


def rename(seen: Seen, key: int) -> None:
    """To a value that no two mugs may have."""
    seen.append(Mug.objects.filter(pk=key).update(sku="SAME"))


def save(seen: Seen, key: int) -> None:
    mug = Mug.objects.filter(pk=key).first()
    if mug is not None:
        mug.stock += 1
        mug.save()


def sell(seen: Seen, key: int) -> None:
    Sale.objects.create(sku=f"{key}")


def use_the_voucher(seen: Seen, key: int) -> None:
    Voucher.objects.filter(pk=1).update(may_be_used=F("may_be_used") - 1)


def engrave(seen: Seen, key: int) -> None:
    """Refers to a mug: COMMIT looks whether it is there."""
    Engraving.objects.create(mug_id=key)


def discard(seen: Seen, key: int) -> None:
    seen.append(Mug.objects.filter(pk=key)._raw_delete("default"))


def create(seen: Seen, key: int) -> None:
    Mug.objects.create(pk=2 + key, sku="NEW", stock=1)


OPERATIONS: tuple[Operation, ...] = (
    *(read_a_row, read_all, count_sales, read_the_voucher, lock, lock_without_key, add_one),
    *(take_one_if_there, write_what_was_seen, write_all, rename, save, sell, use_the_voucher),
    *(engrave, discard, create),
)
LOCKING = (lock, lock_without_key)
PAIRS = list(itertools.combinations_with_replacement(OPERATIONS, 2))
MEETING = [
    (lock, engrave),  # they meet in a foreign key
    (engrave, discard),  # at COMMIT
    (rename, create),  # in a unique value
    (create, create),
    (count_sales, sell),  # a row that wasn't there
    (read_all, discard),
    (write_all, save),
]


def session(chance: random.Random, length: int) -> Callable[[], Seen]:
    """A session of up to so many operations, in transactions of their own or in one."""
    operations = [
        (chance.choice(OPERATIONS), chance.choice((1, 2))) for _ in range(chance.randint(1, length))
    ]
    is_atomic = chance.random() < 0.75
    return made_of(operations, is_atomic=is_atomic, rolls_back=chance.random() < 0.1)


def made_of(
    operations: list[tuple[Operation, int]], *, is_atomic: bool, rolls_back: bool = False
) -> Callable[[], Seen]:
    """A session of these operations, each on the mug with this key."""

    def work(seen: Seen) -> None:
        for operation, key in operations:
            operation(seen, key)

    def run() -> Seen:
        seen: Seen = []
        try:
            if not (is_atomic or any(operation in LOCKING for operation, _ in operations)):
                work(seen)
                return seen
            with transaction.atomic():
                work(seen)
                transaction.set_rollback(rolls_back)
        except DatabaseError as error:
            seen.append(type(error).__name__)
        return seen

    names = [(operation.__name__, key) for operation, key in operations]
    run.__doc__ = f"{names} {is_atomic=} {rolls_back=}"
    return run


def assert_same_ends(sessions: list[Callable[[], Seen]]) -> None:
    everything = explore(
        sessions, setup=some_rows, state=rows, reduce=False, budget=TOO_MANY, samples=0
    )
    if not everything.exhaustive:
        pytest.skip(f"more than {TOO_MANY} schedules")
    reduced = explore(sessions, setup=some_rows, state=rows, reduce=True)
    assert reduced.exhaustive
    assert set(reduced.outcomes) == set(everything.outcomes), [each.__doc__ for each in sessions]
    assert reduced.schedules <= everything.schedules


@pytest.mark.parametrize(
    "number",
    [
        *range(FIRST, FIRST + PROGRAMS),
        *(
            pytest.param(FIRST + PROGRAMS + more, marks=pytest.mark.thorough)
            for more in range(MORE_PROGRAMS)
        ),
    ],
)
def test_the_same_ends_as_the_full_search(number: int, is_thorough: bool) -> None:
    chance = random.Random(number)
    count, length = (3, 1) if number % 3 == 0 else (2, 3)
    assert_same_ends([session(chance, length + is_thorough) for _ in range(count)])


@pytest.mark.parametrize("is_atomic", [True, False], ids=["atomic", "autocommit"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        *MEETING,
        *(pytest.param(*pair, marks=pytest.mark.thorough) for pair in PAIRS if pair not in MEETING),
    ],
    ids=lambda operation: operation.__name__,
)
def test_two_operations_that_may_meet(one: Operation, other: Operation, is_atomic: bool) -> None:
    """The second session works on another row, too, with which the first has nothing to do."""
    first = made_of([(one, 1)], is_atomic=is_atomic)
    second = made_of([(other, 2), (other, 1)], is_atomic=is_atomic)
    assert_same_ends([first, second])
