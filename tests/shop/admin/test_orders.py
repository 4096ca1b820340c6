"""Orders, payments and refunds in the admin: each step asks first, and happens once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inventory import reservations
from inventory.admin.base import change_url
from inventory.models import Product, Reservation
from inventory.reservations import reserve
from shop import orders
from shop.models import Order, Payment, Refund
from shop.payments import demo
from shop.payments.base import RefundDeclined
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff, fields_of, words
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    assert_money_and_goods_agree,
    at_bank,
    go_to_bank,
    now,
    place,
    queued,
    stock_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def lamp(make_product: MakeProduct) -> Product:
    return make_product(20, name="Lamp", price=Decimal("10.00"))


def paid(product: Product, units: int = 10, **options: str) -> Order:
    order = place((product, units), **options)
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def page(order: Order | Payment | Refund, name: str = "change") -> str:
    return reverse(f"admin:shop_{order._meta.model_name}_{name}", args=[order.pk])


def form(admin: Client, order: Order, name: str) -> dict[str, str]:
    return fields_of(admin.get(page(order, name)).content.decode(), "seen")


def test_the_page_tells_everything(admin: Client, lamp: Product) -> None:
    order = paid(lamp)
    html = admin.get(page(order)).content.decode()
    for seen in (order.number, "a@example.org", "1 Main Street", "Lamp", "none"):
        assert seen in html


def test_the_page_asks_no_more_of_a_long_order(
    admin: Client, make_product: MakeProduct, django_assert_num_queries: Any
) -> None:
    short, long = place((make_product(1), 1)), place(*[(make_product(1), 1) for _ in range(6)])
    for order in (short, long):
        at_bank(order, APPROVE)
        orders.settle(order.pk)
        admin.get(page(order))
    with CaptureQueriesContext(connection) as of_short:
        admin.get(page(short))
    with django_assert_num_queries(len(of_short)):
        admin.get(page(long))


def offered(admin: Client, order: Order) -> set[str]:
    """The steps that the order's page has a button for."""
    html = admin.get(page(order)).content.decode()
    steps = ("ship", "refund_units", "refund_amount", "refund_all", "cancel", "settle")
    return {name for name in steps if f'href="{page(order, name)}"' in html}


def test_only_what_can_be_done_is_offered(admin: Client, lamp: Product) -> None:
    """And whoever comes from an old page is told why not."""
    refunds = {"refund_units", "refund_amount", "refund_all"}
    pending, bought = place((lamp, 1), buyer="P"), paid(lamp, 1)
    assert offered(admin, pending) == {"cancel", "settle"}
    assert offered(admin, bought) == {"ship", "cancel", "settle", *refunds}
    orders.ship(bought.pk)
    assert offered(admin, bought) == {"settle", *refunds}
    stale = admin.post(page(bought, "cancel"), {"confirmed": "yes"})
    assert "it can be refunded, not cancelled" in stale.content.decode()
    orders.refund(bought.pk)
    assert offered(admin, bought) == {"settle"}


def test_an_order_leads_to_its_reservations_and_back(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 1)
    alone = reserve(lamp, 1, buyer="B")
    sold = order.lines.get().reservation
    assert change_url(sold) in admin.get(page(order)).content.decode()
    assert page(order) in admin.get(change_url(sold)).content.decode()
    assert "shop/order/1" not in admin.get(change_url(alone)).content.decode()


def test_a_payment_leads_to_its_refunds_and_back(admin: Client, lamp: Product) -> None:
    orders.refund(paid(lamp, 1).pk)
    refund, payment = Refund.objects.get(), Payment.objects.get()
    assert page(refund) in admin.get(page(payment)).content.decode()
    assert page(payment) in admin.get(page(refund)).content.decode()


def test_shipping(admin: Client, lamp: Product) -> None:
    order = paid(lamp)
    assert "gets an e-mail" in admin.get(page(order, "ship")).content.decode()
    assert now(order).state == Order.State.PAID
    response = admin.post(page(order, "ship"), {"tracking": "TR 17"}, follow=True)
    assert words(response) == [f"Order {order.number} is shipped. a@example.org gets an e-mail."]
    assert (now(order).state, order.tracking) == (Order.State.SHIPPED, "TR 17")
    assert len(queued("send_order_shipped")) == 1
    again = admin.post(page(order, "ship"), {"tracking": "TR 17"}, follow=True)
    assert "was shipped before" in words(again)[0]
    assert "is shipped" in LogEntry.objects.get().change_message


def test_what_is_not_paid_is_not_shipped(admin: Client, lamp: Product) -> None:
    order = place((lamp, 1))
    response = admin.post(page(order, "ship"), {"tracking": "x"})
    assert "it can&#x27;t be shipped" in response.content.decode()
    assert now(order).state == Order.State.PENDING


def test_ten_sold_three_returned_then_the_rest_cancelled(admin: Client, lamp: Product) -> None:
    """Scenario 25: 3, then 7, never 13."""
    order = paid(lamp, 10)
    assert stock_of(lamp) == 10
    line = order.lines.get()
    refund = {**form(admin, order, "refund_units"), f"line_{line.pk}": "3", "restock": "on"}
    response = admin.post(page(order, "refund_units"), refund, follow=True)
    assert "€30.00" in words(response)[0]
    assert "for 3 units; the units are on sale again" in words(response)[0]
    assert stock_of(lamp) == 13
    response = admin.post(page(order, "cancel"), {"confirmed": "yes"}, follow=True)
    assert "is cancelled" in words(response)[0]
    assert stock_of(lamp) == 20
    again = admin.post(page(order, "cancel"), {"confirmed": "yes"}, follow=True)
    assert f"Order {order.number} was cancelled already" in words(again)[0]
    assert stock_of(lamp) == 20
    assert now(order).kept() == 0
    assert_money_and_goods_agree()


def test_a_refund_that_is_sent_twice_happens_once(admin: Client, lamp: Product) -> None:
    """Scenario 24: also from two tabs: the second saw another sum."""
    order = paid(lamp, 4)
    line = order.lines.get()
    refund = {**form(admin, order, "refund_units"), f"line_{line.pk}": "1", "restock": "on"}
    admin.post(page(order, "refund_units"), refund)
    second = admin.post(page(order, "refund_units"), refund)
    assert "refunds of €10.00 are on record already" in second.content.decode()
    assert stock_of(lamp) == 17
    assert Refund.objects.count() == 1


def test_an_amount(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 2)
    refund = {**form(admin, order, "refund_amount"), "amount": "2.50", "note": "scratched"}
    admin.post(page(order, "refund_amount"), refund)
    assert Refund.objects.get().amount == Decimal("2.50")
    assert now(order).state == Order.State.PAID


@pytest.mark.parametrize("amount", ["", "0", "-1", "abc", "1.001", "NaN", "1e30", "999"])
def test_amounts_that_make_no_sense(admin: Client, lamp: Product, amount: str) -> None:
    order = paid(lamp, 2)
    refund = {**form(admin, order, "refund_amount"), "amount": amount}
    response = admin.post(page(order, "refund_amount"), refund)
    assert response.status_code == 200
    assert response.context["form"].errors
    assert not Refund.objects.exists()


@pytest.mark.parametrize("units", ["0", "-1", "3", "abc", "1.5", ""])
def test_units_that_make_no_sense(admin: Client, lamp: Product, units: str) -> None:
    order = paid(lamp, 2)
    refund = {**form(admin, order, "refund_units"), f"line_{order.lines.get().pk}": units}
    response = admin.post(page(order, "refund_units"), refund)
    assert response.context["form"].errors
    if units in ("0", ""):
        assert "Say how many units of which line" in response.content.decode()
    assert not Refund.objects.exists()


def test_all_of_it_without_the_goods(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 2)
    response = admin.post(page(order, "refund_all"), form(admin, order, "refund_all"), follow=True)
    assert "go back to the buyer for 2 units; the units are not on sale." in words(response)[0]
    assert now(order).state == Order.State.REFUNDED
    assert order.kept() == 0
    assert stock_of(lamp) == 18


def test_settling_again(admin: Client, lamp: Product) -> None:
    order = place((lamp, 1))
    at_bank(order, APPROVE)
    response = admin.post(page(order, "settle"), {"confirmed": "yes"}, follow=True)
    assert words(response) == [f"Order {order.number} is paid."]


def test_cancelling_what_was_not_paid(admin: Client, lamp: Product) -> None:
    order = place((lamp, 5))
    go_to_bank(order)
    will = admin.get(page(order, "cancel")).content.decode()
    assert "If a payment still arrives, it goes back." in will
    admin.post(page(order, "cancel"), {"confirmed": "yes"})
    assert stock_of(lamp) == 20


def test_a_refund_is_tried_again(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 1)
    orders.refund(order.pk)
    refund = Refund.objects.get()
    Refund.objects.update(state=Refund.State.FAILED, problem="closed")
    for said in (": done.", "were given back before"):
        response = admin.post(page(refund, "carry_out"), {"confirmed": "yes"}, follow=True)
        assert said in words(response)[0]
    assert LogEntry.objects.count() == 1


def test_a_refund_that_the_provider_refuses_is_no_success(
    admin: Client, lamp: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(paid(lamp, 1).pk)
    refund = Refund.objects.get()
    monkeypatch.setattr(demo.DemoBank, "refund", refuse)
    response = admin.post(page(refund, "carry_out"), {"confirmed": "yes"})
    assert "The provider declined it: The card has been closed." in response.content.decode()
    assert not LogEntry.objects.exists()
    refund.refresh_from_db()
    assert refund.state == Refund.State.FAILED


def refuse(*args: object) -> None:
    raise RefundDeclined("The card has been closed.")


# Lists


@pytest.mark.parametrize("how", ["number", "lower", "email", "name"])
def test_an_order_is_found(admin: Client, lamp: Product, how: str) -> None:
    wanted = place((lamp, 1), buyer="A", email="Ada@Example.org")
    place((lamp, 1), buyer="B")
    Order.objects.filter(pk=wanted.pk).update(name="Lovelace")
    term = {
        "number": wanted.number,
        "lower": f" {wanted.number.lower()} ",
        "email": "ada@example.ORG",
        "name": "lovel",
    }[how]
    response = admin.get(reverse("admin:shop_order_changelist"), {"q": term})
    assert list(response.context["cl"].result_list) == [wanted]


def test_payments_and_refunds_are_found_by_the_order(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 1)
    other = place((lamp, 1), buyer="B")
    at_bank(other, DECLINE)
    orders.refund(order.pk)
    payment = Payment.objects.get(order=order)
    for term in (order.number, payment.reference, str(payment.key)):
        response = admin.get(reverse("admin:shop_payment_changelist"), {"q": term})
        assert list(response.context["cl"].result_list) == [payment]
    response = admin.get(reverse("admin:shop_refund_changelist"), {"q": order.number})
    assert list(response.context["cl"].result_list) == list(Refund.objects.all())


@pytest.mark.parametrize("term", ["'", "%", "x" * 500, "🙂"])
@pytest.mark.parametrize(
    "name",
    [
        "shop_order",
        "shop_payment",
        "shop_refund",
        "inventory_product",
        "inventory_reservation",
        "inventory_stockmovement",
        "inventory_stockalert",
    ],
)
def test_searching_for_nonsense(admin: Client, name: str, term: str) -> None:
    response = admin.get(reverse(f"admin:{name}_changelist"), {"q": term})
    assert response.status_code == 200


def test_cancelling_what_was_never_paid_speaks_of_no_money(admin: Client, lamp: Product) -> None:
    order = place((lamp, 1))
    answer = admin.post(page(order, "cancel"), {"confirmed": "yes"}, follow=True)
    assert words(answer) == [f"Order {order.number} is cancelled."]


# Reservations


def test_a_hold_is_released_once(admin: Client, lamp: Product) -> None:
    """Scenario 14, by staff."""
    hold = reserve(lamp, 3, buyer="A")
    url = reverse("admin:inventory_reservation_release_hold", args=[hold.pk])
    back = "3 of Lamp are back on sale."
    for said in (back, f"{back} Nothing was released this time."):
        response = admin.post(url, {"confirmed": "yes"}, follow=True)
        assert words(response) == [said]
        assert url not in response.content.decode()
        assert LogEntry.objects.count() == 1
    assert stock_of(lamp) == 20


def test_what_is_sold_is_not_released(admin: Client, lamp: Product) -> None:
    paid(lamp, 3)
    ticked = {"_selected_action": [str(Reservation.objects.get().pk)], "action": "release_ticked"}
    url = reverse("admin:inventory_reservation_changelist")
    response = admin.post(url, {**ticked, "confirmed": "yes"}, follow=True)
    assert "has been sold" in words(response)[0]
    assert stock_of(lamp) == 17


def test_a_hold_that_has_lapsed_is_not_logged_as_released(admin: Client, lamp: Product) -> None:
    hold = lapse(reserve(lamp, 3, buyer="A"))
    reservations.expire_lapsed()
    ticked = {"_selected_action": [str(hold.pk)], "action": "release_ticked", "confirmed": "yes"}
    url = reverse("admin:inventory_reservation_changelist")
    assert "when the hold lapsed" in words(admin.post(url, ticked, follow=True))[0]
    assert not LogEntry.objects.exists()


def test_a_hold_in_an_open_order_stays_there_and_staff_are_told_what_to_do(
    admin: Client, lamp: Product
) -> None:
    order = place((lamp, 3))
    in_order = order.lines.get().reservation
    in_basket = reserve(lamp, 2, buyer="B")
    url = reverse("admin:inventory_reservation_release_hold", args=[in_order.pk])
    answer = admin.post(url, {"confirmed": "yes"})
    assert f"It is in order {order.number}, which waits for its payment." in (
        answer.content.decode()
    )
    assert url not in admin.get(change_url(in_order)).content.decode()
    answer = admin.post(
        reverse("admin:inventory_reservation_changelist"),
        {
            "_selected_action": [str(in_order.pk), str(in_basket.pk)],
            "action": "release_ticked",
            "confirmed": "yes",
        },
        follow=True,
    )
    done, refused = words(answer)
    assert done == "2 of Lamp are back on sale."
    assert order.number in refused
    assert stock_of(lamp) == 17


# Rights


def test_an_auditor_reads_and_changes_nothing(staff: Staff, lamp: Product) -> None:
    auditor, order = staff("auditor"), paid(lamp)
    assert auditor.get(page(order)).status_code == 200
    for name in ("ship", "cancel", "settle", "refund_units", "refund_amount", "refund_all"):
        assert auditor.get(page(order, name)).status_code == 403
        assert auditor.post(page(order, name), {"confirmed": "yes"}).status_code == 403
    hold = reverse("admin:inventory_reservation_release_hold", args=[Reservation.objects.get().pk])
    assert auditor.post(hold).status_code == 403
    assert now(order).state == Order.State.PAID


def test_a_merchant_may_do_all_of_it(staff: Staff, lamp: Product) -> None:
    merchant, order = staff("merchant"), paid(lamp)
    for name in ("ship", "cancel", "settle", "refund_units", "refund_amount", "refund_all"):
        assert merchant.get(page(order, name)).status_code == 200


def test_nobody_types_an_order(admin: Client, lamp: Product) -> None:
    order = place((lamp, 1))
    assert admin.post(page(order), {"total": "0", "state": "PAID"}).status_code == 403
    assert admin.get(reverse("admin:shop_order_add")).status_code == 403
    assert admin.post(page(order, "delete"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("object_id", ["0", "abc", "999999999999999999999"])
def test_no_such_order(admin: Client, object_id: str) -> None:
    assert admin.get(f"/admin/shop/order/{object_id}/ship/").status_code == 404


def test_units_refunded_without_restocking_go_on_sale_later(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 2)
    admin.post(page(order, "refund_all"), form(admin, order, "refund_all"))
    assert (now(order).state, stock_of(lamp)) == (Order.State.REFUNDED, 18)
    asked = fields_of(admin.get(page(order, "restock")).content.decode(), "seen_units")
    sent = {**asked, f"line_{order.lines.get().pk}": "1"}
    response = admin.post(page(order, "restock"), sent, follow=True)
    assert words(response) == [f"1 unit of order {order.number} is on sale again."]
    again = admin.post(page(order, "restock"), sent)  # the form of before, from another tab
    assert "1 unit is back on sale already" in again.content.decode()
    assert stock_of(lamp) == 19
    assert "Put units back on sale" in admin.get(page(order)).content.decode()


def test_free_units_sent_back_twice_from_one_form_come_back_once(
    admin: Client, make_product: MakeProduct, settings: LazySettings
) -> None:
    """No money tells the second request that it is one: the units do."""
    settings.SHIPPING_COST = Decimal(0)
    gift = make_product(3, price=Decimal(0))
    order = place((gift, 3))
    go_to_bank(order)
    sent = {
        **form(admin, order, "refund_units"),
        f"line_{order.lines.get().pk}": "1",
        "restock": "on",
    }
    response = admin.post(page(order, "refund_units"), sent, follow=True)
    assert words(response) == [
        f"No money of order {order.number} was left to give back for 1 unit; "
        "the unit is on sale again."
    ]
    admin.post(page(order, "refund_units"), sent)
    assert (now(order).state, stock_of(gift)) == (Order.State.PAID, 1)
