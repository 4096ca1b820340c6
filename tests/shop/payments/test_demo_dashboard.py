"""The demo bank's dashboard: each step once, and told to the shop; auditors look, don't touch."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from inventory.admin.base import change_url
from shop import orders, payments
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Dispute,
    Order,
    PaymentEvent,
    Refund,
)
from shop.orders import statements
from shop.orders.refunds import carry_out
from shop.payments import RefundDeclined, demo, demo_dashboard
from tests.concurrency import at_once
from tests.shop.admin.conftest import Staff, fields_of, words
from tests.shop.orders.pages import text_of
from tests.shop.orders.steps import delete_jobs, do_jobs, go_to_bank, now, queued

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State
Step = Callable[..., Any]


@pytest.fixture
def page(charge: DemoBankCharge) -> str:
    """The dashboard's address of the charge, whose first message has arrived."""
    do_jobs("send_demo_bank_event")
    return reverse("demo-bank-charge", args=[charge.pk])


@pytest.fixture
def merchant(staff: Staff) -> Client:
    return staff("merchant", "merchant")


def give_back(client: Client, page: str, amount: object, **changes: object) -> Any:
    """Fill in the page's form, and send it."""
    form = fields_of(text_of(client.get(page)), "amount")
    return client.post(page, {**form, "step": "give-back", "amount": amount, **changes})


def take(client: Client, page: str, step: str, **fields: object) -> list[str]:
    """Take a step, and return the sentences on the page that follows."""
    return words(client.post(page, {"step": step, **fields}, follow=True))


def heard() -> list[tuple[str, str]]:
    """The messages that the shop has got by now, and what it found when it asked."""
    do_jobs("send_demo_bank_event")
    return list(PaymentEvent.objects.order_by("pk").values_list("kind", "outcome"))[1:]


# The steps, and the shop that hears of them


def test_the_bank_gives_a_part_back(merchant: Client, page: str, paid: Order) -> None:
    answer = give_back(merchant, page, "7.50")
    assert (answer.status_code, answer["Location"]) == (302, page)
    assert words(merchant.get(page)) == ["€7.50 were given back."]
    [(kind, outcome)] = heard()
    assert kind == "refund.made"
    assert "A refund of €7.50 was made at the provider" in outcome
    refund = Refund.objects.get()
    assert (refund.reason, refund.amount) == (Refund.Reason.AT_PROVIDER, Decimal("7.50"))
    assert paid.payments.get().kept() == Decimal("17.50")


def test_a_refund_fails_after_it_was_done(merchant: Client, page: str, paid: Order) -> None:
    orders.refund(paid.pk)
    refund = Refund.objects.get()
    do_jobs("carry_out_refund")
    made = DemoBankRefund.objects.get()
    assert "has failed" in take(merchant, page, "let-fail", refund=made.pk)[0]
    [(kind, outcome)] = heard()
    assert kind == "refund.failed"
    assert "has failed at the provider" in outcome
    refund.refresh_from_db()
    assert (refund.state, refund.problem) == (Refund.State.FAILED, demo.CAME_BACK)
    assert carry_out(refund.pk).state == Refund.State.DONE


def test_a_refund_by_the_bank_fails(merchant: Client, page: str, paid: Order) -> None:
    give_back(merchant, page, "7.50")
    heard()
    take(merchant, page, "let-fail", refund=DemoBankRefund.objects.get().pk)
    assert heard()[-1][0] == "refund.failed"
    assert Refund.objects.get().state == Refund.State.UNDONE
    assert paid.payments.get().kept() == paid.total


def test_the_bank_declines_all_further_refunds(merchant: Client, page: str, paid: Order) -> None:
    assert take(merchant, page, "decline-refunds") == ["The bank declines all further refunds."]
    assert [kind for kind, _ in heard()] == ["refunds.declined"]
    orders.refund(paid.pk)
    refund = Refund.objects.get()
    for _ in range(2):
        assert carry_out(refund.pk).state == Refund.State.FAILED
    content = text_of(merchant.get(page))
    assert "give-back" not in content
    assert "decline-refunds" not in content
    answer = merchant.post(page, {"step": "give-back", "amount": "1", "key": uuid4()}, follow=True)
    assert "doesn't give this charge back" in words(answer)[0]


@pytest.mark.parametrize(
    ("step", "decision", "kept"),
    [
        ("decide-for-shop", Dispute.State.WON, "25.00"),
        ("decide-for-customer", Dispute.State.LOST, "0"),
    ],
)
def test_the_bank_decides_a_dispute(
    merchant: Client, page: str, paid: Order, step: str, decision: Dispute.State, kept: str
) -> None:
    assert take(merchant, page, "dispute") == ["The charge is disputed."]
    assert [kind for kind, _ in heard()] == ["dispute.opened"]
    assert "The bank took €25.00 back" in text_of(merchant.get(page))
    [sentence] = take(merchant, page, step)
    assert f"decided for the {'shop' if decision == 'WON' else 'customer'}" in sentence
    kind, outcome = heard()[-1]
    assert kind == "dispute.decided"
    assert "was decided for" in outcome
    assert Dispute.objects.get().state == decision
    assert paid.payments.get().kept() == Decimal(kept)
    for other in ("decide-for-shop", "decide-for-customer"):
        assert "It stays so" in take(merchant, page, other)[0]
    assert DemoBankDispute.objects.get().state == decision


# Once


def test_a_form_that_is_sent_twice_gives_back_once(merchant: Client, page: str) -> None:
    form = {"step": "give-back", **fields_of(text_of(merchant.get(page)), "amount")}
    first = merchant.post(page, {**form, "amount": "5"}, follow=True)
    again = merchant.post(page, {**form, "amount": "6"}, follow=True)
    assert words(first) == ["€5.00 were given back."]
    assert "sent before" in words(again)[0]
    assert "€5.00" in words(again)[0]
    assert DemoBankRefund.objects.get().amount == 5
    give_back(merchant, page, "6")  # the page's next form is another one
    assert DemoBankRefund.objects.count() == 2


def test_steps_that_are_sent_twice_say_so(merchant: Client, page: str) -> None:
    give_back(merchant, page, "5")
    made = DemoBankRefund.objects.get()
    delete_jobs("send_demo_bank_event")
    take(merchant, page, "let-fail", refund=made.pk)
    assert "had failed before" in take(merchant, page, "let-fail", refund=made.pk)[0]
    take(merchant, page, "dispute")
    assert "was disputed before" in take(merchant, page, "dispute")[0]
    take(merchant, page, "decline-refunds")
    assert "before" in take(merchant, page, "decline-refunds")[0]
    assert len(queued("send_demo_bank_event")) == 3


def test_each_step_is_taken_once_by_many_at_once(charge: DemoBankCharge) -> None:
    key = uuid4()
    given = at_once([lambda: demo_dashboard.give_back(charge.pk, Decimal(5), key)] * 4)
    assert sorted(is_new for _, is_new in given) == [False, False, False, True]
    made = DemoBankRefund.objects.get()
    failed = at_once([lambda: demo_dashboard.let_refund_fail(charge.pk, made.pk)] * 4)
    assert sum(is_new for _, is_new in failed) == 1
    demo.dispute(charge.reference)
    decided = at_once(
        [
            lambda: demo_dashboard.decide_dispute(charge.pk, for_shop=True),
            lambda: demo_dashboard.decide_dispute(charge.pk, for_shop=False),
        ]
        * 2
    )
    assert sum(is_new for _, is_new in decided) == 1
    assert len({dispute.state for dispute, _ in decided}) == 1
    assert sum(at_once([lambda: demo_dashboard.decline_refunds(charge.pk)] * 4)) == 1
    steps = queued("send_demo_bank_event")
    assert len(steps) == 1 + 5  # the first one is the payment's
    delete_jobs()


def test_the_bank_gives_back_no_more_than_there_is(charge: DemoBankCharge) -> None:
    """Whether it is asked by the shop, by its own staff, or by the customer."""
    outcomes = at_once(
        [
            *[lambda: _refused(demo_dashboard.give_back, charge.pk, Decimal(10), uuid4())] * 4,
            *[lambda: _refused(demo.dispute, charge.reference)] * 2,
        ]
    )
    given = charge.given_back()
    disputed = sum(dispute.amount for dispute in DemoBankDispute.objects.all())
    assert given + disputed <= charge.amount
    assert disputed == 25 - given
    assert 2 <= outcomes.count(True) <= 4
    delete_jobs()


def _refused(step: Step, *arguments: object) -> bool:
    try:
        step(*arguments)
    except RefundDeclined:
        return True
    return False


def test_each_message_has_an_id_of_its_own(merchant: Client, page: str) -> None:
    for amount in (1, 2):
        give_back(merchant, page, amount)
    for made in DemoBankRefund.objects.all():
        take(merchant, page, "let-fail", refund=made.pk)
    demo.dispute(DemoBankCharge.objects.get().reference)
    take(merchant, page, "decide-for-shop")
    take(merchant, page, "decline-refunds")
    do_jobs("send_demo_bank_event")
    ids = PaymentEvent.objects.values_list("event_id", flat=True)
    assert len(ids) == 1 + 7
    assert set(PaymentEvent.objects.values_list("deliveries", flat=True)) == {1}


# Odd forms


@pytest.mark.parametrize(
    "amount", ["", "0", "-1", "0.001", "NaN", "Infinity", "1e99", "a", "9" * 400, "1,50"]
)
def test_an_amount_that_is_none(merchant: Client, page: str, amount: str) -> None:
    answer = give_back(merchant, page, amount)
    assert answer.status_code == 400
    assert 'class="error"' in text_of(answer)
    assert not DemoBankRefund.objects.exists()


def test_more_than_there_is(merchant: Client, page: str) -> None:
    give_back(merchant, page, "20")
    answer = merchant.get(give_back(merchant, page, "5.01")["Location"])
    assert "given back €20.00 already" in text_of(answer)
    assert DemoBankRefund.objects.count() == 1


@pytest.mark.parametrize("key", ["", "x"])
def test_a_form_without_its_key_is_sent_once_more(merchant: Client, page: str, key: str) -> None:
    answer = give_back(merchant, page, "5", key=key)
    assert answer.status_code == 400
    assert "Please send it once more" in text_of(answer)
    form = fields_of(text_of(answer), "amount")
    assert UUID(form["key"])
    assert form["amount"] == "5"
    assert merchant.post(page, {"step": "give-back", **form}).status_code == 302


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "Choose one of the steps"),
        ({"step": "steal"}, "Choose one of the steps"),
        ({"step": "let-fail"}, "no such refund"),
        ({"step": "let-fail", "refund": "0"}, "no such refund"),
        ({"step": "let-fail", "refund": "9" * 30}, "no such refund"),
        ({"step": "let-fail", "refund": "x"}, "no such refund"),
        ({"step": "decide-for-shop"}, "hasn’t disputed"),
        ({"step": "decide-for-customer"}, "hasn’t disputed"),
    ],
)
def test_steps_that_there_are_not(
    merchant: Client, page: str, fields: dict[str, str], problem: str
) -> None:
    answer = merchant.post(page, fields)
    assert answer.status_code == 400
    assert problem in text_of(answer)
    assert "Nothing done" in text_of(answer)


def test_a_refund_of_another_charge(merchant: Client, page: str, charge: DemoBankCharge) -> None:
    other = DemoBankCharge.objects.create(
        key=uuid4(),
        amount=9,
        currency="EUR",
        return_url=charge.return_url,
        expires_at=charge.expires_at,
        state="APPROVED",
    )
    foreign = DemoBankRefund.objects.create(charge=other, amount=1)
    assert merchant.post(page, {"step": "let-fail", "refund": foreign.pk}).status_code == 400
    foreign.refresh_from_db()
    assert foreign.state == "DONE"


@pytest.mark.parametrize("number", ["0", "999", "9" * 30])
def test_a_charge_that_there_is_not(merchant: Client, number: str) -> None:
    assert merchant.get(f"/demo-bank/charges/{number}/").status_code == 404


def test_a_charge_that_is_not_paid_offers_no_step(merchant: Client, order: Order) -> None:
    go_to_bank(order)
    charge = DemoBankCharge.objects.get()
    address = reverse("demo-bank-charge", args=[charge.pk])
    content = text_of(merchant.get(address))
    assert "waiting for the customer" in content
    assert "<form" not in content
    answer = merchant.post(
        address, {"step": "give-back", "amount": "1", "key": uuid4()}, follow=True
    )
    assert "charged nothing" in words(answer)[0]


# Persons


def test_visitors_and_buyers_must_log_in(page: str, client: Client) -> None:
    for answer in (client.get(page), client.post(page, {"step": "decline-refunds"})):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")
    assert not DemoBankCharge.objects.get().declines_refunds


def test_an_auditor_looks_and_does_not_touch(
    staff: Staff, page: str, charge: DemoBankCharge
) -> None:
    demo_dashboard.give_back(charge.pk, Decimal(5), uuid4())
    demo.dispute(charge.reference)
    auditor = staff("auditor", "auditor")
    content = text_of(auditor.get(page))
    assert "€5.00, given back" in content
    assert "<form" not in content
    for step in ("give-back", "let-fail", "decide-for-shop", "decline-refunds", "nonsense"):
        assert auditor.post(page, {"step": step}).status_code == 403
    charge.refresh_from_db()
    assert not charge.declines_refunds
    delete_jobs()


@pytest.mark.parametrize(("permission", "status"), [("view_order", 403), ("view_payment", 200)])
def test_only_staff_who_see_payments_see_charges(page: str, permission: str, status: int) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename=permission))
    client = Client()
    client.force_login(user)
    assert client.get(page).status_code == status


def test_a_form_of_another_site_does_nothing(staff: Staff, page: str) -> None:
    forger = Client(enforce_csrf_checks=True)
    forger.cookies.update(staff().cookies)
    assert forger.post(page, {"step": "decline-refunds"}).status_code == 403
    assert not DemoBankCharge.objects.get().declines_refunds


def test_the_page_has_nothing_that_lets_its_reader_pay(
    merchant: Client, page: str, paid: Order
) -> None:
    give_back(merchant, page, "0.01")
    orders.refund(paid.pk)
    do_jobs("carry_out_refund")
    content = text_of(merchant.get(page))
    charge = DemoBankCharge.objects.get()
    secrets = [charge.reference, charge.return_url, str(charge.key), paid.token, paid.email]
    assert not [secret for secret in secrets if secret in content]


def test_the_admins_page_of_the_payment_leads_to_the_dashboard(paid: Order, staff: Staff) -> None:
    payment = paid.payments.get()
    auditor = staff("auditor")
    assert "See it there" not in text_of(auditor.get(change_url(payment)))
    statements.look_into(payment.pk)
    address = f"http://testserver/demo-bank/charges/{DemoBankCharge.objects.get().pk}/"
    assert f'href="{address}" target="_blank" rel="noopener noreferrer">See it there' in text_of(
        auditor.get(change_url(payment))
    )
    assert auditor.get(address).status_code == 200


def test_the_bank_touches_nothing_of_the_shops(merchant: Client, page: str, paid: Order) -> None:
    """Until its message arrives, the shop knows nothing."""
    before = list(paid.payments.values())
    give_back(merchant, page, "5")
    take(merchant, page, "let-fail", refund=DemoBankRefund.objects.get().pk)
    demo.dispute(DemoBankCharge.objects.get().reference)
    take(merchant, page, "decide-for-customer")
    assert list(paid.payments.values()) == before
    assert not Refund.objects.exists()
    assert not Dispute.objects.exists()
    assert now(paid).state == State.PAID
    heard()
    assert payments.statement(paid.payments.get()).disputes[0].status.name == "LOST"
