"""The books: what buyers were told, what they have, what the bank did, which e-mails went out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from tests.stripe_standin.remote import StandinProcess
from tests.tools.drills import Disagreement
from tests.tools.fault_drill.buyers import CANCELS_EARLY, IS_PARTLY_REFUNDED, Asked, Buyer
from tests.tools.fault_drill.catalogue import LIMITED, MOST_OF_LIMITED, SCARCE
from tests.tools.fault_drill.mail import Mail
from tests.tools.money_books import Money, compare_money, order_problems

MOST_SHOWN = 20
HELD, SOLD = "HELD", "SOLD"


def check_law() -> None:
    """Check the law of stock for all products, on one snapshot. Raises Disagreement."""
    from inventory import monitor

    if problems := [str(broken) for broken in monitor.check()]:
        raise Disagreement("the law of stock is broken: " + "; ".join(problems))


def check_buyers(buyers: Collection[Buyer], mails: Collection[Mail]) -> None:
    """Compare what these buyers were told with what they have. Raises Disagreement."""
    from shop.models import Order

    orders = {
        order.token: order
        for order in Order.objects.filter(
            token__in=[buyer.told.token for buyer in buyers if buyer.told.token]
        ).prefetch_related("lines__reservation", "payments__refunds")
    }
    problems: list[str] = []
    for buyer in buyers:
        order = orders.get(buyer.told.token)
        found = [*problems_with_units(buyer, order), *problems_with_order(buyer, order)]
        problems += [f"buyer {buyer.number}, who {buyer.plan}: {each}" for each in found]
    problems += problems_with_refusals(buyers)
    problems += problems_with_mails(orders.values(), mails)
    problems += orders_of_nobody(buyers)
    raise_if_any(problems)


def raise_if_any(problems: Collection[str]) -> None:
    if problems:
        more = f"\n… and {len(problems) - MOST_SHOWN} more" * (len(problems) > MOST_SHOWN)
        raise Disagreement("\n".join([*list(problems)[:MOST_SHOWN]]) + more)


# Units


def problems_with_units(buyer: Buyer, order: Any) -> Iterator[str]:
    """Each “reserved” is one hold or sale, each refusal is none, and there are no others."""
    from inventory.models import Reservation

    if not buyer.key:
        return
    rows = {row.idempotency_key: row for row in Reservation.objects.filter(buyer=buyer.key)}
    for asked in buyer.told.asked:
        row = rows.pop(f"basket {buyer.key} {asked.key}", None)
        what = f"{asked.quantity} of {asked.slug}"
        if asked.held is None:
            yield f"asked for {what}, and never knew"
        elif row is None:
            if asked.held:
                yield f"was told that {what} are held, and there is no such hold"
        elif not asked.held:
            if row.status in (HELD, SOLD):
                yield f"was refused {what}, and has them ({row.status})"
        elif row.quantity != asked.quantity or row.status not in right_statuses(asked, order):
            yield (
                f"was told that {what} are held{' and then released' * asked.removed}, and has "
                f"{row.quantity}, {row.status}"
            )
    for row in rows.values():
        yield f"has {row.quantity} ({row.status}) that nobody asked for"


def right_statuses(asked: Asked, order: Any) -> set[str]:
    """The statuses that a hold may have, by what its buyer was told."""
    if asked.removed:
        return {"RELEASED"}
    if order is None:
        return {HELD}
    if order.state == "CANCELLED":  # it may have been cancelled before its payment was noted
        return {SOLD, "RELEASED"}
    return {SOLD}


def problems_with_refusals(buyers: Collection[Buyer]) -> Iterator[str]:
    """Refused buyers were rightly refused.

    Scarce units never come back: if there are enough in the end, there were enough all the time.
    Nobody buys all of the other products.
    """
    from inventory.models import Product

    refused = [
        (buyer, asked) for buyer in buyers for asked in buyer.told.asked if asked.held is False
    ]
    left = dict(
        Product.objects.filter(slug__in={asked.slug for _, asked in refused}).values_list(
            "slug", "stock"
        )
    )
    for buyer, asked in refused:
        what = f"buyer {buyer.number} was refused {asked.quantity} of {asked.slug}"
        if asked.over_limit:
            has = sum(
                each.quantity for each in buyer.told.asked if each.held and each.slug == asked.slug
            )
            if not asked.slug.startswith(LIMITED) or has + asked.quantity <= MOST_OF_LIMITED:
                yield f"{what} for the limit, and has {has}"
        elif not asked.slug.startswith(SCARCE) or left[asked.slug] >= asked.quantity:
            yield f"{what}, and {left[asked.slug]} are left"


def orders_of_nobody(buyers: Collection[Buyer]) -> Iterator[str]:
    """Orders of these buyers that they know nothing of."""
    from shop.models import Order

    known = {buyer.told.token for buyer in buyers}
    keys = [buyer.key for buyer in buyers if buyer.key]
    for order in Order.objects.filter(buyer__in=keys).exclude(token__in=known):
        yield f"order {order.number} ({order.state}) was placed by nobody"


# Orders


def problems_with_order(buyer: Buyer, order: Any) -> Iterator[str]:
    told = buyer.told
    if told.token and order is None:
        yield "has an order, and the shop has none"
    if order is None:
        return
    wanted = {
        told.cancelled: "CANCELLED",
        told.refunded and not told.cancelled and buyer.plan != IS_PARTLY_REFUNDED: "REFUNDED",
    }.get(True, "PAID")
    if order.state != wanted:
        yield f"was told that order {order.number} is {wanted}, and it is {order.state}"
    if (told.paid or buyer.plan == CANCELS_EARLY) and order.paid() != order.total:
        yield f"has paid {order.total} for order {order.number}, on record are {order.paid()}"
    if told.refunded and not order.given_back():
        yield f"was told that order {order.number} is refunded, and no refund is on record"
    if order.refunded() and not (told.cancelled or told.refund_asked):
        yield f"got {order.refunded()} back for order {order.number}, and nobody asked for that"
    yield from order_problems(order)


# E-mails


def wanted_mails(orders: Collection[Any]) -> Iterator[tuple[str, str, str, int]]:
    """The order's number, a part of the subject, the receiver, and how many there may be."""
    from shop.models import Refund
    from tests.tools.fault_drill.machines import MANAGER

    for order in orders:
        refunds = Refund.objects.filter(payment__order=order).count()
        if order.state == "PAID":
            yield order.number, f"Your order {order.number} is paid", order.email, 1
            yield order.number, f"Order {order.number} is paid", MANAGER, 1
        if refunds:  # one may say that it is due, a second one that it is done
            yield order.number, f"Refund for your order {order.number}", order.email, 2 * refunds
        if order.state == "CANCELLED" and not refunds:
            yield order.number, f"Your order {order.number} is cancelled", order.email, 1


def missing_mails(orders: Collection[Any], mails: Collection[Mail]) -> list[str]:
    """The e-mails that should have been sent, and weren't."""
    sent = {(mail.to, subject_of(mail)) for mail in mails}
    return [
        f"“{subject}” to {to}"
        for _, subject, to, _ in wanted_mails(orders)
        if not any(to == receiver and subject in text for receiver, text in sent)
    ]


def problems_with_mails(orders: Collection[Any], mails: Collection[Mail]) -> Iterator[str]:
    """Each e-mail is sent once; if it is repeated, receivers know that by its Message-ID."""
    for missing in missing_mails(orders, mails):
        yield f"no e-mail {missing}"
    most = {(to, subject): number for _, subject, to, number in wanted_mails(orders)}
    numbers = {order.number: order for order in orders}
    ids: dict[tuple[str, str], set[str]] = {}
    for mail in mails:
        if any(number in mail.subject for number in numbers):
            ids.setdefault((mail.to, subject_of(mail)), set()).add(mail.message_id)
    for (to, subject), found in ids.items():
        allowed = next(
            (number for (who, part), number in most.items() if who == to and part in subject), 1
        )
        if len(found) > allowed:
            yield f"{len(found)} e-mails “{subject}” to {to}: {sorted(found)}"


def repeated_mails(mails: Collection[Mail]) -> int:
    """How many e-mails were repeated."""
    counted = Counter((mail.to, mail.subject, mail.message_id) for mail in mails)
    return counted.total() - len(counted)


def subject_of(mail: Mail) -> str:
    return " ".join(mail.subject.split())


# Money


def check_money(standin: StandinProcess) -> Money:
    """Compare all money with the bank's books, to the cent. Raises Disagreement."""
    money = compare_money(standin)
    raise_if_any(money.problems)
    return money


def check_strangers(buyers: Collection[Buyer]) -> None:
    """Nobody but these buyers has anything. Raises Disagreement."""
    from inventory.models import Reservation
    from shop.models import Order

    keys = {buyer.key for buyer in buyers}
    raise_if_any(
        [
            f"{each} belongs to a buyer who never came"
            for each in [
                *Reservation.objects.exclude(buyer__in=keys),
                *Order.objects.exclude(buyer__in=keys),
            ]
        ]
    )
