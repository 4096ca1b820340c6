"""Stripe Checkout: the buyer pays on Stripe's own page, by card or by a wallet of cards.

Each payment is a Checkout Session, which its row describes in whole: a repetition asks for the same
thing by the same idempotency key, and gets the same session. Stripe keeps our names of things in
``metadata``, by which payments and refunds are found again.

Only cards, since their money is there at once or never. Other methods would leave payments open for
days, while the shop holds the goods.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import stripe
from babel.numbers import get_currency_precision
from django.conf import settings
from django.db.models import F, Func, TextField, Value
from django.db.models.functions import Now
from django.http import HttpRequest

from shop.clock import read_clock
from shop.models import Payment, Refund
from shop.orders import copies
from shop.payments.base import (
    BadEvent,
    DisputeRecord,
    DisputeStatus,
    Event,
    ListedPayment,
    Outcome,
    Provider,
    RefundDeclined,
    RefundRecord,
    RefundStatus,
    StartDeclined,
    Started,
    Statement,
)
from shop.payments.stripe_api import (
    LOCKED_OUT,
    NONSENSE,
    REFUSED,
    Answer,
    ask,
    ask_for_all,
    read_amount,
    read_id,
    read_metadata,
    read_time,
    translated_errors,
    words_of,
)
from shop.payments.stripe_settings import STRIPE_ADDRESS, is_test_key, webhook_secret_problem

log = logging.getLogger(__name__)

# Stripe's shortest time for a session is 30 minutes, more than ours for a payment. So a session
# lasts longer than its payment, and ``status`` ends it. Stripe's longest time is 24 hours.
SESSION_OUTLASTS_PAYMENT = timedelta(minutes=45)
LONGEST_SESSION = timedelta(hours=23, minutes=50)
# Stripe forgets idempotency keys after 24 hours or later. Until then the same key returns the
# session whose answer was lost.
KEY_IS_KNOWN = timedelta(hours=20)
OLDEST_EVENT = 300  # seconds
PIECE = 500  # characters of a value of metadata
LONGEST_DESCRIPTION = 500  # characters; it is there to be read at a glance
MOST_PIECES = 40  # of the 50 values that Stripe keeps
REST = 16 * 1024  # bytes of a message without the copy in it, at most
ORIGIN = r"^[a-z]+://[^/?#]+"  # understood by Python and by PostgreSQL
PLAIN_EMAIL = re.compile(r"[a-z0-9]([a-z0-9._+-]*[a-z0-9])?@[a-z0-9-]+(\.[a-z0-9-]+)+", re.I | re.A)
WITH_FEE = "payment_intent.latest_charge.balance_transaction"

REFUND_STATUSES = {
    None: RefundStatus.PENDING,
    "pending": RefundStatus.PENDING,
    "requires_action": RefundStatus.PENDING,
    "succeeded": RefundStatus.DONE,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.FAILED,
}
REFUND_PROBLEMS = {
    "charge_for_pending_refund_disputed": "The buyer has disputed the payment meanwhile.",
    "declined": "The buyer's bank has declined it.",
    "expired_or_canceled_card": "The buyer's card has expired, or was cancelled.",
    "insufficient_funds": "The balance at Stripe was too low.",
    "lost_or_stolen_card": "The buyer's card was lost or stolen.",
    "merchant_request": "It was cancelled at Stripe.",
}
DISPUTE_STATUSES = {
    "warning_needs_response": DisputeStatus.INQUIRY,
    "warning_under_review": DisputeStatus.INQUIRY,
    "warning_closed": DisputeStatus.WON,
    "needs_response": DisputeStatus.OPEN,
    "under_review": DisputeStatus.OPEN,
    "appeal_needs_response": DisputeStatus.OPEN,
    "appeal_under_review": DisputeStatus.OPEN,
    "won": DisputeStatus.WON,
    "lost": DisputeStatus.LOST,
}


class StripeCheckout(Provider):
    slug = "stripe"
    label = "Stripe"
    secret_setting = "STRIPE_WEBHOOK_SECRET"

    def __init__(self) -> None:
        self.origin = _origin_of_pages()

    def start(self, payment: Payment) -> Started:
        _check_currency(payment)
        with translated_errors():
            try:
                session = _open_session(payment)
            except (*REFUSED, *LOCKED_OUT) as error:
                if payment.reference:  # the buyer may be on the session's page
                    raise
                raise StartDeclined(f"Stripe: {words_of(error)}") from error
            return Started(read_id(session["id"]), _read_url(session["url"]))

    def status(self, payment: Payment) -> Outcome:
        with translated_errors():
            session = _find_session(payment)
            if session and session["status"] == "open" and _is_over(payment):
                session = _end_session(session)
            return _outcome(payment, session)

    def refund(self, refund: Refund) -> RefundStatus:
        with translated_errors():
            session = _find_session(refund.payment)
            if session is None or session["payment_intent"] is None:
                raise RefundDeclined("Stripe has charged nothing for this payment.")
            intent = read_id(session["payment_intent"])
            made = _find_refund(refund, intent) or _make_refund(refund, intent)
            status = REFUND_STATUSES[made["status"]]
            if status is RefundStatus.FAILED:
                raise RefundDeclined(_refund_problem(made))
            return status

    def statement(self, payment: Payment) -> Statement:
        with translated_errors():
            session = _find_session(payment)
            if session is None or session["payment_intent"] is None:
                return Statement(_outcome(payment, session))
            return _look_up_statement(_get_session(session["id"], expand=[WITH_FEE]))

    def list_since(self, moment: datetime) -> Iterator[ListedPayment]:
        with translated_errors():
            return iter(_list_since(moment))

    def read_event(self, request: HttpRequest) -> Event:
        match _read_message(request):
            case {
                "id": str(event_id),
                "type": str(kind),
                "livemode": bool(is_live),
                "data": {"object": dict(about)},
            }:
                event = Event(event_id, None, kind)
            case _:
                raise BadEvent("The message is no event of Stripe's.")
        if is_live == is_test_key(settings.STRIPE_SECRET_KEY):
            log.warning("Message %s is of Stripe's other mode, live or test.", event_id)
            return event
        return replace(event, payment_key=_find_key(about))


def _origin_of_pages() -> str:
    if settings.STRIPE_API_BASE != STRIPE_ADDRESS:
        return str(settings.STRIPE_API_BASE)  # a stand-in has its pages there, too
    return "https://checkout.stripe.com"


# Sessions


def _check_currency(payment: Payment) -> None:
    """Raise StartDeclined unless the currency has two decimal places, as all our amounts do."""
    if get_currency_precision(payment.currency) != 2:
        raise StartDeclined(f"Amounts in {payment.currency} can't be sent to Stripe.")


def _open_session(payment: Payment) -> Answer:
    """Open the payment's session, or return the one that is there.

    Everything in it comes from the payment's row, and never changes: Stripe refuses a repetition
    that asks for anything else.
    """
    ours = {"payment": str(payment.key), "shop": _origin(payment.return_url)}
    description = f"Order {payment.order.number}"
    email, goods = _read_copy(payment)
    parameters: Any = {
        "mode": "payment",
        "payment_method_types": ["card"],
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": payment.currency.lower(),
                    "unit_amount": _minor_units(payment.amount),
                    "product_data": {"name": description, **goods},
                },
            }
        ],
        "client_reference_id": payment.order.number,
        **email,
        "success_url": payment.return_url,
        "cancel_url": payment.return_url,
        "expires_at": _end_of_session(payment),
        "metadata": {**ours, **_pieces(payment.copy)},
        "payment_intent_data": {"description": description, "metadata": ours},
    }
    return ask(
        lambda client: client.v1.checkout.sessions.create(
            parameters, {"idempotency_key": str(payment.key)}
        )
    )


def _read_copy(payment: Payment) -> tuple[dict[str, str], dict[str, str]]:
    """The buyer's address and the goods, for Stripe's page, as they were at the payment's start.

    Stripe refuses sessions with addresses that it doesn't know as such. So only plain ones are sent
    along, and others are typed there.
    """
    try:
        copy = copies.read_order(payment.copy)
    except copies.UnusableCopy:
        return {}, {}
    email = copy.order.email
    goods = ", ".join(str(line) for line in copy.lines)
    return (
        {"customer_email": email} if PLAIN_EMAIL.fullmatch(email) else {},
        {"description": goods[:LONGEST_DESCRIPTION]} if goods else {},
    )


def _end_of_session(payment: Payment) -> int:
    end = payment.expires_at + SESSION_OUTLASTS_PAYMENT
    return int(min(end, payment.started_at + LONGEST_SESSION).timestamp())


def _minor_units(amount: Decimal) -> int:
    minor = amount.scaleb(2)
    if minor != minor.to_integral_value():
        raise ValueError(f"{amount} has parts of a cent.")
    return int(minor)


def _get_session(reference: str, expand: Iterable[str] = ()) -> Answer:
    parameters: Any = {"expand": list(expand)} if expand else {}
    return ask(lambda client: client.v1.checkout.sessions.retrieve(reference, parameters))


def _find_session(payment: Payment) -> Answer | None:
    """Return the payment's session; None if there is none on whose page anybody can be.

    If the answer to ``start`` was lost, asking again finds the session. Where that opens a new one
    nobody knows of it, and it ends with the payment's time.
    """
    if payment.reference:
        return _get_session(payment.reference)
    if payment.state == Payment.State.DECLINED:
        return None
    if _is_key_forgotten(payment):
        return _search_session(payment)
    try:
        return _open_session(payment)
    except (*REFUSED, stripe.PermissionError) as error:
        # Now its end may be too near for Stripe, or the account may not charge any more. If Stripe
        # has made one all the same, its address has reached nobody: we note it before the buyer.
        log.info("Payment %s has no session at Stripe: %s", payment.pk, words_of(error))
        return None


def _search_session(payment: Payment) -> Answer | None:
    """Look for the payment's session among those that were opened while it could be started.

    A payment may lack the reference that it had once: the backup that was restored is older.
    """
    first, last = payment.started_at - timedelta(minutes=5), payment.started_at + timedelta(days=1)
    created = {"gte": int(first.timestamp()), "lte": int(last.timestamp())}
    parameters: Any = {"created": created, "limit": 100}
    sessions = ask_for_all(lambda client: client.v1.checkout.sessions.list(parameters))
    ours = [one for one in sessions if _read_key(read_metadata(one)) == payment.key]
    return ours[0] if ours else None


def _is_key_forgotten(payment: Payment) -> bool:
    """Whether Stripe may know the payment's key no longer: asking again could open a second one."""
    long_ago = Now() - KEY_IS_KNOWN
    return Payment.objects.filter(pk=payment.pk, started_at__lte=long_ago).exists()


def _is_over(payment: Payment) -> bool:
    """Whether the payment's time is over, by the clock that all processes share."""
    return Payment.objects.filter(pk=payment.pk, expires_at__lte=Now()).exists()


def _end_session(session: Answer) -> Answer:
    """End an open session, so that nobody can pay in it any more; return it as it is then."""
    reference = read_id(session["id"])
    try:
        return ask(lambda client: client.v1.checkout.sessions.expire(reference))
    except stripe.InvalidRequestError:  # the buyer has paid at this moment, or another has ended it
        return _get_session(reference)


def _outcome(payment: Payment, session: Answer | None) -> Outcome:
    if session is None:
        return Outcome.DECLINED if _is_over(payment) else Outcome.OPEN
    return _outcome_of(session)


def _outcome_of(session: Answer) -> Outcome:
    """A session may be complete without being paid, so its payment decides."""
    if session["payment_status"] in ("paid", "no_payment_required"):
        return Outcome.PAID
    if session["status"] == "complete":
        return _outcome_of_late_money(read_id(session["payment_intent"]))
    return Outcome.DECLINED if session["status"] == "expired" else Outcome.OPEN


def _outcome_of_late_money(intent: str) -> Outcome:
    """The buyer is done and can't come back, and the money hasn't come, or never will."""
    found = ask(lambda client: client.v1.payment_intents.retrieve(intent))
    never = found["status"] in ("requires_payment_method", "canceled")
    return Outcome.DECLINED if never else Outcome.OPEN


def _read_url(url: object) -> str:
    if not isinstance(url, str) or urlsplit(url).scheme not in ("https", "http"):
        raise ValueError("no address")
    return url


# Refunds


def _find_refund(refund: Refund, intent: str) -> Answer | None:
    """The refund as it is on record by its key, if it is.

    One that failed counts only for the attempt that it was made for. Raises RefundDeclined if
    another amount was given back.
    """
    ours = [made for made in _list_refunds(intent) if _key_of(made) == refund.key]
    for made in ours:
        if REFUND_STATUSES[made["status"]] is not RefundStatus.FAILED:
            amount = read_amount(made["amount"])
            if amount != refund.amount:
                raise RefundDeclined(f"Stripe has given {amount} back for this refund.")
            return made
    this_attempt = [made for made in ours if _attempt_of(made) == refund.attempt]
    return this_attempt[-1] if this_attempt else None


def _make_refund(refund: Refund, intent: str) -> Answer:
    """Ask Stripe to give the money back. Raises RefundDeclined.

    The key holds for a day. After that, ``_find_refund`` is what keeps it from happening twice.
    """
    parameters: Any = {
        "payment_intent": intent,
        "amount": _minor_units(refund.amount),
        "metadata": {
            "payment": str(refund.payment.key),
            "refund": refund.key,
            "attempt": str(refund.attempt),
            **_pieces(refund.copy),
        },
    }
    key = f"{refund.key}-{refund.attempt}"
    try:
        return ask(lambda client: client.v1.refunds.create(parameters, {"idempotency_key": key}))
    except REFUSED as error:
        raise RefundDeclined(f"Stripe: {words_of(error)}") from error


def _list_refunds(intent: str) -> list[Answer]:
    parameters: Any = {"payment_intent": intent, "limit": 100}
    return ask_for_all(lambda client: client.v1.refunds.list(parameters))


def _refund_record(made: Answer) -> RefundRecord:
    status = REFUND_STATUSES[made["status"]]
    key = _key_of(made)
    return RefundRecord(
        reference=read_id(made["id"]),
        amount=read_amount(made["amount"]),
        status=status,
        made_at=read_time(made["created"]),
        key=key,
        attempt=_attempt_of(made) if key else 0,
        copy=_joined(read_metadata(made)) if key else "",
        problem=_refund_problem(made) if status is RefundStatus.FAILED else "",
    )


def _refund_problem(made: Answer) -> str:
    return REFUND_PROBLEMS.get(
        str(made.get("failure_reason")), "Stripe couldn't give the money back, and doesn't say why."
    )


def _key_of(made: Answer) -> str:
    """Our key of a refund; empty if it was made in Stripe's dashboard."""
    return read_metadata(made).get("refund", "")


def _attempt_of(made: Answer) -> int:
    attempt = read_metadata(made).get("attempt", "")
    return int(attempt) if re.fullmatch(r"[0-9]{1,9}", attempt) else 0


# Statements


def _look_up_statement(session: Answer) -> Statement:
    """The statement of a session with a payment, whose fee was asked for (WITH_FEE)."""
    intent = read_id(session["payment_intent"])
    parameters: Any = {"payment_intent": intent, "limit": 100}
    disputes = ask_for_all(lambda client: client.v1.disputes.list(parameters))
    return _statement(session, _list_refunds(intent), disputes)


def _statement(session: Answer, refunds: list[Answer], disputes: list[Answer]) -> Statement:
    fee, fee_currency = _fee(session)
    return Statement(
        outcome=_outcome_of(session),
        refunds=tuple(_refund_record(made) for made in refunds),
        disputes=tuple(_dispute_record(dispute) for dispute in disputes),
        fee=fee,
        fee_currency=fee_currency,
        page=_page(session),
    )


def _dispute_record(dispute: Answer) -> DisputeRecord:
    return DisputeRecord(
        reference=read_id(dispute["id"]),
        amount=read_amount(dispute["amount"]),
        status=_dispute_status(dispute),
        opened_at=read_time(dispute["created"]),
        reason=str(dispute.get("reason") or "").replace("_", " "),
    )


def _dispute_status(dispute: Answer) -> DisputeStatus:
    if dispute["status"] == "prevented":
        # Staff have Stripe settle such disputes before they are opened: with our money, or without.
        changes = [read_amount(change["amount"]) for change in dispute["balance_transactions"]]
        return DisputeStatus.LOST if sum(changes) < 0 else DisputeStatus.WON
    return DISPUTE_STATUSES[dispute["status"]]


def _fee(session: Answer) -> tuple[Decimal | None, str]:
    """Stripe's price for the payment, as soon as it is known, in the currency of the account."""
    charge = (session["payment_intent"] or {}).get("latest_charge") or {}
    booked = charge.get("balance_transaction")
    if not isinstance(booked, dict):
        return None, ""
    currency = str(booked["currency"]).upper()
    if get_currency_precision(currency) != 2:
        return None, ""
    return read_amount(booked["fee"]), currency


def _page(session: Answer) -> str:
    """The payment's page in Stripe's dashboard."""
    mode = "" if session["livemode"] else "test/"
    return f"https://dashboard.stripe.com/{mode}payments/{read_id(session['payment_intent'])}"


# The list of payments


def _list_since(moment: datetime) -> list[ListedPayment]:
    """All payments that were started, refunded or disputed since, the oldest first.

    Three lists say it all about the sessions of that time, whose refunds and disputes are of that
    time, too. An older payment is looked up by itself.
    """
    shops = _own_shops()
    since: Any = {"created": {"gte": int(moment.timestamp())}, "limit": 100}
    with_fee: Any = {**since, "expand": [f"data.{WITH_FEE}"]}
    with_intent: Any = {**since, "expand": ["data.payment_intent"]}
    sessions = ask_for_all(lambda client: client.v1.checkout.sessions.list(with_fee))
    refunds = ask_for_all(lambda client: client.v1.refunds.list(with_intent))
    disputes = ask_for_all(lambda client: client.v1.disputes.list(with_intent))

    listed = []
    intents = set()
    for session in sessions:
        if not _is_of(shops, session):
            continue
        intent = session["payment_intent"] and read_id(session["payment_intent"])
        intents.add(intent)
        listed.append(_listed_payment(session, partial(_pick_statement, refunds, disputes)))
    older = {
        read_id(one["payment_intent"])
        for one in (*refunds, *disputes)
        if one["payment_intent"] and _is_of(shops, one["payment_intent"])
    }
    for intent in older - intents:
        listed += _look_up_listed(shops, intent)
    return sorted(listed, key=lambda payment: payment.started_at)


def _look_up_listed(shops: set[str], intent: str) -> list[ListedPayment]:
    parameters: Any = {"payment_intent": intent, "expand": [f"data.{WITH_FEE}"]}
    sessions = ask_for_all(lambda client: client.v1.checkout.sessions.list(parameters))
    return [
        _listed_payment(session, _look_up_statement)
        for session in sessions
        if _is_of(shops, session)
    ]


def _listed_payment(session: Answer, statement_of: Callable[[Answer], Statement]) -> ListedPayment:
    metadata = read_metadata(session)
    statement, problem = Statement(Outcome.OPEN), ""
    try:
        statement = statement_of(session)
    except (*NONSENSE, *REFUSED):  # of this payment alone, it seems
        log.exception("Stripe's answer about one of the listed payments makes no sense.")
        problem = "Stripe's answer about it makes no sense."
    return ListedPayment(
        key=UUID(metadata["payment"]),
        reference=read_id(session["id"]),
        amount=read_amount(session["amount_total"]),
        currency=str(session["currency"]).upper(),
        started_at=read_time(session["created"]),
        statement=statement,
        copy=_joined(metadata),
        problem=problem,
    )


def _pick_statement(refunds: list[Answer], disputes: list[Answer], session: Answer) -> Statement:
    """The statement of a session, from the lists of all refunds and disputes since its start."""
    if session["payment_intent"] is None:
        return Statement(_outcome_of(session))
    intent = read_id(session["payment_intent"])
    return _statement(session, _those_of(intent, refunds), _those_of(intent, disputes))


def _those_of(intent: str, objects: list[Answer]) -> list[Answer]:
    return [
        one for one in objects if one["payment_intent"] and read_id(one["payment_intent"]) == intent
    ]


def _is_of(shops: set[str], object: Answer) -> bool:
    """Whether a session or a payment intent is this shop's: others may use the account, too."""
    metadata = read_metadata(object)
    return _read_key(metadata) is not None and metadata.get("shop") in shops


def _own_shops() -> set[str]:
    """The addresses that this shop has, or had when it started its payments."""
    began = Func(F("return_url"), Value(ORIGIN), function="substring", output_field=TextField())
    ours = Payment.objects.filter(provider=StripeCheckout.slug).order_by()
    shops = set(ours.annotate(shop=began).values_list("shop", flat=True).distinct())
    return shops | {settings.BASE_URL} - {""}


# Messages


def _read_message(request: HttpRequest) -> Any:
    """The content of a message that Stripe has signed, not long ago. Raises BadEvent."""
    secret = settings.STRIPE_WEBHOOK_SECRET
    if problem := webhook_secret_problem(secret):
        raise BadEvent(f"No message can be told from a forged one: {problem}")
    signature = request.headers.get("Stripe-Signature", "")
    try:
        stripe.WebhookSignature.verify_header(request.body, signature, secret)
        _check_age(signature)
        return json.loads(request.body)
    except stripe.SignatureVerificationError as error:
        raise BadEvent("The signature is wrong, or is missing (Stripe-Signature).") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadEvent("The message can't be read.") from error


def _check_age(signature: str) -> None:
    """Raise BadEvent unless the verified signature is recent; the library looks only backwards."""
    times = [part[2:] for part in signature.split(",") if part.startswith("t=")]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,15}", times[0]):
        raise BadEvent("The signature has no time.")
    if abs(read_clock().timestamp() - int(times[0])) > OLDEST_EVENT:
        raise BadEvent(f"The message is older than {OLDEST_EVENT} seconds, or from the future.")


def _find_key(about: Answer) -> UUID | None:
    """Our key of the payment that a message's object belongs to; None if there is none.

    The object may carry it itself. Refunds and disputes made at Stripe name their payment intent.
    Raises ProviderUnavailable.
    """
    if key := _read_key(read_metadata(about)):
        return key
    intent = about.get("payment_intent")
    if isinstance(intent, dict):
        intent = intent.get("id")
    if not isinstance(intent, str) or not re.fullmatch(r"pi_\w{1,100}", intent, re.ASCII):
        return None
    with translated_errors():
        try:
            found = ask(lambda client: client.v1.payment_intents.retrieve(intent))
        except stripe.InvalidRequestError:  # of another account
            return None
        return _read_key(read_metadata(found))


# Metadata


def _read_key(metadata: dict[str, str]) -> UUID | None:
    """Our key of the payment. Others, who use the account too, may mean something else by it."""
    try:
        return UUID(metadata.get("payment", ""))
    except ValueError:
        return None


def _origin(url: str) -> str:
    found = re.match(ORIGIN, url)
    return found[0] if found else ""


def _pieces(copy: str) -> dict[str, str]:
    """The copy in values short enough for Stripe; nothing if it is too long for all of them.

    Stripe's messages have it, too. So it is left out where this shop wouldn't take such a message.
    """
    pieces = [copy[at : at + PIECE] for at in range(0, len(copy), PIECE)]
    if len(pieces) > MOST_PIECES or len(json.dumps(copy)) > settings.MOST_FORM_BYTES - REST:
        return {}
    return {f"copy_{number}": piece for number, piece in enumerate(pieces)}


def _joined(metadata: dict[str, str]) -> str:
    pieces: list[str] = []
    while (piece := metadata.get(f"copy_{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)
