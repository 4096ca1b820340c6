"""Disputes, as https://docs.stripe.com/disputes/how-disputes-work has them."""

from __future__ import annotations

import pytest
import stripe

from .errors import NotPossible
from .shop import intent_of, kinds, open_session, refund
from .standin import StripeStandin


def test_a_dispute_takes_the_money(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    opened = stripe_standin.disputes.open(session, reason="product_not_received")

    dispute = client.v1.disputes.retrieve(opened["id"])
    assert (dispute.status, dispute.amount) == ("needs_response", 1000)
    assert (dispute.reason, dispute.is_charge_refundable) == ("product_not_received", False)
    assert dispute.payment_intent == intent_of(stripe_standin, session)
    assert [one.amount for one in dispute.balance_transactions] == [-1000]
    assert client.v1.charges.retrieve(str(dispute.charge)).disputed is True
    assert stripe_standin.books.balance(session).kept == 0
    assert kinds(stripe_standin) == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
    ]


def test_a_dispute_of_a_part(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    stripe_standin.disputes.open(session, 300)

    assert stripe_standin.books.balance(session).kept == 700


def test_a_dispute_after_a_refund_is_about_the_rest(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    refund(stripe_standin, client, session, 400)

    assert stripe_standin.disputes.open(session)["amount"] == 600
    assert stripe_standin.books.balance(session).kept == 0


def test_while_a_dispute_is_open_nothing_is_refunded(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    dispute = stripe_standin.disputes.open(session, 300)["id"]

    for change in (stripe_standin.disputes.answer, stripe_standin.disputes.lose):
        with pytest.raises(stripe.InvalidRequestError) as error:
            refund(stripe_standin, client, session, 100)
        assert error.value.code == "charge_disputed"
        change(dispute)
    with pytest.raises(stripe.InvalidRequestError) as error:
        refund(stripe_standin, client, session, 100)
    assert error.value.code == "charge_disputed"
    assert stripe_standin.books.balance(session).kept == 700


def test_a_dispute_that_is_won_brings_the_money_back(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    opened = stripe_standin.disputes.open(session)
    stripe_standin.disputes.answer(opened["id"])

    stripe_standin.disputes.win(opened["id"])

    dispute = client.v1.disputes.retrieve(opened["id"])
    assert (dispute.status, dispute.is_charge_refundable) == ("won", True)
    assert [one.amount for one in dispute.balance_transactions] == [-1000, 1000]
    assert stripe_standin.books.balance(session).kept == 1000
    assert kinds(stripe_standin)[2:] == [
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    ]
    assert refund(stripe_standin, client, session).status == "succeeded"


def test_a_dispute_that_is_lost_leaves_the_money_with_the_buyer(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    dispute = stripe_standin.disputes.open(session)["id"]

    stripe_standin.disputes.lose(dispute)

    assert client.v1.disputes.retrieve(dispute).status == "lost"
    assert stripe_standin.books.balance(session).kept == 0
    assert kinds(stripe_standin)[2:] == ["charge.dispute.closed"]
    with pytest.raises(NotPossible):
        stripe_standin.disputes.win(dispute)


def test_an_inquiry_takes_no_money(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    opened = stripe_standin.disputes.open(session, inquiry=True)

    dispute = client.v1.disputes.retrieve(opened["id"])
    assert (dispute.status, dispute.is_charge_refundable) == ("warning_needs_response", True)
    assert dispute.balance_transactions == []
    assert stripe_standin.books.balance(session).kept == 1000
    assert kinds(stripe_standin) == ["charge.dispute.created"]
    assert refund(stripe_standin, client, session, 400).status == "succeeded"

    stripe_standin.disputes.close_inquiry(dispute.id)

    assert client.v1.disputes.retrieve(dispute.id).status == "warning_closed"
    assert kinds(stripe_standin)[-1] == "charge.dispute.closed"
    assert stripe_standin.books.balance(session).kept == 600


def test_an_inquiry_becomes_a_dispute(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    dispute = stripe_standin.disputes.open(session, inquiry=True)["id"]

    stripe_standin.disputes.escalate(dispute)

    assert client.v1.disputes.retrieve(dispute).status == "needs_response"
    assert stripe_standin.books.balance(session).kept == 0
    assert kinds(stripe_standin)[1:] == [
        "charge.dispute.updated",
        "charge.dispute.funds_withdrawn",
    ]


def test_a_dispute_that_is_prevented(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    prevented = stripe_standin.disputes.prevent(session, 400)

    dispute = client.v1.disputes.retrieve(prevented["id"])
    assert (dispute.status, dispute.is_charge_refundable) == ("prevented", False)
    assert [(one.amount, one.fee) for one in dispute.balance_transactions] == [(-400, 0)]
    assert stripe_standin.books.balance(session).kept == 600
    assert kinds(stripe_standin) == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
    ]
    with pytest.raises(NotPossible):
        stripe_standin.disputes.answer(dispute.id)
    with pytest.raises(stripe.InvalidRequestError) as error:
        refund(stripe_standin, client, session, 100)
    assert error.value.code == "charge_disputed"


def test_a_refund_during_an_inquiry_ends_its_danger(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    dispute = stripe_standin.disputes.open(session, inquiry=True)["id"]
    refund(stripe_standin, client, session)

    with pytest.raises(NotPossible, match="is refunded"):
        stripe_standin.disputes.escalate(dispute)
    assert stripe_standin.books.balance(session).kept == 0


def test_a_pending_refund_fails_when_the_charge_is_disputed(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    stripe_standin.refunds.begin_as("pending")
    pending = refund(stripe_standin, client, session, 400)

    stripe_standin.disputes.open(session, 1000)

    failed = client.v1.refunds.retrieve(pending.id)
    assert (failed.status, failed.failure_reason) == (
        "failed",
        "charge_for_pending_refund_disputed",
    )
    assert stripe_standin.books.balance(session).kept == 0


def test_no_dispute_without_a_payment(
    stripe_standin: StripeStandin, client: stripe.StripeClient, session: str
) -> None:
    with pytest.raises(NotPossible):
        stripe_standin.disputes.open(open_session(client))
    with pytest.raises(NotPossible):
        stripe_standin.disputes.open(session, 1001)
    stripe_standin.disputes.open(session)
    with pytest.raises(NotPossible):
        stripe_standin.disputes.open(session)
