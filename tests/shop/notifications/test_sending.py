"""A real mail server: no e-mail is lost, and a second copy is known as the same e-mail."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.utils import parseaddr
from threading import Thread

import pytest
from django.conf import LazySettings
from django.core import mail
from django.db import connection

from shop import orders, shop_alerts
from shop.models import Order, Refund, ShopAlert
from shop.notifications import alert_delivery, order_mail
from shop.notifications.sending import AnswerLost
from shop.orders import CancelledBy, refunds
from tests.conftest import MakeProduct
from tests.shop.orders.steps import APPROVE, at_bank, do_jobs, place, queued
from tests.tools.fault_drill.mail import MailServer, Manner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings: LazySettings) -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, _, port = server.url.removeprefix("smtp://").partition(":")
    settings.EMAIL_PORT = int(port)
    settings.MANAGERS = [("", "boss@example.org")]
    yield server
    server.stop()


@pytest.fixture
def paid(make_product: MakeProduct, settings: LazySettings) -> Order:
    settings.MANAGERS = [("", "boss@example.org")]
    order = place((make_product(5), 2), buyer="A")
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def test_a_lost_answer_makes_a_second_copy_with_the_same_id(
    server: MailServer, paid: Order
) -> None:
    server.behave(Manner.CUTS)
    with pytest.raises(AnswerLost):
        order_mail.send_order_paid(paid.pk)
    server.behave(Manner.TAKES)
    order_mail.send_order_paid(paid.pk)
    order_mail.send_order_to_managers(paid.pk)
    first, second, other = (each.message_id for each in server.mails)
    assert first == second != other


def test_an_e_mail_that_no_server_took_is_sent_later(server: MailServer, paid: Order) -> None:
    for manner in (Manner.DOWN, Manner.REFUSES):
        server.behave(manner)
        with pytest.raises(smtplib.SMTPException):
            order_mail.send_order_paid(paid.pk)
    assert server.mails == []
    server.behave(Manner.TAKES)
    order_mail.send_order_paid(paid.pk)
    assert [each.to for each in server.mails] == [paid.email]


def test_each_e_mail_has_an_id_of_its_own(
    paid: Order, make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.DEFAULT_FROM_EMAIL = "Shop <orders@shop.example.org>"
    do_jobs("send_order_paid", "send_order_to_managers")
    orders.ship(paid.pk)
    do_jobs("send_order_shipped")
    orders.refund(paid.pk)
    refund = Refund.objects.get()
    do_jobs("send_order_refunded")  # it is due
    refunds.record_failed(refund, "No.")
    do_jobs("send_order_refunded")
    Refund.objects.update(state="DUE")
    order_mail.send_order_refunded(refund.pk)  # the second attempt
    refund.refresh_from_db()
    refunds.record_done(refund)
    do_jobs("send_order_refunded")
    other = place((make_product(5), 1), buyer="B")
    orders.cancel(other.pk, by=CancelledBy.BUYER)
    do_jobs("send_order_cancelled")
    shop_alerts.raise_alert(shop_alerts.NO_WORKER)
    alert_delivery.queue_new_alerts()
    do_jobs("mail_alerts")
    ids = [message.extra_headers["Message-ID"] for message in mail.outbox]
    assert len(ids) == 9
    assert len(set(ids)) == 9
    for each in ids:
        assert parseaddr(each)[1].endswith("@shop.example.org")


def test_an_alert_that_was_mailed_is_not_mailed_again_because_the_webhook_fails(
    server: MailServer, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:9/"  # nobody listens there
    monkeypatch.setattr(Thread, "start", Thread.run)  # wait for it
    monkeypatch.setattr(connection, "close", lambda: None)
    alert_delivery.report_missing_worker(is_missing=True)
    ShopAlert.objects.update(tried_at=None)
    alert_delivery.report_missing_worker(is_missing=True)
    assert len(server.mails) == 1
    assert queued("post_shop_alert") == [{"alert_id": ShopAlert.objects.get().pk}]
