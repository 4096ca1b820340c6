"""The demo bank: a provider on whose page the customer chooses how the payment ends.

It stands for another company's system. Only this module reads and writes its tables
(``DemoBank…``), in transactions of its own. The shop learns of them only through the contract and
through signed messages, as it would over a network.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from urllib.parse import urljoin

from django.db import transaction
from django.db.models import Q, Sum
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.crypto import salted_hmac

from shop import jobs
from shop.models import DemoBankCharge, DemoBankDispute, DemoBankRefund, Payment, Refund
from shop.payments.base import (
    BadEvent,
    DisputeRecord,
    DisputeStatus,
    Event,
    ListedPayment,
    Outcome,
    Provider,
    ProviderUnavailable,
    RefundDeclined,
    RefundRecord,
    RefundStatus,
    Started,
    Statement,
)

SIGNATURE = "Demo-Bank-Signature"
OLDEST_EVENT = 300  # seconds
LATE = timedelta(minutes=1)
State = DemoBankCharge.State
OUTCOMES = {
    State.OPEN: Outcome.OPEN,
    State.APPROVED: Outcome.PAID,
    State.DECLINED: Outcome.DECLINED,
}


class Choice(enum.StrEnum):
    """The customer's choices on the bank's page."""

    APPROVE = "approve"
    DECLINE = "decline"
    LOSE_ANSWER = "lose-answer"
    """Approve, but neither the customer nor a message returns to the shop."""
    APPROVE_LATE = "approve-late"
    """Approve, but the money takes a minute: the customer is back sooner."""


class DemoBank(Provider):
    slug = "demo"
    label = "Demo bank"

    def start(self, payment: Payment) -> Started:
        charge, _ = DemoBankCharge.objects.get_or_create(
            key=payment.key,
            defaults={
                "amount": payment.amount,
                "currency": payment.currency,
                "description": f"Order {payment.order.number}",
                "return_url": payment.return_url,
                "expires_at": payment.expires_at,
                "copy": payment.copy,
            },
        )
        page = reverse("demo-bank", args=[charge.reference])
        return Started(charge.reference, urljoin(charge.return_url, page))

    def status(self, payment: Payment) -> Outcome:
        _bring_up_to_date(payment.key)
        charge = DemoBankCharge.objects.filter(key=payment.key).first()
        if charge is None:
            # It has not reached us. If it still does after its time, it can't be approved any more.
            is_over = Payment.objects.filter(pk=payment.pk, expires_at__lte=Now()).exists()
            return Outcome.DECLINED if is_over else Outcome.OPEN
        return OUTCOMES[State(charge.state)]

    def refund(self, refund: Refund) -> RefundStatus:
        with transaction.atomic():
            charge = (
                DemoBankCharge.objects.select_for_update()
                .filter(key=refund.payment.key, state=State.APPROVED)
                .first()
            )
            if charge is None:
                raise RefundDeclined("The demo bank has charged nothing for this payment.")
            if _has_given_back(charge, refund):
                return RefundStatus.DONE
            try:
                _give_back(charge, refund.amount, refund)
            except RefundDeclined as error:
                _remember_declined(charge, refund)
                declined = error
            else:
                return RefundStatus.DONE
        raise declined

    def statement(self, payment: Payment) -> Statement:
        _bring_up_to_date(payment.key)
        charge = DemoBankCharge.objects.filter(key=payment.key).first()
        return Statement(self.status(payment)) if charge is None else _statement(charge)

    def list_since(self, moment: datetime) -> Iterator[ListedPayment]:
        changed = (
            Q(started_at__gte=moment)
            | Q(refunds__made_at__gte=moment)
            | Q(dispute__opened_at__gte=moment)
        )
        for charge in DemoBankCharge.objects.filter(changed).distinct().order_by("pk"):
            _bring_up_to_date(charge.key)
            charge.refresh_from_db()
            yield ListedPayment(
                key=charge.key,
                reference=charge.reference,
                amount=charge.amount,
                currency=charge.currency,
                started_at=charge.started_at,
                statement=_statement(charge),
                copy=charge.copy,
            )

    def read_event(self, request: HttpRequest) -> Event:
        _check_signature(request.headers.get(SIGNATURE, ""), request.body)
        try:
            message = json.loads(request.body)
            key = message["payment"]
            return Event(
                id=str(message["id"]),
                payment_key=None if key is None else uuid.UUID(key),
                kind=str(message.get("kind", "")),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadEvent("The message has no id, or names no payment.") from error


def _has_given_back(charge: DemoBankCharge, refund: Refund) -> bool:
    """Whether this refund is on record. Raises RefundDeclined if it failed, or is another sum."""
    for made in charge.refunds.filter(key=refund.key).order_by("pk"):
        if made.state == DemoBankRefund.State.DONE:
            if made.amount != refund.amount:
                raise RefundDeclined(f"The demo bank has given {made.amount} back for this refund.")
            return True
        if made.attempt == refund.attempt:
            raise RefundDeclined("The demo bank declined this, or the money came back to it.")
    return False


def _give_back(charge: DemoBankCharge, amount: Decimal, refund: Refund | None = None) -> None:
    """Give money of the locked charge back, for the shop or by the bank. Raises RefundDeclined."""
    if charge.declines_refunds:
        raise RefundDeclined("The demo bank doesn't give this charge back.")
    given = charge.refunds.filter(state=DemoBankRefund.State.DONE)
    so_far = given.aggregate(total=Sum("amount"))["total"] or 0
    if so_far + amount > charge.amount:
        raise RefundDeclined(f"The demo bank has given back {so_far} already.")
    of_shop = {"key": refund.key, "attempt": refund.attempt, "copy": refund.copy} if refund else {}
    DemoBankRefund.objects.create(charge=charge, amount=amount, **of_shop)


def _remember_declined(charge: DemoBankCharge, refund: Refund) -> None:
    """Keep the answer to this attempt: a repetition that is late must not give money back."""
    DemoBankRefund.objects.create(
        charge=charge,
        key=refund.key,
        attempt=refund.attempt,
        amount=refund.amount,
        state=DemoBankRefund.State.FAILED,
        copy=refund.copy,
    )


def _statement(charge: DemoBankCharge) -> Statement:
    refunds = tuple(
        RefundRecord(
            reference=f"refund-{refund.pk}",
            amount=refund.amount,
            status=RefundStatus[refund.state],
            made_at=refund.made_at,
            key=refund.key,
            attempt=refund.attempt,
            copy=refund.copy,
        )
        for refund in charge.refunds.order_by("pk")
    )
    disputes = tuple(
        DisputeRecord(
            reference=f"dispute-{dispute.pk}",
            amount=dispute.amount,
            status=DisputeStatus[dispute.state],
            opened_at=dispute.opened_at,
        )
        for dispute in DemoBankDispute.objects.filter(charge=charge)
    )
    return Statement(OUTCOMES[State(charge.state)], refunds, disputes)


# The bank's own page


def find_charge(reference: str) -> DemoBankCharge:
    """Return the charge as it stands by the bank's clock. Raises DemoBankCharge.DoesNotExist."""
    charge = DemoBankCharge.objects.get(reference=reference)
    _bring_up_to_date(charge.key)
    charge.refresh_from_db()
    return charge


def choose(reference: str, choice: Choice) -> DemoBankCharge:
    """Record the customer's choice, and return the charge. The first choice stands.

    Raises DemoBankCharge.DoesNotExist.
    """
    with transaction.atomic():
        charge = DemoBankCharge.objects.get(reference=reference)
        waiting = DemoBankCharge.objects.filter(
            pk=charge.pk, state=State.OPEN, approve_at=None, expires_at__gt=Now()
        )
        if choice is Choice.DECLINE:
            chosen = waiting.update(state=State.DECLINED)
        elif choice is Choice.APPROVE_LATE:
            chosen = waiting.update(approve_at=Now() + LATE)
        else:
            chosen = waiting.update(state=State.APPROVED)
        if chosen and choice is not Choice.LOSE_ANSWER:
            wait = LATE if choice is Choice.APPROVE_LATE else None
            jobs.queue("send_demo_bank_event", wait=wait, charge_id=charge.pk)
    charge.refresh_from_db()
    return charge


def send_event(charge_id: int) -> None:
    """Send a signed message to the shop's address for events: the payment has ended.

    Raises ProviderUnavailable if it hasn't ended yet, or if the shop doesn't take the message.
    """
    charge = DemoBankCharge.objects.get(pk=charge_id)
    _bring_up_to_date(charge.key)
    charge.refresh_from_db()
    if charge.state == State.OPEN:
        raise ProviderUnavailable("The customer's bank has not answered yet.")
    body = json.dumps(
        {"id": f"{charge.reference}-{charge.state}", "payment": str(charge.key)}
    ).encode()
    request = urllib.request.Request(
        urljoin(charge.return_url, reverse("payment-events", args=[DemoBank.slug])),
        data=body,
        headers={"Content-Type": "application/json", SIGNATURE: sign(body)},
    )
    try:
        with urllib.request.urlopen(request, timeout=10):
            pass
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, too, and has the connection open
        raise ProviderUnavailable(f"The shop didn't take the message: {error}") from error


def sign(body: bytes, timestamp: int | None = None) -> str:
    """The signature of a message, made at ``timestamp`` (seconds since 1970; now)."""
    at = int(time.time()) if timestamp is None else timestamp
    return f"t={at},v1={_digest(at, body)}"


def _check_signature(signature: str, body: bytes) -> None:
    """Raise BadEvent unless the message was signed by us, not long ago."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    at, digest = parts.get("t", ""), parts.get("v1", "")
    if not (at.isascii() and at.isdecimal() and len(at) < 15 and digest):
        raise BadEvent(f"The message has no signature ({SIGNATURE}: t=…,v1=…).")
    if not hmac.compare_digest(digest.encode(), _digest(int(at), body).encode()):
        raise BadEvent("The signature is wrong.")
    if abs(time.time() - int(at)) > OLDEST_EVENT:
        raise BadEvent(f"The message is older than {OLDEST_EVENT} seconds.")


def _digest(at: int, body: bytes) -> str:
    content_hash = hashlib.sha256(body).hexdigest()
    return salted_hmac("demo bank", f"{at}.{content_hash}", algorithm="sha256").hexdigest()


def _bring_up_to_date(key: uuid.UUID) -> None:
    """Apply changes that are due by the bank's clock: late money arrives, open charges expire."""
    still_open = DemoBankCharge.objects.filter(key=key, state=State.OPEN)
    still_open.filter(approve_at__lte=Now()).update(state=State.APPROVED)
    still_open.filter(Q(approve_at=None), expires_at__lte=Now()).update(state=State.DECLINED)
