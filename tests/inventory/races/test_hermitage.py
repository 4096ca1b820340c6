"""PostgreSQL's promises at each level, as in Martin Kleppmann's Hermitage, in every order.

Two rows, 10 and 20. For each anomaly and level: does any schedule show it? READ COMMITTED stops
G0, G1a, G1b, G1c and OTV; REPEATABLE READ (snapshot isolation) also PMP, P4 and G-single; only
SERIALIZABLE stops G2-item and G2. PostgreSQL stops an anomaly by an error, by a wait, or by an old
snapshot.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection, transaction

from inventory.races import Run, explore
from tests.inventory.races.models import Mug

pytestmark = pytest.mark.django_db(transaction=True)

LEVELS = ("read committed", "repeatable read", "serializable")


def rows() -> None:
    Mug.objects.all().delete()
    Mug.objects.bulk_create([Mug(pk=1, sku="1", stock=10), Mug(pk=2, sku="2", stock=20)])


def write(pk: int, stock: int) -> None:
    Mug.objects.filter(pk=pk).update(stock=stock)


def read(pk: int) -> int:
    return Mug.objects.get(pk=pk).stock


def both() -> dict[int, int]:
    return dict(Mug.objects.order_by("pk").values_list("pk", "stock"))


def writes(*values: tuple[int, int]) -> Callable[[], None]:
    """A transaction that writes these (row, value)."""

    def session() -> None:
        with transaction.atomic():
            for pk, stock in values:
                write(pk, stock)

    return session


def aborted_write() -> None:
    with transaction.atomic():
        write(1, 101)
        transaction.set_rollback(True)


def reads(*pks: int) -> Callable[[], list[int]]:
    def session() -> list[int]:
        with transaction.atomic():
            return [read(pk) for pk in pks]

    return session


def writes_and_reads(wrote: int, stock: int, other: int) -> Callable[[], int]:
    def session() -> int:
        with transaction.atomic():
            write(wrote, stock)
            return read(other)

    return session


def copies(source: int, to: int) -> Callable[[], None]:
    """Reads one row, and writes the other by it (write skew)."""

    def session() -> None:
        with transaction.atomic():
            write(to, read(source) + 1)

    return session


def adds(value: int) -> Callable[[], None]:
    """The lost update: reads, and writes what it computed."""

    def session() -> None:
        with transaction.atomic():
            write(1, read(1) + value)

    return session


def counts_and_inserts(pk: int) -> Callable[[], None]:
    """The anti-dependency cycle: looks for rows divisible by three, and adds one if none is."""

    def session() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM race_models_mug WHERE stock % 3 = 0")
            if cursor.fetchone() == (0,):
                Mug.objects.create(pk=pk, sku=str(pk), stock=30)

    return session


def looks_for_thirty_twice() -> list[int]:
    with transaction.atomic():
        return [Mug.objects.filter(stock=30).count() for _ in range(2)]


def inserts_thirty() -> None:
    with transaction.atomic():
        Mug.objects.create(pk=3, sku="3", stock=30)


def ok(run: Run) -> bool:
    return not run.raised


# Each: the sessions, and whether a finished run shows the anomaly.
Case = tuple[list[Callable[[], object]], Callable[[Run], bool]]
CASES: dict[str, Case] = {
    "G0 dirty writes": (
        [writes((1, 11), (2, 21)), writes((1, 12), (2, 22))],
        lambda run: tuple(both().values()) not in ((11, 21), (12, 22)),
    ),
    "G1a aborted read": (
        [aborted_write, reads(1, 1)],
        lambda run: 101 in run.returned["B"],  # type: ignore[operator]
    ),
    "G1b intermediate read": (
        [writes((1, 101), (1, 11)), reads(1, 1)],
        lambda run: 101 in run.returned.get("B", []),  # type: ignore[operator]
    ),
    "G1c circular information flow": (
        [writes_and_reads(1, 11, 2), writes_and_reads(2, 22, 1)],
        lambda run: ok(run) and run.returned == {"A": 22, "B": 11},
    ),
    "OTV observed transaction vanishes": (
        [writes((1, 11), (2, 19)), writes((1, 12), (2, 18)), reads(1, 2, 1, 2)],
        lambda run: (
            "C" in run.returned
            and run.returned["C"] in ([12, 19, 12, 18], [12, 19, 12, 19], [12, 18, 11, 18])
        ),
    ),
    "PMP predicate-many-preceders": (
        [looks_for_thirty_twice, inserts_thirty],
        lambda run: run.returned.get("A") == [0, 1],
    ),
    "P4 lost update": (
        [adds(1), adds(2)],
        lambda run: ok(run) and both()[1] != 13,
    ),
    "G-single read skew": (
        [reads(1, 2), writes((1, 12), (2, 18))],
        lambda run: run.returned.get("A") == [10, 18],
    ),
    "G2-item write skew": (
        [copies(1, 2), copies(2, 1)],
        lambda run: ok(run) and both() == {1: 21, 2: 11},
    ),
    "G2 anti-dependency cycle": (
        [counts_and_inserts(3), counts_and_inserts(4)],
        lambda run: ok(run) and Mug.objects.filter(stock=30).count() == 2,
    ),
}
STOPPED_FROM = {
    "G0 dirty writes": "read committed",
    "G1a aborted read": "read committed",
    "G1b intermediate read": "read committed",
    "G1c circular information flow": "read committed",
    "OTV observed transaction vanishes": "read committed",
    "PMP predicate-many-preceders": "repeatable read",
    "P4 lost update": "repeatable read",
    "G-single read skew": "repeatable read",
    "G2-item write skew": "serializable",
    "G2 anti-dependency cycle": "serializable",
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_an_anomaly_shows_up_to_the_level_that_stops_it(name: str, level: str) -> None:
    sessions, shows = CASES[name]
    three = len(sessions) > 2
    result = explore(
        sessions,
        setup=rows,
        invariant=lambda run: not shows(run),
        isolation=level,
        serial=False,
        max_preemptions=1 if three else None,
    )
    stopped = LEVELS.index(level) >= LEVELS.index(STOPPED_FROM[name])
    assert bool(result.broken) is not stopped
    assert result.exhaustive is not three


def test_a_read_and_a_write_skew_are_told_apart() -> None:
    """At REPEATABLE READ nobody reads two states, and yet two together do what neither would."""
    skew = explore([copies(1, 2), copies(2, 1)], setup=rows, isolation="repeatable read")
    assert skew.broken
    read_skew = explore(
        [reads(1, 2), writes((1, 12), (2, 18))], setup=rows, isolation="repeatable read"
    )
    assert not read_skew.broken
