"""Any life of orders, driven at random: nothing is ever stuck.

A model in Python knows the right state of each order, each unit and each cent, independently of the
database. After each step the two are compared, and the law is checked. At the end of each life the
shop's own functions must bring every unit back on sale and every cent back to its buyer, whatever
has happened to the orders before.

LIFE_STEPS=10000 in the environment drives it for longer.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.conf import settings as shop_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from inventory import monitor, reservations, stock
from inventory.exceptions import (
    BuyerLimitExceeded,
    InsufficientStock,
    InventoryError,
    NotForSale,
    ReservationEnded,
)
from inventory.models import Product, Reservation
from shop import orders
from shop.exceptions import InvalidRefund, LimitPerCustomer, NotInThisState
from shop.models import DemoBankDispute, DemoBankRefund, Order, OrderLine, Refund
from shop.orders import refunds
from shop.payments.demo import Choice
from tests.shop.orders.steps import (
    at_bank,
    charged_at_bank,
    choose_again,
    close_payment_time,
    decide_at_bank,
    decline_refunds,
    dispute_at_bank,
    fail_at_bank,
    go_to_bank,
    lapse_all,
    look_into,
    now,
    order_holds,
    refund_at_bank,
)

STEPS_A_LIFE = 25
STEPS = int(os.environ.get("LIFE_STEPS", "300"))

few = st.integers(min_value=1, max_value=3)
_numbers = itertools.count(1)


@dataclass(eq=False)
class Item:
    """The model of a product."""

    pk: int
    price: Decimal
    limit: int | None
    received: int
    is_active: bool = True


@dataclass(eq=False)
class Line:
    """The model of units that a buyer ordered."""

    item: Item
    quantity: int
    price: Decimal
    hold: UUID
    pk: int = 0
    status: str = "HELD"
    is_lapsed: bool = False
    refunded: int = 0
    returned: int = 0

    @property
    def left(self) -> int:
        return self.quantity - self.refunded

    @property
    def off_sale(self) -> int:
        return self.refunded - self.returned

    @property
    def is_gone(self) -> bool:
        return self.status in ("RELEASED", "EXPIRED")

    @property
    def units_of_buyer(self) -> int:
        """Units that count against a limit. A lapsed hold is as good as stock."""
        if self.status == "SOLD":
            return self.left
        return self.quantity if self.status == "HELD" and not self.is_lapsed else 0


@dataclass(eq=False)
class Life:
    """The model of an order, and of the bank's books about it."""

    order: Order
    buyer: str
    email: str
    shipping: Decimal
    lines: list[Line]
    state: str = "PENDING"
    payment: str = ""
    """The last payment: STARTED, APPROVED or DECLINED (which only the bank knows), or ENDED."""
    paid: Decimal = Decimal(0)
    given_back: Decimal = Decimal(0)
    """By the shop, or still owed."""
    goodwill: Decimal = Decimal(0)
    """The part of it that was for no units."""
    made_at_bank: list[DemoBankRefund] = field(default_factory=list)
    dispute: DemoBankDispute | None = None

    @property
    def total(self) -> Decimal:
        return self.shipping + sum(line.price * line.quantity for line in self.lines)

    @property
    def at_bank(self) -> Decimal:
        """The sum given back at the bank, by nobody's wish in the shop."""
        return sum((made.amount for made in self.made_at_bank), Decimal(0))

    @property
    def taken(self) -> Decimal:
        has_money = self.dispute is not None and self.dispute.state != "WON"
        return self.dispute.amount if self.dispute is not None and has_money else Decimal(0)

    @property
    def kept(self) -> Decimal:
        return max(self.paid - self.given_back - self.at_bank - self.taken, Decimal(0))

    @property
    def worth(self) -> Decimal:
        """The price of what the buyer has or will get, less what went back for no units."""
        if not (self.is_open and self.has_units):
            return Decimal(0)
        price = self.shipping + sum(line.price * line.left for line in self.lines)
        return max(price - self.goodwill - self.at_bank, Decimal(0))

    def owe_what_is_over(self) -> None:
        self.given_back += max(self.kept - self.worth, Decimal(0))

    @property
    def is_open(self) -> bool:
        return self.state in ("PAID", "SHIPPED")

    @property
    def has_units(self) -> bool:
        return any(line.left for line in self.lines)


class LifeOfOrders(RuleBasedStateMachine):
    lives = Bundle("lives")

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Life] = []
        self.items: list[Item] = []

    @initialize(shipping=st.sampled_from([Decimal(0), Decimal("5.00")]))
    def open_the_shop(self, shipping: Decimal) -> None:
        shop_settings.SHIPPING_COST = self.shipping = shipping
        self.name = f"life-{next(_numbers)}"
        for price, limit in ((Decimal("10.00"), None), (Decimal(0), None), (Decimal("7.50"), 3)):
            sku = f"{self.name}-{len(self.items)}"
            product = Product.objects.create(
                sku=sku, slug=sku, name="Alive", price=price, max_per_buyer=limit
            )
            stock.receive(product, 6)
            self.items.append(Item(product.pk, price, limit, received=6))

    # Steps of buyers

    @rule(
        target=lives,
        which=st.sets(st.integers(0, 2), min_size=1, max_size=2),
        units=few,
        buyer=st.sampled_from("AB"),
        email=st.sampled_from("12"),
    )
    def place(self, which: set[int], units: int, buyer: str, email: str) -> object:
        buyer, email = f"{buyer} of {self.name}", f"{email}.{self.name}@example.org"
        lines: list[Line] = []
        for item in (self.items[number] for number in sorted(which)):
            reasons = self.reasons_to_refuse(item, units, buyer)
            try:
                hold = reservations.reserve(product_of(item), units, buyer=buyer)
            except InventoryError as error:
                assert type(error) in reasons, (error, reasons)
                return self.release(lines)
            assert not reasons
            assert hold.unit_price == item.price
            lines.append(Line(item, units, item.price, hold.pk))
        over = [
            line
            for line in lines
            if line.item.limit is not None
            and line.quantity + self.units_of_customer(line.item, buyer, email) > line.item.limit
        ]
        try:
            holds = [Reservation.objects.get(pk=line.hold) for line in lines]
            order = order_holds(holds, buyer=buyer, email=email, key=f"{self.name} {holds[0].pk}")
        except LimitPerCustomer:
            assert over
            return self.release(lines)
        assert not over
        for line in lines:
            line.pk = OrderLine.objects.get(reservation=line.hold).pk
        life = Life(order, buyer, email, self.shipping, lines)
        self.known.append(life)
        self.note_holds_taken_back()
        assert order.total == life.total
        return life

    def release(self, lines: list[Line]) -> object:
        for line in lines:
            reservations.release(line.hold)
        self.note_holds_taken_back()
        return multiple()

    @rule(life=lives, choice=st.sampled_from([Choice.APPROVE, Choice.DECLINE, None]))
    def pay(self, life: Life, choice: Choice | None) -> None:
        """Go to the bank, and choose there or not; the shop gets no message."""
        self.settle(life)
        try:
            go_to_bank(life.order)
        except NotInThisState:
            assert life.state != "PENDING"
            return
        except ReservationEnded:
            assert any(line.is_gone for line in life.lines)
            return
        assert life.state == "PENDING"
        for line in life.lines:
            assert line.status == "HELD"
            line.is_lapsed = False
        if life.total == 0:
            self.hand_over(life)
            return
        life.payment = "STARTED"
        if choice is not None:
            at_bank(life.order, choice)
            life.payment = "APPROVED" if choice is Choice.APPROVE else "DECLINED"

    @rule(life=lives)
    def approve_on_the_page_left_open(self, life: Life) -> None:
        if life.payment == "STARTED":
            choose_again(life.order.payments.order_by("-pk")[0], Choice.APPROVE)
            life.payment = "APPROVED"

    # Steps of bank, shop and clock

    @rule(life=lives)
    def bank_gives_up(self, life: Life) -> None:
        close_payment_time(life.order)
        if life.payment == "STARTED":
            life.payment = "DECLINED"

    @rule(life=lives)
    def settle(self, life: Life) -> None:
        reasons = self.reasons_not_to_deliver(life)
        orders.settle(life.order.pk)
        if life.payment == "APPROVED":
            life.paid += life.total
            if life.state != "PENDING":
                life.given_back += life.total
            elif reasons:
                self.close(life, "REFUNDED")
                life.given_back += life.total
                [refund] = Refund.objects.filter(payment__order=life.order)
                assert refund.reason in reasons
            else:
                self.hand_over(life)
        if life.payment in ("APPROVED", "DECLINED"):
            life.payment = "ENDED"
        self.note_holds_taken_back()

    @rule(life=lives)
    def time_passes(self, life: Life) -> None:
        lapse_all(life.order)
        for line in life.lines:
            line.is_lapsed = line.is_lapsed or line.status == "HELD"

    @rule()
    def worker_comes_by(self) -> None:
        reservations.expire_lapsed()
        for life in self.known:
            for line in life.lines:
                if line.status == "HELD" and line.is_lapsed:
                    line.status = "EXPIRED"
        for life in self.known:
            self.settle(life)
        for order_id in orders.abandoned_orders():
            orders.close_abandoned(order_id)
        for life in self.known:
            is_left = life.payment != "STARTED" and all(line.is_gone for line in life.lines)
            if life.state == "PENDING" and is_left:
                life.state = "CANCELLED"
        for refund_id in refunds.due_refunds():
            refunds.carry_out(refund_id)

    # Money that goes at the bank

    @rule(life=lives, cents=st.integers(1, 6000))
    def customer_disputes(self, life: Life, cents: int) -> None:
        left = charged_at_bank(life.order)
        if life.paid and left and life.dispute is None:
            life.dispute = dispute_at_bank(life.order, min(left, Decimal(cents) / 100))
            self.look_into(life)

    @rule(life=lives, state=st.sampled_from(["WON", "LOST"]))
    def dispute_is_decided(self, life: Life, state: str) -> None:
        if life.dispute is not None and life.dispute.state == "OPEN":
            decide_at_bank(life.dispute, state)
            self.look_into(life)

    @rule(life=lives, cents=st.integers(1, 6000))
    def bank_gives_back(self, life: Life, cents: int) -> None:
        """Staff do it there. A refund that the bank owes us has its own tests (test_statements)."""
        self.carry_out(life)
        owed = Refund.objects.filter(payment__order=life.order, state__in=["DUE", "FAILED"])
        left = charged_at_bank(life.order)
        if life.paid and left and not life.taken and not owed.exists():
            made = refund_at_bank(life.order, min(left, Decimal(cents) / 100))
            life.made_at_bank.append(made)
            self.look_into(life)

    @rule(life=lives)
    def it_comes_back_to_the_bank(self, life: Life) -> None:
        if life.made_at_bank:
            fail_at_bank(life.made_at_bank.pop())
            self.look_into(life)

    @rule(life=lives)
    def our_refund_fails_later(self, life: Life) -> None:
        amounts = [made.amount for made in life.made_at_bank]
        ours = DemoBankRefund.objects.filter(key__in=keys_of_refunds(life.order), state="DONE")
        if made := ours.exclude(amount__in=amounts).first():
            fail_at_bank(made)
            self.look_into(life)

    @rule(life=lives, declines=st.booleans())
    def bank_declines_refunds(self, life: Life, declines: bool) -> None:
        decline_refunds(life.order, declines=declines)

    @rule(life=lives)
    def carry_out(self, life: Life) -> None:
        """Try all that we owe, also what was declined."""
        for refund in Refund.objects.filter(payment__order=life.order):
            refunds.carry_out(refund.pk)

    def look_into(self, life: Life) -> None:
        look_into(life.order)
        life.owe_what_is_over()

    # Steps of staff

    @rule(life=lives)
    def cancel(self, life: Life) -> None:
        try:
            orders.cancel(life.order.pk)
        except NotInThisState:
            assert life.state == "SHIPPED"
            return
        assert life.state != "SHIPPED"
        if life.state == "PENDING":
            self.close(life, "CANCELLED")
        elif life.state == "PAID":
            for line in life.lines:
                line.returned += line.left
                line.refunded = line.quantity
            life.given_back += life.kept
            life.state = "CANCELLED"

    @rule(life=lives)
    def ship(self, life: Life) -> None:
        try:
            orders.ship(life.order.pk)
        except NotInThisState:
            assert life.state not in ("PAID", "SHIPPED")
        else:
            life.state = "SHIPPED"

    @rule(life=lives, number=st.integers(0, 1), units=few, restock=st.booleans())
    def refund_units(self, life: Life, number: int, units: int, restock: bool) -> None:
        line = life.lines[number % len(life.lines)]
        try:
            orders.refund(life.order.pk, units={line.pk: units}, restock=restock)
        except NotInThisState:
            assert not life.is_open
        except InvalidRefund:
            assert units > line.left
        else:
            assert life.is_open
            self.return_goods(life, {line: units}, restock)

    @rule(life=lives, restock=st.booleans())
    def refund_all(self, life: Life, restock: bool) -> None:
        try:
            orders.refund(life.order.pk, restock=restock)
        except NotInThisState:
            assert not life.is_open
        else:
            assert life.is_open
            self.return_goods(life, {line: line.left for line in life.lines}, restock)

    @rule(life=lives, cents=st.integers(1, 4000), all_of_it=st.booleans())
    def refund_amount(self, life: Life, cents: int, all_of_it: bool) -> None:
        amount = life.kept if all_of_it else Decimal(cents) / 100
        try:
            orders.refund(life.order.pk, amount=amount)
        except NotInThisState:
            assert not life.is_open
        except InvalidRefund:
            assert not 0 < amount <= life.kept
        else:
            assert life.is_open
            life.given_back += amount
            life.goodwill += amount

    @rule(life=lives, number=st.integers(0, 1), units=few)
    def restock(self, life: Life, number: int, units: int) -> None:
        line = life.lines[number % len(life.lines)]
        try:
            orders.restock(life.order.pk, {line.pk: units})
        except InvalidRefund:
            assert units > line.off_sale
        else:
            line.returned += units

    @rule(number=st.integers(0, 2), units=few)
    def receive(self, number: int, units: int) -> None:
        item = self.items[number]
        stock.receive(product_of(item), units)
        item.received += units

    @rule(number=st.integers(0, 2), is_active=st.booleans())
    def switch(self, number: int, is_active: bool) -> None:
        self.items[number].is_active = is_active
        Product.objects.filter(pk=self.items[number].pk).update(is_active=is_active)

    @rule(number=st.integers(0, 2), cents=st.integers(0, 2000))
    def change_price(self, number: int, cents: int) -> None:
        self.items[number].price = price = Decimal(cents) / 100
        Product.objects.filter(pk=self.items[number].pk).update(price=price)

    @rule(number=st.integers(0, 2), limit=st.none() | st.integers(1, 4))
    def change_limit(self, number: int, limit: int | None) -> None:
        self.items[number].limit = limit
        Product.objects.filter(pk=self.items[number].pk).update(max_per_buyer=limit)

    # The model

    def lines_of(self, item: Item) -> list[Line]:
        return [line for life in self.known for line in life.lines if line.item is item]

    def available_units(self, item: Item) -> int:
        """Units that a buyer can take: on the shelf, or in lapsed holds."""
        lapsed = sum(
            line.quantity
            for line in self.lines_of(item)
            if line.status == "HELD" and line.is_lapsed
        )
        return self.on_shelf(item) + lapsed

    def on_shelf(self, item: Item) -> int:
        return item.received - self.held(item) - self.sold(item)

    def held(self, item: Item) -> int:
        return sum(line.quantity for line in self.lines_of(item) if line.status == "HELD")

    def sold(self, item: Item) -> int:
        lines = self.lines_of(item)
        return sum(line.quantity - line.returned for line in lines if line.status == "SOLD")

    def units_of_customer(self, item: Item, buyer: str, email: str = "") -> int:
        return sum(
            line.units_of_buyer
            for life in self.known
            if buyer == life.buyer or email == life.email
            for line in life.lines
            if line.item is item
        )

    def reasons_to_refuse(self, item: Item, units: int, buyer: str) -> list[type[InventoryError]]:
        """The reasons to refuse the buyer; without any, the units must be granted."""
        reasons: list[type[InventoryError]] = []
        if not item.is_active:
            reasons.append(NotForSale)
        if units > self.available_units(item):
            reasons.append(InsufficientStock)
        if item.limit is not None and self.units_of_customer(item, buyer) + units > item.limit:
            reasons.append(BuyerLimitExceeded)
        return reasons

    def reasons_not_to_deliver(self, life: Life) -> list[str]:
        """The reasons why a payment comes too late; without any, the order must be delivered."""
        reasons: list[str] = []
        for line in (line for line in life.lines if line.is_gone):
            item = line.item
            if not item.is_active:
                reasons.append(Refund.Reason.NOT_FOR_SALE)
            if line.quantity > self.available_units(item):
                reasons.append(Refund.Reason.GOODS_GONE)
            mine = self.units_of_customer(item, life.buyer, life.email)
            if item.limit is not None and mine + line.quantity > item.limit:
                reasons.append(Refund.Reason.OVER_LIMIT)
        return reasons

    def hand_over(self, life: Life) -> None:
        life.state = "PAID"
        for line in life.lines:
            line.status = "SOLD"

    def close(self, life: Life, state: str) -> None:
        """End the order without a sale."""
        life.state = state
        for line in life.lines:
            line.status = "RELEASED" if line.status == "HELD" else line.status

    def return_goods(self, life: Life, units: dict[Line, int], restock: bool) -> None:
        worth = Decimal(0)
        for line, number in units.items():
            worth += line.price * number
            line.refunded += number
            line.returned += number if restock else 0
        if not life.has_units:
            worth += life.shipping
        life.given_back += min(worth, life.kept)
        if not life.has_units:
            life.state = "REFUNDED"

    def note_holds_taken_back(self) -> None:
        """Note the lapsed holds that the database took back: it may choose among these alone."""
        for line in (line for life in self.known for line in life.lines):
            status = Reservation.objects.get(pk=line.hold).status
            if status != line.status:
                assert (line.status, status, line.is_lapsed) == ("HELD", "EXPIRED", True)
                line.status = status

    # Invariants

    @invariant()
    def orders_units_and_money_agree_with_the_model(self) -> None:
        for life in self.known:
            order = now(life.order)
            assert (order.state, order.kept()) == (life.state, life.kept)
            for line in life.lines:
                row = OrderLine.objects.select_related("reservation").get(pk=line.pk)
                sale = row.reservation
                assert (row.refunded, sale.status) == (line.refunded, line.status)
                assert (sale.returned, sale.written_off) == (line.returned, line.off_sale)

    @invariant()
    def the_law_is_kept(self) -> None:
        for item in self.items:
            state = monitor.state_of(item.pk)
            assert state.keeps_law, state
            assert (state.available, state.held, state.sold) == (
                self.on_shelf(item),
                self.held(item),
                self.sold(item),
            )

    def teardown(self) -> None:
        """Bring back every unit and every cent."""
        for life in self.known:
            decline_refunds(life.order, declines=False)
            if life.dispute is not None and life.dispute.state == "OPEN":
                decide_at_bank(life.dispute, "WON")
            look_into(life.order)
            close_payment_time(life.order)
            order = orders.settle(life.order.pk)
            if order.state == Order.State.SHIPPED:
                orders.refund(order.pk, restock=True)
            else:
                orders.cancel(order.pk)
            off_sale = {line.pk: line.off_sale for line in off_sale_lines(order)}
            if off_sale:
                orders.restock(order.pk, off_sale)
        for life in self.known:
            self.carry_out(life)
        for item in self.items:
            assert monitor.state_of(item.pk).available == item.received
        for life in self.known:
            # The bank gives nothing back of a payment whose dispute is lost.
            is_lost = life.dispute is not None and life.dispute.state == "LOST"
            owed = Refund.objects.filter(payment__order=life.order, state="FAILED")
            assert is_lost or not owed.exists()
            by_hand = sum((refund.amount for refund in owed), Decimal(0))
            for refund in owed:
                refunds.record_by_hand(refund.pk, "transfer")
            assert charged_at_bank(life.order) == by_hand
            assert now(life.order).kept() == 0


def product_of(item: Item) -> Product:
    return Product.objects.get(pk=item.pk)


def keys_of_refunds(order: Order) -> list[str]:
    return list(Refund.objects.filter(payment__order=order).values_list("key", flat=True))


def off_sale_lines(order: Order) -> list[OrderLine]:
    lines = Order.objects.get(pk=order.pk).lines.select_related("reservation")
    return [line for line in lines if line.off_sale]


@pytest.mark.django_db(transaction=True)
def test_from_every_state_each_unit_and_each_cent_can_come_back(settings: LazySettings) -> None:
    """``settings`` puts the shipping cost back."""
    run_any_life()


def run_any_life() -> None:
    run_state_machine_as_test(
        LifeOfOrders,
        settings=settings(
            max_examples=max(1, STEPS // STEPS_A_LIFE),
            stateful_step_count=STEPS_A_LIFE,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
