"""The demo bank's own side: its tables, which the shop never reads."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any, NoReturn
from unittest import mock

from django.conf import LazySettings
from django.db.models import QuerySet, Sum
from django.db.models.functions import Now

from shop.models import DemoBankCharge, DemoBankDispute, DemoBankRefund, Payment
from shop.payments import ProviderUnavailable, demo
from shop.payments.demo import Choice, DemoBank
from tests.shop.payments.contract.bench import Bench, Books, GivenBack, Post

CALLS = ("start", "status", "refund", "statement", "list_since")


class DemoBench(Bench):
    slug = "demo"

    def open(self, settings: LazySettings) -> None:
        self._refusal = ExitStack()
        settings.PAYMENT_PROVIDER = "demo"

    def close(self) -> None:
        self._refusal.close()

    def approve(self, payment: Payment) -> None:
        self._choose(payment, Choice.LOSE_ANSWER)

    def decline(self, payment: Payment) -> None:
        self._choose(payment, Choice.DECLINE)

    def approve_later(self, payment: Payment) -> None:
        self._choose(payment, Choice.APPROVE_LATE)

    def let_money_come(self, payment: Payment) -> None:
        self._charges(payment).update(approve_at=Now())

    def end_time(self, payment: Payment) -> None:
        Payment.objects.filter(pk=payment.pk).update(expires_at=Now())
        self._charges(payment).update(expires_at=Now())

    def can_be_paid(self, payment: Payment) -> bool:
        charge = demo.find_charge(self._charges(payment).get().reference)
        return charge.state == DemoBankCharge.State.OPEN

    def approve_after_decline(self, payment: Payment) -> None:
        self._charges(payment).update(state=DemoBankCharge.State.APPROVED)

    def refuse_payments(self) -> None:
        self._refusal.enter_context(mock.patch.object(demo, "LEAST_CHARGE", Decimal(1000)))

    def accept_payments(self) -> None:
        self._refusal.close()

    def refund(self, payment: Payment, amount: Decimal) -> None:
        DemoBankRefund.objects.create(charge=self._charges(payment).get(), amount=amount)

    def fail_refund(self, payment: Payment) -> None:
        latest = DemoBankRefund.objects.filter(charge__key=payment.key).latest("pk")
        latest.state = DemoBankRefund.State.FAILED
        latest.save()

    def refuse_refunds(self, payment: Payment) -> None:
        self._charges(payment).update(declines_refunds=True)

    def dispute(self, payment: Payment, amount: Decimal | None = None) -> None:
        charge = self._charges(payment).get()
        DemoBankDispute.objects.create(charge=charge, amount=amount or charge.amount)

    def decide(self, payment: Payment, *, won: bool) -> None:
        state = DemoBankDispute.State.WON if won else DemoBankDispute.State.LOST
        DemoBankDispute.objects.filter(charge__key=payment.key).update(state=state)

    def message(self, payment: Payment, *, at: int | None = None) -> Post:
        return self._post({"id": f"about-{payment.key}", "payment": str(payment.key)}, at)

    def old_message(self, payment: Payment) -> Post:
        return self._post({"id": f"before-{payment.key}", "payment": str(payment.key)})

    def foreign_messages(self) -> list[Post]:
        return [self._post({"id": "foreign", "payment": str(uuid.uuid4())})]

    def sign(self, body: bytes) -> Post:
        return Post(body, {demo.SIGNATURE: demo.sign(body)})

    def _post(self, message: dict[str, str], at: int | None = None) -> Post:
        body = json.dumps(message).encode()
        return Post(body, {demo.SIGNATURE: demo.sign(body, at)})

    @contextmanager
    def down(self) -> Iterator[None]:
        down: dict[str, Any] = dict.fromkeys(CALLS, _is_down)
        with mock.patch.multiple(DemoBank, **down):
            yield

    @contextmanager
    def losing_answers(self) -> Iterator[None]:
        lost: dict[str, Any] = {name: _lost(getattr(DemoBank, name)) for name in CALLS}
        with mock.patch.multiple(DemoBank, **lost):
            yield

    def books(self, payment: Payment) -> Books:
        charges = self._charges(payment)
        refunds = DemoBankRefund.objects.filter(charge__in=charges).order_by("pk")
        taken = DemoBankDispute.objects.filter(charge__in=charges).exclude(state="WON")
        return Books(
            opened=charges.count(),
            charged=_total(charges.filter(state=DemoBankCharge.State.APPROVED)),
            refunds=tuple(
                GivenBack(f"refund-{each.pk}", each.key, each.amount, each.state == "DONE")
                for each in refunds
            ),
            disputed=_total(taken),
        )

    def check_no_money_is_of_others(self) -> None:
        ours = Payment.objects.values_list("key")
        assert not DemoBankCharge.objects.exclude(key__in=ours).exists()

    def _choose(self, payment: Payment, choice: Choice) -> None:
        demo.choose(self._charges(payment).get().reference, choice)

    def _charges(self, payment: Payment) -> QuerySet[DemoBankCharge]:
        return DemoBankCharge.objects.filter(key=payment.key)


def _is_down(*_: object) -> NoReturn:
    raise ProviderUnavailable("The demo bank is closed.")


def _lost(call: Callable[..., object]) -> Callable[..., NoReturn]:
    def called(*arguments: object) -> NoReturn:
        call(*arguments)
        raise ProviderUnavailable("The answer got lost.")

    return called


def _total(rows: QuerySet[Any]) -> Decimal:
    total: Decimal | None = rows.aggregate(total=Sum("amount"))["total"]
    return total or Decimal(0)
