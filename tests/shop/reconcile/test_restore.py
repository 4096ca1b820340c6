"""The restore drill: sell, back up, go on, restore, reconcile. No cent and no unit is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from inventory import monitor
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation
from inventory.reservations import expire_lapsed, reserve
from shop import orders
from shop.exceptions import ShopError
from shop.models import Order, OrderLine, Payment, Refund
from shop.orders import refunds, statements
from shop.orders.reconcile import Report, reconcile
from shop.payments.base import DisputeStatus, Outcome
from tests.conftest import MakeProduct
from tests.shop.orders.steps import go_to_bank, lapse_all, order_holds
from tests.shop.reconcile.backup import Backup
from tests.shop.reconcile.memory_bank import Charge, MemoryBank

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BEFORE, AFTER = 20, 60  # events before and after the backup
SHIPPED = Order.State.SHIPPED


class Shop:
    """Random deeds of buyers, staff and the bank."""

    def __init__(self, seed: int, products: list[Product]) -> None:
        self.random = random.Random(seed)
        self.products = products
        self.number = 0

    def live(self, events: int) -> None:
        deeds: list[Callable[[], object]] = [
            *[self.buy] * 6, *[self.pay] * 8, self.decline, self.pay_late, self.ship, self.cancel,
            self.refund_all, self.refund_units, self.refund_units, self.give_goodwill,
            self.give_back_at_bank, self.dispute, self.decide, self.lapse,
        ]  # fmt: skip
        for _ in range(events):
            with suppress(InventoryError, ShopError):  # then nothing was changed
                self.random.choice(deeds)()
            do_the_work()

    def any_order(self, *states: Order.State) -> Order:
        found = list(Order.objects.filter(state__in=states).order_by("pk"))
        if not found:
            raise ShopError("There is none.")
        return self.random.choice(found)

    def kept_order(self) -> Order:
        order = self.any_order(Order.State.PAID, SHIPPED)
        if not order.kept():
            raise ShopError("Nothing goes back, so that the bank doesn't get to know of it.")
        return order

    def buy(self) -> None:
        self.number += 1
        buyer = f"buyer-{self.number}"
        chosen = self.random.sample(self.products, self.random.randint(1, 2))
        holds = [reserve(p, self.random.randint(1, 3), buyer=buyer) for p in chosen]
        order = order_holds(holds, buyer=buyer, key=f"form-{self.number}")
        go_to_bank(order)

    def open_charge(self) -> Charge:
        waiting = [each for each in MemoryBank.charges.values() if each.outcome is Outcome.OPEN]
        if not waiting:
            raise ShopError("There is none.")
        return self.random.choice(waiting)

    def pay(self) -> None:
        self.open_charge().pay()

    def decline(self) -> None:
        self.open_charge().decline()

    def pay_late(self) -> None:
        """The holds have lapsed, and are taken back: the units may be gone."""
        charge = self.open_charge()
        lapse_all(Payment.objects.get(key=charge.key).order)
        expire_lapsed()
        charge.pay()

    def lapse(self) -> None:
        order = self.any_order(Order.State.PENDING)
        MemoryBank.charges[order.payments.latest("pk").key].decline()
        orders.settle(order.pk)
        orders.cancel_unpaid(order.pk)

    def ship(self) -> None:
        orders.ship(self.any_order(Order.State.PAID).pk)

    def cancel(self) -> None:
        order = self.any_order(Order.State.PAID)
        if order.kept():
            orders.cancel(order.pk)

    def refund_all(self) -> None:
        orders.refund(self.kept_order().pk, restock=self.random.random() < 0.7)

    def refund_units(self) -> None:
        order = self.kept_order()
        line = self.random.choice([line for line in order.lines.all() if line.left])
        units = {line.pk: self.random.randint(1, line.left)}
        orders.refund(order.pk, units=units, restock=self.random.random() < 0.7)

    def give_goodwill(self) -> None:
        orders.refund(self.kept_order().pk, amount=Decimal("1.50"), note="Sorry")

    def kept_charge(self) -> Charge:
        order = self.kept_order()
        return MemoryBank.charges[order.payments.filter(state="PAID").latest("pk").key]

    def give_back_at_bank(self) -> None:
        charge = self.kept_charge()
        charge.give_back(min(charge.kept, Decimal(self.random.choice(["2.00", "1000.00"]))))

    def dispute(self) -> None:
        charge = self.kept_charge()
        if self.random.random() < 0.5:
            charge.dispute(min(charge.kept, Decimal("10.00")))

    def decide(self) -> None:
        undecided = [
            each
            for each in MemoryBank.charges.values()
            if each.disputes and each.disputes[-1].status is DisputeStatus.OPEN
        ]
        if undecided:
            to = self.random.choice([DisputeStatus.WON, DisputeStatus.LOST])
            self.random.choice(undecided).decide(to)


def do_the_work() -> None:
    """Do what messages of the bank and the worker do."""
    for order_id in orders.unsettled_orders():
        orders.settle(order_id)
    news = [each.key for each in MemoryBank.charges.values() if each.refunds or each.disputes]
    for payment in Payment.objects.filter(state=Payment.State.PAID, key__in=news):
        statements.look_into(payment.pk)
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)


def facts() -> dict[str, Any]:
    """All that must be as it was, by order; a parcel that was sent is nothing that a bank knows."""
    found = {}
    for order in Order.objects.filter(payments__state=Payment.State.PAID).distinct():
        lines = [
            (
                str(line.reservation_id), line.sku, line.quantity, line.unit_price, line.refunded,
                *sold_units(line),
            )
            for line in order.lines.select_related("reservation")
        ]  # fmt: skip
        found[order.number] = {
            "state": "PAID" if order.state == SHIPPED else order.state,
            "entries": (order.token, order.buyer, order.total, *order.typed.values()),
            "lines": lines,
            "payments": sorted(
                (str(each.key), each.reference, each.amount)
                for each in order.payments.filter(state=Payment.State.PAID)
            ),
            "refunds": sorted(
                (each.reason, each.amount, each.state, each.note)
                for each in Refund.objects.filter(payment__order=order)
            ),
            "disputes": sorted(
                (each.reference, each.amount, each.state)
                for payment in order.payments.all()
                for each in payment.disputes.all()
            ),
            "kept": order.kept(),
        }
    return found


def sold_units(line: OrderLine) -> tuple[int, int]:
    reservation = line.reservation
    if reservation.status != Reservation.Status.SOLD:
        return (0, 0)
    return (reservation.still_sold, reservation.written_off)


def assert_the_bank_agrees() -> None:
    """To the cent: all that the bank has for us is kept by orders, and each of them has goods."""
    for charge in MemoryBank.charges.values():
        payment = Payment.objects.filter(key=charge.key).first()
        assert (payment.kept() if payment else 0) == max(charge.kept, Decimal(0))
        if payment and charge.kept > 0:
            assert payment.order.state in (Order.State.PAID, SHIPPED)
            assert any(line.left for line in payment.order.lines.all())


def assert_goods_agree() -> None:
    assert monitor.check() == []
    for line in OrderLine.objects.select_related("order", "reservation"):
        if line.order.state in (Order.State.PAID, SHIPPED):
            assert line.reservation.status == Reservation.Status.SOLD
            assert line.reservation.kept == line.left


def reconcile_all(since: Any) -> Report:
    report = reconcile(since, ["memory"], apply=True)
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)
    return report


@pytest.mark.parametrize("seed", range(6))
def test_all_comes_back_as_it_was(
    make_product: MakeProduct, back_up: Callable[[], Backup], seed: int
) -> None:
    products = [make_product(9, price=Decimal(price)) for price in ("10.00", "7.77", "120.00")]
    shop = Shop(seed, products)
    shop.live(BEFORE)
    since = timezone.now()
    backup = back_up()
    shop.live(AFTER)
    before = facts()
    given_back = sum(len(each.refunds) for each in MemoryBank.charges.values())

    backup.restore()
    assert facts() != before  # else nothing was tried
    report = reconcile_all(since)

    assert report.findings == []
    assert facts() == before
    assert sum(len(each.refunds) for each in MemoryBank.charges.values()) == given_back
    assert_the_bank_agrees()
    assert_goods_agree()
    again = reconcile(since, ["memory"], apply=True)
    assert (again.steps, again.findings) == ([], [])
