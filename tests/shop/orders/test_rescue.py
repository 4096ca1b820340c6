"""After an oversell: the promises of units that don't exist, and withdrawing them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core import mail
from django.db.models import F
from django.test import Client
from django.urls import reverse

from inventory import alerts as stock_alerts
from inventory import monitor, reservations, stock
from inventory.models import Product, Reservation, StockAlert
from shop import orders
from shop.exceptions import NotInThisState, OrderChanged
from shop.models import Order, Refund
from shop.orders import refunds, rescue
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    assert_money_and_goods_agree,
    at_bank,
    delete_jobs,
    do_jobs,
    go_to_bank,
    now,
    place,
    stock_of,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.breaks_law]


@pytest.fixture(autouse=True)
def money_and_goods_agree(transactional_db: None, settings: object) -> Iterator[None]:
    settings.SHIPPING_COST = Decimal("5.00")  # type: ignore[attr-defined]
    yield
    assert_money_and_goods_agree()
    delete_jobs()


def sold(product: Product, units: int, buyer: str) -> Order:
    order = place((product, units), buyer=buyer)
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def lose(product: Product, units: int) -> None:
    """Lose units, as an unsafe strategy does that promises them twice."""
    Product.objects.filter(pk=product.pk).update(units_received=F("units_received") - units)
    product.movements.create(
        units=-units,
        reason="OTHER",
        stock_before=units,
        stock_after=0,
    )
    stock.repair(product)
    stock_alerts.check_all()


def oversold(product: Product) -> int:
    return monitor.state_of(product.pk).oversold


@pytest.fixture
def lamp(make_product: MakeProduct) -> Product:
    return make_product(10, name="Lamp")


def test_the_last_promises_come_first_and_shipped_ones_do_not_come(lamp: Product) -> None:
    first, sent, last = (sold(lamp, 2, buyer) for buyer in "ABC")
    orders.ship(sent.pk)
    unpaid = place((lamp, 1), buyer="D")
    basket = reservations.reserve(lamp, 3, buyer="E")
    lose(lamp, 5)
    found = rescue.find_oversell(lamp)
    assert (found.missing, found.drift, found.can_be_made_up) == (5, 0, True)
    assert [(each.order, each.units, each.is_enough) for each in found.promises] == [
        (None, 3, True),
        (unpaid, 1, True),
        (last, 2, True),
        (first, 2, False),
    ]
    assert found.promises[0].reservation == basket


def test_only_missing_units_of_a_paid_order_are_refunded_and_the_e_mail_says_why(
    lamp: Product,
) -> None:
    order = sold(lamp, 4, "A")
    hold = reservations.reserve(lamp, 6, buyer="B")
    lose(lamp, 1)
    [_, promise] = rescue.find_oversell(lamp).promises
    done = rescue.withdraw(promise.reservation.pk, seen=4)
    assert f"1 × Lamp of order {order.number}: €19.90 go back" in done
    assert (oversold(lamp), stock_of(lamp), lamp.backstop) == (0, 0, True)
    assert not StockAlert.objects.open().exists()
    assert (now(order).state, order.refunded_units()) == (Order.State.PAID, 1)
    do_jobs("send_order_refunded")
    assert "We sold more than we had" in mail.outbox[-1].body
    assert "We owe you €19.90" in mail.outbox[-1].body
    with pytest.raises(rescue.NothingMissing):
        rescue.withdraw(hold.pk, seen=6)
    assert Reservation.objects.held().filter(pk=hold.pk).exists()


def test_all_of_an_order_goes_back_with_its_shipping_cost(lamp: Product) -> None:
    order = sold(lamp, 10, "A")
    lose(lamp, 10)
    rescue.withdraw(order.lines.get().reservation_id, seen=10)
    assert now(order).state == Order.State.REFUNDED
    assert Refund.objects.get().amount == Decimal("204.00")


def test_a_hold_is_released_and_an_unpaid_order_cancelled_with_a_mail(lamp: Product) -> None:
    order = place((lamp, 4), buyer="A")
    hold = reservations.reserve(lamp, 6, buyer="B")
    lose(lamp, 10)
    assert "released" in rescue.withdraw(hold.pk, seen=6)
    assert "cancelled" in rescue.withdraw(order.lines.get().reservation_id, seen=4)
    assert (now(order).state, oversold(lamp)) == (Order.State.CANCELLED, 0)
    do_jobs("send_order_cancelled")
    assert [each.to for each in mail.outbox] == [[order.email]]


def test_a_promise_that_changed_since_somebody_looked_is_left_alone(lamp: Product) -> None:
    paying, shipped, returned = place((lamp, 2), buyer="A"), sold(lamp, 3, "B"), sold(lamp, 4, "C")
    lose(lamp, 9)
    at_bank(paying, APPROVE)
    with pytest.raises(OrderChanged, match="is paid or closed already"):
        rescue.withdraw(paying.lines.get().reservation_id, seen=2)
    assert now(paying).state == Order.State.PAID
    line = shipped.lines.get()
    orders.ship(shipped.pk)
    with pytest.raises(NotInThisState, match="is shipped already"):
        rescue.withdraw(line.reservation_id, seen=3)
    line = returned.lines.get()
    orders.refund(returned.pk, units={line.pk: 1}, restock=True)
    with pytest.raises(OrderChanged):
        rescue.withdraw(line.reservation_id, seen=4)
    assert Refund.objects.count() == 1


def test_two_rescues_at_once_never_withdraw_more_than_is_missing(lamp: Product) -> None:
    lines = [sold(lamp, 2, buyer).lines.get() for buyer in "ABCDE"]
    lose(lamp, 3)
    at_once(
        [
            lambda line=line: rescue.withdraw(line.reservation_id, seen=2)  # type: ignore[misc]
            for line in lines
            for _ in range(2)
        ]
    )
    assert oversold(lamp) == 0
    assert sum(order.refunded_units() for order in Order.objects.all()) == 3
    assert stock_of(lamp) == 0


def test_an_exhibit_has_sales_without_orders(make_product: MakeProduct) -> None:
    product = make_product(0, is_exhibit=True, backstop=False)
    Product.objects.filter(pk=product.pk).update(stock=3)
    hold = reservations.reserve(product, 3, buyer="A")
    reservations.confirm(hold.pk)
    stock.repair(product)
    [promise] = rescue.find_oversell(product).promises
    assert (promise.order, promise.units) == (None, 3)
    rescue.withdraw(hold.pk, seen=3)
    assert oversold(product) == 0


# The page


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page_of(product: Product) -> str:
    return reverse("admin:inventory_product_rescue", args=[product.pk])


def test_the_page_withdraws_each_ticked_promise_by_itself(lamp: Product, admin: Client) -> None:
    kept, gone, shipped = (sold(lamp, 2, buyer) for buyer in "ABC")
    basket = reservations.reserve(lamp, 4, buyer="D")
    lose(lamp, 7)
    product_page = reverse("admin:inventory_product_change", args=[lamp.pk])
    assert page_of(lamp) in admin.get(product_page).content.decode()
    html = admin.get(page_of(lamp)).content.decode()
    assert "7 promised units don’t exist" in " ".join(html.split())
    assert html.count(" checked>") == 3
    for order in (kept, gone, shipped):
        assert order.number in html
    orders.ship(shipped.pk)
    ticked = [f"{order.lines.get().reservation_id}:2" for order in (shipped, gone)]
    answer = admin.post(page_of(lamp), {"promise": [f"{basket.pk}:4", *ticked]}, follow=True)
    html = answer.content.decode()
    assert "4 × Lamp in a basket: released." in html
    assert f"2 × Lamp of order {gone.number}: €44.80 go back" in html
    assert f"Order {shipped.number} is shipped already: it was left as it is." in html
    assert "1 promised unit doesn’t exist" in " ".join(html.split())
    assert LogEntry.objects.count() == 2
    again = admin.post(page_of(lamp), {"promise": ticked}, follow=True).content.decode()
    assert "look again" in again
    assert Refund.objects.count() == 1
    admin.post(page_of(lamp), {"promise": f"{kept.lines.get().reservation_id}:2"})
    assert "Every promised unit exists" in admin.get(page_of(lamp)).content.decode()
    assert page_of(lamp) not in admin.get(product_page).content.decode()
    assert not StockAlert.objects.open().filter(kind="OVERSOLD").exists()
    for refund in Refund.objects.all():
        refunds.carry_out(refund.pk)


@pytest.mark.parametrize("ticked", [[], ["x"], ["1:1"], [f"{'0' * 32}:1"], [":"]])
def test_malformed_ticks_change_nothing(lamp: Product, admin: Client, ticked: list[str]) -> None:
    go_to_bank(place((lamp, 10)))
    lose(lamp, 1)
    answer = admin.post(page_of(lamp), {"promise": ticked}, follow=True)
    assert answer.status_code == 200
    assert oversold(lamp) == 1


def test_staff_without_all_rights_are_kept_out(lamp: Product) -> None:
    client = Client()
    client.force_login(User.objects.create_user("new", is_staff=True))
    assert client.get(page_of(lamp)).status_code == 403
    assert client.post(page_of(lamp)).status_code == 403
