"""Every state that needs a person: on the dashboard, in an alert, and in one e-mail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.core import mail
from django.db import connection
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from shop import jobs, logs, orders, payments, shop_alerts, tasks
from shop.models import (
    DemoBankCharge,
    DemoBankRefund,
    Dispute,
    Order,
    Payment,
    PaymentEvent,
    Refund,
    ShopAlert,
)
from shop.notifications import alert_delivery
from shop.orders import refunds
from shop.payments import demo
from shop.payments.base import (
    DisputeRecord,
    DisputeStatus,
    Outcome,
    ProviderUnavailable,
    Started,
    Statement,
)
from shop.payments.demo import DemoBank
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.pages import tell
from tests.shop.orders.steps import (
    APPROVE,
    at_bank,
    decide_at_bank,
    decline_refunds,
    delete_jobs,
    dispute_at_bank,
    do_jobs,
    fail_at_bank,
    go_to_bank,
    look_into,
    place,
    refund_at_bank,
    wait_after_no,
)

pytestmark = pytest.mark.django_db(transaction=True)

Kind = ShopAlert.Kind


@pytest.fixture(autouse=True)
def managers(settings: LazySettings, transactional_db: None) -> Iterator[None]:
    settings.MANAGERS = [("", "boss@example.org")]
    settings.PAYMENT_PROVIDER = "demo"
    delete_jobs()
    yield
    delete_jobs()


@pytest.fixture
def paid(make_product: MakeProduct) -> Order:
    order = place((make_product(2), 2))
    at_bank(order, APPROVE)
    settled = orders.settle(order.pk)
    delete_jobs()
    return settled


def opened() -> list[str]:
    return list(ShopAlert.objects.open().order_by("pk").values_list("kind", flat=True))


def staff(group: str = "") -> Client:
    user = User.objects.create_user(f"{group}-{User.objects.count()}", is_staff=True)
    if group:
        user.groups.add(Group.objects.get(name=group))
    else:
        user.is_superuser = True
        user.save()
    client = Client()
    client.force_login(user)
    return client


def look() -> None:
    """Run the jobs of every minute, and the jobs that they queue."""
    tasks.watch_for_trouble(0)
    do_jobs("mail_alerts")


def assert_shown_and_mailed(words: str) -> None:
    """On the dashboard, on every other page of the admin, and by one e-mail."""
    look()
    look()
    [letter] = [each for each in mail.outbox if each.to == ["boss@example.org"]]
    assert words in letter.body
    client = staff("merchant")
    assert words in client.get("/admin/").content.decode()
    assert words in client.get(reverse("admin:shop_order_changelist")).content.decode()


# Money


def decline(refused: bool = True) -> None:
    DemoBankCharge.objects.update(state="DECLINED" if refused else "APPROVED")


def test_a_declined_refund_is_shown_until_it_succeeds(paid: Order) -> None:
    orders.refund(paid.pk)
    refund = Refund.objects.get()
    decline()
    for _ in range(2):
        refunds.carry_out(refund.pk)
    assert opened() == [Kind.REFUND_REFUSED]
    alert = ShopAlert.objects.get()
    assert (alert.order, alert.subject) == (paid, f"refund {refund.pk}")
    assert_shown_and_mailed("did not get the refund")
    decline(False)
    refunds.carry_out(refund.pk)
    assert opened() == []


def test_the_alert_is_committed_with_the_declined_refund(
    paid: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(paid.pk)
    decline()

    def fail(*args: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(shop_alerts, "update_refund_alerts", fail)
        refunds.carry_out(Refund.objects.get().pk)
    assert Refund.objects.get().state == Refund.State.DUE
    decline(False)


def test_a_declined_refund_that_lost_its_alert_gets_one_from_the_worker(paid: Order) -> None:
    orders.refund(paid.pk)
    Refund.objects.update(state="FAILED", problem="Account closed.")
    look()
    assert opened() == [Kind.REFUND_REFUSED]
    assert "Account closed." in ShopAlert.objects.get().text


def test_a_refund_that_can_not_be_carried_out_for_an_hour(
    paid: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(paid.pk)
    Refund.objects.update(decided_at=timezone.now() - timedelta(minutes=59))
    look()
    assert opened() == []
    Refund.objects.update(decided_at=timezone.now() - timedelta(minutes=61))
    assert_shown_and_mailed("has been due for more than an hour")
    refunds.carry_out(Refund.objects.get().pk)
    assert opened() == []


def test_a_payment_whose_end_is_unknown(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    Payment.objects.update(expires_at=timezone.now() - timedelta(minutes=14))
    look()
    assert opened() == []
    Payment.objects.update(expires_at=timezone.now() - timedelta(minutes=16))
    assert_shown_and_mailed("has not told us how the payment of €24.80 for order")
    Payment.objects.update(reference="")
    look()
    assert "so the buyer could not pay" in ShopAlert.objects.get().text
    Payment.objects.update(state="DECLINED")
    look()
    assert opened() == []


# Messages of the provider that don't arrive


def buy(make_product: MakeProduct, number: int) -> list[Order]:
    """Paid orders; we found out by asking, and no message came."""
    found = []
    for _ in range(number):
        order = place((make_product(1), 1))
        at_bank(order, APPROVE)
        found.append(orders.settle(order.pk))
    delete_jobs()
    return found


def let_pass(**time: float) -> None:
    """Let the payments and messages be older by so much."""
    ago = timedelta(**time)
    times = ("started_at", "expires_at", "decided_at")
    Payment.objects.update(**{name: F(name) - ago for name in times})
    PaymentEvent.objects.update(received_at=F("received_at") - ago)


def test_the_first_payment_without_a_message_is_enough_if_there_never_was_one(
    make_product: MakeProduct,
) -> None:
    [order] = buy(make_product, 1)
    let_pass(minutes=59)
    look()
    assert opened() == []
    let_pass(minutes=2)
    assert_shown_and_mailed("No message of Demo bank about the last payment has arrived.")
    assert tell(order) == 200
    look()
    assert opened() == []


def test_lost_messages_are_no_trouble_while_others_arrive(make_product: MakeProduct) -> None:
    [known] = buy(make_product, 1)
    assert tell(known) == 200
    let_pass(hours=2)
    buy(make_product, 2)
    let_pass(hours=2)
    look()
    assert opened() == []
    [third] = buy(make_product, 1)
    let_pass(hours=2)
    look()
    assert opened() == [Kind.NO_MESSAGES]
    assert "about the last 3 payments has arrived" in ShopAlert.objects.get().text
    assert tell(third, "event-2") == 200
    look()
    assert opened() == []


def test_messages_that_do_not_arrive_are_one_alert_and_one_e_mail(
    make_product: MakeProduct,
) -> None:
    for words in ("the last payment has", "the last 2 payments has", "the last 3 payments has"):
        buy(make_product, 1)
        let_pass(hours=2)
        look()
        assert words in ShopAlert.objects.get().text
    acknowledge()
    look()
    assert ShopAlert.objects.count() == 1
    assert len(mail.outbox) == 1


def test_no_more_payments_are_counted_than_anybody_needs_to_know(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop_alerts, "MOST_COUNTED", 2)
    buy(make_product, 3)
    let_pass(hours=2)
    look()
    assert "about the last 2 payments, or more, has arrived" in ShopAlert.objects.get().text


def test_anybodys_messages_neither_raise_nor_end_that_alert(
    make_product: MakeProduct, client: Client
) -> None:
    def forge() -> None:
        for number in range(20):
            message = {"id": str(number), "payment": str(Payment.objects.latest("pk").key)}
            answer = client.post(
                reverse("payment-events", args=["demo"]),
                message,
                "application/json",
                headers={demo.SIGNATURE: f"t={int(time.time())},v1=00"},
            )
            assert answer.status_code == 400

    buy(make_product, 1)
    forge()
    look()
    assert opened() == []
    let_pass(hours=2)
    look()
    forge()
    look()
    assert opened() == [Kind.NO_MESSAGES]
    assert not PaymentEvent.objects.exists()


def test_payments_that_a_restore_made_again_miss_no_messages(make_product: MakeProduct) -> None:
    buy(make_product, 4)
    Payment.objects.update(expires_at=F("expires_at") - timedelta(days=1))
    let_pass(hours=2)
    look()
    assert opened() == []


def test_the_alert_names_the_address_and_the_secret_to_look_at(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    buy(make_product, 1)
    let_pass(hours=2)
    settings.PAYMENT_PROVIDER = "stripe"
    settings.BASE_URL = "https://shop.example.org"
    look()
    assert opened() == []  # they are payments of another provider
    Payment.objects.update(provider="stripe")
    look()
    text = ShopAlert.objects.get().text
    Payment.objects.update(provider="demo")
    assert "to https://shop.example.org/payments/stripe/events/, and" in text
    assert "that STRIPE_WEBHOOK_SECRET is their secret." in text


def test_a_wrong_provider_in_the_settings_hides_no_other_trouble(
    paid: Order, settings: LazySettings
) -> None:
    orders.refund(paid.pk)
    Refund.objects.update(state="FAILED", problem="Account closed.")
    settings.PAYMENT_PROVIDER = "dmeo"
    look()
    assert opened() == [Kind.REFUND_REFUSED]


# News of the provider


def start_in_vain(order: Order) -> None:
    """A payment that the demo bank doesn't accept, since it is too small."""
    for _ in range(3):
        with pytest.raises(payments.StartDeclined):
            go_to_bank(order)


def decline_refund(order: Order) -> None:
    orders.refund(order.pk)
    decline_refunds(order)
    refunds.carry_out(Refund.objects.get().pk)


def fail_refund_later(order: Order) -> None:
    orders.refund(order.pk)
    refunds.carry_out(Refund.objects.get().pk)
    fail_at_bank(DemoBankRefund.objects.get())


NEWS: dict[str, tuple[Callable[[Order], object], str, str]] = {
    "start declined": (
        start_in_vain,
        "START_DECLINED",
        "can't pay until you mend that, and others may not either.",
    ),
    "refund declined": (
        decline_refund,
        "REFUND_REFUSED",
        "Try it again, or give the money back another way.",
    ),
    "refund failed later": (
        fail_refund_later,
        "REFUND_REFUSED",
        "Try it again, or give the money back another way.",
    ),
    "refund at the provider": (
        lambda order: refund_at_bank(order, Decimal("4.00")),
        "PROVIDER_REFUND",
        "A refund of €4.00 for order {} was made at the provider demo, not by this shop.",
    ),
    "disputed": (
        dispute_at_bank,
        "PAYMENT_DISPUTED",
        "Answer at the provider before its date: after it the money is lost.",
    ),
    "dispute lost": (
        lambda order: decide_at_bank(dispute_at_bank(order), "LOST"),
        "PAYMENT_DISPUTED",
        "was decided for the buyer. The money is gone.",
    ),
    "dispute won": (
        lambda order: decide_at_bank(dispute_at_bank(order), "WON"),
        "PAYMENT_DISPUTED",
        "was decided for the shop. The money is ours.",
    ),
}


@pytest.mark.parametrize("what", NEWS)
def test_news_of_the_provider_is_shown_mailed_and_posted_once(
    make_product: MakeProduct,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    posted: list[dict[str, Any]] = []
    monkeypatch.setattr(alert_delivery, "_post", posted.append)
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:9/"
    settings.SHIPPING_COST = Decimal(0)
    happen, kind, words = NEWS[what]
    too_small = what == "start declined"
    price = Decimal("0.25") if too_small else Decimal("25.00")
    order = place((make_product(2, price=price), 1))
    if not too_small:
        at_bank(order, APPROVE)
        orders.settle(order.pk)
    happen(order)
    for _ in range(3):
        if not too_small:
            look_into(order)
        look()
        do_jobs("post_shop_alert")
    words = words.format(order.number)
    [content] = posted
    assert (content["kind"], content["order"]) == (kind, order.number)
    assert words in content["text"]
    [letter] = [each for each in mail.outbox if each.to == ["boss@example.org"]]
    assert words in letter.body
    assert order.number in letter.subject
    page = staff("merchant").get("/admin/").content.decode()
    assert f"{Kind(kind).label.capitalize()}, order {order.number}" in page
    acknowledge()
    look()
    is_over = kind in shop_alerts.NEWS and what != "disputed"
    assert opened() == ([] if is_over else [kind])
    assert len(posted) == 1


def acknowledge() -> None:
    ShopAlert.objects.open().update(acknowledged_at=timezone.now())


def test_a_dispute_is_one_alert_until_it_is_decided_and_another_is_another(
    make_product: MakeProduct,
) -> None:
    orders_of_two = [place((make_product(1), 1)) for _ in range(2)]
    for order in orders_of_two:
        at_bank(order, APPROVE)
        orders.settle(order.pk)
    disputes = [dispute_at_bank(order) for order in orders_of_two]
    for order in orders_of_two:
        look_into(order)
    look()
    assert opened() == [Kind.PAYMENT_DISPUTED] * 2
    decide_at_bank(disputes[0], "WON")
    look_into(orders_of_two[0])
    look()
    assert opened() == [Kind.PAYMENT_DISPUTED] * 2  # the decision, and the other dispute
    acknowledge()
    look()
    assert opened() == [Kind.PAYMENT_DISPUTED]
    decide_at_bank(disputes[1], "LOST")
    look_into(orders_of_two[1])
    acknowledge()
    look()
    assert opened() == []


def test_an_inquiry_that_becomes_a_dispute_is_mailed_again(
    paid: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in (DisputeStatus.INQUIRY, DisputeStatus.OPEN, DisputeStatus.OPEN):
        record = DisputeRecord("d", paid.total, status, paid.placed_at, "fraudulent")
        made = Statement(Outcome.PAID, disputes=(record,))
        monkeypatch.setattr(payments, "statement", lambda payment, made=made: made)
        look_into(paid)
        look()
    assert opened() == [Kind.PAYMENT_DISPUTED]
    letters = [str(each.body) for each in mail.outbox if each.to == ["boss@example.org"]]
    assert ["has taken back" in each for each in letters] == [False, True]
    assert "(“fraudulent”)" in letters[0]
    Dispute.objects.all().delete()


def test_a_payment_that_is_not_accepted_all_day_is_one_alert(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.SHIPPING_COST = Decimal(0)
    order = place((make_product(1, price=Decimal("0.25")), 1))
    for _ in range(4):
        start_in_vain(order)
        wait_after_no(order)
        look()
    assert (order.payments.count(), opened()) == (4, [Kind.START_DECLINED])
    assert len([each for each in mail.outbox if each.to == ["boss@example.org"]]) == 1


def test_a_wrong_key_is_one_alert_for_all_buyers(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decline(bank: DemoBank, payment: Payment) -> Started:
        raise payments.StartDeclined("Invalid API key.")

    monkeypatch.setattr(DemoBank, "start", decline)
    product = make_product(3)
    first, *_ = [place((product, 1), buyer=name) for name in "ABC"]
    for order in Order.objects.order_by("pk"):
        start_in_vain(order)
    alert = ShopAlert.objects.get()
    assert (alert.order, first.number in alert.text) == (first, True)


def test_acknowledging_other_trouble_does_not_end_it(paid: Order) -> None:
    decline_refund(paid)
    acknowledge()
    look()
    assert opened() == [Kind.REFUND_REFUSED]


# Background work


def a_job(task: str, status: str, **arguments: Any) -> int:
    jobs.queue(task, **arguments)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = %s WHERE status = 'todo'", [status])
        cursor.execute("SELECT max(id) FROM procrastinate_jobs")
        [job_id] = cursor.fetchone()
    return int(job_id)


def make_jobs_old() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = at - interval '1 hour'")


def test_e_mails_that_could_not_be_sent_raise_an_alert_and_are_tried_again(paid: Order) -> None:
    for _ in range(2):
        a_job("send_order_paid", "failed", order_id=paid.pk)
    a_job("send_order_shipped", "succeeded", order_id=paid.pk)
    assert_shown_and_mailed("2 e-mails of the kind send_order_paid failed")
    alert = ShopAlert.objects.get()
    assert paid.number in alert.text
    client = staff("merchant")
    page = reverse("admin:shop_shopalert_try_again", args=[alert.pk])
    answer = client.post(page, {"confirmed": "yes"}, follow=True).content.decode()
    assert "2 jobs will be tried once more." in answer
    look()
    assert opened() == []
    mail.outbox.clear()
    do_jobs("send_order_paid")
    assert [each.to for each in mail.outbox] == [[paid.email]] * 2


def test_an_e_mail_that_a_request_queued_raises_an_alert_too(paid: Order) -> None:
    """Its queueing lock carries the request's id, and is no sign of a job of every minute."""
    logs.begin("req-1")
    try:
        a_job("send_order_paid", "failed", order_id=paid.pk)
    finally:
        logs.begin("")
    assert_shown_and_mailed("1 e-mail of the kind send_order_paid failed")


def test_e_mails_that_fail_again_and_again_raise_an_alert_before_they_are_given_up(
    paid: Order,
) -> None:
    a_job("send_order_paid", "todo", order_id=paid.pk)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET attempts = 4")
    look()
    assert opened() == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET attempts = 5")
    assert_shown_and_mailed("1 e-mail of the kind send_order_paid failed.")
    do_jobs("send_order_paid")
    look()
    assert opened() == []


def test_e_mails_that_wait_for_the_mail_server_for_long_raise_an_alert(paid: Order) -> None:
    a_job("send_order_paid", "todo", order_id=paid.pk)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET attempts = 1, priority = -1")
        cursor.execute("UPDATE procrastinate_events SET type = 'deferred_for_retry'")
    look()
    assert opened() == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = at - interval '6 minutes'")
    assert_shown_and_mailed("1 e-mail of the kind send_order_paid failed.")
    do_jobs("send_order_paid")
    look()
    assert opened() == []


def test_the_e_mail_about_a_refund_that_could_not_be_sent_names_its_order(paid: Order) -> None:
    orders.refund(paid.pk)
    a_job("send_order_refunded", "failed", refund_id=Refund.objects.get().pk)
    look()
    assert paid.number in ShopAlert.objects.get(subject__endswith="send_order_refunded").text
    refunds.carry_out(Refund.objects.get().pk)


def test_a_job_that_is_done_every_minute_is_no_trouble_if_it_fails_once() -> None:
    for task in ("expire_lapsed", "check_law"):
        a_job(task, "failed", timestamp=0)
    a_job("carry_out_refund", "failed", refund_id=1)
    look()
    assert opened() == []


def test_another_job_that_failed() -> None:
    a_job("post_alert", "failed", alert_id=1)
    assert_shown_and_mailed("1 background job of the kind post_alert failed")


# The worker


@pytest.fixture
def sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the thread that sends alerts when no worker runs."""

    class WaitedFor(Thread):
        def start(self) -> None:
            super().start()
            self.join()

    monkeypatch.setattr(alert_delivery, "Thread", WaitedFor)


def beat(seconds_ago: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat)"
            " VALUES (statement_timestamp() - make_interval(secs => %s))",
            [seconds_ago],
        )


@pytest.mark.parametrize("address", ["/healthz", "/admin/"])
def test_the_web_server_reports_a_missing_worker_once(
    sent_at_once: None, client: Client, address: str
) -> None:
    viewer = client if address == "/healthz" else staff()
    jobs.queue("send_order_paid", order_id=1)
    viewer.get(address)
    assert opened() == []  # it has not waited for long
    make_jobs_old()
    for _ in range(3):
        assert viewer.get(address).status_code == 200
    [letter] = mail.outbox
    assert letter.to == ["boss@example.org"]
    assert "no worker runs" in letter.body
    assert "no worker runs" in staff("merchant").get("/admin/").content.decode()
    beat(10)
    viewer.get(address)
    assert opened() == []


def test_a_worker_without_a_sign_of_life_for_long_is_missing(
    sent_at_once: None, client: Client
) -> None:
    jobs.queue("send_order_paid", order_id=1)
    make_jobs_old()
    beat(600)
    client.get("/healthz")
    assert opened() == [Kind.WORKER_GONE]


def test_a_missing_worker_is_no_trouble_if_no_jobs_wait(client: Client) -> None:
    jobs.queue("send_order_paid", order_id=1, wait=timedelta(hours=2))
    make_jobs_old()
    client.get("/healthz")
    assert opened() == []


def test_many_processes_that_look_at_once_report_once(sent_at_once: None) -> None:
    jobs.queue("send_order_paid", order_id=1)
    make_jobs_old()
    at_once([lambda: alert_delivery.report_missing_worker(is_missing=True)] * 6)
    assert len(mail.outbox) == 1
    assert ShopAlert.objects.count() == 1


def test_a_mail_server_that_is_down_is_tried_again_later_and_hurts_no_page(
    sent_at_once: None, client: Client, settings: LazySettings
) -> None:
    jobs.queue("send_order_paid", order_id=1)
    make_jobs_old()
    good = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "no.such.Backend"
    assert client.get("/healthz").status_code == 200
    settings.EMAIL_BACKEND = good
    client.get("/healthz")
    assert mail.outbox == []
    ShopAlert.objects.update(tried_at=timezone.now() - timedelta(minutes=6))
    client.get("/healthz")
    assert len(mail.outbox) == 1


def test_a_worker_that_comes_and_goes_makes_one_alert(sent_at_once: None, client: Client) -> None:
    jobs.queue("send_order_paid", order_id=1)
    make_jobs_old()
    for _ in range(3):
        client.get("/healthz")
        beat(0)
        client.get("/healthz")
        assert opened() == []
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM procrastinate_workers")
    assert (len(mail.outbox), ShopAlert.objects.count()) == (1, 1)
    ShopAlert.objects.update(resolved_at=timezone.now() - timedelta(hours=2))
    client.get("/healthz")
    assert (len(mail.outbox), ShopAlert.objects.count()) == (2, 2)


# One alert, however many processes look


def test_processes_that_look_at_once_raise_one_alert(paid: Order) -> None:
    orders.refund(paid.pk)
    Refund.objects.update(state="FAILED", problem="No.")
    results = at_once([shop_alerts.check_all] * 6)
    assert [type(each) for each in results] == [list] * 6
    assert ShopAlert.objects.count() == 1
    assert sorted(at_once([alert_delivery.queue_new_alerts] * 4)) == [0, 0, 0, 1]


def test_an_alert_raised_while_a_process_looks_is_not_resolved(
    paid: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(paid.pk)
    decline()
    seen = shop_alerts._declined_refunds

    def look_and_be_late() -> Any:
        found = list(seen())
        refunds.carry_out(Refund.objects.get().pk)
        return found

    monkeypatch.setattr(shop_alerts, "_declined_refunds", look_and_be_late)
    shop_alerts.check_all()
    assert opened() == [Kind.REFUND_REFUSED]


def test_only_some_staff_may_see_and_acknowledge(paid: Order) -> None:
    orders.refund(paid.pk)
    decline()
    refunds.carry_out(Refund.objects.get().pk)
    alert = ShopAlert.objects.get()
    page = reverse("admin:shop_shopalert_acknowledge", args=[alert.pk])
    auditor, merchant = staff("auditor"), staff("merchant")
    change = reverse("admin:shop_shopalert_change", args=[alert.pk])
    assert paid.number in auditor.get(change).content.decode()
    assert auditor.post(page, {"confirmed": "yes"}).status_code == 403
    answer = merchant.post(page, {"confirmed": "yes"}, follow=True).content.decode()
    assert f"You have acknowledged “refund declined” of order {paid.number}." in answer
    assert 'class="banner"' not in answer
    assert "refund declined" in merchant.get("/admin/").content.decode().lower()
    assert opened() == [Kind.REFUND_REFUSED]
    found = merchant.get(reverse("admin:shop_shopalert_changelist"), {"q": paid.number})
    assert list(found.context["cl"].result_list) == [alert]


def test_a_webhook_gets_them_too(
    paid: Order, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[dict[str, object]] = []
    monkeypatch.setattr(alert_delivery, "_post", posted.append)
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:9/"
    orders.refund(paid.pk)
    decline()
    refunds.carry_out(Refund.objects.get().pk)
    look()
    do_jobs("post_shop_alert")
    [content] = posted
    assert (content["kind"], content["order"]) == ("REFUND_REFUSED", paid.number)


def test_a_provider_that_is_down_for_a_moment_is_no_trouble(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)

    def silent(payment: Payment) -> None:
        raise ProviderUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(payments, "status", silent)
        tasks.settle_pending(0)
        look()
    assert opened() == []
