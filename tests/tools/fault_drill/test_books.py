"""Everything that is compared is found when it is wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import override_settings

from inventory import reservations
from inventory.models import Product, Reservation
from shop import orders
from shop.models import Order, Payment, Refund, ShopAlert
from tests.conftest import MakeProduct
from tests.shop.orders.steps import APPROVE, at_bank, delete_jobs, order_holds
from tests.tools.drills import Disagreement
from tests.tools.money_books import compare_money

from . import books, unfinished
from .buyers import IS_PARTLY_REFUNDED, LEAVES, PAYS, Answers, Asked, Buyer
from .machines import MANAGER
from .mail import Mail

pytestmark = pytest.mark.django_db

Lie = Callable[["Case"], object]


class KnownBuyer(Buyer):
    """A buyer with a key, who never asks a shop."""

    key = "K" * 32


def make_buyer(number: int = 1) -> KnownBuyer:
    return KnownBuyer("http://shop.example.org", number, Answers(Counter()), random.Random(0))


class Case:
    """A buyer who was told the truth: two units paid, and one that were refused rightly."""

    def __init__(self, product: Product, common: Product) -> None:
        self.product, self.common = product, common
        self.buyer = make_buyer()
        self.buyer.plan = PAYS
        hold = self.hold(product, 2)
        self.order = order_holds([hold], buyer=self.buyer.key)
        at_bank(self.order, APPROVE)
        self.order = orders.settle(self.order.pk)
        self.buyer.told.token, self.buyer.told.paid = self.order.token, True
        self.buyer.told.asked.append(Asked(product.slug, 2, str(uuid4()), held=False))
        number = self.order.number
        self.mails = [
            Mail(self.order.email, f"Your order {number} is paid", number, "<1@shop>", ""),
            Mail(MANAGER, f"[Shop] Order {number} is paid: please send it", "", "<2@shop>", ""),
        ]

    def hold(self, product: Product, units: int) -> Reservation:
        """A hold that the buyer asked for, and was told of."""
        asked = Asked(product.slug, units, str(uuid4()), held=True)
        self.buyer.told.asked.append(asked)
        return reservations.reserve(
            product,
            units,
            buyer=self.buyer.key,
            idempotency_key=f"basket {self.buyer.key} {asked.key}",
        )

    def check(self) -> None:
        books.check_law()
        books.check_buyers([self.buyer], self.mails)


@pytest.fixture
def case(make_product: MakeProduct) -> Case:
    with override_settings(PAYMENT_PROVIDER="demo"):
        return Case(make_product(3, slug="scarce-1"), make_product(9, slug="common-mutex"))


def test_the_truth_agrees(case: Case) -> None:
    case.check()


def hold_lost(case: Case) -> None:
    case.buyer.told.asked.append(Asked(case.product.slug, 1, str(uuid4()), held=True))


def hold_doubled(case: Case) -> None:
    reservations.reserve(case.common, 1, buyer=case.buyer.key)


def hold_smaller(case: Case) -> None:
    case.buyer.told.asked[0].quantity = 3


def hold_let_go(case: Case) -> None:
    reservations.release(case.hold(case.common, 1).pk)


def removed_and_still_there(case: Case) -> None:
    case.hold(case.common, 1)
    case.buyer.told.asked[-1].removed = True


def refused_and_held(case: Case) -> None:
    case.hold(case.common, 1)
    case.buyer.told.asked[-1].held = False


def never_told(case: Case) -> None:
    case.buyer.told.asked[-1].held = None


def refused_with_units_left(case: Case) -> None:
    case.buyer.told.asked[-1].quantity = 1


def refused_what_nobody_buys_up(case: Case) -> None:
    case.buyer.told.asked[-1].slug = case.common.slug


def over_no_limit(case: Case) -> None:
    case.buyer.told.asked[-1].over_limit = True


def order_lost(case: Case) -> None:
    case.buyer.told.token = "x" * 32


def order_of_nobody(case: Case) -> None:
    hold = case.hold(case.common, 1)
    order_holds([hold], buyer=case.buyer.key)


def payment_lost(case: Case) -> None:
    Payment.objects.update(state=Payment.State.DECLINED)


def told_cancelled(case: Case) -> None:
    case.buyer.told.cancelled = True


def told_refunded(case: Case) -> None:
    case.buyer.plan = IS_PARTLY_REFUNDED
    case.buyer.told.refund_asked = case.buyer.told.refunded = True


def refunded_for_nobody(case: Case) -> None:
    orders.refund(case.order.pk, amount=Decimal(1))


def mail_lost(case: Case) -> None:
    del case.mails[0]


def mail_to_managers_lost(case: Case) -> None:
    del case.mails[1]


def mail_doubled(case: Case) -> None:
    case.mails.append(replace(case.mails[0], message_id="<3@shop>"))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (hold_lost, "there is no such hold"),
        (hold_doubled, "that nobody asked for"),
        (hold_smaller, "told that 3 of scarce-1 are held, and has 2"),
        (hold_let_go, "told that 1 of common-mutex are held, and has 1, RELEASED"),
        (removed_and_still_there, "and then released, and has 1, HELD"),
        (refused_and_held, "was refused 1 of common-mutex, and has them (HELD)"),
        (never_told, "never knew"),
        (refused_with_units_left, "refused 1 of scarce-1, and 1 are left"),
        (refused_what_nobody_buys_up, "refused 2 of common-mutex, and 9 are left"),
        (over_no_limit, "for the limit, and has 2"),
        (order_lost, "has an order, and the shop has none"),
        (order_of_nobody, "was placed by nobody"),
        (payment_lost, "on record are 0"),
        (told_cancelled, "is CANCELLED, and it is PAID"),
        (told_refunded, "and no refund is on record"),
        (refunded_for_nobody, "and nobody asked for that"),
        (mail_lost, "no e-mail “Your order"),
        (mail_to_managers_lost, f"to {MANAGER}"),
        (mail_doubled, "2 e-mails “Your order"),
    ],
)
def test_a_lie_is_found(case: Case, lie: Lie, words: str) -> None:
    lie(case)
    with pytest.raises(Disagreement) as found:
        case.check()
    assert words in str(found.value)


@pytest.mark.breaks_law
def test_a_broken_law_is_found(case: Case) -> None:
    Product.objects.filter(pk=case.product.pk).update(stock=2)
    with pytest.raises(Disagreement, match="the law of stock is broken"):
        case.check()


def test_a_repeated_email_is_counted_and_allowed(case: Case) -> None:
    case.mails.append(case.mails[0])
    case.check()
    assert books.repeated_mails(case.mails) == 1


# Money


def bank(case: Case, **changes: Any) -> Any:
    """A bank with the same books as ours, but for these changes of its one payment."""
    payment = Payment.objects.get()
    balance = {
        "charged": int(payment.amount * 100),
        "refunded": 0,
        "metadata": {"payment": str(payment.key)},
        **changes,
    }
    return SimpleNamespace(
        books=SimpleNamespace(balances=lambda: [balance]),
        refunds=SimpleNamespace(all=list),
        webhooks=SimpleNamespace(queued=list),
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"charged": 1}, ["charged 0.01"]),
        ({"refunded": 1}, ["given back 0.01"]),
        ({"metadata": {"payment": "another"}}, ["charged 0", "unknown payments"]),
    ],
)
def test_money_is_compared_to_the_cent(
    case: Case, changes: dict[str, Any], words: list[str]
) -> None:
    problems = compare_money(bank(case, **changes)).problems
    assert len(problems) == len(words)
    for problem, part in zip(problems, words, strict=True):
        assert part in problem


# Things that are left to do


def test_nothing_is_left_to_do(case: Case) -> None:
    delete_jobs()
    assert unfinished.find_unfinished(bank(case), []) == ""


def payment_under_way(case: Case) -> None:
    Payment.objects.update(state=Payment.State.STARTED)


def refund_due(case: Case) -> None:
    orders.refund(case.order.pk, amount=Decimal(1))
    delete_jobs()


def refund_failed(case: Case) -> None:
    refund_due(case)
    Refund.objects.update(state=Refund.State.FAILED)


def alert_open(case: Case) -> None:
    ShopAlert.objects.create(kind=ShopAlert.Kind.MAIL_FAILED, text="An e-mail failed.")


def hold_of_closed_order(case: Case) -> None:
    Reservation.objects.update(status="HELD")
    Order.objects.update(state=Order.State.CANCELLED, closed_at="2026-01-01T00:00Z")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (payment_under_way, "payments not settled 1"),
        (refund_due, "refunds due 1"),
        (refund_failed, "refunds failed 1"),
        (alert_open, "An e-mail failed."),
        (hold_of_closed_order, "holds of closed orders 1"),
    ],
)
def test_everything_left_to_do_is_named(case: Case, change: Lie, words: str) -> None:
    delete_jobs()
    change(case)
    assert words in unfinished.find_unfinished(bank(case), [])


def test_jobs_left_to_do_are_named(case: Case) -> None:
    assert "jobs shop.tasks.send_order_paid todo 1" in unfinished.find_unfinished(bank(case), [])


def add_failed_job(name: str, *, queueing_lock: str | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, queueing_lock)"
            " VALUES ('default', %s, 'failed', %s)",
            [name, queueing_lock],
        )


def test_a_failed_job_is_named_unless_the_next_one_does_its_work(case: Case) -> None:
    delete_jobs()
    add_failed_job("every-minute", queueing_lock="every-minute")
    assert unfinished.find_unfinished(bank(case), []) == ""
    add_failed_job("once", queueing_lock=None)
    add_failed_job("once", queueing_lock="request 7 of somebody")
    assert "jobs once failed 2" in unfinished.find_unfinished(bank(case), [])


def test_a_hold_of_a_stranger_is_found(case: Case) -> None:
    books.check_strangers([case.buyer])
    reservations.reserve(case.common, 1, buyer="stranger")
    with pytest.raises(Disagreement, match="a buyer who never came"):
        books.check_strangers([case.buyer])


def test_a_buyer_who_only_looks_is_no_matter() -> None:
    buyer = make_buyer()
    buyer.plan = LEAVES
    books.check_buyers([buyer], [])
