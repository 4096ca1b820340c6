"""Units put on sale and taken off again."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from inventory import monitor, stock
from inventory.exceptions import (
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidQuantity,
    InvalidText,
)
from inventory.models import Product, Reservation, StockMovement
from inventory.reservations import confirm, reserve, return_units
from inventory.strategies import all_strategies
from tests.concurrency import at_once, lapse, of_kind
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

Reason = StockMovement.Reason


def test_a_delivery_is_recorded_with_reason_note_and_who(make_product: MakeProduct) -> None:
    product = make_product(3)
    staff = User.objects.create_user("staff")
    movement = stock.receive(product, 7, reason=Reason.STOCKTAKE, note="Shelf B", by=staff)
    movement.refresh_from_db()
    assert (movement.units, movement.stock_before, movement.stock_after) == (7, 3, 10)
    assert (movement.reason, movement.note, movement.made_by) == ("STOCKTAKE", "Shelf B", staff)
    product.refresh_from_db()
    assert (product.stock, product.units_received) == (10, 10)


def test_a_request_that_is_repeated_moves_units_once(make_product: MakeProduct) -> None:
    product, other = make_product(10), make_product(10)
    received = at_once(
        [lambda: stock.receive(product, 5, idempotency_key="in") for _ in range(4)]
        + [
            lambda: stock.remove(product, 2, reason=Reason.DAMAGE, idempotency_key="out")
            for _ in range(4)
        ]
    )
    assert sorted(movement.is_repeated for movement in received) == [False] * 2 + [True] * 6
    product.refresh_from_db()
    assert (product.stock, product.units_received) == (13, 13)
    with pytest.raises(IdempotencyKeyReused):
        stock.receive(product, 6, idempotency_key="in")
    with pytest.raises(IdempotencyKeyReused):
        stock.receive(other, 5, idempotency_key="in")
    with pytest.raises(IdempotencyKeyReused):
        stock.remove(product, 5, reason=Reason.DAMAGE, idempotency_key="in")


def test_deliveries_and_removals_at_once_all_count(make_product: MakeProduct) -> None:
    product = make_product(10)
    at_once(
        [lambda: stock.receive(product, 5) for _ in range(4)]
        + [lambda: stock.remove(product, 2, reason=Reason.DAMAGE) for _ in range(4)]
    )
    product.refresh_from_db()
    assert (product.stock, product.units_received) == (22, 22)
    befores = StockMovement.objects.order_by("pk").values_list("stock_before", "stock_after")
    assert all(
        after == before for (_, after), (before, _) in zip(befores, befores[1:], strict=False)
    )


def test_no_more_can_be_removed_than_is_available_holds_and_sales_stay(
    make_product: MakeProduct,
) -> None:
    product = make_product(10)
    reserve(product, 3, buyer="A")
    confirm(reserve(product, 4, buyer="B").pk)
    with pytest.raises(InsufficientStock) as refused:
        stock.remove(product, 4, reason=Reason.SENT_BACK)
    assert (refused.value.requested, refused.value.available) == (4, 3)
    state = monitor.state_of(product.pk)
    assert (state.available, state.held, state.sold, state.received) == (3, 3, 4, 10)


@pytest.mark.parametrize("strategy", [s.slug for s in all_strategies() if s.is_safe])
def test_the_last_units_are_sold_and_removed_at_once(
    make_product: MakeProduct, strategy: str
) -> None:
    product = make_product(3, strategy=strategy, backstop=False)
    results = at_once(
        [lambda n=n: reserve(product, 1, buyer=f"{n}") for n in range(4)]
        + [lambda: stock.remove(product, 1, reason=Reason.DAMAGE) for _ in range(4)]
    )
    assert len(of_kind(results, InsufficientStock)) == 5, results
    product.refresh_from_db()
    assert product.stock == 0


def test_lapsed_holds_are_taken_back_for_a_removal(make_product: MakeProduct) -> None:
    product = make_product(3)
    lapse(reserve(product, 3, buyer="gone"))
    assert stock.remove(product, 2, reason=Reason.DAMAGE).stock_after == 1
    assert Reservation.objects.get().status == Reservation.Status.EXPIRED


@pytest.mark.parametrize("units", [0, -5, 1.5, "abc", None, 10**21])
def test_a_number_of_units_that_makes_no_sense(make_product: MakeProduct, units: object) -> None:
    product = make_product(10)
    with pytest.raises(InvalidQuantity):
        stock.receive(product, units)  # type: ignore[arg-type]
    with pytest.raises(InvalidQuantity):
        stock.remove(product, units, reason=Reason.OTHER)  # type: ignore[arg-type]
    assert product.movements.count() == 1


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"idempotency_key": 101 * "k"}, "idempotency key must have at most 100 characters"),
        ({"idempotency_key": "k\0"}, "idempotency key must not have a NUL"),
        ({"note": 201 * "n"}, "note must have at most 200 characters"),
        ({"note": "n\0"}, "note must not have a NUL"),
    ],
)
def test_a_text_that_cannot_be_stored(
    make_product: MakeProduct, texts: dict[str, Any], message: str
) -> None:
    product = make_product(10)
    with pytest.raises(InvalidText, match=message):
        stock.receive(product, 1, **texts)
    with pytest.raises(InvalidText, match=message):
        stock.remove(product, 1, reason=Reason.OTHER, **texts)
    if "note" in texts:
        with pytest.raises(InvalidText, match=message):
            stock.repair(product, note=texts["note"])
    assert product.movements.count() == 1


def test_more_than_the_count_can_hold(make_product: MakeProduct) -> None:
    product = make_product(2_147_483_647)
    with pytest.raises(InvalidQuantity, match="2147483647"):
        stock.receive(product, 1)


def test_movements_are_append_only(make_product: MakeProduct) -> None:
    movement = make_product(10).movements.get()
    movement.note = "changed"
    with pytest.raises(TypeError, match="append-only"):
        movement.save()
    with pytest.raises(TypeError, match="append-only"):
        movement.delete()


def test_a_product_with_a_past_cannot_be_deleted(make_product: MakeProduct) -> None:
    product = make_product(10)
    with pytest.raises(IntegrityError):
        product.delete()


def test_the_backstop_stops_a_write_that_goes_round_the_functions(
    make_product: MakeProduct,
) -> None:
    product = make_product(1)
    with pytest.raises(IntegrityError, match="backstop"), transaction.atomic():
        Product.objects.filter(pk=product.pk).update(stock=-1)


# Repair


def test_there_is_nothing_to_repair_where_the_count_is_right(make_product: MakeProduct) -> None:
    product = make_product(10)
    reserve(product, 4, buyer="A")
    assert stock.repair(product) is None
    assert product.movements.count() == 1


def test_a_lost_update_is_repaired_to_what_is_left(make_product: MakeProduct) -> None:
    product = make_product(10)
    reserve(product, 4, buyer="A")
    Product.objects.update(stock=9)
    movement = stock.repair(product)
    assert movement is not None
    assert (movement.units, movement.stock_before, movement.stock_after) == (0, 9, 6)
    product.refresh_from_db()
    assert (product.stock, product.units_received, product.backstop) == (6, 10, True)


def test_oversold_is_not_repaired_away_but_by_a_receipt(make_product: MakeProduct) -> None:
    """Fifteen of ten laptops are sold: stock is −5 until five come; then the backstop is on."""
    product = make_product(10)
    for n in range(15):
        confirm(reserve(product, 1, buyer=f"{n}").pk)
        Product.objects.update(stock=9)  # as fifteen who all read 10 leave it
    state = monitor.state_of(product.pk)
    assert (state.sold, state.drift, state.oversold) == (15, 14, 5)
    stock.repair(product)
    product.refresh_from_db()
    assert (product.stock, product.backstop) == (-5, False)
    state = monitor.state_of(product.pk)
    assert (state.drift, state.oversold) == (0, 5)
    with pytest.raises(InsufficientStock, match="sold out"):
        reserve(product, 1, buyer="late")
    stock.receive(product, 4)
    product.refresh_from_db()
    assert (product.stock, product.backstop) == (-1, False)
    stock.receive(product, 1)
    product.refresh_from_db()
    assert (product.stock, product.backstop) == (0, True)


def test_cancelled_sales_also_end_the_oversold_state(make_product: MakeProduct) -> None:
    product = make_product(2)
    sales = []
    for n in range(3):
        sales.append(confirm(reserve(product, 1, buyer=f"{n}").pk))
        Product.objects.update(stock=1)
    stock.repair(product)
    return_units(sales[0].pk, 1)
    product.refresh_from_db()
    assert (product.stock, product.backstop) == (0, True)
    assert monitor.state_of(product.pk).oversold == 0
