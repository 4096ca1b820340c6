"""The words on each page are true when it is read.

Each form of the storefront is opened, and sent after each event that can happen in between. It is
also sent again after the event, and sent with its answer read only after the event. The words on
the page that is read then agree with the database at that moment.

An ordinary run takes so many of these combinations that each sentence is said; a thorough one
takes all, and reads answers later, too.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings as conf
from django.core import mail
from django.db.models import F
from django.db.models.functions import Now

from inventory import reservations
from inventory.models import Product, Reservation
from shop import orders
from shop.models import DemoBankRefund, Order, Payment, Refund, ShopAlert
from shop.money import format_amount
from shop.orders import refunds
from shop.payments import ProviderUnavailable, StartDeclined, Started
from shop.payments.demo import Choice, DemoBank
from tests.conftest import MakeProduct
from tests.shop.orders import facts as truth
from tests.shop.orders.pages import Shopper, hidden, page_of, text_of
from tests.shop.orders.steps import (
    charged_at_bank,
    decide_at_bank,
    decline_refunds,
    dispute_at_bank,
    do_jobs,
    fail_at_bank,
    lapse_all,
    look_into,
    refund_at_bank,
    wait_after_no,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Tabs:
    """Ada, who holds 2 + 3 lamps of ten at €10. She has a form open in one tab, and other tabs."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.ada = Shopper("Ada")
        self.ada.get(f"/products/{product.slug}/")
        for units in (2, 3):
            self.ada.reserve(product, units)
        self.ada.get("/basket/")  # the notices about it are read
        buyer = Reservation.objects.latest("created_at").buyer
        self.facts = truth.Facts(buyer, product)
        self.order: Order | None = None
        self.address = ""
        self.form: dict[str, Any] = {}

    @property
    def holds(self) -> Any:
        return Reservation.objects.filter(buyer=self.facts.buyer)

    # The forms, each as its page has it

    def open_reserve(self) -> None:
        page = self.ada.get(f"/products/{self.product.slug}/")
        self.address = "/basket/holds/"
        self.form = {
            "quantity": "1",
            **{name: hidden(page, name)[0] for name in ("product", "key", "seen_price")},
        }

    def open_line(self, **filled_in: str) -> None:
        page = self.ada.get("/basket/")
        [self.address] = re.findall(r'action="(/basket/holds/[^"]+)"', page)
        self.form = {name: hidden(page, name) for name in ("seen", "key", "hold")}
        self.form.update(filled_in)

    def open_checkout(self) -> None:
        self.address, self.form = "/checkout/", self.ada.checkout_form()

    def open_again(self) -> None:
        """The checkout, on which the countdown has come to 0:00."""
        page = self.ada.get("/checkout/")
        lapse(self)
        seen = {"hold": hidden(page, "hold")}
        part = text_of(self.ada.client.get("/checkout/", seen, headers={"HX-Request": "true"}))
        truth.check_against_facts(part, self.facts)
        self.address = "/checkout/"
        self.form = {
            "key": hidden(page, "key")[0],
            "ended": hidden(part, "ended"),
            "town": "Springfield",
            "again": "1",
        }

    def correct(self) -> None:
        """Send the checkout, and have it open again, to be sent with another town."""
        self.open_checkout()
        if self.order is None:
            self.bank = self.ada.client.post(self.address, self.form)["Location"]
            self.order = Order.objects.latest("pk")
        self.form["town"] = "Elsewhere"

    def open_order(self, button: str) -> None:
        self.place()
        self.address, self.form = f"{page_of(self.the_order)}{button}/", {}

    @property
    def the_order(self) -> Order:
        assert self.order is not None
        return self.order

    # Events in other tabs

    def place(self) -> None:
        """Order the basket, and go to the bank."""
        if self.order is None and self.facts.held.exists():
            self.bank = self.ada.tab().check_out()["Location"]
            self.order = Order.objects.latest("pk")

    # Sending

    def send(self, *, follow: bool = True) -> None:
        self.facts.orders_before = Order.objects.count()
        answer = self.ada.client.post(self.address, self.form)
        assert answer.status_code in (200, 302, 409, 422), text_of(answer)
        if answer.status_code != 302:
            truth.check_against_facts(text_of(answer), self.facts)
        elif follow and not answer["Location"].startswith("/demo-bank/"):
            self.read(answer["Location"])

    def read(self, address: str) -> None:
        """Compare a page with the facts."""
        page = self.ada.get(address.removeprefix("http://testserver"))
        if address.endswith("/basket/"):
            truth.check_basket_against_facts(page, self.facts)
        elif "/products/" in address:
            truth.check_product_against_facts(page, self.facts)
        elif address.endswith("/orders/"):
            truth.check_orders_against_facts(page, self.facts)
        elif "/orders/" in address:
            order = Order.objects.get(token=address.rstrip("/").split("/")[-1])
            truth.check_order_against_facts(page, self.facts, order)
        else:
            truth.check_against_facts(page, self.facts)

    def read_all(self, first: str = "/basket/") -> None:
        pages = [first, "/basket/", "/checkout/", "/orders/"]
        pages += [page_of(order) for order in Order.objects.all()]
        if Product.objects.get(
            pk=self.product.pk
        ).is_active:  # else it has no page, or a page of its own
            pages.append(f"/products/{self.product.slug}/")
        for page in dict.fromkeys(pages):
            self.read(page)


FORMS: dict[str, Callable[[Tabs], object]] = {
    "reserve": lambda tabs: tabs.open_reserve(),
    "fewer": lambda tabs: tabs.open_line(quantity="4"),
    "far fewer": lambda tabs: tabs.open_line(quantity="1"),
    "more": lambda tabs: tabs.open_line(quantity="6"),
    "remove": lambda tabs: tabs.open_line(quantity="5", remove="1"),
    "checkout": lambda tabs: tabs.open_checkout(),
    "reserve again": lambda tabs: tabs.open_again(),
    "correct the checkout": lambda tabs: tabs.correct(),
    "pay": lambda tabs: tabs.open_order("payment"),
    "cancel": lambda tabs: tabs.open_order("cancellation"),
}


def lapse_first(tabs: Tabs) -> None:
    first = tabs.holds.order_by("created_at")[0]
    Reservation.objects.filter(pk=first.pk, status="HELD").update(expires_at=Now())


def lapse(tabs: Tabs) -> None:
    tabs.holds.held().update(expires_at=Now())


def take_back(tabs: Tabs) -> None:
    lapse(tabs)
    reservations.expire_lapsed()


def outlast(tabs: Tabs) -> None:
    """Let an hour go by."""
    lapse(tabs)
    tabs.holds.update(created_at=F("created_at") - conf.HOLD_AT_MOST - timedelta(minutes=1))


def remove(tabs: Tabs) -> None:
    for hold in tabs.facts.held:
        tabs.ada.tab().client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})


def remove_and_reserve(tabs: Tabs) -> None:
    remove(tabs)
    tabs.ada.tab().reserve(tabs.product, 5)


def change(tabs: Tabs, units: int) -> None:
    held = tabs.facts.held
    if held.exists():
        seen = tabs.facts.units(held)
        form = {"quantity": units, "seen": seen, "key": uuid.uuid4()}
        tabs.ada.tab().client.post(f"/basket/holds/{held[0].pk}/", form)


def order_and_cancel(tabs: Tabs) -> None:
    tabs.place()
    if tabs.order:
        orders.cancel(tabs.order.pk)


def order_and_choose(tabs: Tabs, choice: Choice) -> None:
    tabs.place()
    if tabs.order:
        tabs.ada.choose(tabs.bank, choice)
        orders.settle(tabs.order.pk)


def order_in_vain(tabs: Tabs) -> None:
    """Order while the bank can't be reached."""
    if tabs.order is None and tabs.facts.held.exists():
        away = ProviderUnavailable("The bank is away.")
        with patch.object(DemoBank, "start", side_effect=away):
            tabs.ada.tab().check_out()
        tabs.order = Order.objects.latest("pk")


def order_in_vain_and_wait(tabs: Tabs) -> None:
    order_in_vain(tabs)
    lapse(tabs)


def order_in_vain_and_outlast(tabs: Tabs) -> None:
    order_in_vain(tabs)
    take_back(tabs)


def order_and_be_late(tabs: Tabs) -> None:
    """Order, with no answer of the bank, and the units go back."""
    tabs.place()
    if tabs.order:
        lapse_all(tabs.order)
        reservations.expire_lapsed()


def decline_and_lapse(tabs: Tabs) -> None:
    order_and_choose(tabs, Choice.DECLINE)
    lapse(tabs)


def sell_the_rest(tabs: Tabs) -> None:
    left = Product.objects.get(pk=tabs.product.pk).stock
    if left:
        hold = reservations.reserve(tabs.product, left, buyer="somebody")
        reservations.confirm(hold.pk)


def hold_the_rest(tabs: Tabs) -> None:
    left = Product.objects.get(pk=tabs.product.pk).stock
    if left:
        reservations.reserve(tabs.product, left, buyer="somebody")


def lapse_and_sell_all(tabs: Tabs) -> None:
    take_back(tabs)
    sell_the_rest(tabs)


def set_product(**fields: object) -> Callable[[Tabs], object]:
    return lambda tabs: Product.objects.filter(pk=tabs.product.pk).update(**fields)


EVENTS: dict[str, Callable[[Tabs], object]] = {
    "nothing": lambda tabs: None,
    "the time of a part is over": lapse_first,
    "the time is over": lapse,
    "the units were taken back": take_back,
    "an hour has gone by": outlast,
    "removed in another tab": remove,
    "fewer in another tab": lambda tabs: change(tabs, 2),
    "more in another tab": lambda tabs: change(tabs, 7),
    "reserved in another tab": lambda tabs: tabs.ada.tab().reserve(tabs.product, 1),
    "removed and reserved again": remove_and_reserve,
    "staff lets it go": lambda tabs: [reservations.release(hold.pk) for hold in tabs.facts.held],
    "ordered": lambda tabs: tabs.place(),
    "ordered and cancelled": order_and_cancel,
    "ordered and paid": lambda tabs: order_and_choose(tabs, Choice.APPROVE),
    "ordered and declined": lambda tabs: order_and_choose(tabs, Choice.DECLINE),
    "declined, and the time is over": decline_and_lapse,
    "ordered and late": order_and_be_late,
    "ordered, and the bank was away": order_in_vain,
    "the bank was away, and the time is over": order_in_vain_and_wait,
    "the bank was away, and the units went back": order_in_vain_and_outlast,
    "switched off": set_product(is_active=False),
    "dearer": set_product(price=Decimal("12.00")),
    "cheaper": set_product(price=Decimal("8.00")),
    "limit lowered": set_product(max_per_buyer=3),
    "the rest was sold": sell_the_rest,
    "the rest is in another's basket": hold_the_rest,
    "all was sold to others": lapse_and_sell_all,
}
# Besides every fourth, these lead to each sentence that any of all leads to.
FURTHER = [
    ("reserve", "the time of a part is over"),
    ("reserve", "limit lowered"),
    ("fewer", "the rest was sold"),
    ("remove", "all was sold to others"),
    ("checkout", "removed in another tab"),
    ("reserve again", "switched off"),
    ("reserve again", "limit lowered"),
    ("correct the checkout", "ordered and cancelled"),
    ("cancel", "ordered and paid"),
]
# These lead to the sentences that are said only when a form is sent again.
SENT_AGAIN = [
    ("reserve", "removed and reserved again"),
    ("reserve", "ordered and cancelled"),
    ("fewer", "the time of a part is over"),
    ("reserve again", "fewer in another tab"),
]


def every(
    number: int, *parts: Iterable[str], begin: int = 0, further: Collection[tuple[str, ...]] = ()
) -> list[Any]:
    """All combinations; an ordinary run has every fourth, say, and some further ones.

    Counted so, each part meets others of all kinds.
    """
    combinations = []
    for each in itertools.product(*map(enumerate, parts)):
        places, names = zip(*each, strict=True)
        is_ordinary = sum(places) % number == begin or names in further
        marks = [] if is_ordinary else [pytest.mark.thorough]
        combinations.append(pytest.param(*names, id="-".join(names), marks=marks))
    return combinations


@pytest.fixture
def tabs(make_product: MakeProduct) -> Tabs:
    return Tabs(make_product(10, name="Lamp", price=Decimal("10.00")))


@pytest.mark.parametrize(("form", "event"), every(4, FORMS, EVENTS, further=FURTHER))
def test_a_form_that_was_open_while_something_happened(tabs: Tabs, form: str, event: str) -> None:
    FORMS[form](tabs)
    EVENTS[event](tabs)
    tabs.send()
    tabs.read_all()


@pytest.mark.slow
@pytest.mark.parametrize(("form", "event"), every(12, FORMS, EVENTS, further=SENT_AGAIN))
def test_a_form_sent_again_after_something_happened(tabs: Tabs, form: str, event: str) -> None:
    FORMS[form](tabs)
    tabs.send()
    EVENTS[event](tabs)
    tabs.send()
    tabs.read_all()


@pytest.mark.thorough  # the same sentences
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("page", ["/basket/", "product"])
def test_an_answer_that_is_read_after_something_happened(
    tabs: Tabs, form: str, event: str, page: str
) -> None:
    FORMS[form](tabs)
    tabs.send(follow=False)
    EVENTS[event](tabs)
    if page != "product":
        tabs.read_all(page)
    elif Product.objects.get(pk=tabs.product.pk).is_active:
        tabs.read_all(f"/products/{tabs.product.slug}/")


# Money that goes: the order's page, the list of orders and the e-mails


def give_back(order: Order) -> None:
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)


def decline(order: Order) -> None:
    decline_refunds(order)
    give_back(order)


def let_it_fail(order: Order) -> None:
    give_back(order)
    fail_at_bank(*DemoBankRefund.objects.all())


def give_by_hand(order: Order) -> None:
    decline(order)
    for refund in Refund.objects.filter(state="FAILED"):
        refunds.record_by_hand(refund.pk, "transfer")


def refund_there(order: Order) -> None:
    give_back(order)
    left = charged_at_bank(order)
    if left:
        refund_at_bank(order, min(left, Decimal("7.00")))


def refund_there_in_vain(order: Order) -> None:
    refund_there(order)
    look_into(order)
    fail_at_bank(*DemoBankRefund.objects.filter(key=""))


def dispute(order: Order, state: str = "OPEN") -> None:
    give_back(order)
    left = charged_at_bank(order)
    if left:
        decide_at_bank(dispute_at_bank(order, left), state)


def dispute_after_decline(order: Order, state: str = "OPEN") -> None:
    decline(order)
    decide_at_bank(dispute_at_bank(order), state)


CLOSING: dict[str, Callable[[Order], object]] = {
    "paid": lambda order: None,
    "shipped": lambda order: orders.ship(order.pk),
    "returned in part": lambda order: orders.refund(order.pk, units={order.lines.all()[0].pk: 1}),
    "returned": lambda order: orders.refund(order.pk, restock=True),
    "cancelled": lambda order: orders.cancel(order.pk),
}
GOING: dict[str, Callable[[Order], object]] = {
    "owed": lambda order: None,
    "given back": give_back,
    "declined": decline,
    "failed later": let_it_fail,
    "given by hand": give_by_hand,
    "given back at the bank": refund_there,
    "given back at the bank in vain": refund_there_in_vain,
    "disputed": dispute,
    "dispute won": lambda order: dispute(order, "WON"),
    "dispute lost": lambda order: dispute(order, "LOST"),
    "declined and disputed": dispute_after_decline,
    "declined, and dispute lost": lambda order: dispute_after_decline(order, "LOST"),
}


@pytest.mark.parametrize(
    ("closed", "how", "first"), every(3, CLOSING, GOING, ["it is closed", "it goes"], begin=2)
)
def test_money_that_goes(tabs: Tabs, closed: str, how: str, first: str) -> None:
    tabs.place()
    order = tabs.order
    assert order is not None
    tabs.ada.choose(tabs.bank, Choice.APPROVE)
    orders.settle(order.pk)
    steps = [CLOSING[closed], GOING[how]]
    for step in steps if first == "it is closed" else reversed(steps):
        step(order)
        look_into(order)
        do_jobs("send_order_refunded")
        tabs.read(page_of(order))
        tabs.read("/orders/")
        check_e_mails(order)
    give_back(order)
    look_into(order)
    tabs.read(page_of(order))
    tabs.read("/orders/")


def check_e_mails(order: Order) -> None:
    """The last e-mail about each refund says how it stands."""
    last: dict[str, str] = {}
    for message in mail.outbox:
        if "refund" in message.subject.lower():
            is_unpaid = "still owe" in message.body or "declined to give it back" in message.body
            assert ("not paid out" in message.subject) == is_unpaid
            [amount] = re.findall(r"€[\d,]+\.\d\d", str(message.body).split("\n\n")[1])
            last[amount] = str(message.body)
    for refund in Refund.objects.all():
        text = last.get(format_amount(refund.amount, "EUR"), "")
        if refund.state == "DONE":
            assert "We have given you back" in text
        elif refund.state in ("DUE", "FAILED"):
            assert "owe" in text
            assert "We have given you back" not in text


def test_a_payment_that_the_bank_does_not_accept(
    tabs: Tabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decline(bank: DemoBank, payment: Payment) -> Started:
        raise StartDeclined("The account is restricted.")

    tabs.ada.reserve(tabs.product, 1)
    with monkeypatch.context() as patched:
        patched.setattr(DemoBank, "start", decline)
        tabs.ada.check_out()
        order = Order.objects.get()
        for _ in range(3):
            tabs.ada.pay(order)
            tabs.read(page_of(order))
            tabs.read("/orders/")
        assert "does not accept this payment, and you are not the cause" in tabs.ada.look(order)
        assert "another try helps only after they have mended it" in tabs.ada.look(order)
        assert f"Try to pay {format_amount(order.total, 'EUR')}" in tabs.ada.look(order)
    assert order.payments.count() == 1
    assert ShopAlert.objects.get().kind == "START_DECLINED"
    wait_after_no(order)
    assert "/demo-bank/" in tabs.ada.pay(order)["Location"]
