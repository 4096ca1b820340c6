"""The bank's page, its messages, and the address that they are sent to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from shop import orders, payments
from shop.models import DemoBankCharge, DemoBankRefund, Order, Payment, PaymentEvent
from shop.payments import demo
from shop.payments.demo import Choice
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    RETURN_URL,
    at_bank,
    close_payment_time,
    do_jobs,
    go_to_bank,
    now,
    place,
    queued,
    refunds_of,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    return place((make_product(5, price=Decimal("10.00")), 2))


@pytest.fixture
def served_at() -> Iterator[str]:
    """The shop, reachable by HTTP at this address."""

    class Handler(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Handler) as server:

        def serve() -> None:
            server.serve_forever(poll_interval=0.05)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def message_for(order: Order, **changes: Any) -> bytes:
    payment = order.payments.get()
    return json.dumps({"id": "event-1", "payment": str(payment.key), **changes}).encode()


def deliver(body: bytes, signature: str | None = None, provider: str = "demo") -> Any:
    signed = demo.sign(body) if signature is None else signature
    return Client(enforce_csrf_checks=True).post(
        reverse("payment-events", args=[provider]),
        body,
        content_type="application/json",
        headers={demo.SIGNATURE: signed},
    )


# The page


def test_the_page_shows_the_sum_and_sends_the_buyer_back(order: Order, client: Client) -> None:
    url = go_to_bank(order)
    page = client.get(url)
    assert "€25.00" in page.content.decode()
    answer = client.post(url, {"choice": "approve"})
    assert (answer.status_code, answer["Location"]) == (302, RETURN_URL)
    assert orders.settle(order.pk).state == State.PAID


def test_the_first_choice_stands(order: Order, client: Client) -> None:
    url = go_to_bank(order)
    client.post(url, {"choice": "decline"})
    client.post(url, {"choice": "approve"})
    assert "has ended already" in client.get(url).content.decode()
    assert DemoBankCharge.objects.get().state == DemoBankCharge.State.DECLINED


def test_a_lost_answer_leaves_the_buyer_at_the_bank(order: Order, client: Client) -> None:
    answer = client.post(go_to_bank(order), {"choice": "lose-answer"})
    assert (answer.status_code, "broke down" in answer.content.decode()) == (200, True)
    assert now(order).state == State.PENDING


@pytest.mark.parametrize("choice", ["", "steal"])
def test_an_unknown_choice(order: Order, client: Client, choice: str) -> None:
    answer = client.post(go_to_bank(order), {"choice": choice})
    assert answer.status_code == 400
    assert DemoBankCharge.objects.get().state == DemoBankCharge.State.OPEN
    assert client.get(reverse("demo-bank", args=["guessed"])).status_code == 404


def test_after_its_time_a_charge_can_not_be_approved(order: Order) -> None:
    go_to_bank(order)
    close_payment_time(order)
    demo.choose(order.payments.get().reference, APPROVE)
    assert payments.status(order.payments.get()) is payments.Outcome.DECLINED


def test_the_shop_waits_for_late_money(order: Order) -> None:
    at_bank(order, Choice.APPROVE_LATE)
    [job] = queued("send_demo_bank_event")
    assert orders.settle(order.pk).state == State.PENDING
    with pytest.raises(payments.ProviderUnavailable):
        demo.send_event(job["charge_id"])
    DemoBankCharge.objects.update(approve_at=Now())
    assert orders.settle(order.pk).state == State.PAID


# Messages


def test_the_banks_own_message_arrives(order: Order, served_at: str) -> None:
    go_to_bank(order)
    DemoBankCharge.objects.update(return_url=f"{served_at}/orders/x/")
    demo.choose(order.payments.get().reference, APPROVE)
    do_jobs("send_demo_bank_event")
    assert now(order).state == State.PAID
    assert PaymentEvent.objects.count() == 1


def test_a_message_that_does_not_reach_the_shop_is_sent_again_later(order: Order) -> None:
    charge = at_bank(order, APPROVE)
    DemoBankCharge.objects.update(return_url="http://127.0.0.1:9/orders/x/")
    with pytest.raises(payments.ProviderUnavailable, match="didn't take the message"):
        demo.send_event(charge.pk)


def test_a_message_settles_the_order_and_its_repetition_changes_nothing(order: Order) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)
    assert deliver(body).status_code == 200
    assert now(order).state == State.PAID
    orders.refund(order.pk, restock=True)
    assert deliver(body).status_code == 200
    assert deliver(message_for(order, id="event-2")).status_code == 200
    assert now(order).state == State.REFUNDED
    assert len(refunds_of(order)) == 1
    assert stock_of(order.lines.get().reservation.product) == 5
    assert PaymentEvent.objects.count() == 2


def test_the_same_message_many_times_at_once(order: Order) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)
    answers = at_once([lambda: deliver(body).status_code] * 4 + [lambda: orders.settle(order.pk)])
    assert answers[:4] == [200] * 4
    assert (now(order).state, PaymentEvent.objects.count()) == (State.PAID, 1)


def test_a_message_is_a_reason_to_ask_not_the_truth(order: Order) -> None:
    at_bank(order, DECLINE)
    assert deliver(message_for(order, state="APPROVED")).status_code == 200
    assert now(order).state == State.PENDING
    assert order.payments.get().state == Payment.State.DECLINED


def test_a_forged_or_old_message_is_rejected(order: Order) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)
    fresh = demo.sign(body)
    forged = fresh[:-1] + ("0" if fresh[-1] != "0" else "1")
    old = demo.sign(body, int(time.time()) - demo.OLDEST_EVENT - 5)
    moved = f"t={int(time.time()) + 1},{fresh.partition(',')[2]}"
    for signature in ("", "t=,v1=", "v1=abc", "t=x,v1=é", "t=٣,v1=a", forged, old, moved):
        assert deliver(body, signature).status_code == 400, signature
    assert deliver(body + b" ", fresh).status_code == 400
    assert now(order).state == State.PENDING
    assert not PaymentEvent.objects.exists()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"id": 1}', b'{"id": 1, "payment": "x"}']
)
def test_a_message_that_makes_no_sense_is_rejected(body: bytes) -> None:
    assert deliver(body).status_code == 400


def test_a_message_about_a_payment_that_is_not_ours(order: Order) -> None:
    go_to_bank(order)
    for payment in ("0f5ff846-9e5f-4a80-9f0d-3f4c0dbf5f11", None):
        assert deliver(message_for(order, payment=payment)).status_code == 200
    assert not PaymentEvent.objects.exists()
    assert deliver(message_for(order), provider="stripe").status_code == 404
    assert deliver(message_for(order), provider="os.path").status_code == 404
    assert Client().get(reverse("payment-events", args=["demo"])).status_code == 405


def test_while_the_bank_can_not_be_asked_the_message_is_not_used_up(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)

    def fail(payment: Payment) -> None:
        raise payments.ProviderUnavailable("No network.")

    with monkeypatch.context() as patched:
        patched.setattr(payments, "status", fail)
        assert deliver(body).status_code == 503
    assert deliver(body).status_code == 200
    assert now(order).state == State.PAID


# Refunds


def test_the_bank_gives_back_no_more_than_it_charged(order: Order) -> None:
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    orders.refund(order.pk)
    do_jobs("carry_out_refund")
    refund = order.payments.get().refunds.get()
    refund.key = "another"
    with pytest.raises(payments.RefundDeclined, match=r"given back 25\.00 already"):
        payments.refund(refund)
    assert DemoBankRefund.objects.filter(state="DONE").count() == 1
