"""Buyers, and the list of all that they were told. Import it when Django is set up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from django.db import Error, connection, connections
from procrastinate.exceptions import ConnectorException

from inventory import monitor, reservations
from inventory.models import Product, Reservation
from shop import orders
from shop.models import DemoBankCharge, Order, Payment
from tests.shop.orders.steps import APPROVE, at_bank, order_holds
from tests.tools.drills import Disagreement, make_product

BUYERS = 8
PRODUCTS = 3
UNITS = 1_000_000

State = Order.State


@dataclass
class Promises:
    """All that buyers were told, by the ids that the shop gave them."""

    holds: dict[UUID, str] = field(default_factory=dict)
    """The buyers of the reservations."""
    placed: dict[int, UUID] = field(default_factory=dict)
    """The reservations of the orders."""
    paid: set[int] = field(default_factory=set)
    """Orders whose buyers have read that they are paid."""

    def number(self) -> int:
        return len(self.holds) + len(self.placed) + len(self.paid)


def make_products() -> None:
    for number in range(PRODUCTS):
        make_product(f"lamp-{number}", UNITS)


class Crowd:
    """Buyers, each in a thread, who buy until the database is gone."""

    def __init__(self, promises: Promises) -> None:
        self._promises = promises
        products = list(Product.objects.order_by("pk"))
        self._threads = [
            threading.Thread(target=self._buy, args=[products[number % PRODUCTS]], daemon=True)
            for number in range(BUYERS)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _buy(self, product: Product) -> None:
        try:
            while True:
                self._buy_one(product)
        except (Error, ConnectorException):  # the power is gone
            pass
        finally:
            connections.close_all()

    def _buy_one(self, product: Product) -> None:
        """Note each thing only when the shop has said it."""
        buyer = uuid4().hex
        hold = reservations.reserve(product, 1, buyer=buyer)
        self._promises.holds[hold.pk] = buyer
        order = order_holds([hold], buyer=buyer, key=buyer)
        self._promises.placed[order.pk] = hold.pk
        at_bank(order, APPROVE)
        if orders.settle(order.pk).state == State.PAID:
            self._promises.paid.add(order.pk)


def check(promises: Promises) -> None:
    """Compare the database with the list. Raises Disagreement."""
    try:
        problems = list(_problems(promises))
    except Error as error:
        raise Disagreement(f"the database can't be read: {error}") from error
    if problems:
        raise Disagreement("; ".join(problems))


def _problems(promises: Promises) -> Iterator[str]:
    _read_every_page()
    holds = dict(Reservation.objects.values_list("pk", "buyer"))
    lost = [pk for pk, buyer in promises.holds.items() if holds.get(pk) != buyer]
    if lost:
        yield f"{len(lost)} of {len(promises.holds)} holds are lost"
    placed = dict(Order.objects.values_list("pk", "lines__reservation_id"))
    lost_orders = [pk for pk, hold in promises.placed.items() if placed.get(pk) != hold]
    if lost_orders:
        yield f"{len(lost_orders)} of {len(promises.placed)} orders are lost"
    if unpaid := promises.paid - _paid_orders():
        yield f"{len(unpaid)} of {len(promises.paid)} paid orders aren't paid"
    if broken := monitor.check():
        yield f"the law is broken: {broken}"
    if received := set(Product.objects.values_list("units_received", flat=True)) - {UNITS}:
        yield f"{received} units were received, and not {UNITS}"


def _paid_orders() -> set[int]:
    """Orders that are paid in all books: goods, money, the bank's, and the e-mail to the buyer."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (args ->> 'order_id')::bigint FROM procrastinate_jobs"
            " WHERE task_name = 'shop.tasks.send_order_paid'"
        )
        mailed = {order_id for (order_id,) in cursor.fetchall()}
    charged = DemoBankCharge.objects.filter(state=DemoBankCharge.State.APPROVED).values("key")
    payments = Payment.objects.filter(state=Payment.State.PAID, key__in=charged)
    paid = Order.objects.filter(
        state=State.PAID,
        lines__reservation__status=Reservation.Status.SOLD,
        pk__in=payments.values("order"),
    )
    return set(paid.values_list("pk", flat=True)) & mailed


def _read_every_page() -> None:
    """Read all rows of all tables: PostgreSQL checks the sum of each page."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            name = connection.ops.quote_name(table)
            cursor.execute(f"SELECT count({name}::text) FROM {name}")
