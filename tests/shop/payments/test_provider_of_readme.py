"""The example provider of shop/payments/README.md, against a server that answers as its API."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.test import Client

from shop import orders, payments
from shop.models import Dispute, Order, PaymentEvent, Refund, ShopAlert
from shop.orders.refunds import carry_out
from shop.payments import ProviderUnavailable, RefundDeclined, RefundStatus, StartDeclined
from shop.payments.base import RefundRecord, answer_within
from tests.conftest import MakeProduct
from tests.readmes import OF_PAYMENTS, block_with
from tests.shop.orders.steps import go_to_bank, now, place

pytestmark = pytest.mark.django_db(transaction=True)

MODULE = "shop.payments.acme"
SECRET = "only for this test"
SHOP = "https://shop.example"
NOW = "2026-05-01T10:00:00+00:00"
State = Order.State


class Acme:
    """The provider's side: payments by their keys, each with its refunds by their names."""

    def __init__(self) -> None:
        self.payments: dict[str, dict[str, Any]] = {}
        self.is_down = False
        self.declines = False
        self.declined: set[str] = set()
        self.talks_nonsense = False

    def answer(self, path: str, content: dict[str, Any] | None) -> tuple[int, Any]:
        """The status and the content of an answer; ``content`` is None for a GET request."""
        if self.is_down:
            return 500, {}
        if self.talks_nonsense:
            return 200, {"state": 1}
        address, _, question = path.partition("?")
        if question:
            return 200, self._list(parse_qs(question, keep_blank_values=True))
        _, _, key, *refund = address.split("/")
        if content is None:
            return (200, self.payments[key]) if key in self.payments else (404, {})
        if self.declines or path in self.declined:
            self.declined.add(path)
            return 409, {}
        if refund and key not in self.payments:
            return 404, {}
        if refund:
            return self._refund(self.payments[key], refund[1], content)
        return 200, self._start(key, content)

    def _start(self, key: str, content: dict[str, Any]) -> dict[str, Any]:
        new = {
            "key": key,
            "reference": f"acme-{key}",
            "page": f"https://pay.acme.example/{key}",
            "dashboard": f"https://staff.acme.example/{key}",
            "state": "open",
            "started_at": NOW,
            "refunds": [],
            "disputes": [],
        }
        return self.payments.setdefault(key, {**new, **content})

    def _refund(
        self, payment: dict[str, Any], name: str, content: dict[str, Any]
    ) -> tuple[int, Any]:
        if payment["state"] != "paid":
            return 409, {}
        made = {"reference": name, "state": "done", "made_at": NOW, **content}
        on_record = [each for each in payment["refunds"] if each["reference"] == name]
        if not on_record:
            payment["refunds"].append(made)
        return 200, (on_record or [made])[0]

    def _list(self, question: dict[str, list[str]]) -> dict[str, Any]:
        """A page with one payment, and where the next page is."""
        (shop,), skipped = question["shop"], int(question.get("skip", ["0"])[0])
        assert datetime.fromisoformat(question["changed_since"][0])
        found = [payment for payment in self.payments.values() if payment["shop"] == shop]
        more = {name: values[0] for name, values in question.items()} | {"skip": skipped + 1}
        following = f"payments?{urlencode(more)}" if found[skipped + 1 :] else ""
        return {"payments": found[skipped : skipped + 1], "next": following}


@contextmanager
def serve(acme: Acme, settings: LazySettings) -> Iterator[None]:
    """The provider's server, while the block runs; the shop has followed the README's steps."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_PUT(self) -> None:
            length = int(self.headers["Content-Length"])
            self._answer(json.loads(self.rfile.read(length)))

        def _answer(self, content: dict[str, str] | None) -> None:
            status, found = acme.answer(self.path, content)
            if self.headers["Authorization"] != f"Bearer {SECRET}":
                status = 403
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    module = ModuleType(MODULE)
    exec(block_with(OF_PAYMENTS, "class Acme"), module.__dict__)
    with (
        mock.patch.dict(sys.modules, {MODULE: module}),
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        settings.PAYMENT_PROVIDER = f"{MODULE}.Acme"
        settings.ACME_API = f"http://127.0.0.1:{server.server_port}"
        settings.ACME_SECRET = SECRET
        settings.BASE_URL = SHOP
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def acme(settings: LazySettings) -> Iterator[Acme]:
    acme = Acme()
    with serve(acme, settings):
        yield acme


@pytest.fixture
def order(acme: Acme, make_product: MakeProduct) -> Order:
    """An order whose buyer is on the provider's page."""
    placed = place((make_product(1), 1))
    assert go_to_bank(placed) == f"https://pay.acme.example/{placed.payments.get().key}"
    return placed


def post(order: Order, *, sent_at: str | None = None, secret: str = SECRET, **changes: Any) -> int:
    """Send the shop the provider's message; return the answer's status."""
    message = {
        "id": "message 1",
        "kind": "payment.changed",
        "shop": SHOP,
        "payment": str(order.payments.get().key),
        **changes,
    }
    body = json.dumps(message).encode()
    at = str(int(time.time())) if sent_at is None else sent_at
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Acme-Time": at, "Acme-Signature": signature}
    address = "/payments/acme/events/"
    client = Client(raise_request_exception=False)
    return client.post(address, body, "application/json", headers=headers).status_code


def at_acme(acme: Acme, order: Order) -> dict[str, Any]:
    """The payment as the provider has it on record."""
    return acme.payments[str(order.payments.get().key)]


def decide(acme: Acme, order: Order, state: str) -> None:
    at_acme(acme, order)["state"] = state


def pay(acme: Acme, order: Order) -> None:
    decide(acme, order, "paid")
    assert (post(order), now(order).state) == (200, State.PAID)


def test_a_payment_from_its_start_to_its_refund(acme: Acme, order: Order) -> None:
    go_to_bank(order)  # again: no second payment
    assert len(acme.payments) == 1
    assert orders.settle(order.pk).state == State.PENDING
    pay(acme, order)
    payment = order.payments.get()
    assert payment.provider_page == f"https://staff.acme.example/{payment.key}"
    assert PaymentEvent.objects.get().kind == "payment.changed"
    orders.refund(order.pk)
    refund = Refund.objects.get()
    for _ in range(2):  # again: no second refund
        assert carry_out(refund.pk).state == Refund.State.DONE
        assert payments.refund(refund) is RefundStatus.DONE
    [made] = at_acme(acme, order)["refunds"]
    assert (made["key"], Decimal(made["amount"])) == (refund.key, order.total)


def test_a_payment_that_was_declined(acme: Acme, order: Order) -> None:
    decide(acme, order, "failed")
    assert (post(order), now(order).state) == (200, State.PENDING)
    assert payments.status(order.payments.get()) == payments.Outcome.DECLINED


def test_a_payment_that_the_provider_never_opens(acme: Acme, make_product: MakeProduct) -> None:
    acme.declines = True
    order = place((make_product(1), 1))
    with pytest.raises(StartDeclined):
        go_to_bank(order)
    assert ShopAlert.objects.get().kind == ShopAlert.Kind.START_DECLINED


def test_a_payment_that_the_provider_does_not_know(acme: Acme, order: Order) -> None:
    acme.payments.clear()
    assert payments.status(order.payments.get()) == payments.Outcome.OPEN
    order.payments.update(expires_at="2020-01-01T00:00Z")
    assert payments.status(order.payments.get()) == payments.Outcome.DECLINED


def test_the_provider_is_down(acme: Acme, order: Order) -> None:
    acme.is_down = True
    with pytest.raises(ProviderUnavailable):
        payments.status(order.payments.get())
    assert post(order) == 503


def test_the_providers_answer_makes_no_sense(acme: Acme, order: Order) -> None:
    acme.talks_nonsense = True
    payment = order.payments.get()
    for ask in (payments.status, payments.statement, payments.start):
        with pytest.raises(ProviderUnavailable, match="makes no sense"):
            ask(payment)
    with pytest.raises(ProviderUnavailable, match="makes no sense"):
        list(payments.list_since("acme", datetime.now(UTC)))


def test_a_buyer_does_not_wait_for_longer_than_the_time_that_is_left(
    acme: Acme, order: Order
) -> None:
    with answer_within(0), pytest.raises(ProviderUnavailable):
        payments.status(order.payments.get())


def test_a_refund_that_the_provider_declines(acme: Acme, order: Order) -> None:
    pay(acme, order)
    acme.declines = True
    orders.refund(order.pk)
    refund = Refund.objects.get()
    assert carry_out(refund.pk).state == Refund.State.FAILED
    acme.declines = False
    assert carry_out(refund.pk).state == Refund.State.DONE
    acme.payments.clear()
    refund.key = "another"
    with pytest.raises(RefundDeclined, match="knows of no such payment"):
        payments.refund(refund)


def test_a_refund_that_fails_after_it_was_done(acme: Acme, order: Order) -> None:
    pay(acme, order)
    orders.refund(order.pk)
    refund = Refund.objects.get()
    carry_out(refund.pk)
    at_acme(acme, order)["refunds"][0] |= {"state": "failed", "problem": "Account closed."}
    with pytest.raises(RefundDeclined, match="Account closed"):
        payments.refund(refund)  # the same attempt
    assert post(order, id="message 2") == 200
    refund.refresh_from_db()
    assert (refund.state, refund.problem) == (Refund.State.FAILED, "Account closed.")
    assert carry_out(refund.pk).state == Refund.State.DONE
    made = [(each["attempt"], each["state"]) for each in at_acme(acme, order)["refunds"]]
    assert made == [(1, "failed"), (2, "done")]


def test_a_refund_of_the_same_key_gives_back_only_once(acme: Acme, order: Order) -> None:
    pay(acme, order)
    orders.refund(order.pk)
    refund = Refund.objects.get()
    payments.refund(refund)
    refund.attempt = 2
    assert payments.refund(refund) is RefundStatus.DONE
    refund.amount = Decimal(1)
    with pytest.raises(RefundDeclined, match=f"has given {order.total} back"):
        payments.refund(refund)
    assert len(at_acme(acme, order)["refunds"]) == 1


def test_a_refund_at_the_provider_and_a_dispute(acme: Acme, order: Order) -> None:
    pay(acme, order)
    made = {"reference": "r1", "amount": "1.00", "state": "done", "made_at": NOW}
    at_acme(acme, order)["refunds"].append(made)
    taken = {"reference": "d1", "amount": "2.00", "state": "open", "opened_at": NOW, "reason": "?"}
    at_acme(acme, order)["disputes"].append(taken)
    assert post(order, id="message 2") == 200
    assert Refund.objects.get().reason == Refund.Reason.AT_PROVIDER
    assert Dispute.objects.get().state == Dispute.State.OPEN
    assert order.payments.get().kept() == order.total - 3


def test_all_payments_of_this_shop_are_listed(
    acme: Acme, order: Order, make_product: MakeProduct
) -> None:
    """With their copies, which are all that is left if the shop's database was lost."""
    order.payments.update(copy="the order")
    acme.payments.clear()
    payments.start(order.payments.get())
    other = place((make_product(1, sku="other"), 1), buyer="B")
    go_to_bank(other)
    pay(acme, order)
    orders.refund(order.pk)
    Refund.objects.update(copy="the decision")
    refund = Refund.objects.get()
    payments.refund(refund)
    foreign = at_acme(acme, order) | {"key": str(uuid4()), "shop": "https://elsewhere.example"}
    acme.payments[foreign["key"]] = foreign

    since = datetime.now(UTC) - timedelta(days=1)
    first, second = payments.list_since("acme", since)
    payment = order.payments.get()
    assert (first.key, first.reference, first.copy) == (payment.key, payment.reference, "the order")
    assert (first.amount, first.currency) == (payment.amount, payment.currency)
    assert first.statement == payments.statement(payment)
    assert [replace(record, reference="") for record in first.statement.refunds] == [
        RefundRecord(
            reference="",
            amount=refund.amount,
            status=RefundStatus.DONE,
            made_at=datetime.fromisoformat(NOW),
            key=refund.key,
            attempt=1,
            copy="the decision",
        )
    ]
    assert second.key == other.payments.get().key


def test_forged_messages(acme: Acme, order: Order) -> None:
    decide(acme, order, "paid")
    assert post(order, secret="another") == 400
    assert post(order, sent_at="1600000000") == 400
    assert post(order, sent_at="yesterday") == 400
    assert now(order).state == State.PENDING


def test_messages_about_payments_of_others(acme: Acme, order: Order) -> None:
    """Another system uses the same account, and names its payments as it likes."""
    decide(acme, order, "paid")
    assert post(order, shop="https://elsewhere.example", payment="a donation") == 200
    assert post(order, payment=str(uuid4())) == 200
    assert now(order).state == State.PENDING


@pytest.mark.parametrize(
    "changes", [{"payment": "a donation"}, {"payment": None}, {"id": 1}, {"id": "\0"}, {"id": None}]
)
def test_messages_that_make_no_sense(acme: Acme, order: Order, changes: dict[str, Any]) -> None:
    assert post(order, **changes) == 400


@pytest.mark.parametrize("kind", [None, 1, ["x"], "\0", "\ud800", "x" * 500])
def test_a_message_of_an_odd_kind_is_taken(acme: Acme, order: Order, kind: Any) -> None:
    decide(acme, order, "paid")
    assert post(order, kind=kind) == 200
    assert now(order).state == State.PAID
    assert len(PaymentEvent.objects.get().kind) <= 100
