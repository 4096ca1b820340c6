"""The holders of a product's units, by network address, and the release of their holds."""

from __future__ import annotations

import itertools
import uuid
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from inventory import reservations
from inventory.models import Product, Reservation
from shop import basket, holders, orders
from shop.exceptions import ShopError
from shop.models import Order, Payment, Refund
from shop.orders import lifecycle
from shop.payments.base import ProviderUnavailable
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff, fields_of, words
from tests.shop.orders import steps

pytestmark = pytest.mark.django_db

CONFIRMED = {"confirmed": "yes"}
HOARDER, OFFICE = "203.0.113.7", "198.51.100.20"
_buyers = itertools.count(1)


def take(product: Product, units: int, *, address: str = HOARDER, buyer: str = "") -> Reservation:
    buyer = buyer or f"buyer-{next(_buyers)}"
    return basket.reserve(product, units, buyer=buyer, key=uuid.uuid4(), address=address)


def order(product: Product, units: int, *, address: str = HOARDER) -> Order:
    buyer = f"buyer-{next(_buyers)}"
    return steps.order_holds([take(product, units, address=address, buyer=buyer)], buyer=buyer)


def page(product: Product, name: str = "holders") -> str:
    return reverse(f"admin:inventory_product_{name}", args=[product.pk])


def figures(product: Product) -> dict[str, tuple[int, int, int, int]]:
    """By network: units in baskets and in orders, buyers, holds."""
    return {
        each.network: (each.units_in_baskets, each.units_in_orders, each.buyers, each.holds)
        for each in holders.holders_of(product)
    }


def stock(product: Product) -> int:
    return Product.objects.get(pk=product.pk).stock


@pytest.fixture
def hoarded(make_product: MakeProduct) -> Product:
    """Of 100 units, one address has 40 in three baskets and 5 in an order, another one 2."""
    product = make_product(100, name="Lamp")
    take(product, 20)
    take(product, 15, buyer="A")
    take(product, 5, buyer="A")
    order(product, 5)
    take(product, 2, address=OFFICE)
    return product


# The list of holders


def test_who_holds_how_much_the_most_first(hoarded: Product, make_product: MakeProduct) -> None:
    take(make_product(10), 3, address=OFFICE)  # of another product
    reservations.reserve(hoarded, 1, buyer="from nowhere")
    assert figures(hoarded) == {
        HOARDER: (40, 5, 3, 4),
        OFFICE: (2, 0, 1, 1),
        holders.UNKNOWN: (1, 0, 1, 1),
    }
    assert holders.holders_of(hoarded)[0].network == HOARDER


def test_sold_and_released_ones_are_held_no_more(hoarded: Product) -> None:
    for hold in Reservation.objects.filter(buyer="A"):
        reservations.confirm(hold.pk)
    reservations.release(take(hoarded, 1).pk)
    assert figures(hoarded)[HOARDER] == (20, 5, 2, 2)


def test_an_ipv6_network_is_one_holder(make_product: MakeProduct) -> None:
    product = make_product(10)
    take(product, 1, address="2001:db8:1:2::1")
    take(product, 1, address="2001:db8:1:2::2")
    assert figures(product) == {"2001:db8:1:2::/64": (2, 0, 2, 2)}


# Releasing


def test_releasing_takes_back_the_baskets_of_an_address_and_nothing_else(
    hoarded: Product,
) -> None:
    released = holders.release(hoarded, [HOARDER])
    assert (released.holds, released.units, released.orders) == (3, 40, 0)
    assert figures(hoarded) == {HOARDER: (0, 5, 1, 1), OFFICE: (2, 0, 1, 1)}
    assert stock(hoarded) == 93
    again = holders.release(hoarded, [HOARDER])
    assert (again.holds, again.units) == (0, 0)


def test_many_holds_are_released_in_short_transactions(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "RELEASED_AT_ONCE", 2)
    product = make_product(10)
    for _ in range(5):
        take(product, 1)
    assert holders.release(product, [HOARDER]).units == 5
    assert stock(product) == 10


def test_a_lapsed_hold_goes_back_once(make_product: MakeProduct) -> None:
    product = make_product(10)
    lapse(take(product, 4))
    holders.release(product, [HOARDER])
    reservations.expire_lapsed()
    assert stock(product) == 10


def test_unpaid_orders_are_cancelled_if_that_is_asked_for(hoarded: Product) -> None:
    waiting = Order.objects.get()
    elsewhere = order(hoarded, 3, address=OFFICE)
    released = holders.release(hoarded, [HOARDER], cancel_orders=True)
    assert (released.units, released.orders) == (40, 1)
    assert steps.now(waiting).state == Order.State.CANCELLED
    assert steps.now(elsewhere).state == Order.State.PENDING
    assert figures(hoarded) == {OFFICE: (2, 3, 2, 2)}


def test_an_order_that_the_bank_has_been_paid_for_is_not_cancelled(hoarded: Product) -> None:
    """The bank has the payment, but the shop doesn't know it yet."""
    waiting = Order.objects.get()
    steps.at_bank(waiting, steps.APPROVE)
    assert holders.release(hoarded, [HOARDER], cancel_orders=True).orders == 0
    assert steps.now(waiting).state == Order.State.PAID


def test_whoever_pays_for_a_cancelled_order_gets_the_money_back(hoarded: Product) -> None:
    waiting = Order.objects.get()
    steps.go_to_bank(waiting)
    holders.release(hoarded, [HOARDER], cancel_orders=True)
    steps.choose_again(Payment.objects.get(), steps.APPROVE)
    orders.settle(waiting.pk)
    assert steps.now(waiting).state == Order.State.CANCELLED
    assert Refund.objects.get().amount == waiting.total


def test_an_order_whose_payment_can_not_be_asked_about_stays(
    hoarded: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(order_id: int) -> Order:
        raise ProviderUnavailable("The bank is closed.")

    monkeypatch.setattr(lifecycle, "settle", unavailable)
    assert holders.release(hoarded, [HOARDER], cancel_orders=True).orders == 0
    assert Order.objects.get().is_open


@pytest.mark.django_db(transaction=True)
def test_releasing_while_the_buyers_check_out_and_take_more(make_product: MakeProduct) -> None:
    """Each hold is either released or in an order, which then has its goods."""
    product = make_product(40)
    holds = [take(product, 1, buyer=f"hoarder-{number}") for number in range(12)]

    def check_out(hold: Reservation) -> Order | ShopError:
        return steps.order_holds([hold], buyer=hold.buyer)

    calls = [partial(check_out, hold) for hold in holds]
    results = at_once([*calls, *[partial(holders.release, product, [HOARDER])] * 3])
    placed = [result for result in results if isinstance(result, Order)]
    released = [result for result in results if isinstance(result, holders.Released)]
    assert sum(each.units for each in released) + len(placed) == 12
    assert len(released) == 3
    for each in placed:
        assert each.lines.get().reservation.status == Reservation.Status.HELD
    assert stock(product) == 40 - len(placed)


# In the admin


class TestThePage:
    def test_shows_each_address_with_its_figures(self, admin: Client, hoarded: Product) -> None:
        content = admin.get(page(hoarded)).content.decode()
        assert content.index(HOARDER) < content.index(OFFICE)
        for label, value in (("Units", 45), ("in baskets", 40), ("in unpaid orders", 5)):
            assert f'data-label="{label}" class="number">{value}<' in content
        assert page(hoarded) in admin.get(page(hoarded, "change")).content.decode()

    def test_says_so_where_nobody_holds_any(self, admin: Client, make_product: MakeProduct) -> None:
        shown = admin.get(page(make_product())).content.decode()
        assert "Nobody holds any units of this product." in shown

    def test_shows_the_first_hundred(
        self, admin: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shop.admin.products.MOST_HOLDERS", 2)
        product = make_product(10)
        for number in range(5):
            take(product, 1, address=f"192.0.2.{number}")
        assert "And 3 more" in admin.get(page(product)).content.decode()

    def test_releases_what_was_chosen_after_asking(self, admin: Client, hoarded: Product) -> None:
        asked = admin.get(page(hoarded, "release_holders"), {"network": [HOARDER]})
        content = asked.content.decode()
        assert f"{HOARDER}: 40 units in baskets go back on sale." in content
        assert "5 units in unpaid orders stay held." in content
        assert stock(hoarded) == 53  # nothing was done yet
        form = fields_of(content, "csrfmiddlewaretoken")
        done = admin.post(release(hoarded, HOARDER), form, follow=True)
        said = f"40 units of {hoarded} in 3 reservations released."
        assert words(done) == [said]
        assert LogEntry.objects.get().change_message == said
        assert stock(hoarded) == 93

    def test_cancels_unpaid_orders_if_that_is_ticked(self, admin: Client, hoarded: Product) -> None:
        done = admin.post(
            release(hoarded, HOARDER), {**CONFIRMED, "cancel_orders": "on"}, follow=True
        )
        assert words(done) == [
            f"40 units of {hoarded} in 3 reservations released, 1 unpaid order cancelled."
        ]
        assert stock(hoarded) == 98

    def test_a_double_click_is_logged_once(self, admin: Client, hoarded: Product) -> None:
        for _ in range(2):
            done = admin.post(release(hoarded, HOARDER), CONFIRMED, follow=True)
        assert words(done) == [f"0 units of {hoarded} in 0 reservations released."]
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize("network", ["", "nonsense", "' OR 1=1 --"])
    def test_releases_nothing_of_an_address_that_holds_nothing(
        self, admin: Client, hoarded: Product, network: str
    ) -> None:
        asked = admin.get(page(hoarded, "release_holders"), {"network": network})
        assert "These addresses hold nothing any more." in asked.content.decode()
        admin.post(release(hoarded, network), CONFIRMED)
        assert stock(hoarded) == 53

    def test_asks_for_a_choice_where_there_is_none(self, admin: Client, hoarded: Product) -> None:
        done: Any = admin.get(page(hoarded, "release_holders"), follow=True)
        assert words(done) == ["Nothing was released: choose addresses first."]

    @pytest.mark.parametrize(
        ("group", "may_see", "may_release"),
        [("merchant", True, True), ("auditor", True, False)],
    )
    def test_an_auditor_sees_and_does_not_act(
        self, staff: Staff, hoarded: Product, group: str, may_see: bool, may_release: bool
    ) -> None:
        client = staff(group)
        seen = client.get(page(hoarded))
        assert (seen.status_code == 200) is may_see
        assert ('type="checkbox" name="network"' in seen.content.decode()) is may_release
        done = client.post(release(hoarded, HOARDER), CONFIRMED)
        assert (done.status_code == 302) is may_release
        assert (stock(hoarded) == 93) is may_release


def release(product: Product, network: str) -> str:
    return f"{page(product, 'release_holders')}?{urlencode({'network': network})}"
