"""Money that goes and comes, against everything else that touches it.

A customer has a paid order of two units, whose money the demo bank has. Two requests come at once,
and the bank may do something of its own meanwhile. In each order of their SQL statements, those of
the bank included, nobody sees an error of the program. When all has come to rest afterwards, the
law is kept, and the bank's books, the shop's, the goods and the alerts agree.

Each run tries a few orders of those pairs that differ most. ``pytest --thorough`` tries all pairs,
in all orders with one preemption (``bounds`` in tests/shop/conftest.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from django.db.models import F, Model
from django.db.models.expressions import Combinable
from django.db.models.lookups import IsNull
from django.test import Client
from django.urls import reverse

from inventory import monitor
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation
from inventory.races import RaceFound, Run, explore
from shop import orders
from shop.exceptions import ShopError
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Dispute,
    Order,
    OrderLine,
    Payment,
    Refund,
    ShopAlert,
)
from shop.orders import lifecycle, refunds, statements, status_page
from shop.payments import demo
from tests.conftest import MakeProduct
from tests.kept_rows import keep_rows, put_rows_back
from tests.race_bounds import Bounds
from tests.shop.payments.contract.demo_bench import DemoBench
from tests.shop.payments.contract.world import PRICE, SHIPPING, World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

PART = Decimal("4.00")
EMPTIED = ["procrastinate_events", "procrastinate_jobs"]
WITHOUT_NUMBERS = ["inventory_reservation"]
# The rows of these models are put back before each schedule. Each model refers to later ones.
TABLES = [
    "shop_shopalert",
    "shop_dispute",
    "shop_refund",
    "shop_paymentevent",
    "shop_payment",
    "shop_orderline",
    "shop_order",
    "shop_demobankdispute",
    "shop_demobankrefund",
    "shop_demobankcharge",
    "inventory_stockalert",
    "inventory_stockmovement",
    "inventory_reservation",
    "inventory_product",
]
# All that is looked at in the end, so that equal ends are checked only once.
COMPARED: dict[type[Model], tuple[str | Combinable, ...]] = {
    Product: ("stock", "units_received"),
    Reservation: ("status", "quantity", "returned", "written_off"),
    Order: ("state",),
    OrderLine: ("quantity", "refunded"),
    Payment: ("state", "amount"),
    Refund: ("state", "reason", "amount", "attempt", "by_hand"),
    Dispute: ("state", "amount"),
    ShopAlert: ("kind", "subject", IsNull(F("resolved_at"), True)),  # the time differs each run
    DemoBankCharge: ("state", "amount"),
    DemoBankRefund: ("state", "amount", "attempt"),
    DemoBankDispute: ("state", "amount"),
}


BOOKS = ";".join(
    str(model._default_manager.order_by().values_list(*fields).query)
    for model, fields in COMPARED.items()
)


class Till:
    """The paid order, and what two sessions at once may do with it."""

    def __init__(self, product: Product) -> None:
        self.world = World(DemoBench(), product)

    @property
    def order(self) -> Order:
        return self.world.order

    @property
    def refund(self) -> Refund:
        return Refund.objects.earliest("pk")

    def keep(self) -> None:
        self.line = self.order.lines.get()
        self.payment = self.order.payments.get()
        keep_rows(TABLES)

    def open(self) -> None:
        emptied = [f"DELETE FROM {table}" for table in EMPTIED]
        numbered = [
            f"SELECT setval('{table}_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM kept_{table}))"
            for table in TABLES
            if table not in WITHOUT_NUMBERS
        ]
        put_rows_back(TABLES, and_then=emptied + numbered)

    def books(self) -> object:
        found = []
        with connection.cursor() as cursor:
            cursor.execute(BOOKS)
            while True:
                found.append(sorted(map(repr, cursor.fetchall())))
                if not cursor.cursor.nextset():
                    return found

    # The states before

    def pending(self) -> None:
        """The buyer is at the bank."""
        self.world.place()
        self.world.start()

    def approved(self) -> None:
        """The buyer has paid, and the shop doesn't know it yet."""
        self.world.pay()

    def paid(self) -> None:
        self.world.buy()

    def part_is_due(self) -> None:
        """A refund is due, and nobody has asked the bank for it."""
        self.paid()
        orders.refund(self.order.pk, amount=PART)

    def answer_is_lost(self) -> None:
        """The bank has given a refund back, and the shop doesn't know it."""
        self.part_is_due()
        with self.world.bench.losing_answers(), suppress(ShopError):
            self.world.carry_out()

    def part_has_come_back(self) -> None:
        """A refund was given back, has failed since, and the shop knows both."""
        self.part_is_due()
        self.world.carry_out()
        self.world.bench.fail_refund(self.world.payment)
        statements.look_into(self.world.payment.pk)

    def part_came_back_unheard(self) -> None:
        """A refund was given back, has failed since, and the shop doesn't know that."""
        self.part_is_due()
        self.world.carry_out()
        self.world.bench.fail_refund(self.world.payment)

    def disputed(self) -> None:
        """The money is with the buyer's bank, and the shop doesn't know it."""
        self.paid()
        self.world.bench.dispute(self.world.payment)

    def won_after_cancellation(self) -> None:
        """A dispute had the money while the order was cancelled, and is won now."""
        self.disputed()
        statements.look_into(self.world.payment.pk)
        orders.cancel(self.order.pk)
        self.world.bench.decide(self.world.payment, won=True)

    # Events in the shop

    def give_units_back(self) -> None:
        orders.refund(self.order.pk, units={self.line.pk: 1}, restock=True, seen=Decimal(0))
        self.do_refund_jobs()

    def give_amount_back(self) -> None:
        orders.refund(self.order.pk, amount=PART, seen=Decimal(0))
        self.do_refund_jobs()

    def give_all_back(self) -> None:
        orders.refund(self.order.pk, restock=True, seen=Decimal(0))
        self.do_refund_jobs()

    def cancel(self) -> None:
        orders.cancel(self.order.pk)
        self.do_refund_jobs()

    def do_refund_jobs(self) -> None:
        for refund in refunds.due_refunds():
            refunds.carry_out(refund)

    def carry_out(self) -> None:
        refunds.carry_out(self.refund.pk)

    def give_by_hand(self) -> None:
        refunds.record_by_hand(self.refund.pk, "bank transfer")

    def settle(self) -> None:
        orders.settle(self.order.pk)

    def look_into(self) -> None:
        statements.look_into(self.payment.pk)

    def make_round(self) -> None:
        statements.look_into_recent()

    def come_back(self) -> None:
        status_page.look_up(self.order.token)

    def take_event(self) -> object:
        body = json.dumps({"id": "event", "payment": str(self.payment.key)}).encode()
        return Client().post(
            reverse("payment-events", args=["demo"]),
            body,
            content_type="application/json",
            headers={demo.SIGNATURE: demo.sign(body)},
        )

    # Events at the bank, which tells the shop of them

    def pay(self) -> None:
        demo.choose(self.payment.reference, demo.Choice.APPROVE)
        self.come_back()

    def refund_at_bank(self) -> None:
        """Staff give a part back in the bank's dashboard, as far as so much is left."""
        with transaction.atomic():
            charge = demo.locked_charges(key=self.payment.key).get()
            if not demo.why_declined(charge, PART):
                charge.refunds.create(amount=PART)
        self.look_into()

    def dispute(self) -> None:
        demo.dispute(self.payment.reference)
        self.look_into()

    def fail_refund(self) -> None:
        with suppress(DemoBankRefund.DoesNotExist):
            self.world.bench.fail_refund(self.payment)
        self.look_into()


# The state before, and two actions. Those that follow from one another are in one session.
Race = tuple[str, str, str]
RACES: list[Race] = [
    # refund × refund
    ("paid", "give_units_back", "give_units_back"),
    ("paid", "give_amount_back", "give_amount_back"),
    ("paid", "give_all_back", "give_amount_back"),
    ("paid", "give_all_back", "cancel"),
    ("part_is_due", "carry_out", "carry_out"),
    ("answer_is_lost", "carry_out", "look_into"),
    # refund × dispute
    ("paid", "give_all_back", "dispute"),
    ("paid", "cancel", "dispute"),
    ("part_is_due", "carry_out", "dispute"),
    ("disputed", "give_all_back", "look_into"),
    ("won_after_cancellation", "look_into", "take_event"),
    # refund × refund at the provider
    ("paid", "give_all_back", "refund_at_bank"),
    ("part_is_due", "carry_out", "refund_at_bank"),
    # refund × the same refund, which fails later
    ("answer_is_lost", "carry_out", "fail_refund"),
    ("part_came_back_unheard", "carry_out", "look_into"),
    ("part_has_come_back", "carry_out", "fail_refund"),
    # tried again × given back by hand
    ("part_has_come_back", "carry_out", "give_by_hand"),
    ("part_came_back_unheard", "give_by_hand", "look_into"),
    # pay × cancel
    ("pending", "pay", "cancel"),
    ("approved", "come_back", "cancel"),
    # event × return
    ("approved", "take_event", "come_back"),
    ("approved", "take_event", "take_event"),
    ("approved", "settle", "settle"),
]
# With parts that are in races above, too: these meet with --thorough.
MORE_RACES: list[Race] = [
    # refund × refund
    ("paid", "give_units_back", "give_amount_back"),
    ("part_is_due", "carry_out", "make_round"),
    ("answer_is_lost", "carry_out", "carry_out"),
    # refund × dispute
    ("paid", "give_amount_back", "dispute"),
    ("disputed", "look_into", "take_event"),
    ("won_after_cancellation", "look_into", "make_round"),
    # refund × refund at the provider
    ("paid", "give_amount_back", "refund_at_bank"),
    ("paid", "cancel", "refund_at_bank"),
    ("paid", "refund_at_bank", "refund_at_bank"),
    # refund × the same refund, which fails later
    ("part_came_back_unheard", "look_into", "take_event"),
    ("part_has_come_back", "carry_out", "look_into"),
    ("part_has_come_back", "carry_out", "carry_out"),
    # tried again × given back by hand
    ("part_has_come_back", "give_by_hand", "refund_at_bank"),
    # event × return, cancellation, or round
    ("approved", "take_event", "cancel"),
    ("approved", "take_event", "make_round"),
]


@pytest.fixture
def till(make_product: MakeProduct, settings: LazySettings) -> Till:
    settings.SHIPPING_COST = SHIPPING
    return Till(make_product(5, strategy="single_statement", price=PRICE))


def race(till: Till, before: str, one: str, other: str, bounds: Bounds) -> int:
    """Explore two actions at once; return the number of schedules."""
    getattr(till, before)()
    till.keep()
    seen: set[object] = set()

    def agrees(run: Run) -> None:
        for error in run.raised.values():
            assert isinstance(error, InventoryError | ShopError), repr(error)
        for answer in run.returned.values():
            assert getattr(answer, "status_code", 200) < 500, answer
        assert monitor.state_of(till.world.product.pk).keeps_law
        if one == other and one.startswith("give_"):
            assert Refund.objects.count() == 1, "the same form counted twice"
        assert run.outcome is not None
        if (end := run.outcome.state) not in seen:
            till.world.come_to_rest(rounds=2)
            till.world.check_always()
            seen.add(end)

    result = explore(
        [_action(till, one), _action(till, other)],
        setup=till.open,
        invariant=agrees,
        state=till.books,
        describe=lambda: str(monitor.state_of(till.world.product.pk)),
        max_steps=300,
        serial=False,
        **bounds,
    )
    result.assert_holds()
    return len(result.runs)


def _action(till: Till, name: str) -> Callable[[], object]:
    return lambda: getattr(till, name)()


@pytest.mark.parametrize(
    ("before", "one", "other"),
    [*RACES, *(pytest.param(*each, marks=pytest.mark.thorough) for each in MORE_RACES)],
)
def test_two_at_once(till: Till, bounds: Bounds, before: str, one: str, other: str) -> None:
    print(f"{race(till, before, one, other, bounds)} schedules")  # pytest -rP shows it


# The same with a guard taken out


def test_a_double_click_gives_back_twice_without_the_lock_of_the_order(
    till: Till, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "lock_order", lambda pk: Order.objects.get(pk=pk))
    with pytest.raises(RaceFound, match=r"counted\s+twice"):
        race(till, "paid", "give_amount_back", "give_amount_back", bounds)


def test_money_goes_twice_if_records_do_not_look_at_the_state(
    till: Till, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        refunds, "_unchanged", lambda refund, states: Refund.objects.filter(pk=refund.pk)
    )
    with pytest.raises(RaceFound, match=r"given\s+back\s+by\s+hand,\s+and\s+by\s+the\s+provider"):
        race(till, "part_has_come_back", "carry_out", "give_by_hand", bounds)
