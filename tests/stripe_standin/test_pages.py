"""The page where the buyer pays."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any

import stripe

from .shop import open_session, parameters
from .standin import StripeStandin


@dataclass
class Shown:
    """A page, or the way to the next one."""

    status: int
    text: str
    location: str


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def show(address: str, choice: str = "") -> Shown:
    """Open a page, or press one of its buttons."""
    data = urllib.parse.urlencode({"choice": choice}).encode() if choice else None
    try:
        with urllib.request.build_opener(NoRedirects).open(address, data) as answer:
            return shown(answer.status, answer.read(), answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return shown(error.code, error.read(), error.headers)


def shown(status: int, body: bytes, headers: Message) -> Shown:
    return Shown(status, body.decode(), headers.get("Location", ""))


def test_the_page_shows_amount_and_order_and_leads_back_to_the_shop(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(
        client, 123456, payment_intent_data={"description": "Order A-1 of <Ann>"}
    )

    page = show(stripe_standin.page_of(session))

    assert page.status == 200
    assert "€1,234.56" in page.text
    assert "Order A-1 of &lt;Ann&gt;" in page.text
    assert 'href="http://127.0.0.1/basket"' in page.text
    assert "1 × Order 1" in page.text


def test_to_pay_leads_to_the_shop(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    created = client.v1.checkout.sessions.create(
        parameters(success_url="http://127.0.0.1/thanks?session={CHECKOUT_SESSION_ID}")
    )

    page = show(str(created.url), "pay")

    assert page.status == 303
    assert page.location == f"http://127.0.0.1/thanks?session={created.id}"
    assert client.v1.checkout.sessions.retrieve(created.id).payment_status == "paid"
    assert stripe_standin.webhooks.queued("checkout.session.completed")


def test_a_declined_card_shows_so_and_lets_pay_again(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    address = stripe_standin.page_of(session)

    page = show(address, "decline")

    assert "Your card was declined" in page.text
    assert client.v1.checkout.sessions.retrieve(session).status == "open"
    assert show(address, "pay").status == 303


def test_a_second_click_pays_nothing_more(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    address = stripe_standin.page_of(session)
    show(address, "pay")

    assert "This payment is complete" in show(address, "pay").text
    assert "This payment is complete" in show(address).text
    assert [balance.charged for balance in stripe_standin.books.balances()] == [1000]


def test_an_expired_page_says_so(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    address = stripe_standin.page_of(session)
    client.v1.checkout.sessions.expire(session)

    for page in (show(address), show(address, "pay")):
        assert "This payment page has expired" in page.text
        assert 'href="http://127.0.0.1/basket"' in page.text
    assert stripe_standin.books.balances() == []


def test_a_page_that_does_not_exist(stripe_standin: StripeStandin) -> None:
    assert show(stripe_standin.page_of("cs_test_unknown")).status == 404
    assert show(f"{stripe_standin.url}/c/pay/").status == 404


def test_an_unknown_choice(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    session = open_session(client)

    page = show(stripe_standin.page_of(session), "steal")

    assert page.status == 400
    assert client.v1.checkout.sessions.retrieve(session).status == "open"
