"""The sentences on a page of the shop, compared with the database at that moment.

Each sentence that a page may say of holds and orders is listed here, with the facts that it claims.
An unlisted sentence fails, so that pages say nothing that isn't compared with the facts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import F, Q, Sum
from django.db.models.functions import Now

from inventory.models import Product, Reservation, ReservationQuerySet
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Order,
    Refund,
    ShopAlert,
)

MONEY = r"€([\d,]+\.\d\d)"
OF_TWO_PRICES = rf"(\d+) × (\w+) at {MONEY} \((\d+) in all\)"
IN_A_WORD = {"PAID": "paid", "SHIPPED": "shipped", "CANCELLED": "cancelled", "REFUNDED": "closed"}
Rule = Callable[..., object]


class Facts:
    """The facts about one buyer and one product among others, by the database."""

    def __init__(self, buyer: str, product: Product) -> None:
        self.buyer = buyer
        self.product = product
        self.orders_before = 0
        """The number of orders before the request."""

    # Holds

    @property
    def mine(self) -> ReservationQuerySet:
        return Reservation.objects.filter(buyer=self.buyer)

    @property
    def held(self) -> ReservationQuerySet:
        """The holds in the basket."""
        return self.mine.filter(status="HELD", expires_at__gt=Now(), order_line=None)

    def units(self, holds: Iterable[Reservation]) -> int:
        return sum(hold.quantity for hold in holds)

    def held_exactly(self, units: str, name: str = "") -> bool:
        return self.held.filter(product=self.product, quantity=int(units)).exists()

    def line_of(self, units: str, name: str = "") -> bool:
        """Whether the basket has exactly so many units at one price."""
        by_price: dict[Decimal, int] = {}
        for hold in self.held.filter(product=self.product):
            by_price[hold.unit_price] = by_price.get(hold.unit_price, 0) + hold.quantity
        return int(units) in by_price.values()

    def line_of_two_prices(self, units: str, name: str, price: str, in_all: str) -> bool:
        """Whether the basket has so many units at that price, and so many in all."""
        of_price = self.held.filter(product=self.product, unit_price=price.replace(",", ""))
        return self.units(of_price) == int(units) and self.in_basket(in_all)

    def in_basket(self, units: str) -> bool:
        return self.units(self.held.filter(product=self.product)) == int(units)

    def was_reserved(self, units: str, name: str) -> bool:
        return self.mine.filter(quantity=int(units), product=self.product).exists()

    def over(self, units: str | None, name: str, *others: object) -> bool:
        """Whether so many units lapsed, and were neither released before nor ordered."""
        over = self.mine.filter(product=self.product, order_line=None).filter(
            Q(status="EXPIRED")
            | Q(status="HELD", expires_at__lte=Now())
            | Q(status="RELEASED", decided_at__gte=F("expires_at"))
        )
        return int(units or 1) in (self.units(over), *(hold.quantity for hold in over))

    def over_and_to_be_had(self, units: str, name: str) -> bool:
        return self.over(units, name) and self.is_active() and self.left() >= int(units)

    def over_and_some_left(self, units: str, name: str, left: str | None) -> bool:
        return self.over(units, name) and self.is_active() and self.left() == int(left or 1)

    def over_and_with_others(self, units: str, name: str) -> bool:
        return self.over(units, name) and self.left() <= 0 and self.others_hold()

    def over_and_sold_out(self, units: str, name: str) -> bool:
        return self.over(units, name) and self.left() <= 0 and not self.others_hold()

    def over_and_not_for_sale(self, units: str, name: str) -> bool:
        return self.over(units, name) and not self.is_active()

    def removed(self, units: str, name: str) -> bool:
        removed = self.mine.filter(
            status="RELEASED", decided_at__lt=F("expires_at"), order_line=None
        )
        return int(units) in (self.units(removed), *(hold.quantity for hold in removed))

    def priced(self, amount: str, *seen: str) -> bool:
        """Whether there is a hold at that price."""
        return self.held.filter(product=self.product, unit_price=_decimal(amount)).exists()

    # Stock

    def is_active(self) -> bool:
        return Product.objects.get(pk=self.product.pk).is_active

    def left(self) -> int:
        stock = Product.objects.get(pk=self.product.pk).stock
        lapsed = Reservation.objects.lapsed().filter(product=self.product)
        return stock + self.units(lapsed)

    def others_hold(self) -> bool:
        holds = Reservation.objects.held().filter(product=self.product, expires_at__gt=Now())
        return holds.exclude(buyer=self.buyer).exists()

    def nothing_left_but_mine(self) -> bool:
        return self.left() <= 0 and not self.others_hold() and self.mine.held().exists()

    # Orders

    def order(self, number: str) -> Order:
        return Order.objects.get(number=number)

    def in_order(self, name: str, number: str, closed: str = "") -> bool:
        order = self.order(number)
        is_in = order.lines.filter(reservation__product=self.product).exists()
        if closed:
            return is_in and IN_A_WORD.get(order.state) == closed
        return is_in and order.state not in (Order.State.CANCELLED, Order.State.REFUNDED)

    def nothing_ordered(self) -> bool:
        return Order.objects.count() == self.orders_before

    def charged(self, order: Order) -> bool:
        """Whether the bank has taken money for it."""
        keys = order.payments.values_list("key", flat=True)
        approved = Q(state="APPROVED") | Q(approve_at__isnull=False)
        return DemoBankCharge.objects.filter(approved, key__in=list(keys)).exists()

    def is_at_bank(self, order: Order) -> bool:
        """Whether the buyer was sent to the bank with a payment whose end isn't known yet."""
        keys = order.payments.filter(state="STARTED").values_list("key", flat=True)
        return DemoBankCharge.objects.filter(key__in=list(keys)).exists()

    def is_kept(self, order: Order) -> bool:
        """Whether all units of the order are still held, or sold."""
        reservations = Reservation.objects.filter(order_line__order=order)
        return not reservations.exclude(
            Q(status="HELD", expires_at__gt=Now()) | Q(status="SOLD")
        ).exists()

    def can_be_paid(self, order: Order) -> bool:
        """Whether all units of the order are held, or can be held again for a payment."""
        outlasted = Q(expires_at__lte=Now(), created_at__lte=Now() - settings.HOLD_AT_MOST)
        reservations = Reservation.objects.filter(order_line__order=order)
        return order.is_open and not reservations.exclude(Q(status="HELD") & ~outlasted).exists()

    def waits(self, number: str, *others: str) -> bool:
        """Whether the order waits for its payment, and its units are kept."""
        return self.order(number).is_open and self.is_kept(self.order(number))

    def declined(self, number: str, *others: str) -> bool:
        last = self.order(number).payments.order_by("pk").last()
        return self.waits(number) and last is not None and last.state == "DECLINED"

    def is_not_accepted(self, order: Order) -> bool:
        """Whether the bank knows nothing of the last payment, and staff were told of it."""
        last = order.payments.order_by("-pk")[:1].values("key")
        is_known = DemoBankCharge.objects.filter(key__in=last).exists()
        return not is_known and ShopAlert.objects.open().filter(kind="START_DECLINED").exists()

    def late(self, number: str, *others: str) -> bool:
        order = self.order(number)
        return self.can_be_paid(order) and not self.is_kept(order)

    def is_owed(self, order: Order) -> bool:
        refunds = Refund.objects.filter(payment__order=order, state__in=["DUE", "FAILED"])
        return order.state == "REFUNDED" and refunds.exists()

    def is_taken_back(self, order: Order) -> bool:
        """Whether it is closed, and the buyer's bank took money."""
        return order.is_closed and not self.is_owed(order) and order.disputed() > 0

    def is_refunded(self, order: Order) -> bool:
        done = Refund.objects.filter(payment__order=order, state="DONE")
        is_closed = order.state == "REFUNDED"
        return is_closed and done.exists() and not self.is_owed(order) and not order.disputed()

    def limited(self, limit: str, *others: str) -> bool:
        return Product.objects.get(pk=self.product.pk).max_per_buyer == int(limit)

    def limited_and_has(self, limit: str, name: str, units: str) -> bool:
        has = self.mine.filter(product=self.product, status__in=["HELD", "SOLD"])
        return self.limited(limit) and self.units(has) == int(units)


def _decimal(amount: str) -> Decimal:
    return Decimal(amount.replace(",", ""))


def _says_nothing(*_: object) -> bool:
    return True


def rules(facts: Facts) -> list[tuple[str, Rule]]:
    """Each sentence, with the fact that must be true when a page says it."""
    return [
        # About things just done
        (r"(\d+) × (\w+) reserved for you\.", facts.held_exactly),
        (r"(\d+) × (\w+) added, with a time of (?:its|their) own\.", facts.held_exactly),
        (rf"The price is {MONEY}(?: each)?\.", facts.priced),
        (rf"The price is now {MONEY}(?: each)?; the page showed {MONEY}\.", facts.priced),
        (r"If you don't want (?:it|them) at this price, remove (?:it|them)\.", _says_nothing),
        (
            r"This form for \w+ was sent before, and counts once: you hold (\d+) × (\w+) from it\.",
            facts.held_exactly,
        ),
        (r"To reserve more, use the form on its page\.", _says_nothing),
        (r"You reserved (\d+) × (\w+) before\.", facts.was_reserved),
        (r"You now hold (\d+) × (\w+)\.", facts.line_of),
        (rf"You now hold {OF_TWO_PRICES}\.", facts.line_of_two_prices),
        (r"(\d+) × (\w+) (?:(?:was|were) )?removed from your basket\.", facts.removed),
        (r"You still hold (\d+)\.", facts.in_basket),
        # About things that happened meanwhile
        (r"Your time for (?:(\d+) × )?(\w+) is over\.", facts.over),
        (
            r"The time of your (\d+) × (\w+) is over, and others may take (?:it|them)\.",
            facts.over_and_to_be_had,
        ),
        (
            r"The time of your (\d+) × (\w+) is over, and there "
            r"(?:is only one|are only (\d+)) left\.",
            facts.over_and_some_left,
        ),
        (
            r"The time of your (\d+) × (\w+) is over, and others have (?:it|them) in their "
            r"baskets now\.",
            facts.over_and_with_others,
        ),
        (
            r"The time of your (\d+) × (\w+) is over, and it is sold out now\.",
            facts.over_and_sold_out,
        ),
        (
            r"The time of your (\d+) × (\w+) is over, and it is not for sale any more\.",
            facts.over_and_not_for_sale,
        ),
        (r"The time of your (\d+) × (\w+) is over\.", facts.over),
        (r"You hold all that are left\.", facts.nothing_left_but_mine),
        (r"(\w+) is in your order (\S+) already\.", facts.in_order),
        (r"(\w+) was in your order (\S+), which is (cancelled|closed)\.", facts.in_order),
        (
            r"Your reservation of \w+ was changed meanwhile, in another tab perhaps\.",
            _says_nothing,
        ),
        (r"You hold (\d+) × (\w+) now\.", facts.line_of),
        (rf"You hold {OF_TWO_PRICES} now\.", facts.line_of_two_prices),
        (r"Reserve again|Reserve what is left|See if some come back", facts.is_active),
        (r"See order (\S+)", lambda number: facts.order(number)),
        # About refusals and errors
        (r"Somebody has just let some of \w+ go\. Please try once more\.", lambda: facts.left()),
        (r"There is only one \w+ left\.", lambda: facts.left() == 1),
        (r"There are only (\d+) of \w+ left\.", lambda units: facts.left() == int(units)),
        (
            r"All \w+ are in baskets at the moment\. Try again in a few minutes\.",
            lambda: facts.left() <= 0 and facts.others_hold(),
        ),
        (r"You hold all of \w+ that are left\.", facts.nothing_left_but_mine),
        (
            r"\w+ is sold out\.",
            lambda: facts.left() <= 0 and not facts.others_hold(),
        ),
        (
            r"\w+ is not for sale at the moment\.",
            lambda: not facts.is_active(),
        ),
        (
            r"Each customer can have (\d+) of (\w+), and you have (\d+) already\.",
            facts.limited_and_has,
        ),
        (r"Each customer can have (\d+) of \w+\.", facts.limited),
        (r"At most (\d+) of \w+ per customer, in all orders together: .*?\.", facts.limited),
        (r"Nothing was ordered(?:: your basket has changed)?\.", facts.nothing_ordered),
        (r"Please look at (?:it|your basket) again\.", _says_nothing),
        (
            r"Your basket has changed: the total is \S+ EUR now\.",
            lambda: facts.held.exists(),
        ),
        # About orders
        (
            r"This form was sent before, and counts once\. It has made order (\S+), with nothing "
            r"but what that order's page shows\.",
            lambda number: facts.order(number),
        ),
        (
            r"Order (\S+) stays as it was placed\.",
            lambda number: facts.order(number).town != "Elsewhere",
        ),
        (
            r"Order (\S+) has your corrections now\.",
            lambda number: facts.order(number).town == "Elsewhere",
        ),
        (
            r"Order (\S+) is ([a-z ]+) already\. Your corrections came too late: the order "
            r"stays as it was\.",
            lambda number, state: (
                IN_A_WORD[facts.order(number).state] == state
                and facts.order(number).town != "Elsewhere"
            ),
        ),
        (
            rf"Your order (\S+) waits for its payment of {MONEY}\. In it: [^.]*\.",
            facts.waits,
        ),
        (
            rf"Your order (\S+) is not paid yet: its payment of {MONEY} did not go through\. "
            r"In it: [^.]*\.",
            facts.declined,
        ),
        (r"Your order (\S+) is not paid yet, and its time is over\. In it: [^.]*\.", facts.late),
        (
            r"Your order (\S+) waits for the bank's answer, and its time is over\. In it: [^.]*\.",
            lambda number: (
                not facts.is_kept(facts.order(number)) and facts.is_at_bank(facts.order(number))
            ),
        ),
        (r"(?:Go on with it|See it|Cancel it): order (\S+)", lambda number: facts.order(number)),
        (
            r"Your time for this order is over: it can't be paid any more, and nothing was "
            r"charged\.",
            lambda: (
                not any(
                    facts.charged(order) or facts.can_be_paid(order)
                    for order in Order.objects.pending()
                )
            ),
        ),
        (
            r"Your time for this order is over: you can't begin another payment\.",
            lambda: not any(facts.can_be_paid(order) for order in Order.objects.pending()),
        ),
        (
            r"The bank doesn't accept this payment\. Nothing was charged, and our staff know of "
            r"it\. Another try helps only after they have mended it\.",
            lambda: (
                not any(facts.charged(order) for order in Order.objects.pending())
                and ShopAlert.objects.open().filter(kind="START_DECLINED").exists()
            ),
        ),
    ]


def check_against_facts(page: str, facts: Facts) -> None:
    """Fail if any message or error on the page is not true, or unknown."""
    for text in messages_of(page):
        while text:
            said = _first_sentence(text, facts)
            text = text.removeprefix(said).strip()


def _first_sentence(text: str, facts: Facts) -> str:
    for pattern, is_true in rules(facts):
        found = re.match(pattern, text)
        if found:
            assert is_true(*found.groups()), f"said, and not true: {found[0]}"
            return found[0]
    raise AssertionError(f"nobody has said when this is true: {text}")


def messages_of(page: str) -> list[str]:
    """The texts of all messages and errors."""
    found = re.findall(
        r'<(p|div) class="(?:message|error|note)\b[^"]*"[^>]*>(.*?)</\1>', page, re.DOTALL
    )
    plain = [" ".join(re.sub(r"<[^>]*>", "", text).split()) for _, text in found]
    return [text for text in plain if text and not text.startswith(("You hold ", "Times "))]


def lines_of(page: str) -> list[tuple[int, Decimal]]:
    """The lines of the basket: units, and the price of one."""
    found = re.findall(rf'hold__price">(\d+) × {MONEY} =', page)
    return [(int(units), _decimal(price)) for units, price in found]


def check_basket_against_facts(page: str, facts: Facts) -> None:
    """Fail if the basket's page shows another basket than the database has."""
    check_against_facts(page, facts)
    held: dict[tuple[int, Decimal], int] = {}
    for hold in facts.held:
        key = hold.product_id, hold.unit_price
        held[key] = held.get(key, 0) + hold.quantity
    shown = sorted(lines_of(page))
    assert shown == sorted((units, price) for (_, price), units in held.items())
    assert ("Nothing reserved" in page) == (not held)
    [count] = re.findall(r'id="basket-count"[^>]*>(\d+)<', page)
    assert int(count) == sum(held.values())


def check_product_against_facts(page: str, facts: Facts) -> None:
    """Fail if the product's page shows other numbers than the database has."""
    check_against_facts(page, facts)
    available = int(re.findall(r'data-available="(-?\d+)"', page)[0])
    assert available == (max(0, facts.left()) if facts.is_active() else 0)
    if "try again in a few minutes" in page:
        assert facts.others_hold()
    said = re.findall(r"You hold (\d+) of these", page)
    held = facts.units(facts.held.filter(product=facts.product))
    assert [int(units) for units in said] == ([held] if held else [])


SHORT: dict[str, Callable[[Facts, Order], bool]] = {
    "waiting for payment": lambda facts, order: order.is_open and facts.is_kept(order),
    "waiting for the bank's answer": lambda facts, order: (
        facts.is_at_bank(order) and order.is_open and facts.is_kept(order)
    ),
    "payment declined, you can try again": lambda facts, order: (
        facts.declined(order.number) and not facts.is_not_accepted(order)
    ),
    "not paid: the bank does not accept the payment": lambda facts, order: (
        facts.declined(order.number) and facts.is_not_accepted(order)
    ),
    "not paid in its time, you can still try": lambda facts, order: facts.late(order.number),
    "not paid in its time": lambda facts, order: order.is_open and not facts.is_kept(order),
    "its time is over, waiting for the bank's answer": lambda facts, order: (
        facts.is_at_bank(order) and not facts.is_kept(order)
    ),
    "paid": lambda facts, order: order.state == "PAID",
    "cancelled": lambda facts, order: order.state == "CANCELLED",
    "paid too late, refunded": lambda facts, order: facts.is_refunded(order),
    "refunded": lambda facts, order: facts.is_refunded(order),
    "paid too late, refund not finished": lambda facts, order: facts.is_owed(order),
    "refund not finished": lambda facts, order: facts.is_owed(order),
    "paid too late": lambda facts, order: facts.is_taken_back(order),
    "closed": lambda facts, order: facts.is_taken_back(order),
    "shipped": lambda facts, order: order.state == "SHIPPED",
}


def check_orders_against_facts(page: str, facts: Facts) -> None:
    """Fail if the list of orders says something untrue of an order."""
    heading = r'Order <span class="whole">(\S+)</span></a></h2>'
    said = re.findall(heading + r".*?<strong>([^<]*)</strong>", page, re.DOTALL)
    assert len(said) == Order.objects.filter(buyer=facts.buyer).count()
    for number, words in said:
        assert SHORT[words](facts, facts.order(number)), f"said, and not true: {words}"


def check_order_against_facts(page: str, facts: Facts, order: Order) -> None:
    """Fail if the order's page says something untrue."""
    check_against_facts(page, facts)
    order.refresh_from_db()
    if "othing was charged" in page:
        assert not facts.charged(order)
    kept = ("Kept for you for", "We keep the goods for you.", "We still keep the goods")
    if any(words in page for words in kept):
        assert facts.is_kept(order)
    if "/payment/" in page:
        assert facts.can_be_paid(order)
    if "/cancellation/" in page:
        assert order.can_be_cancelled
    if "The goods are yours" in page:
        assert order.state == "PAID"
    if any(words in page for words in OF_A_PAYMENT):
        assert facts.is_at_bank(order)
    if "Not begun: nothing charged" in page:
        assert not facts.is_at_bank(order)
        assert not facts.charged(order)
    check_money_against_books(page, facts, order)


OF_A_PAYMENT = (  # sentences that only a buyer reads who has been at the bank
    "The bank has not told us yet",
    "If you have paid",
    "If you left before you paid",
    "If you still finish the payment",
    "If your payment is on its way",
    "Go on with the payment",
    " Under way ",
)


def check_money_against_books(page: str, facts: Facts, order: Order) -> None:
    """Fail if the order's page says of its money what the bank's books don't say."""
    if "goes back to you" in page:  # if the buyer still pays
        assert order.state == "CANCELLED"
        assert not facts.charged(order)
    refunds = Refund.objects.filter(payment__order=order)
    charges = DemoBankCharge.objects.filter(key__in=order.payments.values_list("key"))
    by_bank = _sum(DemoBankRefund.objects.filter(charge__in=charges, state="DONE"))
    by_hand = _sum(refunds.exclude(by_hand=""))
    taken = DemoBankDispute.objects.filter(charge__in=charges, state__in=["OPEN", "LOST"])
    said: dict[str, Decimal] = {}
    for words, amount in re.findall(
        rf'<li class="line"><span> ([^<]*?) (?:<small>[^<]*</small> )?</span> '
        rf'<span class="line__price">−?{MONEY}</span>',
        page,
    ):
        said[words] = said.get(words, Decimal(0)) + _decimal(amount)
    charged = _sum(charges.filter(state="APPROVED"))
    owed = sum((said.get(words, Decimal(0)) for words in OWED), Decimal(0))
    assert said.get("Given back", 0) == by_bank + by_hand
    assert said.get("Taken back by your bank", 0) == _sum(taken)
    assert owed == _sum(refunds.filter(state__in=["DUE", "FAILED"]))
    gone = by_bank + by_hand + owed + _sum(taken.filter(state="LOST"))
    back = charged - gone if order.is_closed and taken.filter(state="OPEN").exists() else Decimal(0)
    promised = re.findall(rf"If it decides for us, we give {MONEY} back to you", page)
    assert [_decimal(amount) for amount in promised] == ([back] if back > 0 else [])
    for words, is_true in {
        "We owe you": owed > 0,
        "We have given you back": by_bank + by_hand > 0 and not owed,
        "Your bank has taken": taken.exists(),
        "until it has decided": taken.filter(state="OPEN").exists(),
        ">Refunded<": not owed and not taken.exists() and by_bank + by_hand > 0,
        ", and refunded<": not owed and not taken.exists() and by_bank + by_hand > 0,
        ">Refund not finished yet<": owed > 0,
        "had cost you nothing": not facts.charged(order),
        "The goods are yours": order.kept() == order.worth(),
    }.items():
        if words in page:
            assert is_true, f"said, and not true: {words}"


OWED = [
    "Owed to you: the bank has not confirmed it yet",
    "Still owed to you: the bank did not pay it out",
]


def _sum(rows: Any) -> Decimal:
    return rows.aggregate(total=Sum("amount"))["total"] or Decimal(0)
