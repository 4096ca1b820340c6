"""E-mails about orders: each is true when it is sent, and says everything once."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.test import Client

from inventory.models import Reservation
from shop import orders
from shop.middleware import buyer
from shop.models import DemoBankCharge, Order, Refund
from shop.notifications.order_mail import send_order_refunded
from shop.orders import CancelledBy, refunds
from shop.payments import demo
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.conftest import (  # noqa: F401  (a fixture for every test)
    money_and_goods_agree_after_each_test,
)
from tests.shop.orders.pages import signed_cookie
from tests.shop.orders.steps import (
    APPROVE,
    at_bank,
    do_jobs,
    go_to_bank,
    lapse_all,
    now,
    place,
    queued,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def paid(make_product: MakeProduct, settings: LazySettings) -> Order:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    order = place((make_product(5, name="Lamp <x> & Co"), 2), buyer="A")
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def the_mail() -> Any:
    [message] = mail.outbox
    return message


def test_the_buyer_is_thanked_for_a_paid_order(paid: Order) -> None:
    do_jobs("send_order_paid")
    message = the_mail()
    assert (message.to, message.subject) == ([paid.email], f"Your order {paid.number} is paid")
    assert "2 x Lamp <x> & Co, €19.90 each: €39.80" in message.body
    assert "Total: €44.80" in message.body
    assert paid.payments.get().return_url in message.body
    [html] = message.alternatives
    assert "Lamp &lt;x&gt; &amp; Co" in html.content


def test_the_buyer_gets_an_e_mail_about_a_refund_and_its_reason(paid: Order) -> None:
    orders.cancel(paid.pk)
    do_jobs("send_order_refunded")
    message = the_mail()
    assert "We owe you €44.80. It goes back the way that you paid, as soon as" in message.body
    assert "Your order is cancelled." in message.body
    assert "Your order is cancelled." in message.alternatives[0].content


@pytest.mark.parametrize("state", Refund.State)
@pytest.mark.parametrize("reason", Refund.Reason)
def test_paragraphs_are_one_text_line_each_with_an_empty_one_between(
    paid: Order, reason: Refund.Reason, state: Refund.State
) -> None:
    refund = Refund(payment=paid.payments.get(), amount=Decimal("1.00"), reason=reason, state=state)
    context = {"order": paid, "refund": refund, "lines": paid.grouped_lines(), "shop_name": "Shop"}
    text = render_to_string("shop/mail/order_refunded.txt", context)
    hello, what, why, order, sender = text.rstrip().split("\n\n")
    assert hello == f"Hello {paid.name},"
    for paragraph in (what, why):
        assert re.fullmatch(r"[A-Z][^\n]*\.", paragraph)
        assert "  " not in paragraph
    assert order.splitlines() == [
        f"Order {paid.number}",
        "  2 x Lamp <x> & Co, €19.90 each: €39.80",
        "  Shipping: €5.00",
        "  Total: €44.80",
    ]
    assert sender == "-- \nShop"


def test_the_buyer_gets_an_e_mail_when_the_parcel_leaves(paid: Order) -> None:
    orders.ship(paid.pk, "TRACK-1")
    do_jobs("send_order_shipped")
    assert "The carrier knows it as TRACK-1." in the_mail().body
    assert Reservation.objects.filter(decided_at__lte=Now()).exists()


# E-mails tell the state of things when they are sent


def subjects() -> list[str]:
    return [str(message.subject) for message in mail.outbox]


def test_a_closed_order_gets_no_thanks(paid: Order) -> None:
    orders.cancel(paid.pk)
    do_jobs("send_order_paid")
    assert subjects() == []


def test_late_thanks_for_a_shipped_order_promise_no_other_e_mail(paid: Order) -> None:
    orders.ship(paid.pk)
    do_jobs("send_order_paid")
    assert "Thank you" in the_mail().body
    assert "write again" not in the_mail().body


def test_a_shipped_order_that_is_refunded_is_not_called_on_its_way(paid: Order) -> None:
    orders.ship(paid.pk)
    orders.refund(paid.pk)
    do_jobs("send_order_shipped")
    assert subjects() == []


def decline_refunds(state: str = "DECLINED") -> None:
    DemoBankCharge.objects.update(state=state)


def test_a_declined_refund_is_not_promised_to_the_buyer(paid: Order, client: Client) -> None:
    orders.cancel(paid.pk)
    decline_refunds()
    refunds.carry_out(Refund.objects.get().pk)
    do_jobs("send_order_refunded")  # the one of the decision and the one of the decline
    message = the_mail()
    for text in (message.body, message.alternatives[0].content):
        assert "The bank declined" in text
        assert "goes back" not in text
    key = "A" * 32
    client.cookies[buyer.cookie_name()] = signed_cookie(key)
    Order.objects.update(buyer=key)
    for address in (f"/orders/{paid.token}/", "/orders/"):
        page = client.get(address).content.decode()
        assert "The bank did not give you back" in page
        assert "goes back" not in page

    decline_refunds("APPROVED")
    refunds.carry_out(Refund.objects.get().pk)
    do_jobs("send_order_refunded")
    assert "We have given you back €44.80" in mail.outbox[-1].body
    assert len(mail.outbox) == 2


def test_a_job_that_runs_again_sends_no_second_e_mail_about_a_refund(
    paid: Order,
) -> None:
    orders.cancel(paid.pk)
    [job] = queued("send_order_refunded")
    send_order_refunded(**job)
    assert "We owe you €44.80" in the_mail().body
    refunds.carry_out(Refund.objects.get().pk)
    for _ in range(2):
        send_order_refunded(**job)
    assert ["We have given you back" in each.body for each in mail.outbox] == [False, True]


def test_a_refund_that_is_declined_after_it_was_promised(paid: Order) -> None:
    orders.cancel(paid.pk)
    do_jobs("send_order_refunded")
    decline_refunds()
    for _ in range(2):
        refunds.carry_out(Refund.objects.get().pk)
        do_jobs("send_order_refunded")
    assert len(mail.outbox) == 2
    assert "The bank declined" in mail.outbox[1].body
    decline_refunds("APPROVED")
    refunds.carry_out(Refund.objects.get().pk)


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (CancelledBy.BUYER, "You have cancelled your order. Nothing was charged."),
        (CancelledBy.STAFF, "We have cancelled your order. Nothing was charged."),
    ],
)
def test_a_cancelled_unpaid_order_gets_one_e_mail(
    make_product: MakeProduct, by: CancelledBy, words: str
) -> None:
    order = place((make_product(), 1))
    orders.cancel(order.pk, by=by)
    orders.cancel(order.pk, by=by)
    do_jobs("send_order_cancelled")
    assert (the_mail().subject, the_mail().to) == (
        f"Your order {order.number} is cancelled",
        [order.email],
    )
    for text in (the_mail().body, the_mail().alternatives[0].content):
        assert words in text


def test_an_abandoned_order_gets_one_e_mail_about_its_time(make_product: MakeProduct) -> None:
    order = place((make_product(), 1))
    lapse_all(order, by_minutes=6)
    at_once([lambda: orders.close_abandoned(order.pk)] * 3)
    do_jobs("send_order_cancelled")
    assert "the time to pay for it is over" in the_mail().body


def test_a_buyer_who_may_still_be_charged_reads_that_the_money_would_go_back(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(), 1))
    page = go_to_bank(order)
    orders.cancel(order.pk)
    do_jobs("send_order_cancelled")
    assert "If you still finish the payment" in the_mail().body
    demo.choose(page.rstrip("/").split("/")[-1], APPROVE)
    orders.settle(order.pk)
    do_jobs("send_order_refunded")
    assert "We owe you €24.90" in mail.outbox[-1].body


def test_a_cancelled_order_that_cost_nothing_gets_an_e_mail(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.SHIPPING_COST = Decimal(0)
    order = place((make_product(price=Decimal(0)), 1))
    go_to_bank(order)
    assert now(order).state == Order.State.PAID
    orders.cancel(order.pk)
    do_jobs("send_order_cancelled")
    assert "We have cancelled your order. Nothing was charged." in the_mail().body


def test_a_cancelled_paid_order_gets_one_e_mail(paid: Order) -> None:
    orders.cancel(paid.pk)
    do_jobs("send_order_cancelled", "send_order_refunded")
    assert subjects() == [f"Refund for your order {paid.number}"]


# The sender, and the merchant


def test_e_mails_end_with_their_sender(paid: Order, settings: LazySettings) -> None:
    settings.SHOP_NAME = "Lamps & More"
    settings.SHOP_ADDRESS = ["Lamps Ltd", "2 Side Street <rear>"]
    do_jobs("send_order_paid")
    assert the_mail().body.rstrip().endswith("Lamps & More\nLamps Ltd\n2 Side Street <rear>")
    assert "Lamps &amp; More<br>Lamps Ltd<br>2 Side Street &lt;rear&gt;" in (
        the_mail().alternatives[0].content
    )


def test_amounts_are_written_as_on_the_pages(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    order = place((make_product(price=Decimal("1342.95")), 2))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    do_jobs("send_order_paid")
    for text in (the_mail().body, the_mail().alternatives[0].content):
        for amount in ("€1,342.95", "€2,685.90", "€5.00", "€2,690.90"):
            assert amount in text
        assert "EUR" not in text


def test_the_merchant_gets_an_e_mail_about_a_paid_order(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.MANAGERS = [("", "boss@example.org")]
    settings.EMAIL_SUBJECT_PREFIX = "[Lamps] "
    order = place((make_product(name="Lamp <x>"), 2))
    do_jobs("send_order_to_managers")
    assert subjects() == []
    at_bank(order, APPROVE)
    for _ in range(2):
        orders.settle(order.pk)
    do_jobs("send_order_to_managers")
    message = the_mail()
    assert message.to == ["boss@example.org"]
    assert message.subject == f"[Lamps] Order {order.number} is paid: please send it"
    assert "2 x Lamp <x>, €19.90 each: €39.80" in message.body
    assert order.address in message.body
    assert f"http://testserver/admin/shop/order/{order.pk}/change/" in message.body


def test_the_merchant_gets_no_e_mail_about_a_closed_order(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.MANAGERS = [("", "boss@example.org")]
    order = place((make_product(), 2))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    orders.cancel(order.pk)
    do_jobs("send_order_to_managers")
    assert subjects() == []


def test_without_managers_no_job_is_queued_for_them(paid: Order) -> None:
    assert queued("send_order_to_managers") == []


def test_an_order_without_a_payment_has_its_link_too(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.SHIPPING_COST, settings.BASE_URL = Decimal(0), "https://shop.example.org"
    order = place((make_product(1, price=Decimal(0)), 1))
    go_to_bank(order)
    do_jobs("send_order_paid")
    assert f"https://shop.example.org/orders/{order.token}/" in str(mail.outbox[-1].body)
