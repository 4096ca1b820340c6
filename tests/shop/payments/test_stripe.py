"""Stripe Checkout, by the real library before a stand-in that follows Stripe's documentation."""

from __future__ import annotations

import pytest
from django.conf import LazySettings

from shop import orders, payments
from shop.models import Order
from shop.payments import RefundStatus
from tests.conftest import MakeProduct
from tests.shop.orders.steps import go_to_bank, place
from tests.stripe_standin import StripeStandin

pytestmark = pytest.mark.django_db(transaction=True)
State = Order.State


@pytest.fixture(autouse=True)
def stripe_is_the_provider(
    stripe_standin: StripeStandin,
    settings: LazySettings,
    money_and_goods_agree_after_each_test: None,
) -> None:
    settings.PAYMENT_PROVIDER = "stripe"
    settings.STRIPE_SECRET_KEY = stripe_standin.secret_key
    settings.STRIPE_WEBHOOK_SECRET = stripe_standin.webhook_secret
    settings.STRIPE_API_BASE = stripe_standin.url


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    return place((make_product(5), 2))


def test_a_payment_from_its_start_to_its_refund(
    order: Order, stripe_standin: StripeStandin
) -> None:
    url = go_to_bank(order)
    assert go_to_bank(order) == url
    payment = order.payments.get()
    assert url == stripe_standin.page_of(payment.reference)
    assert orders.settle(order.pk).state == State.PENDING
    stripe_standin.sessions.pay(payment.reference)
    assert orders.settle(order.pk).state == State.PAID
    orders.refund(order.pk)
    for _ in range(2):  # again: no second refund
        assert payments.refund(payment.refunds.get()) is RefundStatus.DONE
    [refund] = payments.statement(payment).refunds
    assert (refund.amount, refund.key) == (order.total, payment.refunds.get().key)
    [listed] = payments.list_since("stripe", order.placed_at)
    assert (listed.key, listed.statement) == (payment.key, payments.statement(payment))
