"""The restore drill: sell, back up, go on, restore, reconcile. No cent and no unit is lost."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from inventory import monitor, stock
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation
from inventory.reservations import expire_lapsed, reserve
from shop import orders
from shop.exceptions import ShopError
from shop.models import Dispute, Order, OrderLine, Payment, Refund
from shop.orders import refunds, statements
from shop.orders.reconcile import Report, reconcile
from tests import command_line
from tests.conftest import MakeProduct
from tests.shop.orders.steps import go_to_bank, lapse_all, order_holds
from tests.shop.reconcile.backup import Backup
from tests.shop.reconcile.banks import Bank, BankInMemory, BankOfStripe, Charge
from tests.shop.reconcile.memory_bank import MemoryBank
from tests.stripe_standin import StripeStandin

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

KILLS = 4
BEFORE, AFTER = 20, 60  # events before and after the backup
SHIPPED = Order.State.SHIPPED


def seeds(ordinary: int, all_of_them: int) -> pytest.MarkDecorator:
    """Run a test with some seeds, and a thorough run with all of them."""
    more = [pytest.param(seed, marks=pytest.mark.thorough) for seed in range(ordinary, all_of_them)]
    return pytest.mark.parametrize("seed", [*range(ordinary), *more])


class Shop:
    """Random deeds of buyers, staff and the bank."""

    def __init__(self, seed: int, products: list[Product], bank: Bank) -> None:
        self.random = random.Random(seed)
        self.bank = bank
        self.products = products
        self.number = 0

    def live(self, events: int, *, diligence: float = 1.0) -> None:
        """Do so many deeds; ``diligence``: how often the worker comes in between."""
        deeds: list[Callable[[], object]] = [
            *[self.buy] * 6, *[self.pay] * 8, self.decline, self.pay_late, self.ship, self.cancel,
            self.refund_all, self.refund_units, self.refund_units, self.give_goodwill,
            self.give_back_at_bank, self.dispute, self.decide, self.lapse,
        ]  # fmt: skip
        for _ in range(events):
            with suppress(InventoryError, ShopError):  # then nothing was changed
                self.random.choice(deeds)()
            if self.random.random() < diligence:
                do_the_work(self.bank)

    def charge_of(self, order: Order) -> Charge:
        key = order.payments.latest("pk").key
        return next(each for each in self.bank.charges() if each.key == key)

    def any_order(self, *states: Order.State) -> Order:
        found = list(Order.objects.filter(state__in=states).order_by("pk"))
        if not found:
            raise ShopError("There is none.")
        return self.random.choice(found)

    def kept_order(self) -> Order:
        order = self.any_order(Order.State.PAID, SHIPPED)
        if not order.kept():
            raise ShopError("Nothing goes back, so that the bank doesn't get to know of it.")
        taken = Dispute.objects.taken().filter(payment__order=order)
        if taken.exists() and not self.bank.refunds_disputed:
            raise ShopError("Nor does it if the bank refuses it.")
        return order

    def buy(self) -> None:
        self.number += 1
        buyer = f"buyer-{self.number}"
        chosen = self.random.sample(self.products, self.random.randint(1, 2))
        holds = [reserve(p, self.random.randint(1, 3), buyer=buyer) for p in chosen]
        order = order_holds(holds, buyer=buyer, key=f"form-{self.number}")
        go_to_bank(order)

    def open_charge(self) -> Charge:
        waiting = [each for each in self.bank.charges() if each.is_open]
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
        charge = self.charge_of(order)
        if charge.is_open:
            charge.decline()
        orders.settle(order.pk)
        orders.cancel_unpaid(order.pk)

    def ship(self) -> None:
        orders.ship(self.any_order(Order.State.PAID).pk)

    def cancel(self) -> None:
        order = self.kept_order()
        if order.state == Order.State.PAID:
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
        key = self.kept_order().payments.filter(state="PAID").latest("pk").key
        return next(each for each in self.bank.charges() if each.key == key)

    def give_back_at_bank(self) -> None:
        charge = self.kept_charge()
        charge.give_back(min(charge.kept, Decimal(self.random.choice(["2.00", "1000.00"]))))

    def dispute(self) -> None:
        charge = self.kept_charge()
        if self.random.random() < 0.5:
            charge.dispute(min(charge.kept, Decimal("10.00")))

    def decide(self) -> None:
        undecided = [each for each in self.bank.charges() if each.is_disputed]
        if undecided:
            self.random.choice(undecided).decide(won=self.random.random() < 0.5)


def do_the_work(bank: Bank) -> None:
    """Do what messages of the bank and the worker do."""
    for order_id in orders.unsettled_orders():
        orders.settle(order_id)
    for payment in Payment.objects.filter(state=Payment.State.PAID):
        charge = next(each for each in bank.charges() if each.key == payment.key)
        if (
            charge.kept != payment.kept()
            or Dispute.objects.undecided().filter(payment=payment).exists()
        ):
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


def assert_the_bank_agrees(bank: Bank) -> None:
    """To the cent: all that the bank has for us is kept by orders, and each of them has goods."""
    for charge in bank.charges():
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


def reconcile_all(since: datetime, bank: Bank) -> Report:
    report = reconcile(since, [bank.slug], apply=True)
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)
    return report


def number_of_refunds(bank: Bank) -> int:
    return sum(each.number_of_refunds for each in bank.charges())


def drill(seed: int, bank: Bank, make_product: MakeProduct, back_up: Callable[[], Backup]) -> None:
    """All comes back as it was: each order, its money to the cent, and its units."""
    products = [make_product(9, price=Decimal(price)) for price in ("10.00", "7.77", "120.00")]
    shop = Shop(seed, products, bank)
    shop.live(BEFORE)
    since = timezone.now()
    backup = back_up()
    shop.live(AFTER)
    before, given_back = facts(), number_of_refunds(bank)

    backup.restore()
    assert facts() != before  # else nothing was tried
    report = reconcile_all(since, bank)

    assert report.findings == []
    assert facts() == before
    assert number_of_refunds(bank) == given_back
    assert_the_bank_agrees(bank)
    assert_goods_agree()
    again = reconcile(since, [bank.slug], apply=True)
    assert (again.steps, again.findings) == ([], [])


@seeds(1, 4)
def test_all_comes_back(
    make_product: MakeProduct, back_up: Callable[[], Backup], seed: int
) -> None:
    drill(seed, BankInMemory(), make_product, back_up)


@pytest.mark.longest
@seeds(1, 2)
def test_all_comes_back_from_stripe(
    make_product: MakeProduct,
    back_up: Callable[[], Backup],
    stripe_standin: StripeStandin,
    settings: LazySettings,
    seed: int,
) -> None:
    drill(seed, BankOfStripe(stripe_standin, settings), make_product, back_up)


@pytest.mark.longest
def test_the_program_is_killed_again_and_again(
    make_product: MakeProduct,
    back_up: Callable[[], Backup],
    stripe_standin: StripeStandin,
    settings: LazySettings,
) -> None:
    bank = BankOfStripe(stripe_standin, settings)
    shop = Shop(7, [make_product(20, price=Decimal("10.00")) for _ in range(3)], bank)
    shop.live(BEFORE)
    since = timezone.now()
    backup = back_up()
    shop.live(AFTER // 2)
    before, given_back = facts(), number_of_refunds(bank)
    backup.restore()

    names = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_API_BASE", "BASE_URL"]
    environment = {name: getattr(settings, name) for name in names}
    arguments = ["reconcile", "--since", since.isoformat(), "--apply"]
    for kills in itertools.count():
        done = rows()
        program = command_line.start(
            *arguments, more={**environment, "PAYMENT_PROVIDER": "stripe"}, start_new_session=True
        )
        while program.poll() is None and (kills == KILLS or rows() == done):
            time.sleep(0.002)
        if program.poll() is not None:
            break
        program.kill()  # as soon as it has done a little
        program.communicate()
    program.communicate()
    assert program.returncode == 0
    assert kills == KILLS
    assert facts() == before
    assert number_of_refunds(bank) == given_back
    assert_goods_agree()


def rows() -> int:
    return Order.objects.count() + Refund.objects.count()


@seeds(1, 4)
def test_a_breakdown_in_the_middle_of_everything(
    make_product: MakeProduct, back_up: Callable[[], Backup], seed: int
) -> None:
    """The worker lagged behind, and stock that came in is lost: so some must get money back."""
    bank = BankInMemory()
    products = [make_product(5, price=Decimal(price)) for price in ("10.00", "7.77")]
    shop = Shop(seed, products, bank)
    shop.live(BEFORE, diligence=0.2)
    since = timezone.now()
    backup = back_up()
    for product in products:
        stock.receive(product, 4)
    shop.live(AFTER, diligence=0.2)

    backup.restore()
    reconcile_all(since, bank)
    do_the_work(bank)
    for order_id in orders.abandoned_orders():
        orders.close_abandoned(order_id)

    assert_the_bank_agrees(bank)
    assert_goods_agree()
    for charge in MemoryBank.charges.values():
        assert charge.given_back <= charge.amount
    assert not Refund.objects.exclude(state=Refund.State.DONE).exists()
    again = reconcile(since, [bank.slug], apply=True)
    assert (again.steps, again.findings) == ([], [])
