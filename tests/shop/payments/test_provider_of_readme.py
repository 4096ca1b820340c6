"""The example provider of shop/README.md, against a server that answers as its API."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from shop import orders, payments
from shop.models import Order, Refund
from shop.orders.refunds import carry_out
from shop.payments import ProviderUnavailable
from tests.conftest import MakeProduct
from tests.readmes import OF_SHOP, block_with
from tests.shop.orders.steps import go_to_bank, now, place

pytestmark = pytest.mark.django_db(transaction=True)

MODULE = "shop.payments.acme"
SECRET = "only for this test"
State = Order.State


class Acme:
    """The provider's side: payments and refunds by their keys."""

    def __init__(self) -> None:
        self.payments: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, Decimal] = {}
        self.is_down = False

    def answer(self, path: str, content: dict[str, str] | None) -> tuple[int, dict[str, Any]]:
        """The status and the content of an answer; ``content`` is None for a GET request."""
        _, _, key, *refund = path.split("/")
        if self.is_down:
            return 500, {}
        if content is None:
            return (200, self.payments[key]) if key in self.payments else (404, {})
        if refund:
            if self.payments[key]["state"] != "paid":
                return 409, {}
            self.refunds[refund[1]] = Decimal(content["amount"])
            return 200, {}
        page = f"https://pay.acme.example/{key}"
        new = {"reference": f"acme-{key}", "page": page, "state": "open", **content}
        return 200, self.payments.setdefault(key, new)


@pytest.fixture
def acme(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Acme]:
    """The provider's server; the shop has followed the README's steps."""
    acme = Acme()

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
    exec(block_with(OF_SHOP, "class Acme"), module.__dict__)
    monkeypatch.setitem(sys.modules, MODULE, module)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        settings.PAYMENT_PROVIDER = f"{MODULE}.Acme"
        settings.ACME_API = f"http://127.0.0.1:{server.server_port}"
        settings.ACME_SECRET = SECRET
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield acme
        server.shutdown()
        thread.join()


@pytest.fixture
def order(acme: Acme, make_product: MakeProduct) -> Order:
    """An order whose buyer is on the provider's page."""
    placed = place((make_product(1), 1))
    assert go_to_bank(placed) == f"https://pay.acme.example/{placed.payments.get().key}"
    return placed


def post(order: Order, *, sent_at: str | None = None, secret: str = SECRET) -> int:
    """Send the shop the provider's message; return the answer's status."""
    body = json.dumps({"id": "message 1", "payment": str(order.payments.get().key)}).encode()
    at = str(int(time.time())) if sent_at is None else sent_at
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Acme-Time": at, "Acme-Signature": signature}
    address = "/payments/acme/events/"
    return Client().post(address, body, "application/json", headers=headers).status_code


def decide(acme: Acme, order: Order, state: str) -> None:
    acme.payments[str(order.payments.get().key)]["state"] = state


def test_a_payment_from_its_start_to_its_refund(acme: Acme, order: Order) -> None:
    go_to_bank(order)  # again: no second payment
    assert len(acme.payments) == 1
    assert orders.settle(order.pk).state == State.PENDING
    decide(acme, order, "paid")
    assert (post(order), now(order).state) == (200, State.PAID)
    orders.refund(order.pk)
    refund = Refund.objects.get()
    for _ in range(2):  # again: no second refund
        assert carry_out(refund.pk).state == Refund.State.DONE
    assert acme.refunds == {refund.key: order.total}


def test_a_payment_that_was_declined(acme: Acme, order: Order) -> None:
    decide(acme, order, "failed")
    assert (post(order), now(order).state) == (200, State.PENDING)
    assert payments.status(order.payments.get()) == payments.Outcome.DECLINED


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


def test_a_refund_that_the_provider_declines(acme: Acme, order: Order) -> None:
    decide(acme, order, "paid")
    orders.settle(order.pk)
    decide(acme, order, "failed")
    orders.refund(order.pk)
    assert carry_out(Refund.objects.get().pk).state == Refund.State.FAILED


def test_forged_messages(acme: Acme, order: Order) -> None:
    decide(acme, order, "paid")
    assert post(order, secret="another") == 400
    assert post(order, sent_at="1600000000") == 400
    assert post(order, sent_at="yesterday") == 400
    assert now(order).state == State.PENDING
