"""The demo bank: a provider on whose page the customer chooses how the payment ends.

It stands for another company's system. Only this module and ``demo_dashboard``, where the bank's
staff work, read and write its tables (``DemoBank…``), in transactions of their own. The shop learns
of them only through the contract and through signed messages, as it would over a network.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urljoin

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.crypto import salted_hmac

from shop import jobs
from shop.clock import read_clock
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Payment,
    Refund,
    new_token,
)
from shop.money import format_amount
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
    StartDeclined,
    Started,
    Statement,
)

SIGNATURE = "Demo-Bank-Signature"
OLDEST_EVENT = 300  # seconds
LATE = timedelta(minutes=1)
LEAST_CHARGE = Decimal("0.50")  # real providers have such a minimum, too
LEAST_REFUND = Decimal("0.01")
CAME_BACK = "The money came back to the demo bank."
State = DemoBankCharge.State
Dispute = DemoBankDispute.State
OUTCOMES = {
    State.OPEN: Outcome.OPEN,
    State.APPROVED: Outcome.PAID,
    State.DECLINED: Outcome.DECLINED,
}

# Each purchase needs these. Each is one statement: another process may do the same at this moment.
OPEN_CHARGE = """
    INSERT INTO shop_demobankcharge
        (key, reference, amount, currency, description, return_url, expires_at, state, copy)
    VALUES (
        %(key)s, %(reference)s, %(amount)s, %(currency)s, %(description)s, %(return_url)s,
        %(expires_at)s, 'OPEN', %(copy)s
    )
    ON CONFLICT (key) DO UPDATE SET key = excluded.key
    RETURNING reference
"""
DECIDE = """
    UPDATE shop_demobankcharge
    SET state = %(state)s, approve_at = statement_timestamp() + %(late)s::interval,
        changed_at = statement_timestamp()
    WHERE reference = %(reference)s AND state = 'OPEN' AND approve_at IS NULL
        AND expires_at > statement_timestamp()
    RETURNING *
"""
# A charge changes by the bank's clock: late money arrives, and open charges expire.
IS_DUE = "state = 'OPEN' AND coalesce(approve_at, expires_at) <= statement_timestamp()"
FIND_CHARGE = f"""
    SELECT *, {IS_DUE} AS is_due FROM shop_demobankcharge
    WHERE key = %(key)s OR reference = %(reference)s
"""
FIND_DUE = f"SELECT * FROM shop_demobankcharge WHERE {IS_DUE}"
CHANGE_DUE = f"""
    UPDATE shop_demobankcharge
    SET state = CASE WHEN approve_at IS NULL THEN 'DECLINED' ELSE 'APPROVED' END,
        changed_at = statement_timestamp()
    WHERE key = %(key)s AND {IS_DUE}
"""


class Choice(enum.StrEnum):
    """The customer's choices on the bank's page."""

    APPROVE = "approve"
    DECLINE = "decline"
    LOSE_ANSWER = "lose-answer"
    """Approve, but neither the customer nor a message returns to the shop."""
    APPROVE_LATE = "approve-late"
    """Approve, but the money takes a minute: the customer is back sooner."""


STATES_CHOSEN: dict[Choice, State] = {
    Choice.APPROVE: State.APPROVED,
    Choice.DECLINE: State.DECLINED,
    Choice.LOSE_ANSWER: State.APPROVED,
    Choice.APPROVE_LATE: State.OPEN,
}


def time_of(choice: Choice) -> timedelta | None:
    """The time after which the money arrives, if that is not now."""
    return LATE if choice is Choice.APPROVE_LATE else None


class DemoBank(Provider):
    slug = "demo"
    label = "Demo bank"

    def start(self, payment: Payment) -> Started:
        reference = _open_charge(payment)
        page = reverse("demo-bank", args=[reference])
        return Started(reference, urljoin(payment.return_url, page))

    def status(self, payment: Payment) -> Outcome:
        charge = _current_charge(key=payment.key)
        if charge is None:
            # It has not reached us. If it still does after its time, it can't be approved any more.
            is_over = Payment.objects.filter(pk=payment.pk, expires_at__lte=Now()).exists()
            return Outcome.DECLINED if is_over else Outcome.OPEN
        return OUTCOMES[State(charge.state)]

    def refund(self, refund: Refund) -> RefundStatus:
        _bring_up_to_date(refund.payment.key)
        with transaction.atomic():
            charge = locked_charges(key=refund.payment.key).first()
            if charge is None:
                raise RefundDeclined("The demo bank knows of no such payment.")
            made = _find_refund(charge, refund) or _record_refund(charge, refund)
        # A no is on record, too, before it is said.
        if made.state == DemoBankRefund.State.FAILED:
            raise RefundDeclined(made.problem or CAME_BACK)
        if made.amount != refund.amount:
            amount = format_amount(made.amount, charge.currency)
            raise RefundDeclined(f"The demo bank has given {amount} back for this refund.")
        return RefundStatus.DONE

    def statement(self, payment: Payment) -> Statement:
        _bring_up_to_date(payment.key)
        with transaction.atomic():  # no refund or dispute comes between its parts
            charge = locked_charges(key=payment.key).first()
            if charge is not None:
                return _statement(charge)
        return Statement(self.status(payment))

    def list_since(self, moment: datetime) -> Iterator[ListedPayment]:
        for charge in DemoBankCharge.objects.raw(FIND_DUE):
            _bring_up_to_date(charge.key)
        changed = DemoBankCharge.objects.filter(changed_at__gte=moment)
        for pk in changed.order_by("started_at", "pk").values_list("pk", flat=True):
            yield _listed(pk)

    def read_event(self, request: HttpRequest) -> Event:
        _check_signature(request.headers.get(SIGNATURE, ""), request.body)
        try:
            message = json.loads(request.body)
            key = message["payment"]
            return Event(
                id=str(message["id"]),
                payment_key=None if key is None else uuid.UUID(key),
                kind=message.get("kind", ""),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadEvent("The message has no id, or names no payment.") from error


def _open_charge(payment: Payment) -> str:
    """Open the payment's charge, once, and return its reference. Raises StartDeclined."""
    accepted = DemoBankCharge.objects.filter(key=payment.key)
    if payment.amount < LEAST_CHARGE and not accepted.exists():
        least = format_amount(LEAST_CHARGE, payment.currency)
        raise StartDeclined(f"The demo bank charges no less than {least}.")
    with connection.cursor() as cursor:
        cursor.execute(
            OPEN_CHARGE,
            {
                "key": payment.key,
                "reference": new_token(),
                "amount": payment.amount,
                "currency": payment.currency,
                "description": f"Order {payment.order.number}",
                "return_url": payment.return_url,
                "expires_at": payment.expires_at,
                "copy": payment.copy,
            },
        )
        [reference] = cursor.fetchone()
    return str(reference)


def locked_charges(**fields: Any) -> QuerySet[DemoBankCharge]:
    """The charge with these fields, locked: one step after the other changes its money."""
    return DemoBankCharge.objects.select_for_update().filter(**fields)


def _find_refund(charge: DemoBankCharge, refund: Refund) -> DemoBankRefund | None:
    """The record of the refund that was made, whatever its attempt, or else of this attempt."""
    records = charge.refunds.filter(key=refund.key)
    done = records.filter(state=DemoBankRefund.State.DONE).first()
    return done or records.filter(attempt=refund.attempt).first()


def _record_refund(charge: DemoBankCharge, refund: Refund) -> DemoBankRefund:
    """Carry the refund out, or keep it as declined: a late repetition must not give money back."""
    problem = why_declined(charge, refund.amount)
    _note_change(charge)
    return charge.refunds.create(
        key=refund.key,
        attempt=refund.attempt,
        amount=refund.amount,
        copy=refund.copy,
        state=DemoBankRefund.State.FAILED if problem else DemoBankRefund.State.DONE,
        problem=problem,
    )


def why_declined(charge: DemoBankCharge, amount: Decimal = LEAST_REFUND) -> str:
    """Why the bank doesn't give so much of the locked charge back; empty if it does."""
    if charge.state != State.APPROVED:
        return "The demo bank has charged nothing for this payment."
    if charge.declines_refunds:
        return "The demo bank doesn't give this charge back."
    if DemoBankDispute.objects.filter(charge=charge).exclude(state=Dispute.WON).exists():
        return "The customer has disputed this charge: its money is with their bank."
    if charge.given_back() + amount > charge.amount:
        given = format_amount(charge.given_back(), charge.currency)
        return f"The demo bank has given back {given} already."
    return ""


def _listed(charge_id: int) -> ListedPayment:
    with transaction.atomic():
        charge = locked_charges(pk=charge_id).get()
        return ListedPayment(
            key=charge.key,
            reference=charge.reference,
            amount=charge.amount,
            currency=charge.currency,
            started_at=charge.started_at,
            statement=_statement(charge),
            copy=charge.copy,
        )


def _statement(charge: DemoBankCharge) -> Statement:
    """All that is on record of the locked charge."""
    refunds = tuple(
        RefundRecord(
            reference=f"refund-{refund.pk}",
            amount=refund.amount,
            status=RefundStatus[refund.state],
            made_at=refund.made_at,
            key=refund.key,
            attempt=refund.attempt if refund.key else 0,
            copy=refund.copy,
            problem=refund.problem,
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
    page = urljoin(charge.return_url, reverse("demo-bank-charge", args=[charge.pk]))
    return Statement(OUTCOMES[State(charge.state)], refunds, disputes, page=page)


# The bank's own page


def find_charge(reference: str) -> DemoBankCharge:
    """Return the charge as it stands by the bank's clock. Raises DemoBankCharge.DoesNotExist."""
    charge = _current_charge(reference=reference)
    if charge is None:
        raise DemoBankCharge.DoesNotExist(f"There is no charge {reference}.")
    return charge


def _current_charge(
    *, key: uuid.UUID | None = None, reference: str | None = None
) -> DemoBankCharge | None:
    """Find the charge with this key or reference, as it stands by the bank's clock."""
    sought = {"key": key, "reference": reference}
    charge: Any = next(iter(DemoBankCharge.objects.raw(FIND_CHARGE, sought)), None)
    if charge is not None and charge.is_due:
        _bring_up_to_date(charge.key)
        charge.refresh_from_db()
    return charge  # type: ignore[no-any-return]


def choose(reference: str, choice: Choice) -> DemoBankCharge:
    """Record the customer's choice, and return the charge. The first choice stands.

    Raises DemoBankCharge.DoesNotExist.
    """
    with transaction.atomic():
        charge = _decide(reference, choice)
        if charge is not None and choice is not Choice.LOSE_ANSWER:
            jobs.queue("send_demo_bank_event", wait=time_of(choice), charge_id=charge.pk)
    return charge or find_charge(reference)


def _decide(reference: str, choice: Choice) -> DemoBankCharge | None:
    """Record the choice, and return the charge; None if it waits for none."""
    choice_made = {
        "reference": reference,
        "state": STATES_CHOSEN[choice],
        "late": time_of(choice),
    }
    return next(iter(DemoBankCharge.objects.raw(DECIDE, choice_made)), None)


def dispute(reference: str) -> bool:
    """Take back for the customer what is left of an approved charge, once.

    False if it was disputed before, or if there is nothing to take. Raises
    DemoBankCharge.DoesNotExist.
    """
    key = find_charge(reference).key
    with transaction.atomic():
        charge = locked_charges(key=key).get()
        left = charge.amount - charge.given_back()
        if charge.state != State.APPROVED or left <= 0:
            return False
        opened, is_new = DemoBankDispute.objects.get_or_create(
            charge=charge, defaults={"amount": left}
        )
        if is_new:
            report(charge, "dispute.opened", opened.pk)
        return is_new


# Messages to the shop


def report(charge: DemoBankCharge, kind: str, number: int) -> None:
    """Queue a message about a step, in its transaction. ``number`` tells steps of a kind apart."""
    _note_change(charge)
    jobs.queue("send_demo_bank_event", charge_id=charge.pk, kind=kind, number=number)


def _note_change(charge: DemoBankCharge) -> None:
    DemoBankCharge.objects.filter(pk=charge.pk).update(changed_at=Now())


def send_event(charge_id: int, kind: str = "", number: int = 0) -> None:
    """Send a signed message to the shop's address for events.

    It tells of the step that ``report`` has queued; without a kind, that the payment has ended.

    Raises ProviderUnavailable if it hasn't ended yet, or if the shop doesn't take the message.
    """
    charge = DemoBankCharge.objects.get(pk=charge_id)
    if kind:
        _send(charge, f"{kind}-{number}", kind)
        return
    _bring_up_to_date(charge.key)
    charge.refresh_from_db()
    if charge.state == State.OPEN:
        raise ProviderUnavailable("The customer's bank has not answered yet.")
    _send(charge, f"{charge.reference}-{charge.state}", f"payment.{charge.state.lower()}")


def _send(charge: DemoBankCharge, message_id: str, kind: str) -> None:
    """Post a message to the shop. Raises ProviderUnavailable if the shop doesn't take it."""
    message = {"id": message_id, "kind": kind, "payment": str(charge.key)}
    body = json.dumps(message).encode()
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
    at = int(read_clock().timestamp()) if timestamp is None else timestamp
    return f"t={at},v1={_digest(at, body)}"


def _check_signature(signature: str, body: bytes) -> None:
    """Raise BadEvent unless the message was signed by us, not long ago."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    at, digest = parts.get("t", ""), parts.get("v1", "")
    if not (at.isascii() and at.isdecimal() and len(at) < 15 and digest):
        raise BadEvent(f"The message has no signature ({SIGNATURE}: t=…,v1=…).")
    if not hmac.compare_digest(digest.encode(), _digest(int(at), body).encode()):
        raise BadEvent("The signature is wrong.")
    if abs(read_clock().timestamp() - int(at)) > OLDEST_EVENT:
        raise BadEvent(f"The message is older than {OLDEST_EVENT} seconds.")


def _digest(at: int, body: bytes) -> str:
    content_hash = hashlib.sha256(body).hexdigest()
    return salted_hmac("demo bank", f"{at}.{content_hash}", algorithm="sha256").hexdigest()


def _bring_up_to_date(key: uuid.UUID) -> None:
    """Apply the change that is due by the bank's clock, if any."""
    with connection.cursor() as cursor:
        cursor.execute(CHANGE_DUE, {"key": key})
