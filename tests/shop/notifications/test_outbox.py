"""The e-mails of a demo: kept, and shown to the buyers that they are about."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.db.models.functions import Now
from django.test import Client

from shop import orders
from shop.models import Order, OutboxMail
from shop.notifications import outbox
from tests.conftest import MakeProduct
from tests.shop.orders.conftest import (  # noqa: F401  (a fixture for every test)
    money_and_goods_agree_after_each_test,
)
from tests.shop.orders.pages import Shopper, text_of
from tests.shop.orders.steps import APPROVE, at_bank, do_jobs

pytestmark = pytest.mark.django_db(transaction=True)

OUTBOX = "/demo/outbox/"


@pytest.fixture(autouse=True)
def is_demo(settings: Any) -> None:
    settings.DEMO = True
    settings.EMAIL_BACKEND = "shop.notifications.outbox.EmailBackend"


def buy(buyer: Shopper, make_product: MakeProduct) -> Order:
    """Order and pay, and have the e-mail written."""
    order, _ = buyer.order(make_product(1))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    do_jobs("send_order_paid")
    return order


def mail_page(mail: OutboxMail) -> str:
    return f"{OUTBOX}{mail.pk}/"


def statuses(client: Client, kept: OutboxMail) -> tuple[int, int]:
    page = mail_page(kept)
    return client.get(page).status_code, client.get(f"{page}html/").status_code


def test_the_order_page_links_to_its_e_mail(make_product: MakeProduct) -> None:
    ada = Shopper()
    order = buy(ada, make_product)
    assert f'<a href="{OUTBOX}">e-mails are shown here</a>' in ada.get(f"/orders/{order.token}/")
    [kept] = OutboxMail.objects.all()
    assert mail_page(kept) in ada.get(OUTBOX)
    page = ada.get(mail_page(kept))
    assert f"Your order {order.number} is paid" in page
    assert "ada@example.org" in page
    assert "Thank you" in page
    html = ada.client.get(f"{mail_page(kept)}html/")
    assert f"<h2>Order {order.number}</h2>" in text_of(html)


def test_nobody_else_sees_it(make_product: MakeProduct) -> None:
    ada, eve = Shopper(), Shopper("Eve", email="ada@example.org")
    buy(ada, make_product)
    buy(eve, make_product)  # the same e-mail address in another browser
    hers, other = OutboxMail.objects.order_by("pk")
    assert statuses(ada.client, hers) == (200, 200)
    assert statuses(ada.client, other) == (404, 404)
    assert statuses(eve.client, hers) == (404, 404)
    assert statuses(Client(), hers) == (404, 404)
    assert mail_page(hers) not in eve.get(OUTBOX)
    assert "No e-mails yet" in Shopper("Bob").get(OUTBOX)


def test_staff_who_may_change_orders_see_all(
    make_product: MakeProduct, admin_client: Client, settings: Any
) -> None:
    buy(Shopper(), make_product)
    settings.MANAGERS = [("", "staff@example.org")]
    mail.mail_managers("To staff", "Something is low.")
    for kept in OutboxMail.objects.all():
        assert mail_page(kept) in text_of(admin_client.get(OUTBOX))
        assert admin_client.get(mail_page(kept)).status_code == 200
    assert OutboxMail.objects.filter(order=None).count() == 1
    assert f'href="{OUTBOX}"' in text_of(admin_client.get("/admin/"))


def test_staff_who_may_only_look_get_no_way_to_an_order(
    make_product: MakeProduct, client: Client
) -> None:
    buy(Shopper(), make_product)
    auditor = User.objects.create_user("eve", is_staff=True)
    auditor.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client.force_login(auditor)
    assert statuses(client, OutboxMail.objects.get()) == (404, 404)
    assert f'href="{OUTBOX}"' not in text_of(client.get("/admin/"))


def test_a_shop_that_is_no_demo_has_no_such_pages(
    make_product: MakeProduct, admin_client: Client, settings: Any
) -> None:
    ada = Shopper()
    order = buy(ada, make_product)
    settings.DEMO = False
    for client in (ada.client, admin_client):
        assert client.get(OUTBOX).status_code == 404
        assert statuses(client, OutboxMail.objects.get()) == (404, 404)
    assert OUTBOX not in ada.get(f"/orders/{order.token}/")
    assert OUTBOX not in text_of(admin_client.get("/admin/"))


def test_a_demo_that_sends_its_e_mails_links_to_no_empty_page(
    make_product: MakeProduct, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    ada = Shopper()
    order = buy(ada, make_product)
    assert len(mail.outbox) == 1
    page = ada.get(f"/orders/{order.token}/")
    assert OUTBOX not in page
    assert "E-mails go to ada@example.org." in page


def test_the_html_of_an_e_mail_can_do_nothing(admin_client: Client) -> None:
    message = EmailMultiAlternatives("Hello", "<script>text</script>", to=["a@example.org"])
    message.attach_alternative("<html><head></head><script>alert(1)</script></html>", "text/html")
    message.send()
    kept = OutboxMail.objects.get()
    page = admin_client.get(mail_page(kept))
    assert b"&lt;script&gt;text&lt;/script&gt;" in page.content
    assert b"alert(1)" not in page.content
    html = admin_client.get(f"{mail_page(kept)}html/")
    rules = html["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in rules
    assert any(rule.startswith("sandbox") and "script" not in rule for rule in rules)
    assert html["X-Frame-Options"] == "SAMEORIGIN"
    for answer in (page, html):
        assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    "typed",
    [
        "https://other.example/",
        "http://testserver@other.example/",
        "http://testserver\\@other.example/",
        "http://testserver.other.example/",
        "www.other.example",
        "http://[",
        "http:///orders/",
        "other@other.example",
    ],
)
def test_an_address_that_a_customer_typed_is_no_link(admin_client: Client, typed: str) -> None:
    text = f"Hello {typed},\nhttp://testserver/orders/1/. Bye <b>"
    kept = OutboxMail.objects.create(subject="Hello", text=text)
    page = admin_client.get(mail_page(kept)).content.decode()
    [shown] = re.findall("<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    link = '<a href="http://testserver/orders/1/">http://testserver/orders/1/</a>'
    assert shown == f"Hello {typed},\n{link}. Bye &lt;b&gt;"


def test_an_alert_in_text_alone_has_no_page_of_html(
    make_product: MakeProduct, admin_client: Client, settings: Any
) -> None:
    settings.MANAGERS = [("", "staff@example.org")]
    mail.mail_managers("Low", "1 left")
    kept = OutboxMail.objects.get()
    assert (kept.text, kept.html, kept.recipients) == ("1 left", "", "staff@example.org")
    assert statuses(admin_client, kept) == (200, 404)


def test_e_mails_of_a_week_ago_are_deleted() -> None:
    mail.send_mail("Old", "text", None, ["a@example.org"])
    mail.send_mail("New", "text", None, ["a@example.org"])
    OutboxMail.objects.filter(subject="Old").update(sent_at=Now() - timedelta(days=8))
    outbox.delete_old_mails()
    assert [kept.subject for kept in OutboxMail.objects.all()] == ["New"]
