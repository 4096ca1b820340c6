"""Everything that changes an order, a basket or the stock, against everything else and itself.

A customer has two units in the basket, an order paid at the bank (the shop doesn't know it yet, and
its hold lapsed), and a paid order of two units. One more unit is available. Two requests come
at once. In each order of their SQL statements the law is kept, money and goods agree, nobody sees
an error of the program, and the end is as if one request had come after the other.

The requests read and write the bank's books as well as the shop's. Each run tries a few orders of
those pairs that meet at the same order, basket or hold. ``pytest --thorough`` tries all pairs, in
all orders with one preemption, which show every known race (``bounds`` in tests/shop/conftest.py).
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory import monitor, reservations, stock
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation, StockMovement
from inventory.races import RaceFound, Run, explore
from shop import holds, orders
from shop.exceptions import NotInThisState, ShopError
from shop.middleware import buyer
from shop.models import DemoBankCharge, HoldAddress, Order, OrderLine, Payment, Refund, Refusal
from shop.orders import checkout
from shop.payments import demo
from tests.conftest import MakeProduct
from tests.kept_rows import keep_rows, put_rows_back
from tests.race_bounds import Bounds
from tests.shop.admin.conftest import fields_of
from tests.shop.orders import steps
from tests.shop.orders.pages import signed_cookie

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BUYER = "A" * 32
EMPTIED = ["procrastinate_events", "procrastinate_jobs", "django_admin_log"]
WITHOUT_NUMBERS = ["inventory_reservation", "shop_holdaddress"]
# The rows of these models are put back before each schedule. Each model refers to later ones.
TABLES = [
    "shop_refund",
    "shop_paymentevent",
    "shop_payment",
    "shop_orderline",
    "shop_order",
    "shop_demobankrefund",
    "shop_demobankcharge",
    "shop_refusal",
    "shop_holdaddress",
    "inventory_stockalert",
    "inventory_stockmovement",
    "inventory_reservation",
    "inventory_product",
]

ORDER = "idempotency_key"  # names the orders, alike in each schedule
# It has all that `agrees` looks at, so that equal ends are checked only once.
COMPARED: dict[type[Model], tuple[str, ...]] = {
    Product: ("stock", "units_received", "description"),
    Reservation: ("buyer", "status", "quantity", "returned", "written_off", "unit_price"),
    StockMovement: ("units", "reason"),
    Order: (ORDER, "state", "total", "shipping_cost", "tracking"),
    OrderLine: (
        f"order__{ORDER}",
        *("quantity", "refunded", "unit_price"),
        *("reservation__status", "reservation__quantity", "reservation__unit_price"),
        *("reservation__returned", "reservation__written_off"),
    ),
    Payment: (f"order__{ORDER}", "state", "amount"),
    Refund: (f"payment__order__{ORDER}", "state", "reason", "amount"),
    DemoBankCharge: ("state", "amount"),
    ProcrastinateJob: ("task_name",),
    LogEntry: ("change_message",),
}
BOOKS = ";".join(
    str(model._default_manager.order_by().values_list(*fields).query)
    for model, fields in COMPARED.items()
)


class Shop:
    """The customer, the basket and the orders, in their state before each schedule."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.office = Client()
        self.office.force_login(User.objects.create_superuser("staff"))
        self.form = reverse("admin:inventory_product_change", args=[product.pk])

        self.fill()
        self.keep()

    def fill(self) -> None:
        stock.receive(self.product, 6)
        self.pending = steps.place((self.product, 1), buyer=BUYER)
        steps.at_bank(self.pending, steps.APPROVE)
        steps.lapse_all(self.pending)
        self.payment = Payment.objects.get()
        self.paid = steps.place((self.product, 2), buyer=BUYER)
        steps.at_bank(self.paid, steps.APPROVE)
        orders.settle(self.paid.pk)
        self.line = OrderLine.objects.get(order=self.paid)
        self.hold = reservations.reserve(self.product, 2, buyer=BUYER)
        self.key = str(uuid.UUID(int=1))
        self.seen = Decimal(0)  # of the paid order's money, given back

    def keep(self) -> None:
        """Remember all rows as they are now."""
        keep_rows(TABLES)

    def open(self) -> None:
        """Put all rows back."""
        emptied = [f"DELETE FROM {table}" for table in EMPTIED]
        # Jobs contain keys, and jobs are compared: so keys begin at the same number each time.
        numbered = [
            f"SELECT setval('{table}_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM kept_{table}))"
            for table in TABLES
            if table not in WITHOUT_NUMBERS
        ] + [f"SELECT setval('{table}_id_seq', 1)" for table in EMPTIED]
        put_rows_back(TABLES, and_then=emptied + numbered)

    def books(self) -> object:
        """The state to compare: all units, money and open jobs, without keys and times."""
        found = []
        with connection.cursor() as cursor:
            cursor.execute(BOOKS)
            while True:
                found.append(sorted(cursor.fetchall()))
                if not cursor.cursor.nextset():
                    return found

    # Requests

    def place_order(self) -> Order:
        return steps.order_holds([self.hold], buyer=BUYER, key=self.key)

    def pay(self) -> None:
        """It settles first, in a transaction of its own: so its answer depends on the moment."""
        with suppress(NotInThisState):
            checkout.start_payment(self.pending.pk, return_url=steps.RETURN_URL)

    def refund(self, *, restock: bool = True) -> Order:
        units = {self.line.pk: 1}
        return orders.refund(self.paid.pk, units=units, restock=restock, seen=self.seen)

    def refund_one_off_sale(self) -> None:
        orders.refund(self.paid.pk, units={self.line.pk: 1})
        self.seen = self.product.price

    def restock(self) -> Order:
        return orders.restock(self.paid.pk, {self.line.pk: 1}, seen_units=0)

    def client(self) -> Client:
        client = Client()
        client.cookies[buyer.cookie_name()] = signed_cookie(BUYER)
        return client

    def post(self, page: str, *arguments: object, **sent: object) -> object:
        return self.client().post(reverse(page, args=arguments), sent)

    def post_reservation(self) -> object:
        return self.post("basket-holds", product=self.product.slug, quantity=1, key=self.key)

    def post_checkout(self, **sent: object) -> object:
        form = {
            "hold": str(self.hold.pk),
            "seen_total": 2 * self.product.price + self.pending.shipping_cost,
            "key": self.key,
            "name": "Ada",
            "email": "ada@example.org",
            "address": "1 Market Street",
            "postcode": "10115",
            "town": "Springfield",
            "country": "DE",
        }
        return self.post("checkout", **{**form, **sent})

    def post_event(self) -> object:
        body = json.dumps({"id": "event", "payment": str(self.payment.key)}).encode()
        return self.client().post(
            reverse("payment-events", args=["demo"]),
            body,
            content_type="application/json",
            headers={demo.SIGNATURE: demo.sign(body)},
        )

    def open_form(self) -> None:
        self.fields = fields_of(self.office.get(self.form).content.decode(), "description")

    def save_in_admin(self) -> object:
        """Send the product's form, as it was opened before, with another description."""
        return self.office.post(self.form, {**self.fields, "description": "New words."})


FUNCTIONS: dict[str, Callable[[Shop], object]] = {
    "settle": lambda shop: orders.settle(shop.pending.pk),
    "cancel": lambda shop: orders.cancel(shop.pending.pk),
    "close": lambda shop: orders.close_abandoned(shop.pending.pk),
    "pay": lambda shop: shop.pay(),
    "cancel paid": lambda shop: orders.cancel(shop.paid.pk),
    "refund": lambda shop: shop.refund(),
    "ship": lambda shop: orders.ship(shop.paid.pk, "PARCEL-1"),
    "order": lambda shop: shop.place_order(),
    "shrink": lambda shop: holds.shrink_hold(BUYER, shop.hold.pk, 1, seen=2),
    "take out": lambda shop: holds.release_hold(BUYER, shop.hold.pk),
    "reserve": lambda shop: reservations.reserve(shop.product, 2, buyer="B"),
    "expire": lambda shop: reservations.expire_lapsed(shop.product.pk),
}
ENDPOINTS: dict[str, Callable[[Shop], object]] = {
    "POST reservation": lambda shop: shop.post_reservation(),
    "POST change": lambda shop: shop.post(
        "basket-hold", shop.hold.pk, quantity=1, seen=2, key=shop.key
    ),
    "POST removal": lambda shop: shop.post("basket-hold", shop.hold.pk, remove="1"),
    "POST checkout": lambda shop: shop.post_checkout(),
    "POST payment": lambda shop: shop.post("order-payment", shop.pending.token),
    "POST cancellation": lambda shop: shop.post("order-cancellation", shop.pending.token),
    "POST event": lambda shop: shop.post_event(),
    "GET order": lambda shop: shop.client().get(reverse("order", args=[shop.pending.token])),
    "POST product in the admin": lambda shop: shop.save_in_admin(),
}
# Raced only against what meets the same order.
RESTOCKS: dict[str, Callable[[Shop], object]] = {
    "restock": lambda shop: shop.restock(),
    "refund off sale": lambda shop: shop.refund(restock=False),
}
# The functions of which requests do the same and more: two of these meet in each run as requests.
IN_REQUESTS = {"settle", "cancel", "pay", "order", "shrink", "take out", "reserve"}
# All in a group change the same order, or the same basket. Those of different groups meet only at
# the product, whose units tests/inventory/test_pairs.py races in each run, or nowhere.
GROUPS = [
    {"settle", "cancel", "close", "pay", "expire"},
    {"cancel paid", "refund", "ship"},
    {"order", "shrink", "take out"},
    {"POST payment", "POST cancellation", "POST event", "GET order"},
    {"POST reservation", "POST change", "POST removal", "POST checkout"},
    {"POST reservation", "POST product in the admin"},
]
MEETS_RESTOCK = ["restock", "refund", "refund off sale", "cancel paid", "ship"]
ACTIONS = {**FUNCTIONS, **ENDPOINTS, **RESTOCKS}


def pairs(names: dict[str, Any]) -> list[ParameterSet]:
    """All pairs; those that need not meet in each run are thorough."""
    return [
        pytest.param(*pair, marks=() if meet_in_each_run({*pair}) else pytest.mark.thorough)
        for pair in itertools.combinations_with_replacement(names, 2)
    ]


def meet_in_each_run(pair: set[str]) -> bool:
    return any(pair <= group for group in GROUPS) and not pair <= IN_REQUESTS


def look_at(
    make_product: MakeProduct,
    one: str,
    other: str,
    bounds: Bounds,
    *,
    prepare: Callable[[Shop], object] = lambda shop: None,
) -> None:
    product = make_product(0, strategy="single_statement", price=Decimal("10.00"))
    shop = Shop(product)

    if "POST product in the admin" in (one, other):
        shop.open_form()  # it is the same before each schedule

    def setup() -> None:
        shop.open()
        prepare(shop)

    seen: set[object] = set()

    def agrees(run: Run) -> None:
        assert run.outcome is not None
        if run.outcome.state not in seen:
            state = monitor.state_of(product.pk)
            assert state.keeps_law, str(state)
            steps.assert_money_and_goods_agree()
            seen.add(run.outcome.state)
        for error in run.raised.values():
            assert isinstance(error, InventoryError | ShopError), repr(error)
        for answer in run.returned.values():
            assert getattr(answer, "status_code", 200) < 500, answer

    result = explore(
        [lambda: ACTIONS[one](shop), lambda: ACTIONS[other](shop)],
        setup=setup,
        invariant=agrees,
        describe=lambda: str(monitor.state_of(product.pk)),
        state=shop.books,
        **bounds,
    )
    result.assert_holds()
    result.assert_serializable()


@pytest.mark.parametrize(("one", "other"), pairs(FUNCTIONS))
def test_two_functions_at_once(
    make_product: MakeProduct, bounds: Bounds, one: str, other: str
) -> None:
    look_at(make_product, one, other, bounds)


@pytest.mark.parametrize("other", MEETS_RESTOCK)
def test_units_put_back_on_sale_at_once(
    make_product: MakeProduct, bounds: Bounds, other: str
) -> None:
    look_at(make_product, "restock", other, bounds, prepare=Shop.refund_one_off_sale)


@pytest.mark.parametrize(("one", "other"), pairs(ENDPOINTS))
def test_two_requests_at_once(
    make_product: MakeProduct, bounds: Bounds, one: str, other: str
) -> None:
    look_at(make_product, one, other, bounds)


# The attacks of the ACIDRain study (Warszawski and Bailis, SIGMOD 2017) on a shop. Its second, a
# cart that is changed while it is checked out, is among the requests above. Its third, a voucher
# used twice, is in tests/inventory/races/test_serial_orders.py: we have no vouchers.


@pytest.mark.parametrize("sent", [{"quantity": 1}, {"remove": "1"}])
def test_a_line_of_two_holds_is_changed_while_it_is_checked_out(
    make_product: MakeProduct, bounds: Bounds, sent: dict[str, object]
) -> None:
    """Both holds are in the order, or none of them: a line is never torn."""
    product = make_product(0, strategy="single_statement", price=Decimal("10.00"))
    shop = Shop(product)
    line = [str(shop.hold.pk), str(reservations.reserve(product, 1, buyer=BUYER).pk)]
    total = 3 * product.price + shop.pending.shipping_cost
    shop.keep()

    def agrees(run: Run) -> None:
        assert monitor.state_of(product.pk).keeps_law
        steps.assert_money_and_goods_agree()
        assert run.raised == {}
        assert all(getattr(answer, "status_code", 500) < 500 for answer in run.returned.values())
        ordered = Reservation.objects.filter(pk__in=line).exclude(order_line=None)
        assert sum(hold.quantity for hold in ordered) in (0, 3)

    explore(
        [
            lambda: shop.post("basket-hold", shop.hold.pk, hold=line, seen=3, key=shop.key, **sent),
            lambda: shop.post_checkout(hold=line, seen_total=total),
        ],
        setup=shop.open,
        invariant=agrees,
        **bounds,
    ).assert_holds()


def test_the_cart_attack_succeeds_if_the_basket_does_not_lock_the_hold(
    make_product: MakeProduct, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.holds.lock_reservations", lambda ids: None)
    with pytest.raises(RaceFound):
        look_at(make_product, "POST change", "POST checkout", bounds)


def last_unit(make_product: MakeProduct, strategy: str, bounds: Bounds) -> Any:
    """Explore two customers who reserve the last unit on the product's page."""
    product = make_product(1, strategy=strategy, backstop=False)

    def setup() -> None:
        HoldAddress.objects.all().delete()
        Refusal.objects.all().delete()
        Reservation.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=1, version=1)

    def reserve(key: str) -> object:
        client = Client()
        client.cookies[buyer.cookie_name()] = signed_cookie(key * 32)
        sent = {"product": product.slug, "quantity": 1, "key": str(uuid.UUID(int=1))}
        return client.post(reverse("basket-holds"), sent)

    def one_of_one(run: Run) -> None:
        state = monitor.state_of(product.pk)
        assert state.keeps_law, str(state)
        answers = sorted(getattr(answer, "status_code", 0) for answer in run.returned.values())
        assert answers == [302, 409]

    return explore(
        [lambda: reserve("A"), lambda: reserve("B")],
        setup=setup,
        invariant=one_of_one,
        serial=False,
        **bounds,
    )


def test_the_inventory_attack_two_customers_reserve_the_last_unit(
    make_product: MakeProduct, bounds: Bounds
) -> None:
    last_unit(make_product, "single_statement", bounds).assert_holds()


@pytest.mark.breaks_law
def test_the_inventory_attack_succeeds_on_naive(make_product: MakeProduct, bounds: Bounds) -> None:
    with pytest.raises(RaceFound, match=r"oversold\s+1"):
        last_unit(make_product, "naive", bounds).assert_holds()
