"""Disputes: the buyer's bank takes the money back, or asks before it does."""

from __future__ import annotations

from .errors import NotPossible
from .ledger import Ledger, Object, deed
from .money import DISPUTE_FEE
from .refunds import Refunds

TIME_TO_ANSWER = 7 * 86400


class Disputes:
    """Deeds of the buyer's bank. Each returns the dispute as it is then."""

    def __init__(self, ledger: Ledger, refunds: Refunds) -> None:
        self.ledger = ledger
        self._refunds = refunds

    @deed
    def open(
        self,
        payment: str,
        amount: int | None = None,
        *,
        reason: str = "fraudulent",
        inquiry: bool = False,
    ) -> Object:
        """Dispute a payment, that is named by its session, intent or charge. Raises NotPossible.

        Without an amount: all that wasn't refunded. An inquiry takes no money yet.
        """
        dispute = self._add(payment, amount, reason)
        if inquiry:
            dispute["status"] = "warning_needs_response"
            self.ledger.announce("charge.dispute.created", dispute)
        else:
            self._withdraw(dispute, "charge.dispute.created")
        return dispute

    @deed
    def prevent(self, payment: str, amount: int | None = None) -> Object:
        """Give the money back before there is a dispute, as Stripe does on staff's standing order.

        It costs no fee, and can't be contested. Raises NotPossible.
        """
        dispute = self._add(payment, amount, "fraudulent")
        self._withdraw(dispute, "charge.dispute.created", status="prevented", fee=0)
        self._close(dispute, "prevented", is_charge_refundable=False)
        return dispute

    @deed
    def escalate(self, dispute: str) -> Object:
        """Turn an inquiry into a dispute, which takes the money. Raises NotPossible.

        A full refund ends that danger.
        """
        found = self._dispute_in(dispute, {"warning_needs_response", "warning_under_review"})
        if self.ledger.charge_of(found["charge"])["refunded"]:
            raise NotPossible(f"the charge of {dispute} is refunded")
        self._withdraw(found, "charge.dispute.updated")
        return found

    @deed
    def answer(self, dispute: str) -> Object:
        """Let staff send evidence in the dashboard. Raises NotPossible."""
        found = self._dispute_in(dispute, {"needs_response", "warning_needs_response"})
        before = {"status": found["status"]}
        found["status"] = found["status"].replace("needs_response", "under_review")
        self.ledger.announce("charge.dispute.updated", found, before)
        return found

    @deed
    def win(self, dispute: str) -> Object:
        """Decide for the merchant, who gets the money again. Raises NotPossible."""
        found = self._dispute_in(dispute, {"needs_response", "under_review"})
        self._book(found, found["amount"], fee=0, category="dispute_reversal")
        self._close(found, "won", is_charge_refundable=True)
        self.ledger.announce("charge.dispute.funds_reinstated", found)
        return found

    @deed
    def lose(self, dispute: str) -> Object:
        """Decide for the buyer, who keeps the money. Raises NotPossible."""
        found = self._dispute_in(dispute, {"needs_response", "under_review"})
        self._close(found, "lost", is_charge_refundable=False)
        return found

    @deed
    def close_inquiry(self, dispute: str) -> Object:
        """End an inquiry: the buyer's bank won't take the money. Raises NotPossible."""
        found = self._dispute_in(dispute, {"warning_needs_response", "warning_under_review"})
        self._close(found, "warning_closed", is_charge_refundable=True)
        return found

    @deed
    def get(self, dispute: str) -> Object:
        """Return the dispute as it is now. Raises ResourceMissing."""
        return self.ledger.get(dispute, "dispute")

    @deed
    def all(self) -> list[Object]:
        """Return all disputes, the oldest first."""
        return self.ledger.all("dispute")

    def _add(self, payment: str, amount: int | None, reason: str) -> Object:
        charge = self.ledger.charge_of(payment)
        left = charge["amount"] - charge["amount_refunded"]
        amount = left if amount is None else amount
        if not charge["paid"] or self._is_disputed(charge) or not 0 < amount <= charge["amount"]:
            raise NotPossible(f"{amount} of {payment} can't be disputed")
        dispute = self.ledger.add(
            "du", _dispute_fields(charge, amount, reason), livemode=charge["livemode"]
        )
        dispute["evidence_details"]["due_by"] = dispute["created"] + TIME_TO_ANSWER
        charge["disputed"] = True
        return dispute

    def _is_disputed(self, charge: Object) -> bool:
        return any(
            dispute["charge"] == charge["id"] and dispute["status"] != "warning_closed"
            for dispute in self.ledger.all("dispute")
        )

    def _withdraw(
        self, dispute: Object, kind: str, *, status: str = "needs_response", fee: int = DISPUTE_FEE
    ) -> None:
        """Take the money. A refund on its way fails then, or the buyer would get both."""
        before = {"status": dispute["status"]}
        dispute.update(status=status, is_charge_refundable=False)
        self._book(dispute, -dispute["amount"], fee=fee, category="dispute")
        self.ledger.announce(kind, dispute, before)
        self.ledger.announce("charge.dispute.funds_withdrawn", dispute)
        for refund in self.ledger.all("refund"):
            if refund["charge"] == dispute["charge"] and refund["status"] == "pending":
                self._refunds.fail(refund["id"], "charge_for_pending_refund_disputed")

    def _book(self, dispute: Object, amount: int, *, fee: int, category: str) -> None:
        change = self.ledger.balance_transaction(
            dispute, amount, fee=fee, type="adjustment", category=category
        )
        dispute["balance_transactions"].append(change)

    def _close(self, dispute: Object, status: str, *, is_charge_refundable: bool) -> None:
        before = {"status": dispute["status"]}
        dispute.update(status=status, is_charge_refundable=is_charge_refundable)
        self.ledger.announce("charge.dispute.closed", dispute, before)

    def _dispute_in(self, dispute: str, statuses: set[str]) -> Object:
        found = self.ledger.get(dispute, "dispute")
        if found["status"] not in statuses:
            raise NotPossible(f"{dispute} is {found['status']}")
        return found


def _dispute_fields(charge: Object, amount: int, reason: str) -> Object:
    return {
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": None,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": True,
        "livemode": charge["livemode"],
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {"type": "card"},
        "reason": reason,
        "status": "needs_response",
    }
