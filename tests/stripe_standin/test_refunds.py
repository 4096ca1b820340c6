"""Refunds, as https://docs.stripe.com/api/refunds and https://docs.stripe.com/refunds have them."""

from __future__ import annotations

import pytest
import stripe

from .errors import NotPossible
from .shop import intent_of, kinds, open_session, refund
from .standin import StripeStandin


def charge_of(standin: StripeStandin, client: stripe.StripeClient, session: str) -> stripe.Charge:
    intent = client.v1.payment_intents.retrieve(intent_of(standin, session))
    return client.v1.charges.retrieve(str(intent.latest_charge))


def test_a_part_is_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    made = client.v1.refunds.create(
        {
            "payment_intent": intent_of(stripe_standin, session),
            "amount": 400,
            "metadata": {"refund": "r-1"},
            "reason": "requested_by_customer",
        }
    )

    assert (made.status, made.amount, made.currency) == ("succeeded", 400, "eur")
    assert made.reason == "requested_by_customer"
    assert made.to_dict()["metadata"] == {"refund": "r-1"}
    assert client.v1.refunds.retrieve(made.id).to_dict() == made.to_dict()
    charge = charge_of(stripe_standin, client, session)
    assert (charge.amount_refunded, charge.refunded) == (400, False)
    assert stripe_standin.books.balance(session).kept == 600
    assert kinds(stripe_standin) == ["charge.refunded", "refund.created"]


def test_without_an_amount_all_that_is_left_is_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    refund(stripe_standin, client, session, 400)

    assert refund(stripe_standin, client, session).amount == 600
    charge = charge_of(stripe_standin, client, session)
    assert (charge.amount_refunded, charge.refunded) == (1000, True)


def test_no_more_than_the_charge_is_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    refund(stripe_standin, client, session, 400)

    with pytest.raises(stripe.InvalidRequestError) as error:
        refund(stripe_standin, client, session, 601)

    assert "Refund amount (€6.01) is greater than unrefunded amount on charge (€6.00)" in str(
        error.value
    )
    assert error.value.param == "amount"
    assert stripe_standin.books.balance(session).kept == 600


def test_a_charge_that_is_refunded_already(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    refund(stripe_standin, client, session)

    with pytest.raises(stripe.InvalidRequestError) as error:
        refund(stripe_standin, client, session, 1)

    assert error.value.code == "charge_already_refunded"
    assert stripe_standin.books.balance(session).refunded == 1000


def test_a_payment_that_was_never_made_is_not_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    stripe_standin.sessions.decline_card(session)

    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        refund(stripe_standin, client, session)
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.refunds.create({"payment_intent": "pi_unknown"})
    assert error.value.code == "resource_missing"


@pytest.mark.parametrize("amount", [0, -5])
def test_nothing_is_no_refund(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str, amount: int
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as error:
        refund(stripe_standin, client, session, amount)

    assert error.value.param == "amount"


def test_a_refund_names_its_payment(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="payment_intent or charge"):
        client.v1.refunds.create({"amount": 100})


def test_a_refund_in_the_dashboard(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    made = stripe_standin.refunds.dashboard(session, 300)

    assert client.v1.refunds.retrieve(made["id"]).to_dict()["metadata"] == {}
    assert kinds(stripe_standin) == ["charge.refunded", "refund.created"]
    charge = stripe_standin.webhooks.queued("charge.refunded")[0]
    assert charge.object["amount_refunded"] == 300
    assert charge.event["data"]["previous_attributes"] == {
        "amount_refunded": 0,
        "refunded": False,
    }
    assert stripe_standin.books.balance(session).kept == 700


def test_a_refund_that_is_pending_counts_as_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    stripe_standin.refunds.begin_as("pending")
    made = refund(stripe_standin, client, session)

    assert (made.status, made.pending_reason) == ("pending", "processing")
    assert charge_of(stripe_standin, client, session).refunded is True
    assert stripe_standin.books.balance(session).kept == 0
    stripe_standin.refunds.succeed(made.id)

    assert client.v1.refunds.retrieve(made.id).status == "succeeded"
    assert kinds(stripe_standin)[-2:] == ["refund.updated", "charge.refund.updated"]
    with pytest.raises(NotPossible):
        stripe_standin.refunds.succeed(made.id)


@pytest.mark.parametrize("begun_as", ["succeeded", "pending", "requires_action"])
def test_a_refund_that_fails_later_gives_the_money_back_to_the_merchant(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str, begun_as: str
) -> None:
    stripe_standin.refunds.begin_as(begun_as)
    made = refund(stripe_standin, client, session, 400)
    assert made.status == begun_as

    stripe_standin.refunds.fail(made.id, "lost_or_stolen_card")

    failed = client.v1.refunds.retrieve(made.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_reason) == ("failed", "lost_or_stolen_card")
    change = failed.failure_balance_transaction
    assert isinstance(change, stripe.BalanceTransaction)
    assert change.amount == 400
    charge = charge_of(stripe_standin, client, session)
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    assert stripe_standin.books.balance(session).kept == 1000
    assert kinds(stripe_standin)[-3:] == [
        "refund.updated",
        "charge.refund.updated",
        "refund.failed",
    ]


def test_after_a_failed_refund_the_money_can_be_refunded_again(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    stripe_standin.refunds.fail(refund(stripe_standin, client, session).id)
    assert charge_of(stripe_standin, client, session).refunded is False

    assert refund(stripe_standin, client, session).amount == 1000
    assert stripe_standin.books.balance(session).refunded == 1000


def test_a_refund_that_fails_at_once(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    stripe_standin.refunds.begin_as("failed")

    made = refund(stripe_standin, client, session)

    assert (made.status, made.failure_reason) == ("failed", "declined")
    assert stripe_standin.books.balance(session).kept == 1000


def test_a_refund_that_is_canceled(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    stripe_standin.refunds.begin_as("requires_action")
    made = refund(stripe_standin, client, session)

    stripe_standin.refunds.cancel(made.id)

    assert client.v1.refunds.retrieve(made.id).status == "canceled"
    assert stripe_standin.books.balance(session).kept == 1000
    assert "refund.failed" not in kinds(stripe_standin)
    with pytest.raises(NotPossible):
        stripe_standin.refunds.cancel(made.id)


def test_a_refund_that_succeeded_is_not_canceled(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    made = refund(stripe_standin, client, session)

    with pytest.raises(NotPossible):
        stripe_standin.refunds.cancel(made.id)


def test_the_books_keep_fees_apart(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    refund(stripe_standin, client, session, 400)

    balance = stripe_standin.books.balance(session)

    assert (balance.charged, balance.refunded, balance.kept) == (1000, 400, 600)
    assert balance.fees == 15 + 25  # 1.5 % of 10.00 € and 0.25 €, which no refund returns
