"""The books: how much of each payment the merchant has, to the cent."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import NotPossible
from .ledger import Ledger, Object, deed
from .refunds import RETURNED


@dataclass(frozen=True)
class Balance:
    """One payment's money, in minor units.

    ``refunded`` counts also what is on its way, ``disputed`` what the buyer's bank took and hasn't
    given back. ``kept`` is the rest, before fees.
    """

    session: str
    payment_intent: str
    client_reference_id: str | None
    metadata: dict[str, str]
    currency: str
    charged: int
    refunded: int
    disputed: int
    kept: int
    fees: int


class Books:
    """Reads the ledger, and changes nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @deed
    def balance(self, session: str) -> Balance:
        """Return the money of one session. Raises NotPossible if nothing was charged."""
        for balance in self.balances():
            if balance.session == session:
                return balance
        raise NotPossible(f"{session} has no charge")

    @deed
    def balances(self) -> list[Balance]:
        """Return the money of each session that was paid, the oldest first."""
        return [
            self._balance(session, charge)
            for session in self.ledger.all("checkout.session")
            for charge in self.ledger.all("charge")
            if charge["paid"] and charge["payment_intent"] == session["payment_intent"]
        ]

    @deed
    def charges(self) -> list[Object]:
        """Return all charges, also those that failed, the oldest first."""
        return self.ledger.all("charge")

    def _balance(self, session: Object, charge: Object) -> Balance:
        refunds = [one for one in self.ledger.all("refund") if one["charge"] == charge["id"]]
        disputes = [one for one in self.ledger.all("dispute") if one["charge"] == charge["id"]]
        sources = {one["id"] for one in [charge, *refunds, *disputes]}
        changes = [
            one for one in self.ledger.all("balance_transaction") if one["source"] in sources
        ]
        charged = charge["amount"]
        refunded = sum(one["amount"] for one in refunds if one["status"] not in RETURNED)
        disputed = -sum(
            one["amount"] for dispute in disputes for one in dispute["balance_transactions"]
        )
        return Balance(
            session=session["id"],
            payment_intent=charge["payment_intent"],
            client_reference_id=session["client_reference_id"],
            metadata=session["metadata"],
            currency=charge["currency"],
            charged=charged,
            refunded=refunded,
            disputed=disputed,
            kept=charged - refunded - disputed,
            fees=sum(one["fee"] for one in changes),
        )
