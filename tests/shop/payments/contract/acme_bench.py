"""The own side of the provider that shop/payments/README.md shows as an example."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

from django.conf import LazySettings
from django.db.models.functions import Now

from shop.models import Payment
from tests.shop.payments.contract.bench import Bench, Books, GivenBack, Lacks, Post
from tests.shop.payments.test_provider_of_readme import NOW, SECRET, SHOP, Acme, serve


class CarefulAcme(Acme):
    """It gives no more back than it has charged, and may lose its answers."""

    refuses_refunds = False
    loses_answers = False

    def answer(self, path: str, content: dict[str, Any] | None) -> tuple[int, Any]:
        answer = super().answer(path, content)
        return (500, {}) if self.loses_answers and content is not None else answer

    def _refund(
        self, payment: dict[str, Any], name: str, content: dict[str, Any]
    ) -> tuple[int, Any]:
        is_known = any(each["reference"] == name for each in payment["refunds"])
        too_much = given_back(payment) + Decimal(content["amount"]) > Decimal(payment["amount"])
        if not is_known and (too_much or self.refuses_refunds or taken(payment)):
            return 409, {}
        return super()._refund(payment, name, content)


class AcmeBench(Bench):
    slug = "acme"

    def open(self, settings: LazySettings) -> None:
        self.acme = CarefulAcme()
        self._server = ExitStack()
        self._server.enter_context(serve(self.acme, settings))

    def close(self) -> None:
        self._server.close()

    def approve(self, payment: Payment) -> None:
        if self.can_be_paid(payment):
            self._at(payment)["state"] = "paid"

    def decline(self, payment: Payment) -> None:
        self._at(payment)["state"] = "failed"

    def end_time(self, payment: Payment) -> None:
        Payment.objects.filter(pk=payment.pk).update(expires_at=Now())
        if self.can_be_paid(payment):  # it ends payments by itself
            self._at(payment)["state"] = "expired"

    def can_be_paid(self, payment: Payment) -> bool:
        return bool(self._at(payment)["state"] == "open")

    def approve_after_decline(self, payment: Payment) -> None:
        self._at(payment)["state"] = "paid"

    def refuse_payments(self) -> None:
        self.acme.declines = True

    def accept_payments(self) -> None:
        self.acme.declines = False

    def refund(self, payment: Payment, amount: Decimal) -> None:
        reference = f"by-staff-{uuid.uuid4()}"
        made = {"reference": reference, "amount": str(amount), "state": "done", "made_at": NOW}
        self._at(payment)["refunds"].append(made)

    def fail_refund(self, payment: Payment) -> None:
        self._at(payment)["refunds"][-1]["state"] = "failed"

    def refuse_refunds(self, payment: Payment) -> None:
        self.acme.refuses_refunds = True

    def dispute(self, payment: Payment, amount: Decimal | None = None) -> None:
        self._add_dispute(payment, str(amount or payment.amount), "open")

    def inquire(self, payment: Payment) -> None:
        self._add_dispute(payment, str(payment.amount), "inquiry")

    def decide(self, payment: Payment, *, won: bool) -> None:
        self._at(payment)["disputes"][-1]["state"] = "won" if won else "lost"

    def message(self, payment: Payment, *, at: int | None = None) -> Post:
        return self._message(payment.key, "newest", at=at)

    def old_message(self, payment: Payment) -> Post:
        return self._message(payment.key, "old")

    def foreign_messages(self) -> list[Post]:
        return [
            self._message(uuid.uuid4(), "foreign"),
            self._message(uuid.uuid4(), "foreign", shop="https://other.example"),
        ]

    def sign(self, body: bytes) -> Post:
        return self._sign(body, int(time.time()))

    def down(self) -> Any:
        return self._while("is_down")

    def garbled(self) -> Any:
        return self._while("talks_nonsense")

    def losing_answers(self) -> Any:
        return self._while("loses_answers")

    @contextmanager
    def _while(self, fault: str) -> Iterator[None]:
        setattr(self.acme, fault, True)
        yield
        setattr(self.acme, fault, False)

    def slow(self) -> Any:
        raise Lacks("its example server has no clock")

    def books(self, payment: Payment) -> Books:
        found = self.acme.payments.get(str(payment.key))
        if found is None:
            return Books(0, Decimal(0), (), Decimal(0))
        return Books(
            opened=1,
            charged=Decimal(found["amount"]) if found["state"] == "paid" else Decimal(0),
            refunds=tuple(
                GivenBack(
                    each["reference"],
                    each.get("key", ""),
                    Decimal(each["amount"]),
                    each["state"] != "failed",
                )
                for each in found["refunds"]
            ),
            disputed=taken(found),
        )

    def check_no_money_is_of_others(self) -> None:
        ours = {str(key) for key in Payment.objects.values_list("key", flat=True)}
        paid = {key for key, each in self.acme.payments.items() if each["state"] == "paid"}
        assert paid <= ours

    def _at(self, payment: Payment) -> dict[str, Any]:
        return self.acme.payments[str(payment.key)]

    def _add_dispute(self, payment: Payment, amount: str, state: str) -> None:
        dispute = {"reference": "dispute", "amount": amount, "state": state, "reason": "fraud"}
        self._at(payment)["disputes"].append({**dispute, "opened_at": NOW})

    def _message(self, key: uuid.UUID, id: str, *, shop: str = SHOP, at: int | None = None) -> Post:
        message = {"id": f"{id} {key}", "kind": "changed", "shop": shop, "payment": str(key)}
        return self._sign(json.dumps(message).encode(), int(time.time()) if at is None else at)

    def _sign(self, body: bytes, at: int) -> Post:
        signature = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        # The tests of forged messages change the last header.
        return Post(body, {"Acme-Time": str(at), "Acme-Signature": signature})


def given_back(payment: dict[str, Any]) -> Decimal:
    """The sum that the buyer has got."""
    amounts = [each["amount"] for each in payment["refunds"] if each["state"] != "failed"]
    return sum(map(Decimal, amounts), Decimal(0))


def taken(payment: dict[str, Any]) -> Decimal:
    """The sum that the buyer's bank has."""
    amounts = [each["amount"] for each in payment["disputes"] if each["state"] in ("open", "lost")]
    return sum(map(Decimal, amounts), Decimal(0))
