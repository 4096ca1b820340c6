"""Stripe's own side: the stand-in, to which the real library talks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from unittest import mock

import stripe
from django.conf import LazySettings
from django.db.models.functions import Now

from shop.models import Payment
from shop.payments import stripe_api
from tests.shop.payments.contract.bench import Bench, Books, GivenBack, Lacks, Post
from tests.stripe_standin import StripeStandin

SIGNATURE = "Stripe-Signature"
ALL_REQUESTS = ".* /v1/.*"
MINOR = Decimal("0.01")
LONGER_THAN_A_BUYER_WAITS = 2.5  # seconds
GONE = {"pending", "requires_action", "succeeded"}  # the money isn't ours any more


def _begin_threads_anew() -> None:
    stripe_api._threads = ThreadPoolExecutor()


os.register_at_fork(after_in_child=_begin_threads_anew)  # ways.kill forks, and threads stay behind


class StripeBench(Bench):
    slug = "stripe"

    def open(self, settings: LazySettings) -> None:
        self.standin = StripeStandin()
        self.standin.start()
        settings.PAYMENT_PROVIDER = "stripe"
        settings.STRIPE_SECRET_KEY = self.standin.secret_key
        settings.STRIPE_WEBHOOK_SECRET = self.standin.webhook_secret
        settings.STRIPE_API_BASE = self.standin.url
        settings.BASE_URL = "http://testserver"
        # The library tries again as soon as it can, so that lost answers cost no seconds.
        self._no_pause = mock.patch.object(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
        self._no_pause.start()

    def close(self) -> None:
        self._no_pause.stop()
        self.standin.stop()

    def approve(self, payment: Payment) -> None:
        self.standin.sessions.pay(self._session(payment))

    def decline(self, payment: Payment) -> None:
        self.standin.sessions.decline_card(self._session(payment))
        self.standin.sessions.expire(self._session(payment))

    def approve_later(self, payment: Payment) -> None:
        self.standin.sessions.pay_later(self._session(payment))

    def let_money_come(self, payment: Payment) -> None:
        self.standin.sessions.settle(self._session(payment))

    def let_money_fail(self, payment: Payment) -> None:
        self.standin.sessions.fail(self._session(payment))

    def end_time(self, payment: Payment) -> None:
        # Its session goes on for another 45 minutes.
        Payment.objects.filter(pk=payment.pk).update(expires_at=Now())

    def can_be_paid(self, payment: Payment) -> bool:
        return any(session["status"] == "open" for session in self._sessions(payment))

    def approve_after_decline(self, payment: Payment) -> None:
        raise Lacks("a session that has expired is never paid")

    def refuse_payments(self) -> None:
        self.standin.account.restrict()

    def accept_payments(self) -> None:
        self.standin.account.lift_restriction()

    def refund(self, payment: Payment, amount: Decimal) -> None:
        self.standin.refunds.dashboard(self._session(payment), _minor(amount))

    def fail_refund(self, payment: Payment) -> None:
        self.standin.refunds.fail(self._latest_refund(GONE))

    def refuse_refunds(self, payment: Payment) -> None:
        self.standin.refunds.begin_as("failed")

    def hold_refunds(self) -> None:
        self.standin.refunds.begin_as("pending")

    def let_refund_through(self, payment: Payment) -> None:
        self.standin.refunds.succeed(self._latest_refund({"pending"}))

    def dispute(self, payment: Payment, amount: Decimal | None = None) -> None:
        minor = None if amount is None else _minor(amount)
        self.standin.disputes.open(self._session(payment), minor)

    def inquire(self, payment: Payment) -> None:
        self.standin.disputes.open(self._session(payment), inquiry=True)

    def decide(self, payment: Payment, *, won: bool) -> None:
        dispute = self.standin.disputes.all()[-1]["id"]
        if won:
            self.standin.disputes.win(dispute)
        else:
            self.standin.disputes.lose(dispute)

    def message(self, payment: Payment, *, at: int | None = None) -> Post:
        newest = self.standin.webhooks.messages()[-1]
        return _post(self.standin.webhooks.sign(newest.body, at=at))

    def old_message(self, payment: Payment) -> Post:
        session = {**self._sessions(payment)[-1], "status": "expired", "payment_status": "unpaid"}
        return _post(self.standin.webhooks.event("checkout.session.expired", session))

    def foreign_messages(self) -> list[Post]:
        metadata = {"payment": str(uuid.uuid4()), "shop": "http://other.example"}
        session = {"id": "cs_test_other", "object": "checkout.session", "metadata": metadata}
        intent = {"id": "pi_other", "object": "payment_intent", "metadata": {}}
        dispute = {"id": "du_other", "object": "dispute", "payment_intent": "pi_other"}
        event = self.standin.webhooks.event
        return [
            _post(event("checkout.session.completed", session)),
            _post(event("payment_intent.created", intent)),
            _post(event("charge.dispute.created", dispute)),
            _post(event("customer.created", {"id": "cus_other", "object": "customer"})),
        ]

    def sign(self, body: bytes) -> Post:
        return _post(self.standin.webhooks.sign(body))

    def down(self) -> Any:
        return self._fault("connection_closed")

    def slow(self) -> Any:
        return self._fault("slow", seconds=LONGER_THAN_A_BUYER_WAITS)

    def garbled(self) -> Any:
        return self._fault("garbage")

    def losing_answers(self) -> Any:
        return self._fault("answer_lost", on="POST /v1/.*")

    @contextmanager
    def _fault(self, kind: Any, *, on: str = ALL_REQUESTS, seconds: float = 0.0) -> Iterator[None]:
        number = self.standin.faults.add(on, kind, times=None, seconds=seconds)
        yield
        self.standin.faults.remove(number)

    def forget_keys(self) -> None:
        self.standin.keys.forget()

    def books(self, payment: Payment) -> Books:
        sessions = self._sessions(payment)
        intents = {session["payment_intent"] for session in sessions} - {None}
        charges = [
            charge
            for charge in self.standin.books.charges()
            if charge["paid"] and charge["payment_intent"] in intents
        ]
        refunds = [
            GivenBack(
                reference=each["id"],
                key=each["metadata"].get("refund", ""),
                amount=each["amount"] * MINOR,
                is_gone=each["status"] in GONE,
            )
            for each in self.standin.refunds.all()
            if each["payment_intent"] in intents
        ]
        disputed = sum(
            each.disputed
            for each in self.standin.books.balances()
            if each.payment_intent in intents
        )
        charged = sum(charge["amount"] for charge in charges)
        return Books(len(sessions), charged * MINOR, tuple(refunds), disputed * MINOR)

    def check_no_money_is_of_others(self) -> None:
        ours = {str(key) for key in Payment.objects.values_list("key", flat=True)}
        assert {each.metadata["payment"] for each in self.standin.books.balances()} <= ours

    def _session(self, payment: Payment) -> str:
        id: str = self._sessions(payment)[-1]["id"]
        return id

    def _sessions(self, payment: Payment) -> list[dict[str, Any]]:
        return [
            session
            for session in self.standin.sessions.all()
            if session["metadata"].get("payment") == str(payment.key)
        ]

    def _latest_refund(self, statuses: set[str]) -> str:
        ids = [each["id"] for each in self.standin.refunds.all() if each["status"] in statuses]
        return str(ids[-1])


def _post(signed: Any) -> Post:
    return Post(signed.body, {SIGNATURE: signed.signature})


def _minor(amount: Decimal) -> int:
    return int(amount / MINOR)
