"""The shop's books compared with those of the stand-in for Stripe, to the cent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.stripe_standin.remote import StandinProcess

MINOR = Decimal("0.01")


@dataclass
class Money:
    """All money that moved, and where the two books disagree."""

    charges: int = 0
    charged: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    """By the shop's books."""
    refunds: int = 0
    given_back: Decimal = Decimal(0)
    owed: Decimal = Decimal(0)
    """By the shop's books."""
    problems: list[str] = field(default_factory=list)


def compare_money(standin: StandinProcess) -> Money:
    """Compare each payment: charged is paid, given back is owed, once for each refund."""
    from shop.models import Payment, Refund

    balances = standin.books.balances()
    charged, given_back = by_payment(balances)
    refunds = [each for each in standin.refunds.all() if each["status"] == "succeeded"]
    money = Money(
        charges=len(balances),
        charged=sum(charged.values(), Decimal(0)),
        refunds=len(refunds),
        given_back=sum(given_back.values(), Decimal(0)),
    )
    if len({each["metadata"]["refund"] for each in refunds}) != len(refunds):
        money.problems.append("a refund was given twice")
    for payment in Payment.objects.select_related("order"):
        key = str(payment.key)
        was_charged, went = charged.pop(key, Decimal(0)), given_back.pop(key, Decimal(0))
        paid = payment.amount if payment.state == Payment.State.PAID else Decimal(0)
        owed = sum((refund.amount for refund in payment.refunds.counted()), Decimal(0))
        money.paid += paid
        money.owed += owed
        if (was_charged, went) != (paid, owed):
            money.problems.append(
                f"{payment}: charged {was_charged}, on record {paid}; given back {went}, "
                f"on record {owed}"
            )
    if charged:
        money.problems.append(f"charges for unknown payments: {charged}")
    failed = Refund.objects.filter(state=Refund.State.FAILED)
    money.problems += [f"{each} failed: {each.problem}" for each in failed]
    return money


def by_payment(balances: list[dict[str, Any]]) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """The sums that were charged and given back, by the payment's key."""
    charged: Counter[str] = Counter()
    given_back: Counter[str] = Counter()
    for each in balances:
        charged[each["metadata"]["payment"]] += each["charged"]
        given_back[each["metadata"]["payment"]] += each["refunded"]
    return (
        {key: minor * MINOR for key, minor in charged.items()},
        {key: minor * MINOR for key, minor in given_back.items()},
    )


def order_problems(order: Any) -> Iterator[str]:
    """Where the order's money and goods don't agree."""
    kept = [payment for payment in order.payments.all() if payment.kept()]
    if len(kept) > 1:
        yield f"order {order.number} was paid twice, and both payments are kept"
    goodwill = sum(
        refund.amount for payment in kept for refund in payment.refunds.filter(reason="GOODWILL")
    )
    has_goods = order.state == "PAID"
    units = sum(
        line.reservation.kept for line in order.lines.all() if line.reservation.status == "SOLD"
    )
    if order.kept() != (order.total - goodwill if has_goods else 0) or bool(units) != has_goods:
        yield f"order {order.number} ({order.state}): {order.kept()} kept for {units} units"
    if order.state == "PENDING":
        yield f"order {order.number} is still open"
