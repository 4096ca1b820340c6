"""The bank's page, its messages, and the address that they are sent to."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from shop import jobs, orders, payments
from shop.clock import read_clock
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Dispute,
    Order,
    Payment,
    PaymentEvent,
    Refund,
    ShopAlert,
)
from shop.payments import (
    Outcome,
    RefundDeclined,
    RefundStatus,
    StartDeclined,
    demo,
    demo_dashboard,
    list_since,
)
from shop.payments.demo import Choice
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    RETURN_URL,
    at_bank,
    close_payment_time,
    delete_jobs,
    do_jobs,
    go_to_bank,
    now,
    place,
    queued,
    refunds_of,
    stock_of,
    wait_after_no,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State


def message_for(order: Order, **changes: Any) -> bytes:
    payment = order.payments.get()
    return json.dumps({"id": "event-1", "payment": str(payment.key), **changes}).encode()


def deliver(body: bytes, signature: str | None = None, provider: str = "demo") -> Any:
    signed = demo.sign(body) if signature is None else signature
    return Client(enforce_csrf_checks=True).post(
        reverse("payment-events", args=[provider]),
        body,
        content_type="application/json",
        headers={demo.SIGNATURE: signed},
    )


# The page


def test_the_page_shows_the_sum_and_sends_the_buyer_back(order: Order, client: Client) -> None:
    url = go_to_bank(order)
    page = client.get(url)
    assert "€25.00" in page.content.decode()
    answer = client.post(url, {"choice": "approve"})
    assert (answer.status_code, answer["Location"]) == (302, RETURN_URL)
    assert orders.settle(order.pk).state == State.PAID


def test_the_first_choice_stands(order: Order, client: Client) -> None:
    url = go_to_bank(order)
    client.post(url, {"choice": "decline"})
    client.post(url, {"choice": "approve"})
    assert "has ended already" in client.get(url).content.decode()
    assert DemoBankCharge.objects.get().state == DemoBankCharge.State.DECLINED


def test_a_lost_answer_leaves_the_buyer_at_the_bank(order: Order, client: Client) -> None:
    answer = client.post(go_to_bank(order), {"choice": "lose-answer"})
    assert (answer.status_code, "broke down" in answer.content.decode()) == (200, True)
    assert now(order).state == State.PENDING


@pytest.mark.parametrize("choice", ["", "steal"])
def test_an_unknown_choice(order: Order, client: Client, choice: str) -> None:
    answer = client.post(go_to_bank(order), {"choice": choice})
    assert answer.status_code == 400
    assert DemoBankCharge.objects.get().state == DemoBankCharge.State.OPEN
    assert client.get(reverse("demo-bank", args=["guessed"])).status_code == 404


def test_after_its_time_a_charge_can_not_be_approved(order: Order) -> None:
    go_to_bank(order)
    close_payment_time(order)
    demo.choose(order.payments.get().reference, APPROVE)
    assert payments.status(order.payments.get()) is payments.Outcome.DECLINED


def test_the_shop_waits_for_late_money(order: Order) -> None:
    at_bank(order, Choice.APPROVE_LATE)
    [job] = queued("send_demo_bank_event")
    assert orders.settle(order.pk).state == State.PENDING
    with pytest.raises(payments.ProviderUnavailable):
        demo.send_event(job["charge_id"])
    DemoBankCharge.objects.update(approve_at=Now())
    assert orders.settle(order.pk).state == State.PAID


# Messages


def test_the_banks_own_message_arrives(order: Order, served_at: str) -> None:
    go_to_bank(order)
    DemoBankCharge.objects.update(return_url=f"{served_at}/orders/x/")
    demo.choose(order.payments.get().reference, APPROVE)
    do_jobs("send_demo_bank_event")
    assert now(order).state == State.PAID
    assert PaymentEvent.objects.count() == 1


def test_a_message_that_does_not_reach_the_shop_is_sent_again_later(order: Order) -> None:
    charge = at_bank(order, APPROVE)
    DemoBankCharge.objects.update(return_url="http://127.0.0.1:9/orders/x/")
    with pytest.raises(payments.ProviderUnavailable, match="didn't take the message"):
        demo.send_event(charge.pk)


def test_a_message_settles_the_order_and_its_repetition_changes_nothing(order: Order) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)
    assert deliver(body).status_code == 200
    assert now(order).state == State.PAID
    orders.refund(order.pk, restock=True)
    assert deliver(body).status_code == 200
    assert deliver(message_for(order, id="event-2")).status_code == 200
    assert now(order).state == State.REFUNDED
    assert len(refunds_of(order)) == 1
    assert stock_of(order.lines.get().reservation.product) == 5
    assert PaymentEvent.objects.count() == 2


def test_the_same_message_many_times_at_once(order: Order) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)
    answers = at_once([lambda: deliver(body).status_code] * 4 + [lambda: orders.settle(order.pk)])
    assert answers[:4] == [200] * 4
    assert (now(order).state, PaymentEvent.objects.count()) == (State.PAID, 1)


def test_a_message_is_a_reason_to_ask_not_the_truth(order: Order) -> None:
    at_bank(order, DECLINE)
    assert deliver(message_for(order, state="APPROVED")).status_code == 200
    assert now(order).state == State.PENDING
    assert order.payments.get().state == Payment.State.DECLINED


def test_a_forged_or_old_message_is_rejected(order: Order) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)
    fresh = demo.sign(body)
    forged = fresh[:-1] + ("0" if fresh[-1] != "0" else "1")
    old = demo.sign(body, int(time.time()) - demo.OLDEST_EVENT - 5)
    moved = f"t={int(time.time()) + 1},{fresh.partition(',')[2]}"
    for signature in ("", "t=,v1=", "v1=abc", "t=x,v1=é", "t=٣,v1=a", forged, old, moved):
        assert deliver(body, signature).status_code == 400, signature
    assert deliver(body + b" ", fresh).status_code == 400
    assert now(order).state == State.PENDING
    assert not PaymentEvent.objects.exists()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"id": 1}', b'{"id": 1, "payment": "x"}']
)
def test_a_message_that_makes_no_sense_is_rejected(body: bytes) -> None:
    assert deliver(body).status_code == 400


def test_a_message_about_a_payment_that_is_not_ours(order: Order) -> None:
    go_to_bank(order)
    for payment in ("0f5ff846-9e5f-4a80-9f0d-3f4c0dbf5f11", None):
        assert deliver(message_for(order, payment=payment)).status_code == 200
    assert not PaymentEvent.objects.exists()
    assert deliver(message_for(order), provider="stripe").status_code == 404
    assert deliver(message_for(order), provider="os.path").status_code == 404
    assert Client().get(reverse("payment-events", args=["demo"])).status_code == 405


def test_while_the_bank_can_not_be_asked_the_message_is_not_used_up(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_bank(order, APPROVE)
    body = message_for(order)

    def fail(payment: Payment) -> None:
        raise payments.ProviderUnavailable("No network.")

    with monkeypatch.context() as patched:
        patched.setattr(payments, "status", fail)
        assert deliver(body).status_code == 503
    assert deliver(body).status_code == 200
    assert now(order).state == State.PAID


def test_a_job_that_was_queued_by_an_older_version_is_still_done(
    order: Order, served_at: str
) -> None:
    charge = at_bank(order, APPROVE)
    DemoBankCharge.objects.update(return_url=f"{served_at}/orders/x/")
    delete_jobs("send_demo_bank_event")
    jobs.queue("send_demo_bank_event", charge_id=charge.pk)
    do_jobs("send_demo_bank_event")
    assert now(order).state == State.PAID
    event = PaymentEvent.objects.get()
    assert event.event_id == f"{charge.reference}-APPROVED"
    assert event.kind == "payment.approved"


@pytest.mark.parametrize("kind", [None, 1, [], {"a": 1}, "", "\0\ud800", "x" * 5000])
def test_a_message_of_an_odd_kind_is_taken(paid: Order, kind: Any) -> None:
    assert deliver(message_for(paid, kind=kind)).status_code == 200
    assert PaymentEvent.objects.get().kind == ("x" * 100 if kind == "x" * 5000 else "")


# Payments that the bank never accepts


def test_the_bank_accepts_no_payment_below_its_minimum(
    make_product: MakeProduct, settings: Any
) -> None:
    settings.SHIPPING_COST = Decimal(0)
    accepted = place((make_product(1, price=Decimal("0.50")), 1), buyer="A")
    assert "/demo-bank/" in go_to_bank(accepted)
    order = place((make_product(1, price=Decimal("0.49")), 1), buyer="B")
    for _ in range(2):
        with pytest.raises(StartDeclined, match=r"no less than €0\.50"):
            go_to_bank(order)
        wait_after_no(order)
    assert DemoBankCharge.objects.count() == 1
    assert set(order.payments.values_list("state", flat=True)) == {Payment.State.DECLINED}
    assert ShopAlert.objects.get().kind == ShopAlert.Kind.START_DECLINED


def test_a_payment_that_was_accepted_once_stays_so(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = go_to_bank(order)
    monkeypatch.setattr(demo, "LEAST_CHARGE", order.total + 1)
    assert payments.start(order.payments.get()).url == address


# Refunds


def owed(order: Order) -> Refund:
    """A refund of the whole order that the shop has still to ask for."""
    orders.refund(order.pk)
    return Refund.objects.get()


def test_the_bank_gives_back_no_more_than_it_charged(paid: Order) -> None:
    refund = owed(paid)
    do_jobs("carry_out_refund")
    refund.key = "another"
    with pytest.raises(RefundDeclined, match=r"given back €25\.00 already"):
        payments.refund(refund)
    assert DemoBankRefund.objects.filter(state="DONE").count() == 1


def test_a_refund_of_the_same_key_gives_back_once(paid: Order) -> None:
    refund = owed(paid)
    refund.amount = Decimal(10)
    assert at_once([lambda: payments.refund(refund)] * 4) == [RefundStatus.DONE] * 4
    refund.attempt = 2
    assert payments.refund(refund) is RefundStatus.DONE
    refund.amount = Decimal(11)
    with pytest.raises(RefundDeclined, match=r"given €10\.00 back for this refund"):
        payments.refund(refund)
    assert DemoBankRefund.objects.count() == 1


def test_a_refund_that_failed_is_declined_until_the_next_attempt(paid: Order) -> None:
    refund = owed(paid)
    payments.refund(refund)
    DemoBankRefund.objects.update(state="FAILED")
    with pytest.raises(RefundDeclined, match="came back"):
        payments.refund(refund)
    refund.attempt = 2
    assert payments.refund(refund) is RefundStatus.DONE
    refund.attempt = 1  # the request of a process that knows nothing of it
    assert payments.refund(refund) is RefundStatus.DONE
    states = DemoBankRefund.objects.order_by("pk").values_list("attempt", "state")
    assert list(states) == [(1, "FAILED"), (2, "DONE")]


def test_a_no_stays_a_no_when_the_request_comes_again_late(paid: Order) -> None:
    refund = owed(paid)
    charge = DemoBankCharge.objects.get()
    demo_dashboard.decline_refunds(charge.pk)
    for _ in range(2):
        with pytest.raises(RefundDeclined, match="doesn't give this charge back"):
            payments.refund(refund)
        DemoBankCharge.objects.update(declines_refunds=False)
    [record] = payments.statement(paid.payments.get()).refunds
    assert (record.status, record.attempt) == (RefundStatus.FAILED, 1)
    assert "doesn't give this charge back" in record.problem
    refund.attempt = 2
    assert payments.refund(refund) is RefundStatus.DONE


def test_money_that_has_just_arrived_can_be_given_back(order: Order) -> None:
    at_bank(order, Choice.APPROVE_LATE)
    refund = Refund(payment=order.payments.get(), key="a key", amount=Decimal(5))
    with pytest.raises(RefundDeclined, match="charged nothing"):
        payments.refund(refund)
    DemoBankCharge.objects.update(approve_at=Now())
    refund.attempt = 2
    assert payments.refund(refund) is RefundStatus.DONE


# Disputes


def dispute(charge: DemoBankCharge, client: Client) -> Any:
    return client.post(reverse("demo-bank-dispute", args=[charge.reference]))


def test_the_customer_disputes_what_is_left_and_the_shop_hears_of_it(
    charge: DemoBankCharge, paid: Order, client: Client
) -> None:
    demo_dashboard.give_back(charge.pk, Decimal(7), uuid4())
    address = reverse("demo-bank", args=[charge.reference])
    assert "takes €18.00 back" in client.get(address).content.decode()
    answer = dispute(charge, client)
    assert (answer.status_code, answer["Location"]) == (302, address)
    page = client.get(address).content.decode()
    assert "You have disputed this payment" in page
    assert "<form" not in page
    do_jobs("send_demo_bank_event")
    disputed = Dispute.objects.get()
    assert (disputed.state, disputed.amount) == (Dispute.State.OPEN, Decimal(18))
    assert paid.payments.get().kept() == 0
    kinds = PaymentEvent.objects.values_list("kind", flat=True)
    assert {"refund.made", "dispute.opened"} <= set(kinds)


def test_a_customer_disputes_once(charge: DemoBankCharge, client: Client) -> None:
    delete_jobs("send_demo_bank_event")
    reference = charge.reference
    at_once([lambda: demo.dispute(reference)] * 4)
    dispute(charge, client)
    assert DemoBankDispute.objects.count() == 1
    assert len(queued("send_demo_bank_event")) == 1


@pytest.mark.parametrize("choice", [None, DECLINE, Choice.APPROVE_LATE])
def test_only_money_that_was_taken_can_be_disputed(
    order: Order, client: Client, choice: Choice | None
) -> None:
    go_to_bank(order)
    charge = DemoBankCharge.objects.get()
    if choice:
        demo.choose(charge.reference, choice)
    assert dispute(charge, client).status_code == 302
    assert not DemoBankDispute.objects.exists()


def test_nothing_is_disputed_when_all_was_given_back(
    charge: DemoBankCharge, client: Client
) -> None:
    demo_dashboard.give_back(charge.pk, charge.amount, uuid4())
    page = client.get(reverse("demo-bank", args=[charge.reference])).content.decode()
    assert "€25.00 of it came back to you" in page
    assert "<form" not in page
    dispute(charge, client)
    assert not DemoBankDispute.objects.exists()
    do_jobs("send_demo_bank_event")


def test_a_dispute_of_nothing(client: Client) -> None:
    address = reverse("demo-bank-dispute", args=["guessed"])
    assert client.post(address).status_code == 404
    assert client.put(address).status_code == 405


@pytest.mark.parametrize(("decision", "given"), [("OPEN", 0), ("LOST", 0), ("WON", 1)])
def test_the_bank_gives_nothing_back_that_a_dispute_has_taken(
    paid: Order, decision: str, given: int
) -> None:
    refund = owed(paid)
    demo.dispute(DemoBankCharge.objects.get().reference)
    DemoBankDispute.objects.update(state=decision)
    if given:
        assert payments.refund(refund) is RefundStatus.DONE
    else:
        with pytest.raises(RefundDeclined, match="has disputed this charge"):
            payments.refund(refund)
    assert DemoBankRefund.objects.filter(state="DONE").count() == given


# All that the bank has on record


def test_the_statement_has_all_of_it(paid: Order) -> None:
    charge = DemoBankCharge.objects.get()
    refund = owed(paid)
    refund.amount, refund.copy, refund.attempt = Decimal(4), "a copy", 3
    payments.refund(refund)
    made, _ = demo_dashboard.give_back(charge.pk, Decimal(6), uuid4())
    demo_dashboard.let_refund_fail(charge.pk, made.pk)
    demo.dispute(charge.reference)
    found = payments.statement(paid.payments.get())
    assert found.outcome is Outcome.PAID
    assert found.page == f"http://testserver/demo-bank/charges/{charge.pk}/"
    ours, other = found.refunds
    assert (ours.amount, ours.status) == (Decimal(4), RefundStatus.DONE)
    assert (ours.key, ours.attempt, ours.copy) == (refund.key, 3, "a copy")
    assert (other.amount, other.status) == (Decimal(6), RefundStatus.FAILED)
    assert (other.key, other.attempt, other.copy) == ("", 0, "")
    assert "came back" in other.problem
    [disputed] = found.disputes
    assert (disputed.amount, disputed.status.name) == (Decimal(21), "OPEN")


def test_the_list_has_each_payment_that_changed_once_the_oldest_first(
    make_product: MakeProduct,
) -> None:
    product = make_product(9, price=Decimal("10.00"))
    placed = [place((product, 1), buyer=buyer) for buyer in "ABCDEFG"]
    declined, unchanged, approved, given, failed, disputed, decided = placed
    for order in placed:
        at_bank(order, APPROVE)
        orders.settle(order.pk)
    charges = {order: DemoBankCharge.objects.get(key=order.payments.get().key) for order in placed}
    waiting = DemoBankCharge.objects.filter(pk__in=[charges[declined].pk, charges[approved].pk])
    waiting.update(state="OPEN")
    demo_dashboard.give_back(charges[failed].pk, Decimal(1), uuid4())
    demo.dispute(charges[decided].reference)
    long_ago = timedelta(days=30)
    DemoBankCharge.objects.update(
        started_at=F("started_at") - long_ago, changed_at=Now() - long_ago
    )
    since = timezone.now() - timedelta(seconds=1)
    assert list(list_since("demo", since)) == []

    # By the bank's clock, which nobody has looked at since.
    waiting.filter(pk=charges[declined].pk).update(expires_at=Now())
    waiting.filter(pk=charges[approved].pk).update(approve_at=Now())
    for _ in range(2):
        demo_dashboard.give_back(charges[given].pk, Decimal(1), uuid4())
    demo_dashboard.let_refund_fail(charges[failed].pk, charges[failed].refunds.get().pk)
    demo.dispute(charges[disputed].reference)
    demo_dashboard.decide_dispute(charges[decided].pk, for_shop=True)
    found = list(list_since("demo", since))
    expected = [order for order in placed if order is not unchanged]
    assert [each.key for each in found] == [charges[order].key for order in expected]
    assert [each.started_at for each in found] == sorted(each.started_at for each in found)
    for each, order in zip(found, expected, strict=True):
        assert each.statement == payments.statement(order.payments.get())
        assert (each.amount, each.reference) == (order.total, charges[order].reference)
    outcomes = [each.statement.outcome for each in found[:2]]
    assert outcomes == [Outcome.DECLINED, Outcome.PAID]


def test_a_refund_that_the_shop_asked_for_is_a_change(paid: Order) -> None:
    refund = owed(paid)
    since = read_clock()
    assert list(list_since("demo", since)) == []
    payments.refund(refund)
    [found] = list_since("demo", since)
    assert [record.key for record in found.statement.refunds] == [refund.key]


@pytest.mark.parametrize("choice", Choice)
def test_a_choice_of_the_customer_is_a_change(order: Order, choice: Choice) -> None:
    go_to_bank(order)
    since = read_clock()
    assert list(list_since("demo", since)) == []
    demo.choose(order.payments.get().reference, choice)
    assert [each.key for each in list_since("demo", since)] == [order.payments.get().key]
    orders.settle(order.pk)


# Shops without it


def test_a_shop_without_the_demo_bank_has_none_of_its_pages(
    charge: DemoBankCharge, settings: Any, staff: Staff
) -> None:
    addresses = [
        reverse("demo-bank", args=[charge.reference]),
        reverse("demo-bank-dispute", args=[charge.reference]),
        reverse("demo-bank-charge", args=[charge.pk]),
    ]
    client = staff()
    settings.PAYMENT_PROVIDER = f"{__name__}.OtherBank"
    for address in addresses:
        assert client.get(address).status_code == 404
        assert client.post(address).status_code == 404
    assert not DemoBankDispute.objects.exists()
    settings.FORMER_PAYMENT_PROVIDERS = ["demo"]
    assert client.get(addresses[0]).status_code == 200
    assert client.get(addresses[2]).status_code == 200


class OtherBank(demo.DemoBank):
    slug = "other"
