"""The customers of the drill's shop, and what they have.

Ada is the first buyer. She never sends anything, so nobody may read or change what is hers. Bob is
another buyer, who sends requests. Each of their orders has a name, an e-mail address and a street
of its own, by which a page that shows it is known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

from django.db.models.functions import Now

from inventory import reservations
from inventory.models import Product, Reservation
from shop import orders
from shop.models import DemoBankCharge, Order, OutboxMail
from shop.orders import checkout
from shop.payments import demo, demo_dashboard
from shop.payments.demo import Choice

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Person:
    name: str
    key: str


ADA = Person("Ada", "A" * 32)
BOB = Person("Bob", "B" * 32)


@dataclass
class Belongings:
    """The things of a person. Those that end are renewed."""

    person: Person
    orders: dict[str, Order]
    hold: Reservation


def give(person: Person, products: list[Product]) -> Belongings:
    """An order in each state, and a basket with a hold."""
    made = {kind: make(person, products) for kind, make in KINDS.items()}
    return Belongings(person, made, hold_units(person, products))


def renew(mine: Belongings, products: list[Product]) -> dict[str, str]:
    """Make anew what has ended meanwhile; return the new ids by the old ones."""
    changed: dict[str, str] = {}
    for kind, order in mine.orders.items():
        state = order.state
        order.refresh_from_db()
        if order.state != state:
            new = KINDS[kind](mine.person, products)
            changed |= {order.token: new.token, f"/order/{order.pk}/": f"/order/{new.pk}/"}
            mine.orders[kind] = new
    mine.hold.refresh_from_db()
    if mine.hold.status != Reservation.Status.HELD or hasattr(mine.hold, "order_line"):
        new_hold = hold_units(mine.person, products)
        changed[str(mine.hold.pk)] = str(new_hold.pk)
        mine.hold = new_hold
    return changed


def hold_units(person: Person, products: list[Product]) -> Reservation:
    """A hold in the person's basket, after all others in it were released."""
    left = Reservation.objects.of_buyer(person.key).held().filter(order_line=None)
    for each in left.values_list("pk", flat=True):
        reservations.release(each)
    return reservations.reserve(products[0], 1, buyer=person.key)


def place_order(person: Person, products: list[Product], word: str) -> Order:
    """An order that waits to be paid, of a unit of each product."""
    holds = [reservations.reserve(product, 1, buyer=person.key).pk for product in products]
    words = f"{word}{next(_numbers)}x"
    contact = Order(
        name=f"{person.name} {words}",
        email=f"{words}@{person.name}.example".lower(),
        street=f"7 {person.name} {words} Lane",
        postcode="10115",
        town="Springfield",
        country="DE",
    )
    return checkout.place_order(person.key, holds, contact, idempotency_key=f"fuzz {uuid4()}")


def at_bank(order: Order) -> str:
    """Go to the bank, and return the reference of the charge there."""
    page = f"http://localhost/orders/{order.token}/"
    return checkout.start_payment(order.pk, return_url=page).rstrip("/").split("/")[-1]


def pay(order: Order) -> Order:
    demo.choose(at_bank(order), Choice.APPROVE)
    return orders.settle(order.pk)


def make_pending(person: Person, products: list[Product]) -> Order:
    return place_order(person, products, "alfa")


def make_at_bank(person: Person, products: list[Product]) -> Order:
    order = place_order(person, products, "bravo")
    at_bank(order)
    return order


def make_paid(person: Person, products: list[Product]) -> Order:
    order = pay(place_order(person, products, "cobra"))
    OutboxMail.objects.create(order=order, subject="It is on its way", text=f"Soon, {order.name}.")
    return order


def make_shipped(person: Person, products: list[Product]) -> Order:
    order = pay(place_order(person, products, "delta"))
    orders.ship(order.pk, "TRACK-1")
    return Order.objects.get(pk=order.pk)


def make_given_back(person: Person, products: list[Product]) -> Order:
    """Shipped; a unit was refunded, the bank gave money back, and the rest is disputed."""
    order = make_shipped(person, products)
    orders.refund(order.pk, units={order.lines.all()[0].pk: 1}, restock=True)
    charge = DemoBankCharge.objects.get(key=order.payments.get().key)
    demo_dashboard.give_back(charge.pk, Decimal(1), uuid4())
    demo.dispute(charge.reference)
    return Order.objects.get(pk=order.pk)


def make_cancelled(person: Person, products: list[Product]) -> Order:
    order = place_order(person, products, "fjord")
    orders.cancel(order.pk, by=orders.CancelledBy.BUYER)
    return Order.objects.get(pk=order.pk)


def make_lapsed(person: Person, products: list[Product]) -> Order:
    """Its holds are over in time, and not taken back yet."""
    order = place_order(person, products, "gecko")
    Reservation.objects.filter(order_line__order=order).update(expires_at=Now())
    return order


Make = Callable[[Person, list[Product]], Order]
KINDS: dict[str, Make] = {
    "pending": make_pending,
    "at bank": make_at_bank,
    "paid": make_paid,
    "shipped": make_shipped,
    "given back": make_given_back,
    "cancelled": make_cancelled,
    "lapsed": make_lapsed,
}
