"""A provider's messages: each makes us ask the provider, whenever and however often it comes."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import reverse

from shop import orders
from shop.models import Order, PaymentEvent
from shop.money import format_amount
from shop.payments import demo
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.pages import tell
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    choose_again,
    go_to_bank,
    now,
    place,
    refund_at_bank,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    """An order whose buyer is at the bank."""
    placed = place((make_product(1), 1))
    go_to_bank(placed)
    return placed


def post(body: str | bytes) -> int:
    content = body.encode() if isinstance(body, str) else body
    address = reverse("payment-events", args=["demo"])
    client = Client(raise_request_exception=False)
    headers = {demo.SIGNATURE: demo.sign(content)}
    return client.post(address, content, "application/json", headers=headers).status_code


def test_a_message_that_comes_before_the_bank_knows_counts_when_it_comes_again(
    order: Order,
) -> None:
    assert (tell(order), now(order).state) == (200, State.PENDING)
    choose_again(order.payments.get(), APPROVE)
    assert (tell(order), now(order).state) == (200, State.PAID)
    assert (tell(order), PaymentEvent.objects.count()) == (200, 1)


def test_a_message_about_a_declined_payment_that_turned_out_paid_counts(order: Order) -> None:
    charge = choose_again(order.payments.get(), DECLINE)
    assert (tell(order), now(order).state) == (200, State.PENDING)
    charge.state = "APPROVED"
    charge.save()
    assert (tell(order), now(order).state) == (200, State.PAID)


def test_a_message_again_changes_nothing_once_it_is_paid(order: Order) -> None:
    choose_again(order.payments.get(), APPROVE)
    tell(order)
    orders.cancel(order.pk)
    assert (tell(order), now(order).state) == (200, State.CANCELLED)


def test_the_deliveries_of_a_message_are_counted_and_its_outcome_stays(order: Order) -> None:
    choose_again(order.payments.get(), APPROVE)
    refund_at_bank(order, order.total)
    assert at_once([lambda: tell(order)] * 3) == [200] * 3
    tell(order)
    message = PaymentEvent.objects.get()
    amount = format_amount(order.total, order.currency)
    assert message.deliveries == 4
    assert message.outcome == f"The payment is paid. A refund of {amount} was made at the provider."


@pytest.mark.parametrize(
    "id",
    [
        '"\\u0000"',
        '"a\\u0000b"',
        '"\\ud800"',
        '"a\\nb"',
        '""',
        json.dumps("x" * 201),
        json.dumps(["x" * 300]),
        "9" * 5000,
    ],
)
def test_a_genuine_message_with_an_id_that_can_not_be_stored_is_rejected(
    order: Order, id: str
) -> None:
    assert post(f'{{"id": {id}, "payment": "{order.payments.get().key}"}}') == 400
    assert not PaymentEvent.objects.exists()


@pytest.mark.parametrize("id", ["1", "null", '"ü 1"', json.dumps("x" * 200)])
def test_a_genuine_message_with_an_odd_id_is_taken(order: Order, id: str) -> None:
    assert post(f'{{"id": {id}, "payment": "{order.payments.get().key}"}}') == 200
    assert PaymentEvent.objects.count() == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"\x00",
        b"[]",
        b"1",
        b'{"id": "1"}',
        b'{"id": "1", "payment": "\\u0000"}',
        b'{"id": "1", "payment": 1}',
        b'{"id": "1", "payment": {"a": []}}',
        b"[" * 50_000,
    ],
)
def test_a_genuine_message_that_makes_no_sense_is_rejected(body: bytes) -> None:
    assert post(body) == 400
