"""Money that goes at the provider: our records say what the bank's books say, to the cent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from shop import orders, payments, shop_alerts, tasks
from shop.clock import read_clock
from shop.exceptions import NotInThisState, ShopError
from shop.models import (
    DemoBankCharge,
    DemoBankRefund,
    Dispute,
    Order,
    Refund,
    ShopAlert,
)
from shop.orders import refunds, statements
from shop.payments.base import (
    DisputeRecord,
    DisputeStatus,
    Outcome,
    ProviderUnavailable,
    RefundRecord,
    RefundStatus,
    Statement,
)
from shop.payments.demo import DemoBank
from tests.concurrency import at_once, of_kind, wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    at_bank,
    charged_at_bank,
    choose_again,
    decide_at_bank,
    decline_refunds,
    dispute_at_bank,
    fail_at_bank,
    look_into,
    now,
    place,
    refund_at_bank,
    refunds_of,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Refund.State
Reason = Refund.Reason
ALL = Decimal("105.00")
TEN = Decimal("10.00")


@pytest.fixture
def ten_sold(make_product: MakeProduct) -> Order:
    """A paid order of ten units at 10.00, and 5.00 for shipping; none is left in stock."""
    return buy(make_product)


def buy(make_product: MakeProduct) -> Order:
    order = place((make_product(10, price=TEN), 10))
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def line_of(order: Order) -> int:
    return order.lines.get().pk


def alerts() -> list[tuple[str, str]]:
    found = ShopAlert.objects.open().order_by("pk")
    return [(alert.kind, alert.text) for alert in found]


def kinds() -> list[str]:
    return [kind for kind, _ in alerts()]


@pytest.fixture(autouse=True)
def the_bank_agrees(request: pytest.FixtureRequest) -> Iterator[None]:
    """At the end, what we have on record as kept is what the bank has of ours.

    Money that we still owe, or have given by hand, is at the bank.
    """
    yield
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)
    for order in Order.objects.all():
        look_into(order)
        elsewhere = Refund.objects.filter(payment__order=order).exclude(by_hand="")
        owed = Refund.objects.filter(payment__order=order, state=State.FAILED)
        at_the_bank = sum((each.amount for each in [*elsewhere, *owed]), Decimal(0))
        assert order.kept() == max(charged_at_bank(order) - at_the_bank, Decimal(0))


# Refunds made at the provider


def test_a_refund_at_the_provider_lowers_the_money_kept_and_frees_no_units(
    ten_sold: Order,
) -> None:
    refund_at_bank(ten_sold, Decimal("40.00"))
    assert look_into(ten_sold) == ["A refund of €40.00 was made at the provider."]
    assert look_into(ten_sold) == []
    assert refunds_of(ten_sold) == [(Reason.AT_PROVIDER, Decimal("40.00"))]
    assert now(ten_sold).kept() == Decimal("65.00")
    product = ten_sold.lines.get().reservation.product
    assert (ten_sold.state, stock_of(product)) == (Order.State.PAID, 0)
    assert kinds() == ["PROVIDER_REFUND"]


def test_units_returned_after_it_give_back_what_is_left(ten_sold: Order) -> None:
    refund_at_bank(ten_sold, ALL)
    look_into(ten_sold)
    orders.refund(ten_sold.pk, restock=True)
    assert now(ten_sold).state == Order.State.REFUNDED
    assert refunds_of(ten_sold) == [(Reason.AT_PROVIDER, ALL)]


def test_a_second_refund_at_the_provider_is_another_one(ten_sold: Order) -> None:
    for _ in range(2):
        refund_at_bank(ten_sold, TEN)
        look_into(ten_sold)
    assert now(ten_sold).kept() == Decimal("85.00")
    assert kinds() == ["PROVIDER_REFUND"] * 2


def test_a_refund_at_the_provider_that_fails_is_ours_again(ten_sold: Order) -> None:
    made = refund_at_bank(ten_sold, Decimal("40.00"))
    look_into(ten_sold)
    fail_at_bank(made)
    assert look_into(ten_sold) == [
        "The refund of €40.00 that was made at the provider has failed there."
    ]
    assert look_into(ten_sold) == []
    assert now(ten_sold).kept() == ALL
    assert Refund.objects.get().state == State.UNDONE


def test_units_came_back_before_it_failed_so_their_price_is_owed(ten_sold: Order) -> None:
    made = refund_at_bank(ten_sold, ALL)
    look_into(ten_sold)
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 4}, restock=True)
    fail_at_bank(made)
    look_into(ten_sold)
    assert refunds_of(ten_sold) == [
        (Reason.AT_PROVIDER, ALL),
        (Reason.RETURNED, Decimal("40.00")),
    ]
    assert now(ten_sold).kept() == Decimal("65.00")


def test_a_refund_that_the_provider_has_only_accepted_is_not_done(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = refund_at_bank(ten_sold, TEN)
    with monkeypatch.context() as patched:
        say(patched, ten_sold, other(made, RefundStatus.PENDING))
        look_into(ten_sold)
        refund = Refund.objects.get()
        assert (refund.state, now(ten_sold).kept()) == (State.DUE, Decimal("95.00"))
        assert refunds.due_refunds() == []
        refunds.carry_out(refund.pk)  # it is at the provider already
        assert DemoBankRefund.objects.count() == 1
    look_into(ten_sold)
    refund.refresh_from_db()
    assert refund.state == State.DONE
    assert kinds() == ["PROVIDER_REFUND"]


def say(patched: pytest.MonkeyPatch, order: Order, *records: RefundRecord) -> None:
    """Let the provider's statement be another one."""
    patched.setattr(payments, "statement", lambda payment: Statement(Outcome.PAID, records))


def other(made: DemoBankRefund, status: RefundStatus) -> RefundRecord:
    return RefundRecord(f"refund-{made.pk}", made.amount, status, made.made_at)


def record_of(refund: Refund, status: RefundStatus, attempt: int | None = None) -> RefundRecord:
    attempt = attempt or refund.attempt
    at = refund.decided_at
    return RefundRecord(f"re-{attempt}", refund.amount, status, at, refund.key, attempt)


# Refunds that the provider had declined, and that staff made there


def declined(order: Order, amount: Decimal) -> Refund:
    orders.refund(order.pk, amount=amount)
    decline_refunds(order)
    refund = Refund.objects.latest("pk")
    assert refunds.carry_out(refund.pk).state == State.FAILED
    decline_refunds(order, declines=False)
    return refund


def test_a_declined_refund_that_staff_made_at_the_provider_is_done(ten_sold: Order) -> None:
    refund = declined(ten_sold, Decimal("40.00"))
    refund_at_bank(ten_sold, Decimal("40.00"))
    look_into(ten_sold)
    refund.refresh_from_db()
    assert (refund.state, Refund.objects.count()) == (State.DONE, 1)
    assert now(ten_sold).kept() == Decimal("65.00")
    assert refunds.carry_out(refund.pk).state == State.DONE
    [(kind, text)] = alerts()
    assert kind == "PROVIDER_REFUND"
    assert "count as the refund that it had declined" in text


def test_the_one_of_the_same_amount_is_covered(ten_sold: Order) -> None:
    ten, twenty = declined(ten_sold, TEN), declined(ten_sold, Decimal("20.00"))
    refund_at_bank(ten_sold, Decimal("20.00"))
    look_into(ten_sold)
    assert Refund.objects.get(pk=ten.pk).state == State.FAILED
    assert Refund.objects.get(pk=twenty.pk).state == State.DONE


def test_an_older_refund_at_the_provider_covers_nothing(ten_sold: Order) -> None:
    refund_at_bank(ten_sold, TEN)
    look_into(ten_sold)
    refund = declined(ten_sold, TEN)
    look_into(ten_sold)
    refund.refresh_from_db()
    assert (refund.state, now(ten_sold).kept()) == (State.FAILED, Decimal("85.00"))


def test_part_of_a_declined_refund_made_at_the_provider_leaves_the_rest_owed(
    ten_sold: Order,
) -> None:
    refund = declined(ten_sold, ALL)
    refund_at_bank(ten_sold, Decimal("30.00"))
    look_into(ten_sold)
    refund.refresh_from_db()
    assert (refund.state, refund.amount) == (State.FAILED, Decimal("75.00"))
    [declined_alert] = [text for kind, text in alerts() if kind == "REFUND_REFUSED"]
    assert "did not get the refund of €75.00" in declined_alert
    assert now(ten_sold).refunded() == ALL
    assert refunds.carry_out(refund.pk).state == State.DONE
    assert charged_at_bank(ten_sold) == 0
    assert Refund.objects.exclude(pk=refund.pk).get().reason == Reason.GOODWILL


def test_more_than_was_declined_covers_it_and_the_rest_was_given_at_the_provider(
    ten_sold: Order,
) -> None:
    refund = declined(ten_sold, Decimal("30.00"))
    refund_at_bank(ten_sold, Decimal("80.00"))
    look_into(ten_sold)
    refund.refresh_from_db()
    assert refund.state == State.DONE
    rest = Refund.objects.exclude(pk=refund.pk).get()
    assert (rest.reason, rest.amount) == (Reason.AT_PROVIDER, Decimal("50.00"))
    assert now(ten_sold).kept() == Decimal("25.00")


def test_staff_were_faster_at_the_provider_than_our_refund(ten_sold: Order) -> None:
    """The bank gives no more than it charged: our refund is declined, and is done all the same."""
    orders.cancel(ten_sold.pk)
    refund_at_bank(ten_sold, ALL)
    refund = refunds.carry_out(Refund.objects.get().pk)
    assert (refund.state, Refund.objects.count()) == (State.DONE, 1)
    assert charged_at_bank(ten_sold) == 0
    assert shop_alerts.check_all() == []
    assert kinds() == ["PROVIDER_REFUND"]


def test_staff_were_faster_and_the_message_came_first(ten_sold: Order) -> None:
    orders.cancel(ten_sold.pk)
    refund_at_bank(ten_sold, ALL)
    look_into(ten_sold)
    refund = refunds.carry_out(Refund.objects.get(reason=Reason.CANCELLED).pk)
    assert (refund.state, Refund.objects.count()) == (State.DONE, 1)
    assert kinds() == ["PROVIDER_REFUND"]


def test_a_provider_that_is_down_after_it_has_declined_changes_nothing(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(payment: object) -> None:
        raise ProviderUnavailable("No network.")

    monkeypatch.setattr(payments, "statement", fail)
    declined(ten_sold, TEN)
    monkeypatch.undo()
    assert kinds() == ["REFUND_REFUSED"]


def test_a_covered_refund_whose_money_comes_back_is_owed_again(ten_sold: Order) -> None:
    refund = declined(ten_sold, Decimal("40.00"))
    made = refund_at_bank(ten_sold, Decimal("40.00"))
    look_into(ten_sold)
    fail_at_bank(made)
    for _ in range(2):
        look_into(ten_sold)
        refund.refresh_from_db()
        assert (refund.state, refund.reference) == (State.FAILED, "")
    assert "REFUND_REFUSED" in kinds()
    assert refunds.carry_out(refund.pk).state == State.DONE
    look_into(ten_sold)
    assert Refund.objects.get().state == State.DONE


# Refunds of ours that fail, early or late


def test_a_refund_that_fails_after_it_was_done_is_owed_and_can_be_tried_again(
    ten_sold: Order,
) -> None:
    orders.refund(ten_sold.pk, amount=TEN)
    refund = refunds.carry_out(Refund.objects.get().pk)
    fail_at_bank(DemoBankRefund.objects.get())
    assert look_into(ten_sold) == ["The refund of €10.00 has failed at the provider."]
    assert look_into(ten_sold) == []
    refund.refresh_from_db()
    assert (refund.state, refund.attempt, refund.carried_out_at) == (State.FAILED, 2, None)
    assert kinds() == ["REFUND_REFUSED"]
    assert refunds.carry_out(refund.pk).state == State.DONE
    assert look_into(ten_sold) == []
    assert kinds() == []
    assert charged_at_bank(ten_sold) == Decimal("95.00")


def test_old_news_of_a_failed_attempt_change_no_later_one(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We asked before the second attempt, and record the answer after it was done."""
    orders.refund(ten_sold.pk, amount=TEN)
    refund = refunds.carry_out(Refund.objects.get().pk)
    fail_at_bank(DemoBankRefund.objects.get())
    look_into(ten_sold)
    payment = ten_sold.payments.get()
    asked_at, old = read_clock(), payments.statement(payment)
    assert refunds.carry_out(refund.pk).state == State.DONE
    assert statements.record(payment, old, asked_at) == []
    refund.refresh_from_db()
    assert refund.state == State.DONE


def test_old_news_that_it_was_done_are_corrected(ten_sold: Order) -> None:
    """We asked before it failed, and record the answer after we were told that it had."""
    orders.refund(ten_sold.pk, amount=TEN)
    refund = Refund.objects.get()
    payments.refund(refund)  # and the answer was lost
    payment = ten_sold.payments.get()
    asked_at, old = read_clock(), payments.statement(payment)
    fail_at_bank(DemoBankRefund.objects.get())
    decline_refunds(ten_sold)
    refunds.record_failed(refund, "The money came back.")
    statements.record(payment, old, asked_at)
    refund.refresh_from_db()
    assert refund.state == State.DONE
    look_into(ten_sold)
    refund.refresh_from_db()
    assert refund.state == State.FAILED


def test_a_refund_done_at_the_provider_whose_answer_was_lost_is_done(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=TEN)
    refund = Refund.objects.get()
    payments.refund(refund)
    look_into(ten_sold)
    refund.refresh_from_db()
    assert refund.state == State.DONE
    refunds.carry_out(refund.pk)
    assert DemoBankRefund.objects.count() == 1


def test_an_accepted_refund_is_no_declined_one(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund = declined(ten_sold, TEN)
    refund.refresh_from_db()
    with monkeypatch.context() as patched:
        records = [
            record_of(refund, RefundStatus.FAILED, 1),
            record_of(refund, RefundStatus.PENDING, 2),
        ]
        say(patched, ten_sold, *records)
        look_into(ten_sold)
        refund.refresh_from_db()
        assert (refund.state, kinds()) == (State.DUE, [])
        with pytest.raises(NotInThisState):  # it would go twice
            refunds.record_by_hand(refund.pk, "transfer")


def test_two_hundred_refunds(ten_sold: Order) -> None:
    for _ in range(100):
        orders.refund(ten_sold.pk, amount=Decimal("0.50"))
        refund_at_bank(ten_sold, Decimal("0.50"))
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)
    assert len(look_into(ten_sold)) == 100
    assert (look_into(ten_sold), now(ten_sold).kept()) == ([], Decimal("5.00"))
    fail_at_bank(*DemoBankRefund.objects.all())
    assert len(look_into(ten_sold)) == 200
    assert now(ten_sold).kept() == Decimal("55.00")  # 50.00 are owed


# Given by hand


def test_a_refund_given_by_hand_that_the_provider_gave_too_went_twice(ten_sold: Order) -> None:
    refund = declined(ten_sold, TEN)
    refunds.record_by_hand(refund.pk, "transfer")
    made = DemoBankRefund.objects.get()
    made.state = DemoBankRefund.State.DONE
    made.save()
    assert look_into(ten_sold) == ["A refund of €10.00 was made at the provider."]
    assert look_into(ten_sold) == []
    [(kind, text)] = alerts()
    assert kind == "PROVIDER_REFUND"
    assert "went back to the buyer twice" in text
    assert now(ten_sold).kept() == Decimal("85.00")


def test_try_now_twice_and_given_by_hand_do_not_pay_twice(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two requests to the provider is late, and comes when staff gave the money by hand."""
    orders.refund(ten_sold.pk, amount=TEN)
    refund = Refund.objects.get()
    decline_refunds(ten_sold)
    is_late, may_arrive = threading.Event(), threading.Event()
    ask = DemoBank.refund

    def ask_late(bank: DemoBank, refund: Refund) -> RefundStatus:
        if threading.current_thread().name == "late":
            is_late.set()
            assert may_arrive.wait(30)
        return ask(bank, refund)

    monkeypatch.setattr(DemoBank, "refund", ask_late)

    def be_late() -> None:
        threading.current_thread().name = "late"
        refunds.carry_out(refund.pk)

    def be_first() -> None:
        assert is_late.wait(30)
        assert refunds.carry_out(refund.pk).state == State.FAILED
        refunds.record_by_hand(refund.pk, "transfer")
        decline_refunds(ten_sold, declines=False)
        may_arrive.set()

    results = at_once([be_late, be_first])
    assert results == [None, None], results
    refund.refresh_from_db()
    assert (refund.state, refund.by_hand) == (State.DONE, "transfer")
    assert charged_at_bank(ten_sold) == ALL


@pytest.mark.parametrize("attempt", range(4))
def test_try_now_and_given_by_hand_at_once(ten_sold: Order, attempt: int) -> None:
    refund = declined(ten_sold, TEN)
    results = at_once(
        [
            lambda: refunds.carry_out(refund.pk),
            lambda: refunds.record_by_hand(refund.pk, "transfer"),
            lambda: refunds.carry_out(refund.pk),
        ]
    )
    assert len(of_kind(results, Refund)) >= 2, results
    refund.refresh_from_db()
    by_bank = ALL - charged_at_bank(ten_sold)
    assert (refund.state, by_bank) == (State.DONE, Decimal(0) if refund.by_hand else TEN)


# Disputes


def test_a_dispute_takes_the_money_until_it_is_won(ten_sold: Order) -> None:
    dispute = dispute_at_bank(ten_sold)
    assert look_into(ten_sold) == ["The buyer's bank has taken back €105.00."]
    assert look_into(ten_sold) == []
    order = now(ten_sold)
    assert order.state == Order.State.PAID
    assert (order.kept(), order.disputed()) == (Decimal(0), ALL)
    assert stock_of(order.lines.get().reservation.product) == 0
    decide_at_bank(dispute, "WON")
    look_into(ten_sold)
    assert (now(ten_sold).kept(), now(ten_sold).disputed()) == (ALL, Decimal(0))


def test_a_dispute_that_is_lost_keeps_the_money(ten_sold: Order) -> None:
    dispute = dispute_at_bank(ten_sold, Decimal("60.00"))
    look_into(ten_sold)
    decide_at_bank(dispute, "LOST")
    look_into(ten_sold)
    assert (now(ten_sold).kept(), now(ten_sold).disputed()) == (
        Decimal("45.00"),
        Decimal("60.00"),
    )
    orders.refund(ten_sold.pk, restock=True)
    assert refunds_of(ten_sold) == [(Reason.RETURNED, Decimal("45.00"))]


def test_an_inquiry_takes_no_money_and_a_dispute_never_goes_back(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, kept in (
        (DisputeStatus.INQUIRY, ALL),
        (DisputeStatus.OPEN, Decimal(0)),
        (DisputeStatus.INQUIRY, Decimal(0)),
        (DisputeStatus.WON, ALL),
        (DisputeStatus.OPEN, ALL),
    ):
        record = DisputeRecord("d", ALL, status, ten_sold.placed_at, "fraudulent")
        made = Statement(Outcome.PAID, disputes=(record,))
        monkeypatch.setattr(payments, "statement", lambda payment, made=made: made)
        look_into(ten_sold)
        assert now(ten_sold).kept() == kept, status
    monkeypatch.undo()


@pytest.mark.parametrize("then", ["cancelled", "returned", "returned in part"])
def test_units_came_back_while_the_dispute_had_the_money(ten_sold: Order, then: str) -> None:
    dispute = dispute_at_bank(ten_sold)
    look_into(ten_sold)
    owed = ALL
    if then == "cancelled":
        orders.cancel(ten_sold.pk)
    elif then == "returned":
        orders.refund(ten_sold.pk, restock=True)
    else:
        orders.refund(ten_sold.pk, units={line_of(ten_sold): 3})
        owed = Decimal("30.00")
    assert refunds_of(ten_sold) == []
    decide_at_bank(dispute, "WON")
    look_into(ten_sold)
    reason = Reason.CANCELLED if then == "cancelled" else Reason.RETURNED
    assert refunds_of(ten_sold) == [(reason, owed)]
    assert now(ten_sold).kept() == ALL - owed


def test_a_declined_refund_is_not_owed_when_the_buyer_has_won_the_money(ten_sold: Order) -> None:
    orders.cancel(ten_sold.pk)
    decline_refunds(ten_sold)
    refund = refunds.carry_out(Refund.objects.get().pk)
    dispute = dispute_at_bank(ten_sold)
    look_into(ten_sold)
    shop_alerts.check_all()
    assert Refund.objects.get().state == State.FAILED
    [text] = [text for kind, text in alerts() if kind == "REFUND_REFUSED"]
    assert "Don't give the buyer the same money again." in text
    decide_at_bank(dispute, "LOST")
    look_into(ten_sold)
    refund.refresh_from_db()
    assert (refund.state, refunds.due_refunds()) == (State.UNDONE, [])
    assert refunds.carry_out(refund.pk).state == State.UNDONE
    assert kinds() == ["PAYMENT_DISPUTED"]


def test_a_part_of_a_declined_refund_is_not_owed_when_the_buyer_has_won_it(
    ten_sold: Order,
) -> None:
    orders.cancel(ten_sold.pk)
    decline_refunds(ten_sold)
    refund = refunds.carry_out(Refund.objects.get().pk)
    decide_at_bank(dispute_at_bank(ten_sold, Decimal("60.00")), "LOST")
    look_into(ten_sold)
    refund.refresh_from_db()
    assert (refund.state, refund.amount) == (State.FAILED, Decimal("45.00"))


def test_a_declined_refund_is_owed_when_the_dispute_is_won(ten_sold: Order) -> None:
    refund = declined(ten_sold, Decimal("40.00"))
    dispute = dispute_at_bank(ten_sold)
    look_into(ten_sold)
    decide_at_bank(dispute, "WON")
    look_into(ten_sold)
    refund.refresh_from_db()
    assert (refund.state, now(ten_sold).kept()) == (State.FAILED, Decimal("65.00"))


# Several payments of an order


def test_two_payments_of_an_order_have_their_own_books(ten_sold: Order) -> None:
    first = ten_sold.payments.get()
    second = ten_sold.payments.create(
        provider="demo",
        amount=ALL,
        currency=first.currency,
        return_url=first.return_url,
        expires_at=first.expires_at,
        state="DECLINED",
    )
    second.reference = payments.start(second).reference
    second.save()
    choose_again(second, APPROVE)
    orders.settle(ten_sold.pk)
    assert refunds_of(ten_sold) == [(Reason.PAID_TWICE, ALL)]
    refunds.carry_out(Refund.objects.get().pk)
    assert DemoBankCharge.objects.filter(state="APPROVED").count() == 2
    charge = DemoBankCharge.objects.get(key=first.key)
    DemoBankRefund.objects.create(charge=charge, amount=TEN)
    look_into(ten_sold)
    assert now(ten_sold).kept() == Decimal("95.00")
    assert first.kept() == Decimal("95.00")


def test_in_another_currency(make_product: MakeProduct, settings: Any) -> None:
    settings.SHOP_CURRENCY = "CHF"
    order = buy(make_product)
    refund_at_bank(order, TEN)
    assert look_into(order) == ["A refund of CHF10.00 was made at the provider."]
    dispute_at_bank(order, Decimal("20.00"))
    assert look_into(order) == ["The buyer's bank has taken back CHF20.00."]


# Statements out of order, and at once


def test_an_older_statement_changes_nothing_after_a_later_one(ten_sold: Order) -> None:
    payment = ten_sold.payments.get()
    asked_at, before = read_clock(), payments.statement(payment)
    dispute = dispute_at_bank(ten_sold)
    look_into(ten_sold)
    open_at, is_open = read_clock(), payments.statement(payment)
    decide_at_bank(dispute, "WON")
    look_into(ten_sold)
    assert statements.record(payment, is_open, open_at) == []
    assert statements.record(payment, before, asked_at) == []
    assert Dispute.objects.get().state == "WON"


def test_an_older_statement_covers_no_refund_whose_money_came_back(ten_sold: Order) -> None:
    refund = declined(ten_sold, TEN)
    made = refund_at_bank(ten_sold, TEN)
    payment = ten_sold.payments.get()
    asked_at, is_made = read_clock(), payments.statement(payment)
    look_into(ten_sold)
    fail_at_bank(made)
    look_into(ten_sold)
    assert statements.record(payment, is_made, asked_at) == []
    refund.refresh_from_db()
    assert refund.state == State.FAILED


def test_given_by_hand_while_a_statement_says_that_it_is_done(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staff learn that it is done: they wait for what is being recorded."""
    refund = declined(ten_sold, TEN)
    DemoBankRefund.objects.update(state="DONE")
    record_ours = statements._record_our_refunds

    def record_while_staff_notes_it(*args: Any) -> list[str]:
        waiting.submit(note_by_hand)
        wait_until_somebody_waits_for_a_lock()
        return record_ours(*args)

    def note_by_hand() -> None:
        try:
            with pytest.raises(NotInThisState, match="it is done"):
                refunds.record_by_hand(refund.pk, "transfer")
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    errors: list[BaseException] = []
    monkeypatch.setattr(statements, "_record_our_refunds", record_while_staff_notes_it)
    with ThreadPoolExecutor(1) as waiting:
        assert look_into(ten_sold) == ["The provider has given back €10.00."]
    monkeypatch.undo()
    assert errors == []
    refund.refresh_from_db()
    assert (refund.state, refund.by_hand) == (State.DONE, "")


@pytest.mark.parametrize("attempt", range(3))
def test_many_statements_at_once_record_everything_once(ten_sold: Order, attempt: int) -> None:
    declined(ten_sold, TEN)
    refund_at_bank(ten_sold, TEN)
    refund_at_bank(ten_sold, Decimal("5.00"))
    dispute_at_bank(ten_sold, Decimal("20.00"))
    results = at_once([lambda: look_into(ten_sold)] * 6)
    assert len(of_kind(results, list)) == 6, results
    assert now(ten_sold).kept() == Decimal("70.00")
    assert (Refund.objects.count(), Dispute.objects.count()) == (2, 1)


STEPS: dict[str, Callable[[Order], object]] = {
    "refund": lambda order: orders.refund(order.pk, amount=TEN),
    "return": lambda order: orders.refund(order.pk, restock=True),
    "cancel": lambda order: orders.cancel(order.pk),
    "settle": lambda order: orders.settle(order.pk),
    "ship": lambda order: orders.ship(order.pk),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["dispute", "refund", "refund fails", "won"])
def test_news_of_the_provider_and_a_step_at_once(ten_sold: Order, step: str, what: str) -> None:
    if what == "dispute":
        dispute_at_bank(ten_sold)
    elif what == "won":
        dispute = dispute_at_bank(ten_sold)
        look_into(ten_sold)
        decide_at_bank(dispute, "WON")
    else:
        made = refund_at_bank(ten_sold, Decimal("50.00"))
        if what == "refund fails":
            look_into(ten_sold)
            fail_at_bank(made)
    results = at_once([lambda: look_into(ten_sold), lambda: STEPS[step](ten_sold)] * 2)
    unexpected = [each for each in of_kind(results, Exception) if not isinstance(each, ShopError)]
    assert unexpected == []
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)
    look_into(ten_sold)


# The nightly look


def test_the_nightly_job_finds_what_lost_messages_were_about(make_product: MakeProduct) -> None:
    disputed, refunded, late = (buy(make_product) for _ in range(3))
    dispute_at_bank(disputed)
    refund_at_bank(refunded, TEN)
    tasks.look_into_payments(0)
    assert now(disputed).kept() == 0
    assert now(refunded).kept() == Decimal("95.00")
    assert now(late).kept() == ALL
    assert kinds() == ["PAYMENT_DISPUTED", "PROVIDER_REFUND"]


def test_the_nightly_job_finds_a_declined_payment_that_was_paid_late(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(3, price=TEN), 1))
    at_bank(order, APPROVE)
    DemoBankCharge.objects.update(state="DECLINED")
    orders.settle(order.pk)
    DemoBankCharge.objects.update(state="APPROVED")
    assert orders.unsettled_orders() == []
    tasks.look_into_payments(0)
    assert now(order).state == Order.State.PAID


def test_a_payment_that_fails_stops_no_others(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = buy(make_product), buy(make_product)
    for order in (first, second):
        refund_at_bank(order, TEN)
    record = statements.record

    def fail_once(payment: Any, *args: Any) -> list[str]:
        if payment.order_id == first.pk:
            raise ZeroDivisionError
        return record(payment, *args)

    monkeypatch.setattr(statements, "record", fail_once)
    statements.look_into_recent()
    monkeypatch.undo()
    assert now(second).kept() == Decimal("95.00")
    assert now(first).kept() == ALL
    statements.look_into_recent()
    assert now(first).kept() == Decimal("95.00")


def test_a_provider_that_is_down_at_night_is_asked_the_next_time(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund_at_bank(ten_sold, TEN)

    def fail(*args: object) -> None:
        raise ProviderUnavailable("No network.")

    with monkeypatch.context() as patched:
        patched.setattr(DemoBank, "list_since", fail)
        statements.look_into_recent()
    assert now(ten_sold).kept() == ALL
    statements.look_into_recent()
    assert now(ten_sold).kept() == Decimal("95.00")


def test_after_a_restored_backup_no_refund_has_the_key_of_a_forgotten_one(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=TEN)
    forgotten = Refund.objects.get()
    refunds.carry_out(forgotten.pk)
    Refund.objects.all().delete()  # the backup is older than it
    orders.refund(ten_sold.pk, amount=TEN)
    refund = refunds.carry_out(Refund.objects.get().pk)
    assert (refund.state, DemoBankRefund.objects.count()) == (State.DONE, 2)
    look_into(ten_sold)
    assert kinds() == ["RESTORED"]
    forgotten.pk, forgotten.state = None, State.DONE  # as manage.py reconcile has it
    forgotten.save(force_insert=True)
