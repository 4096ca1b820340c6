"""Refunds: asked for by the shop, or made by staff in Stripe's dashboard."""

from __future__ import annotations

from .errors import ApiError, NotPossible, ResourceMissing
from .ledger import Ledger, Object, deed
from .money import format_amount

RETURNED = {"failed", "canceled"}  # the money is on the merchant's balance again
WITHDRAWING = {
    "needs_response",
    "under_review",
    "lost",
    "prevented",
}  # a dispute has the buyer's money


class Refunds:
    """Deeds of staff and of the buyer's bank. Each returns the refund as it is then."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._next_status = "succeeded"

    def begin_as(self, status: str) -> None:
        """Let the refunds made from now on be ``pending``, ``requires_action`` or ``succeeded``.

        Also ``failed``: Stripe takes the refund, and the buyer's bank declines it at once.
        """
        if status not in {"pending", "requires_action", "succeeded", "failed"}:
            raise NotPossible(f"no refund begins as {status}")
        self._next_status = status

    @deed
    def create(
        self,
        payment: str,
        amount: int | None = None,
        *,
        metadata: dict[str, str] | None = None,
        reason: str | None = None,
    ) -> Object:
        """Give money back, all that is left if there is no amount. Raises ApiError.

        Staff do so in the dashboard, the shop by the API. The payment is named by its session,
        intent or charge.
        """
        charge = self._charge_to_refund(payment)
        left = charge["amount"] - charge["amount_refunded"]
        if left == 0:
            raise ApiError(
                f"Charge {charge['id']} has already been refunded.",
                code="charge_already_refunded",
            )
        amount = left if amount is None else amount
        if amount > left:
            currency = charge["currency"]
            raise ApiError(
                f"Refund amount ({format_amount(amount, currency)}) is greater than unrefunded "
                f"amount on charge ({format_amount(left, currency)})",
                param="amount",
            )
        return self._give(charge, amount, metadata or {}, reason)

    @deed
    def dashboard(self, payment: str, amount: int | None = None) -> Object:
        """Give money back in Stripe's dashboard: the shop knows nothing of it. Raises ApiError."""
        return self.create(payment, amount, reason="requested_by_customer")

    @deed
    def succeed(self, refund: str) -> Object:
        """Let a pending refund reach the buyer. Raises NotPossible."""
        found = self._refund_in(refund, {"pending", "requires_action"})
        self._change(found, status="succeeded", pending_reason=None, next_action=None)
        return found

    @deed
    def fail(self, refund: str, reason: str = "expired_or_canceled_card") -> Object:
        """Let the buyer's bank send the money back, maybe weeks later. Raises NotPossible."""
        found = self._refund_in(refund, {"pending", "requires_action", "succeeded"})
        self._return_money(found, status="failed", failure_reason=reason)
        self.ledger.announce("refund.failed", found)
        return found

    @deed
    def cancel(self, refund: str) -> Object:
        """Cancel a refund that waits for the buyer, or for money. Raises NotPossible."""
        found = self._refund_in(refund, {"pending", "requires_action"})
        self._return_money(found, status="canceled", failure_reason="merchant_request")
        return found

    @deed
    def get(self, refund: str) -> Object:
        """Return the refund as it is now. Raises ResourceMissing."""
        return self.ledger.get(refund, "refund")

    @deed
    def all(self) -> list[Object]:
        """Return all refunds, the oldest first."""
        return self.ledger.all("refund")

    def _charge_to_refund(self, payment: str) -> Object:
        try:
            charge = self.ledger.charge_of(payment)
        except NotPossible as reason:
            if self.ledger.find(payment) is None:
                raise ResourceMissing("payment_intent", payment, param="payment_intent") from reason
            charge = {"paid": False}
        if not charge["paid"]:
            raise ApiError(
                f"This PaymentIntent ({payment}) does not have a successful charge to refund.",
                param="payment_intent",
            )
        for dispute in self.ledger.all("dispute"):
            if dispute["charge"] == charge["id"] and dispute["status"] in WITHDRAWING:
                raise ApiError(
                    f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                    code="charge_disputed",
                )
        return charge

    def _give(
        self, charge: Object, amount: int, metadata: dict[str, str], reason: str | None
    ) -> Object:
        refund = self.ledger.add(
            "re",
            _refund_fields(charge, amount, metadata, reason, self._next_status),
            livemode=charge["livemode"],
        )
        change = self.ledger.balance_transaction(
            refund, -amount, fee=0, type="refund", category="refund"
        )
        refund["balance_transaction"] = change["id"]
        self._count_refunded(charge, amount)
        self.ledger.announce("refund.created", refund)
        if self._next_status == "failed":
            refund["status"] = "pending"
            self.fail(refund["id"], "declined")
        return refund

    def _return_money(self, refund: Object, *, status: str, failure_reason: str) -> None:
        change = self.ledger.balance_transaction(
            refund,
            refund["amount"],
            fee=0,
            type="refund_failure",
            category="refund_failure",
        )
        charge = self.ledger.get(refund["charge"], "charge")
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        self._change(
            refund,
            status=status,
            failure_reason=failure_reason,
            failure_balance_transaction=change["id"],
            pending_reason=None,
            next_action=None,
        )

    def _count_refunded(self, charge: Object, amount: int) -> None:
        before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self.ledger.announce("charge.refunded", charge, before)

    def _refund_in(self, refund: str, statuses: set[str]) -> Object:
        found = self.ledger.get(refund, "refund")
        if found["status"] not in statuses:
            raise NotPossible(f"{refund} is {found['status']}")
        return found

    def _change(self, refund: Object, **changes: object) -> None:
        before = {name: refund[name] for name in changes}
        refund.update(changes)
        self.ledger.announce("refund.updated", refund, before)
        self.ledger.announce("charge.refund.updated", refund, before)


def _refund_fields(
    charge: Object, amount: int, metadata: dict[str, str], reason: str | None, status: str
) -> Object:
    return {
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "currency": charge["currency"],
        "customer": None,
        "description": None,
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "failure_balance_transaction": None,
        "failure_reason": None,
        "metadata": metadata,
        "next_action": None,
        "payment_intent": charge["payment_intent"],
        "pending_reason": "processing" if status == "pending" else None,
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
