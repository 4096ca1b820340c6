"""Holds prolonged for a payment, and units retaken if the hold ended before the payment came."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from pytest_django import DjangoAssertNumQueries

from inventory import strategies
from inventory.exceptions import (
    BuyerLimitExceeded,
    InsufficientStock,
    NotForSale,
    ReservationEnded,
)
from inventory.locking import queue_product
from inventory.models import Product, Reservation
from inventory.reservations import (
    confirm,
    confirm_or_retake,
    confirm_together,
    expire_lapsed,
    prolong,
    release,
    reserve,
    shrink,
)
from tests.concurrency import at_once, lapse, of_kind, wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
Status = Reservation.Status
SAFE = [strategy.slug for strategy in strategies.all_strategies() if strategy.is_safe]


def stock_of(product: Product) -> int:
    product.refresh_from_db()
    return product.stock


def statuses(holds: Iterable[Reservation]) -> list[str]:
    return [Reservation.objects.get(pk=hold.pk).status for hold in holds]


# Prolonging


def test_prolonged_up_to_the_cap_and_never_shortened(make_product: MakeProduct) -> None:
    product = make_product()
    short = reserve(product, 1, buyer="A", hold_for=timedelta(minutes=1))
    long = reserve(product, 1, buyer="A", hold_for=timedelta(hours=3))
    old = reserve(product, 1, buyer="A")
    Reservation.objects.filter(pk=old.pk).update(created_at=Now() - timedelta(minutes=90))
    prolonged = {
        hold.pk: hold
        for hold in prolong([short.pk, long.pk, old.pk], hold_for=HOUR, at_most=timedelta(hours=2))
    }
    assert prolonged[short.pk].expires_at - short.expires_at > timedelta(minutes=58)
    assert prolonged[long.pk].expires_at == long.expires_at
    assert prolonged[old.pk].expires_at == prolonged[old.pk].created_at + timedelta(hours=2)


@pytest.mark.parametrize("ended", ["released", "taken back", "sold", "at its cap"])
def test_all_are_prolonged_or_none(make_product: MakeProduct, ended: str) -> None:
    product = make_product(2)
    other, hold = reserve(product, 1, buyer="A"), reserve(product, 1, buyer="A")
    if ended == "released":
        release(hold.pk)
    elif ended == "taken back":
        lapse(hold)
        expire_lapsed()
    elif ended == "sold":
        confirm(hold.pk)
    else:
        lapse(hold)
        Reservation.objects.filter(pk=hold.pk).update(created_at=Now() - HOUR)
    with pytest.raises(ReservationEnded):
        prolong([other.pk, hold.pk], hold_for=HOUR, at_most=HOUR)
    other_now = Reservation.objects.get(pk=other.pk)
    assert other_now.expires_at == other.expires_at
    with pytest.raises(Reservation.DoesNotExist):
        prolong([other.pk, uuid.uuid4()], hold_for=HOUR, at_most=HOUR)


def test_prolonging_and_taking_back_at_once_only_one_succeeds(
    make_product: MakeProduct,
) -> None:
    product = make_product(1)
    hold = lapse(reserve(product, 1, buyer="A"))
    prolonged, taken = at_once(
        [
            lambda: prolong([hold.pk], hold_for=HOUR, at_most=HOUR),
            lambda: reserve(product, 1, buyer="B"),
        ]
    )
    if isinstance(prolonged, list):
        assert isinstance(taken, InsufficientStock)
    else:
        assert isinstance(prolonged, ReservationEnded)
        assert isinstance(taken, Reservation)


def test_a_sweep_and_somebody_who_locks_the_same_holds_never_wait_in_a_circle(
    make_product: MakeProduct,
) -> None:
    """Both lock a product's reservations by primary key, not in the order in which they lapsed."""
    product = make_product(2)
    ids = sorted([uuid.uuid4(), uuid.uuid4()])
    first, second = (reserve(product, 1, buyer="A") for _ in ids)
    if first.pk > second.pk:
        first, second = second, first
    lapse(second)  # lapsed before the first one: the sweep finds it first
    Reservation.objects.filter(pk=second.pk).update(expires_at=Now() - HOUR)
    lapse(first)
    has_first, sweeping = threading.Event(), threading.Event()

    def lock_in_order() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            lock = "SELECT 1 FROM inventory_reservation WHERE id = %s FOR NO KEY UPDATE"
            cursor.execute(lock, [first.pk])
            has_first.set()
            wait_until_somebody_waits_for_a_lock()
            sweeping.set()
            cursor.execute(lock, [second.pk])

    def sweep() -> Any:
        assert has_first.wait(30)
        return expire_lapsed()

    locked, swept = at_once([lock_in_order, sweep])
    assert (locked, swept) == (None, (2, 2))


# Confirming holds that are gone


@pytest.mark.parametrize("slug", SAFE)
def test_gone_holds_are_taken_again_whatever_the_strategy(
    make_product: MakeProduct, slug: str
) -> None:
    product = make_product(6, strategy=slug)
    holds = [reserve(product, 2, buyer="A") for _ in range(3)]
    lapse(holds[0])
    expire_lapsed()
    release(holds[1].pk)
    assert stock_of(product) == 4
    assert [hold.status for hold in confirm_or_retake(hold.pk for hold in holds)] == ["SOLD"] * 3
    assert stock_of(product) == 0
    confirm_or_retake(hold.pk for hold in holds)
    assert stock_of(product) == 0


def test_all_or_none_where_too_few_are_left(make_product: MakeProduct) -> None:
    product, other = make_product(3), make_product(1)
    holds = [reserve(product, 2, buyer="A"), reserve(other, 1, buyer="A")]
    lapse(holds[0])
    reserve(product, 2, buyer="B")
    with pytest.raises(InsufficientStock) as refused:
        confirm_or_retake(hold.pk for hold in holds)
    assert (refused.value.requested, refused.value.available) == (2, 1)
    assert statuses(holds) == ["EXPIRED", "HELD"]
    assert (stock_of(product), stock_of(other)) == (1, 0)


def test_lapsed_holds_of_others_count_as_available_and_are_left_if_that_is_not_enough(
    make_product: MakeProduct,
) -> None:
    product = make_product(3)
    gone = reserve(product, 3, buyer="A")
    release(gone.pk)
    lapsed, alive = reserve(product, 2, buyer="B"), reserve(product, 1, buyer="C")
    lapse(lapsed)
    with pytest.raises(InsufficientStock) as refused:
        confirm_or_retake([gone.pk])
    assert refused.value.available == 2
    assert statuses([lapsed, alive]) == ["HELD", "HELD"]
    release(alive.pk)
    confirm_or_retake([gone.pk])
    assert statuses([gone, lapsed]) == ["SOLD", "EXPIRED"]


def test_the_limit_per_buyer_holds_for_what_is_taken_again(make_product: MakeProduct) -> None:
    product = make_product(10, max_per_buyer=2)
    gone = lapse(reserve(product, 2, buyer="A"))
    expire_lapsed()
    reserve(product, 1, buyer="A")
    with pytest.raises(BuyerLimitExceeded):
        confirm_or_retake([gone.pk])
    Reservation.objects.held().update(expires_at=Now())  # lapsed, it doesn't count
    assert [hold.status for hold in confirm_or_retake([gone.pk])] == ["SOLD"]
    assert stock_of(product) == 8


def test_a_product_that_is_switched_off_is_not_taken_again(make_product: MakeProduct) -> None:
    product = make_product(2)
    held, gone = reserve(product, 1, buyer="A"), reserve(product, 1, buyer="A")
    release(gone.pk)
    Product.objects.update(is_active=False)
    with pytest.raises(NotForSale):
        confirm_or_retake([held.pk, gone.pk])
    assert [hold.status for hold in confirm_or_retake([held.pk])] == ["SOLD"]


CHANGES: dict[str, Callable[[Iterable[uuid.UUID]], list[Reservation]]] = {
    "prolong": partial(prolong, hold_for=HOUR, at_most=2 * HOUR),
    "confirm together": confirm_together,
}


@pytest.mark.parametrize("change", CHANGES)
def test_all_or_none_by_what_the_holds_are_after_waiting(
    make_product: MakeProduct, change: str
) -> None:
    """Somebody lets one of the holds go, and has not committed it when the change begins."""
    product = make_product(4)
    stays, goes = reserve(product, 1, buyer="A"), reserve(product, 1, buyer="A")

    def let_go() -> None:
        with transaction.atomic():
            release(goes.pk)
            wait_until_somebody_waits_for_a_lock()

    _, changed = at_once([let_go, partial(change_later, change, [stays.pk, goes.pk])])
    assert isinstance(changed, ReservationEnded)
    assert statuses([stays, goes]) == ["HELD", "RELEASED"]
    stays.refresh_from_db()
    assert stays.expires_at - stays.created_at < HOUR


@pytest.mark.parametrize("change", CHANGES)
def test_the_units_are_those_after_waiting(make_product: MakeProduct, change: str) -> None:
    product = make_product(4)
    hold = reserve(product, 3, buyer="A")

    def shrink_slowly() -> None:
        with transaction.atomic():
            shrink(hold.pk, 2)
            wait_until_somebody_waits_for_a_lock()

    _, [changed] = at_once([shrink_slowly, partial(change_later, change, [hold.pk])])
    assert changed.quantity == 1
    assert stock_of(product) == 3


def change_later(change: str, ids: list[uuid.UUID]) -> list[Reservation]:
    """Change these holds as soon as somebody has locked one of them."""
    while True:
        with transaction.atomic():
            free = Reservation.objects.select_for_update(skip_locked=True).filter(pk__in=ids)
            if len(free) < len(ids):
                break
    return CHANGES[change](ids)


def test_holds_that_are_changed_together_are_locked_in_one_order(
    make_product: MakeProduct,
) -> None:
    x, y = make_product(), make_product()
    holds = [reserve(product, 1, buyer="A") for product in (x, y, x, y, x, y)]
    ids = [hold.pk for hold in holds]
    calls = [partial(CHANGES["prolong"], order) for order in (ids, ids[::-1]) for _ in range(4)]
    for _ in range(10):
        results = at_once(calls)
        assert [len(result) for result in results] == [6] * 8
        assert [hold.product_id for hold in results[0]] == [x.pk] * 3 + [y.pk] * 3


def test_confirming_together_again_changes_nothing(make_product: MakeProduct) -> None:
    product = make_product(3)
    holds = [reserve(product, 1, buyer="A") for _ in range(2)]
    first = confirm_together([holds[0].pk])
    assert [hold.status for hold in confirm_together(hold.pk for hold in holds)] == ["SOLD"] * 2
    again = {hold.pk: hold.decided_at for hold in confirm_together(hold.pk for hold in holds)}
    assert again[first[0].pk] == first[0].decided_at


@pytest.mark.parametrize("change", CHANGES)
def test_a_reservation_that_is_missing_is_named(make_product: MakeProduct, change: str) -> None:
    hold, missing = reserve(make_product(), 1, buyer="A"), uuid.uuid4()
    with pytest.raises(Reservation.DoesNotExist, match=str(missing)):
        CHANGES[change]([hold.pk, missing])
    assert statuses([hold]) == ["HELD"]


@pytest.mark.parametrize("change", CHANGES)
def test_one_statement_for_any_number_of_holds(
    make_product: MakeProduct, change: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    product = make_product(20)
    ids = [reserve(product, 1, buyer="A").pk for _ in range(10)]
    with transaction.atomic(), django_assert_num_queries(1):
        CHANGES[change](ids)


@pytest.mark.parametrize("slug", SAFE)
def test_many_late_payments_at_once_on_few_units(make_product: MakeProduct, slug: str) -> None:
    product = make_product(6, strategy=slug)
    holds = [reserve(product, 1, buyer=f"late {n}") for n in range(6)]
    for hold in holds:
        lapse(hold)
    expire_lapsed()
    for n in range(3):
        reserve(product, 1, buyer=f"quick {n}")
    calls: list[Callable[[], object]] = [partial(confirm_or_retake, [hold.pk]) for hold in holds]
    results = at_once([*calls, partial(reserve, product, 1, buyer="new")])
    sold = of_kind(results, list) + of_kind(results, Reservation)
    assert (len(sold), len(of_kind(results, InsufficientStock))) == (3, 4)
    assert stock_of(product) == 0


def test_it_waits_for_a_buyer_who_checks_and_writes_in_the_products_queue(
    make_product: MakeProduct,
) -> None:
    """A buyer of the strategy ``mutex`` checks, and then writes without a condition."""
    product = make_product(1, strategy="mutex")
    gone = reserve(product, 1, buyer="A")
    release(gone.pk)
    checked = threading.Event()

    def buy_slowly() -> None:
        with transaction.atomic():
            queue_product(product.pk)
            assert stock_of(product) == 1
            checked.set()
            wait_until_somebody_waits_for_a_lock()
            reserve(product, 1, buyer="B")

    def pay_late() -> object:
        assert checked.wait(30)
        return confirm_or_retake([gone.pk])

    bought, paid = at_once([buy_slowly, pay_late])
    assert bought is None
    assert isinstance(paid, InsufficientStock)


def test_two_products_in_either_order_never_wait_in_a_circle(make_product: MakeProduct) -> None:
    x, y = make_product(20), make_product(20)
    pairs = []
    for n in range(6):
        first, second = (x, y) if n % 2 else (y, x)
        pair = [reserve(first, 1, buyer=str(n)), reserve(second, 1, buyer=str(n))]
        release(pair[0].pk)
        pairs.append([hold.pk for hold in pair])
    results = at_once([partial(confirm_or_retake, ids) for ids in pairs])
    assert len(of_kind(results, list)) == 6
    assert (stock_of(x), stock_of(y)) == (14, 14)
