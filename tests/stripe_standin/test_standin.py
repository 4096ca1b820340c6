"""The stand-in keeps the rules of Stripe's documentation; the real library talks to it.

The right values come from https://docs.stripe.com: the API's reference, "Idempotent requests",
"Advanced error handling", "Refund and cancel payments", "How disputes work", and "Webhooks".
"""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_standin import StripeStandin
from tests.stripe_standin.webhooks import API_VERSION

DAY = 86400


@pytest.fixture
def client(stripe_standin: StripeStandin) -> stripe.StripeClient:
    return client_of(stripe_standin)


def client_of(
    standin: StripeStandin, key: str = StripeStandin.secret_key, *, retries: int = 0
) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": standin.url},
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=5),
    )


def parameters(unit_amount: int = 1000, **changes: Any) -> Any:
    """The parameters of a session, as a shop gives them."""
    return {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "eur",
                    "unit_amount": unit_amount,
                    "product_data": {"name": "Order 1"},
                },
            }
        ],
        "success_url": "http://127.0.0.1/thanks",
        "cancel_url": "http://127.0.0.1/basket",
        **changes,
    }


def open_session(client: stripe.StripeClient, amount: int = 1000, **changes: Any) -> str:
    return client.v1.checkout.sessions.create(parameters(amount, **changes)).id


def paid_session(standin: StripeStandin, client: stripe.StripeClient, amount: int = 1000) -> str:
    session = open_session(client, amount)
    standin.sessions.pay(session)
    return session


def intent_of(standin: StripeStandin, session: str) -> str:
    intent: str = standin.sessions.get(session)["payment_intent"]
    return intent


def test_a_session_is_open_and_has_a_page_until_it_is_paid(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = client.v1.checkout.sessions.create(parameters(metadata={"payment": "7"}))

    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_total, session.currency) == (1000, "eur")
    assert session.payment_intent is None
    assert session.url == stripe_standin.page_of(session.id)

    stripe_standin.sessions.pay(session.id)
    paid = client.v1.checkout.sessions.retrieve(session.id)

    assert (paid.status, paid.payment_status) == ("complete", "paid")
    assert paid.url is None
    assert paid.metadata is not None and paid.metadata.to_dict() == {"payment": "7"}
    assert client.v1.payment_intents.retrieve(str(paid.payment_intent)).status == "succeeded"


def test_a_lost_answer_comes_again_by_the_same_key(
    stripe_standin: StripeStandin,
) -> None:
    client = client_of(stripe_standin, retries=1)
    stripe_standin.faults.add("POST /v1/checkout/sessions", "answer_lost")

    session = open_session(client)

    assert [one["id"] for one in stripe_standin.sessions.all()] == [session]
    lost, again = stripe_standin.requests.all("POST /v1/checkout/sessions")
    assert (lost.is_answered, lost.is_replayed) == (False, False)
    assert (again.is_answered, again.is_replayed) == (True, True)
    assert lost.idempotency_key == again.idempotency_key


def test_no_more_than_the_charge_is_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)
    intent = intent_of(stripe_standin, session)
    refund = client.v1.refunds.create({"payment_intent": intent, "amount": 400})
    assert (refund.status, refund.amount) == ("succeeded", 400)

    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded amount"):
        client.v1.refunds.create({"payment_intent": intent, "amount": 601})
    client.v1.refunds.create({"payment_intent": intent})
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.refunds.create({"payment_intent": intent})

    assert error.value.code == "charge_already_refunded"
    assert stripe_standin.books.balance(session).kept == 0


def test_the_library_trusts_a_message_of_the_stand_in(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)

    message = stripe_standin.webhooks.queued("checkout.session.completed")[0]
    signed = stripe_standin.webhooks.sign(message.body)
    event = stripe.Webhook.construct_event(
        signed.body, signed.signature, stripe_standin.webhook_secret
    )

    assert (event.id, event.type) == (message.id, "checkout.session.completed")
    assert event.api_version == API_VERSION
    assert event.data.object["id"] == session


def test_a_session_expires_by_the_clock(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client, expires_at=stripe_standin.clock.now() + 1800)

    stripe_standin.clock.advance(1799)
    assert client.v1.checkout.sessions.retrieve(session).status == "open"
    stripe_standin.clock.advance(2)

    assert client.v1.checkout.sessions.retrieve(session).status == "expired"
    assert stripe_standin.webhooks.queued("checkout.session.expired")
