"""Checkout Sessions, as https://docs.stripe.com/api/checkout/sessions has them."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .errors import NotPossible
from .shop import client_of, intent_of, kinds, open_session, paid_session, parameters
from .standin import StripeStandin

HALF_AN_HOUR = 30 * 60
DAY = 24 * 3600


def test_a_session_is_open_and_has_a_page_until_it_is_paid(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = client.v1.checkout.sessions.create(
        parameters(
            metadata={"payment": "7"}, client_reference_id="A-1", customer_email="a@example.org"
        )
    )

    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_total, session.currency, session.livemode) == (1000, "eur", False)
    assert session.payment_intent is None
    assert session.url == stripe_standin.page_of(session.id)
    assert kinds(stripe_standin) == []

    stripe_standin.sessions.pay(session.id)
    paid = client.v1.checkout.sessions.retrieve(session.id)

    assert (paid.status, paid.payment_status) == ("complete", "paid")
    assert paid.url is None
    assert paid.to_dict()["metadata"] == {"payment": "7"}
    assert paid.client_reference_id == "A-1"
    assert paid.to_dict()["customer_details"]["email"] == "a@example.org"
    assert kinds(stripe_standin) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
        "charge.updated",
    ]


def test_the_intent_and_its_charge_have_the_data_for_them(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    address = {"line1": "Main St. 1", "postal_code": "12345", "city": "Town", "country": "DE"}
    session = open_session(
        client,
        1234,
        payment_intent_data={
            "description": "Order A-1",
            "metadata": {"payment": "7"},
            "shipping": {"name": "Ann", "address": address},
        },
    )
    stripe_standin.sessions.pay(session)

    intent = client.v1.payment_intents.retrieve(
        intent_of(stripe_standin, session), {"expand": ["latest_charge"]}
    )
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    for one in (intent, charge):
        assert (one.status, one.amount, one.description) == ("succeeded", 1234, "Order A-1")
        assert one.to_dict()["metadata"] == {"payment": "7"}
        shipping = one.to_dict()["shipping"]
        assert shipping["name"] == "Ann"
        assert {name: shipping["address"][name] for name in address} == address
    assert intent.amount_received == 1234
    assert (charge.paid, charge.refunded, charge.disputed) == (True, False, False)
    assert client.v1.charges.retrieve(charge.id).payment_intent == intent.id


def test_the_total_is_the_sum_of_the_lines(client: stripe.StripeClient) -> None:
    two, three = parameters(250)["line_items"][0], parameters(100)["line_items"][0]
    two["quantity"], three["quantity"] = 2, 3

    session = client.v1.checkout.sessions.create(parameters(line_items=[two, three]))

    assert session.amount_total == 2 * 250 + 3 * 100


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"mode": "subscription"}, None, "mode"),
        ({"line_items": []}, "parameter_missing", "line_items"),
        ({"success_url": "not an address"}, "url_invalid", "success_url"),
        ({"cancel_url": "/basket"}, "url_invalid", "cancel_url"),
        ({"customer_email": "nobody"}, "email_invalid", "customer_email"),
        ({"customer_email": ""}, "parameter_invalid_empty", "customer_email"),
        ({"client_reference_id": 201 * "x"}, None, "client_reference_id"),
        ({"payment_method_types": ["cash"]}, None, "payment_method_types[0]"),
        ({"expires_at": "soon"}, "parameter_invalid_integer", "expires_at"),
        ({"metadata": {str(number): "x" for number in range(51)}}, None, "metadata"),
        ({"metadata": {41 * "k": "x"}}, None, "metadata"),
        ({"metadata": {"k": 501 * "x"}}, None, "metadata[k]"),
        (
            {"payment_intent_data": {"metadata": {"k": 501 * "x"}}},
            None,
            "payment_intent_data[metadata][k]",
        ),
        (
            {"payment_intent_data": {"shipping": {"name": "Ann"}}},
            "parameter_missing",
            "payment_intent_data[shipping][address]",
        ),
        (
            {"payment_intent_data": {"shipping": {"name": "Ann", "address": {"city": "Town"}}}},
            "parameter_missing",
            "payment_intent_data[shipping][address][line1]",
        ),
        ({"line_items": 101 * parameters()["line_items"]}, None, "line_items"),
    ],
)
def test_wrong_parameters(
    stripe_standin: StripeStandin,
    client: stripe.StripeClient,
    changes: Any,
    code: str | None,
    param: str,
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.checkout.sessions.create(parameters(**changes))

    assert (error.value.code, error.value.param) == (code, param)
    assert error.value.http_status == 400
    assert stripe_standin.sessions.all() == []


def test_metadata_up_to_its_limits(client: stripe.StripeClient) -> None:
    metadata = {f"{number:040}": 500 * "x" for number in range(50)}

    session = client.v1.checkout.sessions.create(parameters(metadata=metadata))

    assert session.to_dict()["metadata"] == metadata


def test_a_currency_that_stripe_does_not_take(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Invalid currency: xyz") as error:
        client.v1.checkout.sessions.create(parameters(currency="xyz"))

    assert error.value.param == "line_items[0][price_data][currency]"


def test_lines_in_two_currencies(client: stripe.StripeClient) -> None:
    lines = parameters()["line_items"] + parameters(currency="usd")["line_items"]

    with pytest.raises(stripe.InvalidRequestError, match="same currency"):
        client.v1.checkout.sessions.create(parameters(line_items=lines))


@pytest.mark.parametrize(("currency", "least"), [("eur", 50), ("gbp", 30), ("pln", 200)])
def test_the_smallest_amount(client: stripe.StripeClient, currency: str, least: int) -> None:
    client.v1.checkout.sessions.create(parameters(least, currency=currency))
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.checkout.sessions.create(parameters(least - 1, currency=currency))

    assert error.value.code == "amount_too_small"


def test_the_largest_amount(client: stripe.StripeClient) -> None:
    client.v1.checkout.sessions.create(parameters(99_999_999))
    line = parameters(50_000_000)["line_items"][0]

    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.checkout.sessions.create(parameters(line_items=[line, line]))
    assert error.value.code == "amount_too_large"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.create(parameters(100_000_000))


def test_a_restricted_account_takes_no_payments(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)
    stripe_standin.account.restrict()

    with pytest.raises(stripe.PermissionError, match="cannot currently make charges"):
        open_session(client)
    assert client.v1.checkout.sessions.retrieve(session).payment_status == "paid"

    stripe_standin.account.lift_restriction()
    open_session(client)


def test_a_session_lasts_half_an_hour_at_least_and_a_day_at_most(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    now = stripe_standin.clock.now()

    for seconds in (HALF_AN_HOUR - 60, DAY + 60):
        with pytest.raises(stripe.InvalidRequestError) as error:
            open_session(client, expires_at=now + seconds)
        assert error.value.param == "expires_at"
    for seconds in (HALF_AN_HOUR, DAY):
        open_session(client, expires_at=now + seconds)


def test_a_session_expires_by_the_clock(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client, expires_at=stripe_standin.clock.now() + HALF_AN_HOUR)

    stripe_standin.clock.advance(HALF_AN_HOUR - 10)
    assert client.v1.checkout.sessions.retrieve(session).status == "open"
    stripe_standin.clock.advance(10)

    expired = client.v1.checkout.sessions.retrieve(session)
    assert (expired.status, expired.payment_status) == ("expired", "unpaid")
    assert expired.url is None
    assert kinds(stripe_standin) == ["checkout.session.expired"]
    with pytest.raises(NotPossible, match="expired"):
        stripe_standin.sessions.pay(session)


def test_a_session_lasts_a_day_if_the_shop_names_no_time(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)

    stripe_standin.clock.advance(DAY - 10)
    assert stripe_standin.sessions.get(session)["status"] == "open"
    stripe_standin.clock.advance(10)
    assert stripe_standin.sessions.get(session)["status"] == "expired"


def test_a_paid_session_never_expires(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)

    stripe_standin.clock.advance(2 * DAY)

    assert stripe_standin.sessions.get(session)["status"] == "complete"
    assert stripe_standin.webhooks.queued("checkout.session.expired") == []


def test_the_shop_expires_a_session_that_is_open(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)

    expired = client.v1.checkout.sessions.expire(session)

    assert (expired.status, expired.url) == ("expired", None)
    assert kinds(stripe_standin) == ["checkout.session.expired"]
    with pytest.raises(NotPossible, match="expired"):
        stripe_standin.sessions.pay(session)


def test_the_shop_expires_no_other_session(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    paid, expired = paid_session(stripe_standin, client), open_session(client)
    client.v1.checkout.sessions.expire(expired)

    for session, status in ((paid, "complete"), (expired, "expired")):
        with pytest.raises(stripe.InvalidRequestError, match=f"has a status of `{status}`"):
            client.v1.checkout.sessions.expire(session)
    assert client.v1.checkout.sessions.retrieve(paid).payment_status == "paid"


def test_after_a_declined_card_the_session_stays_open(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    stripe_standin.sessions.decline_card(session, "insufficient_funds")

    declined = client.v1.checkout.sessions.retrieve(session, {"expand": ["payment_intent"]})
    assert (declined.status, declined.payment_status) == ("open", "unpaid")
    intent = declined.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.decline_code == "insufficient_funds"
    assert stripe_standin.books.balances() == []

    stripe_standin.sessions.pay(session)

    assert intent_of(stripe_standin, session) == intent.id
    assert stripe_standin.books.balance(session).charged == 1000
    assert kinds(stripe_standin) == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
        "charge.updated",
    ]


def test_a_session_with_a_declined_card_expires_with_its_intent(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    stripe_standin.sessions.decline_card(session)

    client.v1.checkout.sessions.expire(session)

    intent = client.v1.payment_intents.retrieve(intent_of(stripe_standin, session))
    assert intent.status == "canceled"


def test_money_that_comes_later(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    session = open_session(client, payment_method_types=["sepa_debit"])
    stripe_standin.sessions.pay_later(session)

    waiting = client.v1.checkout.sessions.retrieve(session)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert stripe_standin.webhooks.queued("checkout.session.completed")
    assert stripe_standin.books.balances() == []
    stripe_standin.clock.advance(5 * DAY)
    stripe_standin.sessions.settle(session)

    paid = client.v1.checkout.sessions.retrieve(session)
    assert (paid.status, paid.payment_status) == ("complete", "paid")
    assert stripe_standin.books.balance(session).kept == 1000
    assert kinds(stripe_standin)[-2:] == [
        "checkout.session.async_payment_succeeded",
        "charge.updated",
    ]
    with pytest.raises(NotPossible):
        stripe_standin.sessions.settle(session)


def test_money_that_never_comes(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    session = open_session(client, payment_method_types=["sepa_debit"])
    stripe_standin.sessions.pay_later(session)

    stripe_standin.sessions.fail(session)

    failed = client.v1.checkout.sessions.retrieve(session)
    assert (failed.status, failed.payment_status) == ("complete", "unpaid")
    assert stripe_standin.books.balances() == []
    assert kinds(stripe_standin)[-1] == "checkout.session.async_payment_failed"


def test_money_is_booked_a_moment_after_it_is_paid(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    """See https://docs.stripe.com/payments/payment-intents/asynchronous-capture."""
    session = open_session(client)
    stripe_standin.sessions.pay(session, booked=False)

    assert charge_of(client, session).balance_transaction is None
    assert stripe_standin.books.balance(session).fees == 0
    stripe_standin.sessions.book(session)

    change = charge_of(client, session).balance_transaction
    assert isinstance(change, stripe.BalanceTransaction)
    assert change.fee == 15 + 25  # 1.5 % and 0.25 €
    with pytest.raises(NotPossible):
        stripe_standin.sessions.book(session)


def charge_of(client: stripe.StripeClient, session: str) -> stripe.Charge:
    intent = client.v1.checkout.sessions.retrieve(
        session, {"expand": ["payment_intent.latest_charge.balance_transaction"]}
    ).payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert isinstance(intent.latest_charge, stripe.Charge)
    return intent.latest_charge


def test_a_session_is_paid_once(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    session = paid_session(stripe_standin, client)

    with pytest.raises(NotPossible, match="complete"):
        stripe_standin.sessions.pay(session)

    assert [balance.charged for balance in stripe_standin.books.balances()] == [1000]


def test_a_deed_tells_how_things_are_then(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    before = stripe_standin.sessions.get(open_session(client))

    stripe_standin.sessions.pay(before["id"])

    assert before["status"] == "open"


def test_live_sessions_are_paid_too(stripe_standin: StripeStandin) -> None:
    live = client_of(stripe_standin, stripe_standin.live_secret_key)
    session = paid_session(stripe_standin, live)

    assert live.v1.payment_intents.retrieve(intent_of(stripe_standin, session)).livemode is True
    message = stripe_standin.webhooks.queued("checkout.session.completed")[0]
    assert message.event["livemode"] is True
