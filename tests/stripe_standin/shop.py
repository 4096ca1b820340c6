"""A small shop, for the tests of the stand-in: the real library, and parameters that are right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import stripe

from .remote import RemoteStandin
from .standin import StripeStandin
from .webhooks import API_VERSION


def client_of(
    standin: StripeStandin | RemoteStandin,
    key: str = StripeStandin.secret_key,
    *,
    retries: int = 0,
    timeout: float = 5,
) -> stripe.StripeClient:
    """The library's client, by default without the retries that would hide an answer."""
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": standin.url},
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=timeout),
    )


def parameters(unit_amount: int = 1000, *, currency: str = "eur", **changes: Any) -> Any:
    """The parameters of a session, as a shop gives them."""
    price = {
        "currency": currency,
        "unit_amount": unit_amount,
        "product_data": {"name": "Order 1"},
    }
    return {
        "mode": "payment",
        "line_items": [{"quantity": 1, "price_data": price}],
        "success_url": "http://127.0.0.1/thanks",
        "cancel_url": "http://127.0.0.1/basket",
        **changes,
    }


def open_session(client: stripe.StripeClient, amount: int = 1000, **changes: Any) -> str:
    """Open a session, and return its id."""
    return client.v1.checkout.sessions.create(parameters(amount, **changes)).id


def paid_session(standin: StripeStandin, client: stripe.StripeClient, amount: int = 1000) -> str:
    """Open a session, pay in it, and return its id."""
    session = open_session(client, amount)
    standin.sessions.pay(session)
    return session


def intent_of(standin: StripeStandin, session: str) -> str:
    """The id of the session's intent."""
    intent: str = standin.sessions.get(session)["payment_intent"]
    return intent


def refund(
    standin: StripeStandin, client: stripe.StripeClient, session: str, amount: int | None = None
) -> stripe.Refund:
    """Give money of a session back, by the API."""
    wanted: Any = {"payment_intent": intent_of(standin, session)}
    if amount is not None:
        wanted["amount"] = amount
    return client.v1.refunds.create(wanted)


def kinds(standin: StripeStandin) -> list[str]:
    """The kinds of the messages that wait for the shop, the oldest first."""
    return [message.kind for message in standin.webhooks.queued()]


class Endpoint:
    """The shop's address for messages: notes what comes, and answers as it is told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[tuple[bytes, str]] = []
        self.next_statuses: list[int] = []


@contextmanager
def listening_endpoint() -> Iterator[Endpoint]:
    """An endpoint that answers 200, after its ``next_statuses``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.received.append((body, self.headers["Stripe-Signature"]))
            status = endpoint.next_statuses.pop(0) if endpoint.next_statuses else 200
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/events/")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield endpoint
        server.shutdown()
        thread.join()
