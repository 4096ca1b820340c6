"""All steps at once, at random: no deadlock, no lost unit, no lost cent, and the bank agrees."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from inventory import stock
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation
from inventory.reservations import expire_lapsed, reserve
from shop import orders
from shop.exceptions import ShopError
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Order,
    OrderLine,
    Refund,
)
from shop.orders import refunds
from shop.payments import demo
from shop.payments.demo import Choice
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    at_bank,
    charged_at_bank,
    close_payment_time,
    fail_at_bank,
    look_into,
    order_holds,
)

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = 30
REFUSALS = (InventoryError, ShopError, ValidationError)


class Customer:
    """Takes random steps of buyers, staff, bank and worker, on any orders."""

    def __init__(self, name: str, seed: int, products: list[Product]) -> None:
        self.name = name
        self.random = random.Random(f"{seed} {name}")
        self.products = products

    def __call__(self) -> None:
        steps: list[Callable[[], object]] = [
            *[self.buy, self.pay, self.settle] * 2,
            *[self.cancel, self.refund, self.ship, self.back_to_bank],
            *[self.lapse, self.sweep, self.close],
            *[self.carry_out, self.look_into] * 2,
            *[self.dispute, self.decide, self.refund_at_bank, self.fail_at_bank],
            *[self.decline_refunds, self.give_by_hand],
        ]
        for _ in range(STEPS):
            with suppress(*REFUSALS):  # then nothing was changed
                self.random.choice(steps)()

    def any_order(self) -> Order:
        order = Order.objects.order_by("?").first()
        if order is None:
            raise ShopError("There is no order yet.")
        return order

    def buy(self) -> None:
        chosen = self.random.sample(self.products, self.random.randint(1, 2))
        holds = [reserve(p, self.random.randint(1, 2), buyer=self.name) for p in chosen]
        order_holds(
            holds,
            buyer=self.name,
            key=f"{self.name} {self.random.random()}",
            email=self.random.choice(["one@example.org", "two@example.org"]),
        )

    def pay(self) -> None:
        at_bank(self.any_order(), self.random.choice(list(Choice)))

    def back_to_bank(self) -> None:
        payment = self.any_order().payments.exclude(reference="").first()
        if payment is not None:
            demo.choose(payment.reference, Choice.APPROVE)

    def settle(self) -> None:
        orders.settle(self.any_order().pk)

    def cancel(self) -> None:
        orders.cancel(self.any_order().pk)

    def refund(self) -> None:
        order = self.any_order()
        line = self.random.choice(list(order.lines.all()))
        if self.random.random() < 0.3:
            orders.refund(order.pk, amount=Decimal("1.00"))
        elif self.random.random() < 0.5:
            orders.refund(order.pk, restock=True)
        else:
            orders.refund(order.pk, units={line.pk: 1}, restock=True)

    def ship(self) -> None:
        orders.ship(self.any_order().pk)

    def lapse(self) -> None:
        Reservation.objects.held().filter(buyer=self.random.choice("ABCD")).update(
            expires_at=Now() - timedelta(minutes=10)
        )

    def sweep(self) -> None:
        expire_lapsed()

    # Money that goes at the bank

    def carry_out(self) -> None:
        refund = Refund.objects.filter(state__in=["DUE", "FAILED"]).order_by("?").first()
        if refund is not None:
            refunds.carry_out(refund.pk)

    def look_into(self) -> None:
        look_into(self.any_order())

    def any_charge(self) -> DemoBankCharge:
        """Lock it, as the bank does: it gives back no more than it charged."""
        charge = DemoBankCharge.objects.filter(state="APPROVED").order_by("?").first()
        if charge is None:
            raise ShopError("Nothing was charged yet.")
        return DemoBankCharge.objects.select_for_update().get(pk=charge.pk)

    def left(self, charge: DemoBankCharge) -> Decimal:
        taken = DemoBankDispute.objects.filter(charge=charge).exclude(state="WON")
        return charge.amount - charge.given_back() - sum(each.amount for each in taken)

    @transaction.atomic
    def dispute(self) -> None:
        charge = self.any_charge()
        left = self.left(charge)
        if left > 0 and not DemoBankDispute.objects.filter(charge=charge).exists():
            amount = min(left, self.random.choice([left, Decimal("7.00")]))
            DemoBankDispute.objects.create(charge=charge, amount=amount)

    def decide(self) -> None:
        state = self.random.choice(["WON", "LOST"])
        DemoBankDispute.objects.filter(state="OPEN").update(state=state)

    @transaction.atomic
    def refund_at_bank(self) -> None:
        charge = self.any_charge()
        left = self.left(charge)
        if left > 0:
            amount = min(left, self.random.choice([left, Decimal("1.00"), Decimal("10.00")]))
            DemoBankRefund.objects.create(charge=charge, amount=amount)

    @transaction.atomic
    def fail_at_bank(self) -> None:
        made = self.any_charge().refunds.filter(state="DONE").order_by("?").first()
        if made is not None:
            fail_at_bank(made)

    @transaction.atomic
    def decline_refunds(self) -> None:
        charge = self.any_charge()
        charge.declines_refunds = not charge.declines_refunds
        charge.save()

    def give_by_hand(self) -> None:
        refund = Refund.objects.filter(state="FAILED").order_by("?").first()
        if refund is not None:
            refunds.record_by_hand(refund.pk, "transfer")

    def close(self) -> None:
        for order_id in orders.abandoned_orders():
            orders.close_abandoned(order_id)


@pytest.mark.parametrize("seed", range(4))
def test_everything_at_once(make_product: MakeProduct, seed: int) -> None:
    products = [
        make_product(6, price=Decimal("10.00"), strategy=slug, max_per_buyer=limit)
        for slug, limit in [("single_statement", None), ("mutex", 5), ("select_for_update", None)]
    ]
    results = at_once([Customer(name, seed, products) for name in "ABCD"])
    assert results == [None] * 4, results
    assert Order.objects.exists()

    # The worker has the last word: nothing stays open, and the bank's books agree with ours.
    for order in Order.objects.all():
        close_payment_time(order)
    DemoBankCharge.objects.filter(approve_at__isnull=False).update(approve_at=Now())
    Reservation.objects.held().update(expires_at=Now() - timedelta(minutes=10))
    for order_id in orders.unsettled_orders():
        orders.settle(order_id)
    for order_id in orders.abandoned_orders():
        orders.close_abandoned(order_id)
    expire_lapsed()
    DemoBankCharge.objects.update(declines_refunds=False)
    for _ in range(2):  # what is new may be owed
        for refund in Refund.objects.filter(state__in=["DUE", "FAILED"]):
            refunds.carry_out(refund.pk)
        for order in Order.objects.all():
            look_into(order)
    assert not Order.objects.pending().exists()
    assert not Reservation.objects.held().exists()
    assert not Refund.objects.filter(state=Refund.State.DUE).exists()
    for order in Order.objects.all():
        of_order = Refund.objects.filter(payment__order=order)
        at_the_bank = [*of_order.filter(state="FAILED"), *of_order.exclude(by_hand="")]
        rest = charged_at_bank(order) - sum((each.amount for each in at_the_bank), Decimal(0))
        assert order.kept() == max(rest, Decimal(0))
    for email in ("one@example.org", "two@example.org"):
        of_email = Reservation.objects.filter(order_line__order__email=email)
        assert of_email.filter(product=products[1]).units() <= 5
    for product in products:
        stock.receive(product, 1)  # no transaction is stuck with a lock
    assert not OrderLine.objects.filter(
        Q(reservation__returned__gt=F("refunded")), reservation__status="SOLD"
    ).exists()
