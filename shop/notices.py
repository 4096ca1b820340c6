"""Notices on the next page about things that were just done to holds and orders.

A sentence that is written when something is done may be read much later: the browser was closed
before the page came, a form was sent again, the time ran out meanwhile. So a request only records
what it did. The words are made when a page shows them, from the state of the database then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.messages.storage.base import Message
from django.http import HttpRequest
from django.urls import reverse

from shop import money
from shop.basket import line_text, units_in_basket, units_of_line
from shop.hold_states import HoldNow, HoldState, look_up
from shop.models import Order
from shop.orders.status_page import Situation, Standing, recorded_standing

KIND = "done "
WITH_BASKET = ("basket", "basket-holds", "basket-hold", "checkout")  # pages that show the basket
ELSEWHERE = "Something was done in the shop."  # for pages that know only the text: the admin


@dataclass(frozen=True)
class Notice:
    """A sentence for the top of a page."""

    level: str
    """``success``, ``info``, ``warning`` or ``error``."""
    text: str
    address: str = ""
    """The page that it leads to, if any."""
    link: str = ""
    """The words of the link to that page."""
    lapsed: UUID | None = None
    """The hold that it calls lapsed, if any; the basket's page says so by itself."""


# Recording what was done


def note_reserved(
    request: HttpRequest, hold_id: UUID, *, wanted: int, seen_price: Decimal | None, more: bool
) -> None:
    """A hold of ``wanted`` units was made, now or when the form was sent before.

    ``seen_price`` is the price of a unit on the page. ``more``: the buyer held others already.
    """
    price = None if seen_price is None else str(seen_price)
    _note(request, "reserved", str(hold_id), wanted, price, more)


def note_changed(request: HttpRequest, hold_id: UUID) -> None:
    """The number of units in this hold's line was changed."""
    _note(request, "changed", str(hold_id))


def note_removed(request: HttpRequest, hold_ids: Collection[UUID]) -> None:
    """These holds of one product were removed, if they were in the basket."""
    _note(request, "removed", [str(each) for each in hold_ids])


def note_placed_before(request: HttpRequest, order: Order) -> None:
    """The form that made the order was sent again, for other goods."""
    _note(request, "placed before", order.pk)


def note_corrected(request: HttpRequest, order: Order) -> None:
    """The buyer's entries at the checkout were corrected."""
    _note(request, "corrected", order.pk)


def note_not_corrected(request: HttpRequest, order: Order) -> None:
    """A correction came too late: the order was paid or closed already."""
    _note(request, "not corrected", order.pk)


def note_unpayable(request: HttpRequest, order: Order) -> None:
    """The order could not be paid, since its holds can't be prolonged any more."""
    _note(request, "unpayable", order.pk)


def note_unreachable(request: HttpRequest, order: Order) -> None:
    """The order could not be paid, since the bank could not be reached."""
    _note(request, "unreachable", order.pk)


def note_not_accepted(request: HttpRequest, order: Order) -> None:
    """The order could not be paid, since the bank doesn't accept the payment at all."""
    _note(request, "not accepted", order.pk)


def _note(request: HttpRequest, *done: object) -> None:
    messages.info(request, ELSEWHERE, extra_tags=KIND + json.dumps(done))


# Showing it


def pending_notices(request: HttpRequest, buyer: str) -> list[Notice]:
    """The notices for the page that is being made. Each is shown once.

    A notice with a price waits for a page that shows the basket: the buyer must read the price
    before paying it.
    """
    notices: dict[Notice, None] = {}  # each once: a form that was sent twice left two of them
    left = messages.get_messages(request)
    if not len(left):  # even looking through none of them would send a cookie
        return []
    for message in left:
        if _has_price(message) and not _shows_basket(request):
            messages.info(request, message.message, extra_tags=message.extra_tags)
        else:
            notices |= dict.fromkeys(_notices(message, buyer))
    return list(notices)


def _has_price(message: Message) -> bool:
    return (message.extra_tags or "").startswith(f'{KIND}["reserved"')


def _shows_basket(request: HttpRequest) -> bool:
    return request.resolver_match is not None and request.resolver_match.url_name in WITH_BASKET


def _notices(message: Message, buyer: str) -> list[Notice]:
    tags = message.extra_tags or ""
    if not tags.startswith(KIND):
        return [Notice(message.level_tag, str(message))]
    done, *arguments = json.loads(tags.removeprefix(KIND))
    return WORDS[done](buyer, *arguments)


def _reserved_notices(
    buyer: str, hold_id: str, wanted: int, seen_price: str | None, more: bool
) -> list[Notice]:
    for now in look_up(buyer, [UUID(hold_id)]):
        if not now.is_in_basket:
            return [_gone_notice(now)]
        if now.hold.quantity != wanted:
            return [_sent_before_notice(now)]
        return [_reserved_notice(now, None if seen_price is None else Decimal(seen_price), more)]
    return []


def _reserved_notice(now: HoldNow, seen_price: Decimal | None, more: bool) -> Notice:
    several = now.hold.quantity > 1
    done = f"{now.units} reserved for you."
    if more:
        done = f"{now.units} added, with a time of {'their' if several else 'its'} own."
    price = f"{_amount(now.hold.unit_price)}{' each' if several else ''}"
    if seen_price in (None, now.hold.unit_price):
        return Notice("success", f"{done} The price is {price}.")
    them = "them" if several else "it"
    return Notice(
        "warning",
        f"{done} The price is now {price}; the page showed {_amount(seen_price)}. If you don't "
        f"want {them} at this price, remove {them}.",
    )


def _amount(amount: Decimal | None) -> str:
    return money.format_amount(amount or Decimal(0), settings.SHOP_CURRENCY)


def _sent_before_notice(now: HoldNow) -> Notice:
    """The hold has another number of units than the form asked for."""
    name = now.hold.product.name
    return Notice(
        "info",
        f"This form for {name} was sent before, and counts once: you hold {now.units} from it. "
        "To reserve more, use the form on its page.",
        *_to_product(now),
    )


def _gone_notice(now: HoldNow) -> Notice:
    """The hold was made, just now or long ago, and is no longer in the basket."""
    return _place_notice(now, f"You reserved {now.units} before. {now}")


def _place_notice(now: HoldNow, text: str = "") -> Notice:
    """The place of units that aren't in the basket, with a link to it."""
    text = text or str(now)
    if now.order:
        page = reverse("order", args=[now.order.token])
        return Notice("warning", text, page, f"See order {now.order.number}")
    lapsed = now.hold.pk if now.state is HoldState.LAPSED else None
    return Notice("warning", text, *_to_product(now), lapsed)


def _to_product(now: HoldNow) -> tuple[str, str]:
    product = now.hold.product
    if not product.is_active:
        return "", ""
    return reverse("product", args=[product.slug]), "Reserve again"


def _changed_notices(buyer: str, hold_id: str) -> list[Notice]:
    for now in look_up(buyer, [UUID(hold_id)]):
        if not units_of_line(now.hold):
            return [_place_notice(now)]
        return [Notice("success", f"You now hold {line_text(now.hold)}.")]
    return []


def _removed_notices(buyer: str, hold_ids: list[str]) -> list[Notice]:
    holds = look_up(buyer, [UUID(each) for each in hold_ids])
    removed = sum(now.hold.quantity for now in holds if now.state is HoldState.REMOVED)
    notices = [_place_notice(now) for now in holds if now.state is not HoldState.REMOVED]
    if removed:
        product = holds[0].hold.product
        text = f"{removed} × {product.name} removed from your basket."
        left = units_in_basket(buyer, product)
        if left:
            text += f" You still hold {left}."
        notices.insert(0, Notice("success", text))
    return notices


def _placed_before_notices(buyer: str, order_id: int) -> list[Notice]:
    return [
        Notice(
            "warning",
            "This form was sent before, and counts once. It has made order "
            f"{order.number}, which has only the units that its page shows.",
            reverse("order", args=[order.token]),
            f"See order {order.number}",
        )
        for order in Order.objects.filter(pk=order_id)
    ]


def _corrected_notices(buyer: str, order_id: int) -> list[Notice]:
    return [
        Notice("success", f"Order {order.number} has your corrections now.")
        for order in Order.objects.filter(pk=order_id)
    ]


def _not_corrected_notices(buyer: str, order_id: int) -> list[Notice]:
    return [
        Notice(
            "warning",
            f"Order {order.number} is {order.state_for_buyer()} already. "
            "Your corrections came too late: the order stays as it was.",
        )
        for order in Order.objects.filter(pk=order_id)
    ]


def _unpayable_notices(buyer: str, order_id: int) -> list[Notice]:
    """No notice if the order was paid or closed meanwhile: its page says that."""
    words = {
        Situation.GONE: "it can't be paid any more, and nothing was charged.",
        Situation.PAYING_TOO_LATE: "you can't begin another payment.",
    }
    found = _standing(order_id)
    if found is None or found.situation not in words:
        return []
    why = "Your time for this order is over"
    if found.was_let_go:
        why = "This order is no longer kept for you"
    return [Notice("error", f"{why}: {words[found.situation]}")]


def _unreachable_notices(buyer: str, order_id: int) -> list[Notice]:
    found = _standing(order_id)
    if found is None or not found.can_be_paid:
        return []
    kept = " Your order is kept for you:" if found.seconds_left else " You can"
    words = f"The bank can't be reached at the moment.{kept} try to pay once more in a minute."
    return [Notice("error", words)]


def _not_accepted_notices(buyer: str, order_id: int) -> list[Notice]:
    found = _standing(order_id)
    if found is None or not found.can_be_paid:
        return []
    words = (
        "The bank doesn't accept this payment. Nothing was charged, and our staff know of it. "
        "Another try helps only after they have mended it."
    )
    return [Notice("error", words)]


def _standing(order_id: int) -> Standing | None:
    order = Order.objects.filter(pk=order_id).first()
    return recorded_standing(order) if order else None


WORDS: dict[str, Callable[..., list[Notice]]] = {
    "reserved": _reserved_notices,
    "changed": _changed_notices,
    "removed": _removed_notices,
    "placed before": _placed_before_notices,
    "corrected": _corrected_notices,
    "not corrected": _not_corrected_notices,
    "unpayable": _unpayable_notices,
    "unreachable": _unreachable_notices,
    "not accepted": _not_accepted_notices,
}
