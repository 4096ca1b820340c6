"""The copies that the provider keeps: written once, and read back strictly."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from inventory.reservations import reserve
from shop import orders
from shop.models import Order, Payment, Refund
from shop.orders import copies
from shop.orders.copies import Decision, UnusableCopy
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    RETURN_URL,
    at_bank,
    go_to_bank,
    order_holds,
    place,
)

pytestmark = pytest.mark.django_db(transaction=True)

Reason = Refund.Reason
KEPT_BY_STRIPE = 40 * 500  # characters
EMPTY_DECISION = Decision(Reason.GOODWILL)


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    return place((make_product(9, name="Zoë's “pot”"), 2), (make_product(9), 1))


def paid(order: Order) -> Order:
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def copy_of(order: Order) -> str:
    return Payment.objects.filter(order=order).latest("pk").copy


def last_decision(order: Order) -> Decision:
    return copies.read_decision(Refund.objects.filter(payment__order=order).latest("pk").copy)


# Orders


def test_the_copy_has_all_of_the_order(order: Order) -> None:
    go_to_bank(order)
    read = copies.read_order(copy_of(order))
    same = [
        "number", "token", "idempotency_key", "buyer", "name", "email", "street", "postcode",
        "town", "country", "currency", "shipping_cost", "total", "placed_at",
    ]  # fmt: skip
    order.refresh_from_db()
    assert {name: getattr(read.order, name) for name in same} == {
        name: getattr(order, name) for name in same
    }
    assert read.return_url == RETURN_URL
    values = [
        [(x.reservation_id, x.sku, x.name, x.quantity, x.unit_price) for x in lines]
        for lines in (read.lines, order.lines.all())
    ]
    assert values[0] == values[1]
    assert len(values[0]) == 2


def test_each_payment_has_the_order_as_it_was_then(order: Order) -> None:
    at_bank(order, DECLINE)
    orders.settle(order.pk)
    first = copy_of(order)
    corrected = Order(**{**order.typed, "street": "2 Side Street"})
    orders.correct_contact(order.pk, corrected)
    go_to_bank(order)
    go_to_bank(order)  # the payment under way
    assert Payment.objects.earliest("pk").copy == first
    assert [
        copies.read_order(payment.copy).order.street for payment in order.payments.order_by("pk")
    ] == ["1 Main Street", "2 Side Street"]


def test_the_provider_gets_the_copy(order: Order) -> None:
    charge = at_bank(order, APPROVE)
    assert charge.copy == copy_of(order)


def test_an_order_of_many_lines_is_short_enough(make_product: MakeProduct) -> None:
    products = [make_product(1, name="Enamel pot with a long name, 2 l") for _ in range(90)]
    order = order_holds([reserve(product, 1, buyer="A") for product in products])
    go_to_bank(order)
    assert len(copy_of(order)) < KEPT_BY_STRIPE


def changed(text: str, path: str, value: object) -> str:
    """The copy with another value at that path; None takes it away."""
    values = json.loads(text)
    *way, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    inner = values
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", None), ("version", 2), ("version", "1"),
        ("number", None), ("number", 7), ("number", "much too long"), ("number", "A\0"),
        ("token", ""), ("token", "x" * 44), ("token", "\ud800"),
        ("buyer", ["A"]), ("buyer", "x" * 65), ("idempotency_key", "x" * 101),
        ("currency", "EURO"), ("total", "1.00"), ("total", "NaN"), ("total", 44.8),
        ("total", "-1.00"), ("shipping_cost", "1e30"), ("shipping_cost", "five"),
        ("shipping_cost", "5.001"),
        ("placed_at", "yesterday"), ("placed_at", "2026-01-02T03:04:05"),
        ("typed", None), ("typed", []), ("typed.name", None), ("typed.name", ""),
        ("typed.email", "ada"), ("typed.email", 1), ("typed.street", {}), ("return_url", None),
        ("return_url", "x"), ("number", ""),
        ("lines", None), ("lines", []), ("lines", [[]]), ("lines.0", "pot"),
        ("lines.0.reservation", "x"), ("lines.0.reservation", None), ("lines.0.sku", ""),
        ("lines.0.sku", 1), ("lines.0.name", "x" * 201), ("lines.0.quantity", 0),
        ("lines.0.quantity", -1), ("lines.0.quantity", True), ("lines.0.quantity", "2"),
        ("lines.0.quantity", 2.0), ("lines.0.quantity", 10**12), ("lines.0.unit_price", "1"),
        ("lines.0.unit_price", None),
    ],
)  # fmt: skip
def test_an_odd_order_is_not_read(order: Order, path: str, value: object) -> None:
    go_to_bank(order)
    with pytest.raises(UnusableCopy):
        copies.read_order(changed(copy_of(order), path, value))


def test_two_lines_of_one_reservation_are_not_read(order: Order) -> None:
    go_to_bank(order)
    values = json.loads(copy_of(order))
    values["lines"][1] = values["lines"][0]
    values["total"] = str(Decimal("5.00") + 2 * Decimal(values["lines"][0]["unit_price"]) * 2)
    with pytest.raises(UnusableCopy, match="of its own"):
        copies.read_order(json.dumps(values))


def test_no_piece_of_a_copy_is_read(order: Order) -> None:
    go_to_bank(order)
    text = copy_of(order)
    for end in range(len(text)):
        with pytest.raises(UnusableCopy):
            copies.read_order(text[:end])


NO_COPIES: list[Any] = [
    "", "x", "null", "[]", "{}", "1" * 5000, "[" * 100_000, '"\\ud800"', "NaN",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_COPIES, ids=lambda text: text[:10])
def test_another_text_is_not_read(text: str) -> None:
    for read in (copies.read_order, copies.read_decision):
        with pytest.raises(UnusableCopy):
            read(text)


# Decisions


def test_refunded_units(order: Order) -> None:
    paid(order)
    [two, one] = order.lines.all()
    orders.refund(order.pk, units={two.pk: 1}, restock=True, note="A scratch")
    assert last_decision(order) == Decision(
        Reason.RETURNED, "A scratch", units={two.reservation_id: 1}, restock=True
    )
    orders.refund(order.pk)
    assert last_decision(order) == Decision(
        Reason.RETURNED, units={two.reservation_id: 1, one.reservation_id: 1}, restock=False
    )


def test_an_amount_is_for_no_units(order: Order) -> None:
    paid(order)
    orders.refund(order.pk, amount=Decimal("1.00"), note="Sorry")
    assert last_decision(order) == Decision(Reason.GOODWILL, "Sorry")


def test_a_cancelled_order(order: Order) -> None:
    paid(order)
    orders.cancel(order.pk)
    assert last_decision(order) == Decision(Reason.CANCELLED, cancels=True)


def test_only_the_first_of_two_payments_has_the_units(order: Order) -> None:
    paid(order)
    first = order.payments.get()
    half = first.amount / 2
    order.payments.update(amount=half)
    order.payments.create(
        provider="demo",
        amount=first.amount - half,
        currency=first.currency,
        state=Payment.State.PAID,
        return_url=RETURN_URL,
        expires_at=first.expires_at,
    )
    orders.refund(order.pk, restock=True)
    [with_units, without] = [copies.read_decision(refund.copy) for refund in Refund.objects.all()]
    assert sum(with_units.units.values()) == 3
    assert without == Decision(Reason.RETURNED, units={}, restock=True)


def test_keys_of_refunds_do_not_come_again_after_a_restore(order: Order) -> None:
    paid(order)
    orders.refund(order.pk, amount=Decimal("1.00"))
    lost = Refund.objects.get()
    Refund.objects.all().delete()  # as if an earlier backup had been restored
    orders.refund(order.pk, amount=Decimal("1.00"))
    assert Refund.objects.get().key != lost.key


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 0), ("reason", None), ("reason", "BECAUSE"), ("note", 1), ("note", "x" * 201),
        ("cancels", 1), ("cancels", None), ("restock", "true"), ("units", []),
        ("units", {"x": 1}), ("units", {str(uuid4()): 0}), ("units", {str(uuid4()): True}),
    ],
)  # fmt: skip
def test_an_odd_decision_is_not_read(path: str, value: object) -> None:
    with pytest.raises(UnusableCopy):
        copies.read_decision(changed(copies.write_decision(EMPTY_DECISION), path, value))


def test_a_decision_is_read_as_it_was_written() -> None:
    decision = Decision(Reason.OVERSOLD, "Zoë’s", units={uuid4(): 3}, restock=True)
    assert copies.read_decision(copies.write_decision(decision)) == decision
