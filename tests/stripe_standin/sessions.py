"""Checkout Sessions, and the payments made in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .account import Account
from .errors import ApiError, NotPossible
from .ledger import Ledger, Object, deed
from .money import LARGEST_AMOUNT, SMALLEST_AMOUNTS, card_fee, format_amount

SHORTEST = 30 * 60
LONGEST = 24 * 3600
TOLERANCE = 5  # seconds that a request may have taken to come


@dataclass
class SessionRequest:
    """The parameters of a new session, checked one by one; ``Sessions.create`` looks at the whole.

    ``fields`` are fields of the session that are shown as they were given.
    """

    line_items: list[Object]
    success_url: str
    expires_at: int
    currency: str
    livemode: bool
    metadata: dict[str, str] = field(default_factory=dict)
    payment_intent_data: Object = field(default_factory=dict)
    fields: Object = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(item["amount_total"] for item in self.line_items)


class Sessions:
    """Deeds of the buyer, and of time. Each returns the session as it is then."""

    def __init__(self, ledger: Ledger, account: Account, page_of: Callable[[str], str]) -> None:
        self.ledger = ledger
        self._account = account
        self._page_of = page_of
        self._requests: dict[str, SessionRequest] = {}

    @deed
    def create(self, request: SessionRequest) -> Object:
        """Open a session. Raises ApiError."""
        self._account.check_may_charge()
        _check_total(request.total, request.currency)
        mode = "live" if request.livemode else "test"
        session = self.ledger.add(f"cs_{mode}", _session_fields(request), livemode=request.livemode)
        session["url"] = self._page_of(session["id"])
        self._requests[session["id"]] = request
        self.ledger.ring_at(request.expires_at, lambda: self._end(session))
        return session

    @deed
    def line_items(self, session: str) -> list[Object]:
        """Return the lines that the buyer pays for."""
        return self._requests[session].line_items

    @deed
    def description(self, session: str) -> str:
        """Return the shop's description of the payment; empty if it gave none."""
        return self._requests[session].payment_intent_data.get("description") or ""

    @deed
    def pay(self, session: str, *, booked: bool = True) -> Object:
        """Pay with a card that the bank accepts. Raises NotPossible if the session isn't open.

        Stripe books the money a moment later, and knows its fee only then. Unless it is booked,
        that moment comes with ``book``.
        """
        found = self._open_session(session)
        intent = self._intent_of(found)
        charge = self._add_charge(intent, status="succeeded")
        self._take_money(intent, charge)
        found.update(status="complete", payment_status="paid", url=None)
        found["customer_details"] = _customer_details(found["customer_email"])
        self.ledger.announce("checkout.session.completed", found)
        if booked:
            self._book(charge)
        return found

    @deed
    def book(self, session: str) -> Object:
        """Book the money that was paid. Raises NotPossible if there is none, or it is booked."""
        charge = self.ledger.charge_of(session)
        if not charge["paid"] or charge["balance_transaction"] is not None:
            raise NotPossible(f"{session} has no charge to book")
        self._book(charge)
        return self.ledger.get(session, "checkout.session")

    @deed
    def pay_later(self, session: str) -> Object:
        """Choose a method whose money comes days later: complete, but unpaid.

        Stripe offers that for methods such as SEPA debit. Raises NotPossible if the session isn't
        open.
        """
        found = self._open_session(session)
        intent = self._intent_of(found)
        charge = self._add_charge(intent, status="pending")
        intent["status"] = "processing"
        found.update(status="complete", url=None)
        found["customer_details"] = _customer_details(found["customer_email"])
        self.ledger.announce("charge.pending", charge)
        self.ledger.announce("payment_intent.processing", intent)
        self.ledger.announce("checkout.session.completed", found)
        return found

    @deed
    def settle(self, session: str) -> Object:
        """Let the money of ``pay_later`` come. Raises NotPossible if it isn't awaited."""
        found, intent, charge = self._awaited(session)
        self._take_money(intent, charge)
        found["payment_status"] = "paid"
        self.ledger.announce("checkout.session.async_payment_succeeded", found)
        self._book(charge)
        return found

    @deed
    def fail(self, session: str) -> Object:
        """Let the money of ``pay_later`` never come. Raises NotPossible if it isn't awaited."""
        found, intent, charge = self._awaited(session)
        self._decline(intent, charge, "generic_decline")
        self.ledger.announce("checkout.session.async_payment_failed", found)
        return found

    @deed
    def decline_card(self, session: str, code: str = "insufficient_funds") -> Object:
        """Pay with a card that the bank declines: the session stays open for another try.

        Raises NotPossible if the session isn't open.
        """
        found = self._open_session(session)
        intent = self._intent_of(found)
        self._decline(intent, self._add_charge(intent, status="failed"), code)
        return found

    @deed
    def expire(self, session: str) -> Object:
        """End an open session, as the shop asked. Raises ApiError."""
        found = self.ledger.get(session, "checkout.session")
        if found["status"] != "open":
            raise ApiError(
                'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
                f"Session has a status of `{found['status']}`."
            )
        self._end(found)
        return found

    @deed
    def get(self, session: str) -> Object:
        """Return the session as it is now. Raises ResourceMissing."""
        return self.ledger.get(session, "checkout.session")

    @deed
    def all(self) -> list[Object]:
        """Return all sessions, the oldest first."""
        return self.ledger.all("checkout.session")

    def _open_session(self, session: str) -> Object:
        found = self.ledger.get(session, "checkout.session")
        if found["status"] != "open":
            raise NotPossible(f"{session} is {found['status']}, not open")
        return found

    def _awaited(self, session: str) -> tuple[Object, Object, Object]:
        """The session, the intent and the charge of a payment whose money is to come."""
        found = self.ledger.get(session, "checkout.session")
        intent = self.ledger.find(found["payment_intent"] or "")
        if intent is None or intent["status"] != "processing":
            raise NotPossible(f"no money is awaited for {session}")
        return found, intent, self.ledger.get(intent["latest_charge"], "charge")

    def _end(self, session: Object) -> None:
        if session["status"] != "open":
            return
        session.update(status="expired", url=None)
        intent = self.ledger.find(session["payment_intent"] or "")
        if intent is not None:
            intent.update(status="canceled", canceled_at=self.ledger.clock.now())
            intent["cancellation_reason"] = "automatic"
            self.ledger.announce("payment_intent.canceled", intent)
        self.ledger.announce("checkout.session.expired", session)

    def _intent_of(self, session: Object) -> Object:
        """The session's intent, that Stripe makes at the first try to pay."""
        if session["payment_intent"] is None:
            request = self._requests[session["id"]]
            intent = self.ledger.add("pi", _intent_fields(request), livemode=request.livemode)
            session["payment_intent"] = intent["id"]
            self.ledger.announce("payment_intent.created", intent)
        return self.ledger.get(session["payment_intent"], "payment_intent")

    def _add_charge(self, intent: Object, *, status: str) -> Object:
        charge = self.ledger.add("ch", _charge_fields(intent, status), livemode=intent["livemode"])
        intent["latest_charge"] = charge["id"]
        return charge

    def _take_money(self, intent: Object, charge: Object) -> None:
        amount = charge["amount"]
        charge.update(status="succeeded", paid=True, captured=True, amount_captured=amount)
        intent.update(status="succeeded", amount_received=amount, last_payment_error=None)
        self.ledger.announce("charge.succeeded", charge)
        self.ledger.announce("payment_intent.succeeded", intent)

    def _book(self, charge: Object) -> None:
        amount = charge["amount"]
        change = self.ledger.balance_transaction(
            charge, amount, fee=card_fee(amount), type="charge", category="charge"
        )
        charge["balance_transaction"] = change["id"]
        self.ledger.announce("charge.updated", charge, {"balance_transaction": None})

    def _decline(self, intent: Object, charge: Object, decline_code: str) -> None:
        message = "Your card was declined."
        charge.update(status="failed", failure_code="card_declined", failure_message=message)
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = {
            "type": "card_error",
            "code": "card_declined",
            "decline_code": decline_code,
            "charge": charge["id"],
            "message": message,
        }
        self.ledger.announce("charge.failed", charge)
        self.ledger.announce("payment_intent.payment_failed", intent)


def _check_total(total: int, currency: str) -> None:
    smallest = SMALLEST_AMOUNTS[currency]
    if total < smallest:
        raise ApiError(
            "The Checkout Session's total amount due must add up to at least "
            f"{format_amount(smallest, currency)} {currency}",
            code="amount_too_small",
        )
    if total > LARGEST_AMOUNT:
        raise ApiError(
            "The Checkout Session's total amount due must be no more than "
            f"{format_amount(LARGEST_AMOUNT, currency)}",
            code="amount_too_large",
        )


def _customer_details(email: str | None) -> Object:
    return {
        "address": None,
        "email": email,
        "name": None,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def _session_fields(request: SessionRequest) -> Object:
    return {
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": request.total,
        "amount_total": request.total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": None,
        "client_reference_id": None,
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "currency": request.currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None,
        "customer_creation": "if_required",
        "customer_details": None,
        "customer_email": None,
        "discounts": [],
        "expires_at": request.expires_at,
        "invoice": None,
        "invoice_creation": None,
        "livemode": request.livemode,
        "locale": None,
        "metadata": request.metadata,
        "mode": "payment",
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": request.success_url,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": None,
        **request.fields,
    }


def _intent_fields(request: SessionRequest) -> Object:
    return {
        "object": "payment_intent",
        "amount": request.total,
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "currency": request.currency,
        "customer": None,
        "description": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": request.livemode,
        "metadata": {},
        "next_action": None,
        "payment_method": None,
        "payment_method_types": request.fields.get("payment_method_types", ["card"]),
        "receipt_email": None,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        **request.payment_intent_data,
    }


def _charge_fields(intent: Object, status: str) -> Object:
    """A new charge: Stripe copies the intent's metadata, description and shipping to it."""
    return {
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "captured": False,
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": intent["livemode"],
        "metadata": dict(intent["metadata"]),
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": None,
        "payment_method_details": {"type": intent["payment_method_types"][0]},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "shipping": intent["shipping"],
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": status,
    }
