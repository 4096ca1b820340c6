"""Stripe Checkout, by the real library before a stand-in that follows Stripe's documentation."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote_plus

import pytest
import stripe
from django.conf import LazySettings
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.views.debug import SafeExceptionReporterFilter

from shop import orders, payments, shop_alerts
from shop.middleware import provider_waits
from shop.models import Order, Payment, PaymentEvent, Refund, ShopAlert
from shop.orders import checkout, statements
from shop.orders.refunds import carry_out
from shop.payments import (
    Outcome,
    ProviderMisconfigured,
    ProviderUnavailable,
    RefundDeclined,
    RefundStatus,
    StartDeclined,
    answer_within,
)
from shop.payments import stripe as adapter
from shop.payments.base import DisputeStatus
from shop.payments.stripe_api import API_VERSION, read_amount, words_of
from tests.concurrency import at_once, of_kind
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper, alerts
from tests.shop.orders.steps import RETURN_URL, go_to_bank, now, place, stock_of, wait_after_no
from tests.stripe_standin import StripeStandin

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State
SESSIONS = "POST /v1/checkout/sessions"
LOOK_UP = "GET /v1/checkout/sessions/.*"
REFUNDS = "POST /v1/refunds"


@pytest.fixture(autouse=True)
def stripe_is_the_provider(
    stripe_standin: StripeStandin,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    money_and_goods_agree_after_each_test: None,
) -> None:
    # The library tries again as soon as it can, so that its tries cost no seconds.
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
    settings.PAYMENT_PROVIDER = "stripe"
    settings.STRIPE_SECRET_KEY = stripe_standin.secret_key
    settings.STRIPE_WEBHOOK_SECRET = stripe_standin.webhook_secret
    settings.STRIPE_API_BASE = stripe_standin.url
    settings.BASE_URL = "http://testserver"


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    """An order of 25.00 in all."""
    return place((make_product(5, price=Decimal("10.00")), 2))


@pytest.fixture
def payment(order: Order) -> Payment:
    """Its payment; the buyer is on Stripe's page."""
    go_to_bank(order)
    return order.payments.get()


@pytest.fixture
def paid_there(payment: Payment, stripe_standin: StripeStandin) -> Payment:
    """A payment that is paid, and the shop doesn't know yet."""
    stripe_standin.sessions.pay(payment.reference)
    return payment


@pytest.fixture
def paid(payment: Payment, stripe_standin: StripeStandin) -> Payment:
    stripe_standin.sessions.pay(payment.reference)
    orders.settle(payment.order_id)
    payment.refresh_from_db()
    return payment


@pytest.fixture
def refund(paid: Payment) -> Refund:
    """A refund of 2.00 that is due."""
    return due_refund(paid, "2.00")


def due_refund(payment: Payment, amount: str) -> Refund:
    orders.refund(payment.order_id, amount=Decimal(amount))
    return payment.refunds.latest("pk")


def end_time(payment: Payment) -> None:
    """Let the payment's time be over, by the database's clock alone."""
    Payment.objects.filter(pk=payment.pk).update(expires_at=Now())


def move_back(payment: Payment, **time: float) -> None:
    """Let the payment have been started so long ago."""
    ago = timedelta(**time)
    Payment.objects.filter(pk=payment.pk).update(
        started_at=F("started_at") - ago, expires_at=F("expires_at") - ago
    )
    payment.refresh_from_db()


def lose_start(order: Order, standin: StripeStandin, kind: Any = "answer_lost") -> Payment:
    """Start a payment whose answer is lost, whatever the library tries."""
    number = standin.faults.add(SESSIONS, kind, times=None)
    with pytest.raises(ProviderUnavailable):
        go_to_bank(order)
    standin.faults.remove(number)
    return order.payments.get()


# Starting


def test_a_payment_from_its_start_to_its_refund(
    order: Order, stripe_standin: StripeStandin
) -> None:
    url = go_to_bank(order)
    assert go_to_bank(order) == url
    payment = order.payments.get()
    assert url == stripe_standin.page_of(payment.reference)
    assert orders.settle(order.pk).state == State.PENDING
    stripe_standin.sessions.pay(payment.reference)
    assert orders.settle(order.pk).state == State.PAID
    orders.refund(order.pk)
    for _ in range(2):  # again: no second refund
        assert payments.refund(payment.refunds.get()) is RefundStatus.DONE
    assert stripe_standin.books.balance(payment.reference).refunded == 2500
    assert len(stripe_standin.refunds.all()) == 1


def test_the_session_says_all_of_the_payment(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    session = stripe_standin.sessions.get(payment.reference)
    end = int((payment.expires_at + timedelta(minutes=45)).timestamp())
    assert (session["amount_total"], session["currency"]) == (2500, "eur")
    assert (session["success_url"], session["cancel_url"]) == (RETURN_URL, RETURN_URL)
    assert session["payment_method_types"] == ["card"]
    assert session["customer_email"] == "a@example.org"
    assert session["client_reference_id"] == payment.order.number
    assert session["expires_at"] == end
    [request] = stripe_standin.requests.all(SESSIONS)
    goods = ", ".join(str(line) for line in payment.order.lines.all())
    assert f"[product_data][description]={quote_plus(goods)}" in request.form
    metadata = session["metadata"]
    assert (metadata["payment"], metadata["shop"]) == (str(payment.key), "http://testserver")
    pieces = [metadata[f"copy_{number}"] for number in range(len(metadata) - 2)]
    assert "".join(pieces) == payment.copy
    assert max(map(len, pieces)) <= 500
    stripe_standin.sessions.pay(payment.reference)
    [charge] = stripe_standin.books.charges()
    assert charge["metadata"] == {"payment": str(payment.key), "shop": "http://testserver"}
    assert {one.version for one in stripe_standin.requests.all()} == {API_VERSION}


def test_a_session_never_lasts_longer_than_stripe_lets_it(
    order: Order, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.PAYMENT_TIME = timedelta(hours=24)
    settings.HOLD_AT_MOST = timedelta(days=2)
    go_to_bank(order)
    [session] = stripe_standin.sessions.all()
    end = order.payments.get().started_at + timedelta(hours=23, minutes=50)
    assert session["expires_at"] == int(end.timestamp())


def test_an_order_that_is_corrected_meanwhile_starts_the_same_payment(
    order: Order, payment: Payment, stripe_standin: StripeStandin
) -> None:
    corrected = Order(**{**order.typed, "name": "Grace", "email": "grace@example.org"})
    assert checkout.correct_contact(order.pk, corrected)
    assert go_to_bank(now(order)) == stripe_standin.page_of(payment.reference)
    [session] = stripe_standin.sessions.all()
    assert session["customer_email"] == "a@example.org"


@pytest.mark.parametrize("email", ["a!b@example.org", "a@bücher.example"])
def test_an_address_that_stripe_may_refuse_is_typed_on_its_page(
    make_product: MakeProduct, stripe_standin: StripeStandin, email: str
) -> None:
    go_to_bank(place((make_product(), 1), email=email))
    [session] = stripe_standin.sessions.all()
    assert session["customer_email"] is None


def test_a_copy_that_is_too_long_for_stripe_is_left_out(
    order: Order, stripe_standin: StripeStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "MOST_PIECES", 0)
    go_to_bank(order)
    [session] = stripe_standin.sessions.all()
    assert set(session["metadata"]) == {"payment", "shop"}
    [listed] = payments.list_since("stripe", order.placed_at)
    assert listed.copy == ""


@pytest.mark.parametrize(
    ("copy", "is_kept"),
    [('"' * 20_000, True), ("ü" * 8_000, True), ("ü" * 9_000, False), ("x" * 20_001, False)],
)
def test_a_copy_makes_no_message_too_large_for_the_shop(
    order: Order, stripe_standin: StripeStandin, copy: str, is_kept: bool
) -> None:
    payment = lose_start(order, stripe_standin, "connection_closed")
    Payment.objects.update(copy=copy)
    go_to_bank(order)
    payment.refresh_from_db()
    assert completed(payment, stripe_standin) == 200
    [listed] = payments.list_since("stripe", order.placed_at)
    assert listed.copy == (copy if is_kept else "")


def test_a_lost_answer_opens_one_session(order: Order, stripe_standin: StripeStandin) -> None:
    lose_start(order, stripe_standin)
    url = go_to_bank(order)
    [session] = stripe_standin.sessions.all()
    assert url == session["url"]


@pytest.mark.parametrize(
    "kind",
    ["answer_lost", "connection_closed", "server_error", "unavailable", "rate_limited", "garbage"],
)
def test_trouble_at_stripe_leaves_everything_as_it_is(
    order: Order, stripe_standin: StripeStandin, kind: str
) -> None:
    payment = lose_start(order, stripe_standin, kind)
    assert payment.state == Payment.State.STARTED
    assert now(order).state == State.PENDING


def test_an_amount_below_stripes_smallest_is_declined(
    make_product: MakeProduct, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.SHIPPING_COST = Decimal(0)
    cheap = place((make_product(price=Decimal("0.30")), 1))
    with pytest.raises(StartDeclined, match=r"at least €0\.50"):
        go_to_bank(cheap)
    asked = len(stripe_standin.requests.all())
    assert payments.status(cheap.payments.get()) is Outcome.OPEN
    assert len(stripe_standin.requests.all()) == asked  # nobody can be there


def test_an_account_that_may_not_charge_declines(
    order: Order, stripe_standin: StripeStandin
) -> None:
    stripe_standin.account.restrict()
    with pytest.raises(StartDeclined, match="cannot currently make charges"):
        go_to_bank(order)
    stripe_standin.account.lift_restriction()
    wait_after_no(order)
    assert go_to_bank(order).startswith(stripe_standin.url)


def test_a_wrong_key_declines_and_is_never_shown(
    order: Order,
    stripe_standin: StripeStandin,
    settings: LazySettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_Ab12"
    with pytest.raises(StartDeclined, match="Invalid API Key") as declined:
        go_to_bank(order)
    assert "sk_test_Ab12" not in f"{declined.value} {caplog.text}"
    assert str(declined.value).endswith(". Look at the setting STRIPE_SECRET_KEY.")
    with pytest.raises(ProviderMisconfigured, match=r"\. Look at the setting STRIPE_SECRET_KEY\.$"):
        payments.list_since("stripe", order.placed_at)


def test_a_stripe_that_is_down_is_told_in_few_words(
    payment: Payment, settings: LazySettings
) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"  # nobody listens there
    with answer_within(5), pytest.raises(ProviderUnavailable) as down:
        payments.statement(payment)
    assert str(down.value) == "Stripe can't be reached."
    assert not isinstance(down.value, ProviderMisconfigured)


def test_long_words_of_stripe_end_with_a_whole_word() -> None:
    words = words_of(stripe.APIError("No such thing. " * 100))
    assert words.endswith((" such …", " No …", " thing. …"))
    assert len(words) <= 300


def test_words_of_stripe_have_no_key_and_no_address() -> None:
    """They are in alerts, which leave the shop."""
    said = words_of(stripe.APIError("No: ada@example.org, whsec_abcdefghijk"))
    assert said == "No: [e-mail], whsec_[…]."


def test_words_of_what_a_restricted_key_may_not_do() -> None:
    words = words_of(stripe.PermissionError("This key may not read disputes"))
    assert words == (
        "This key may not read disputes. Look in Stripe's dashboard at what the account and the "
        "key may do."
    )


@pytest.mark.parametrize("key", ["", "pk_test_1", "sk_test_1\nHost: x", "sk_test_ä"])
def test_a_key_of_the_wrong_form_is_sent_nowhere(
    order: Order, stripe_standin: StripeStandin, settings: LazySettings, key: str
) -> None:
    settings.STRIPE_SECRET_KEY = key
    with pytest.raises(StartDeclined, match="STRIPE_SECRET_KEY"):
        go_to_bank(order)
    assert stripe_standin.requests.all() == []


def test_a_buyer_who_may_be_on_the_page_is_not_declined(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.account.revoke_key(stripe_standin.secret_key)
    with pytest.raises(ProviderUnavailable, match="doesn't let us in"):
        payments.start(payment)


def test_a_currency_without_cents_is_declined_unasked(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.requests.clear()
    for currency in ("JPY", "KWD"):
        payment.currency = currency
        with pytest.raises(StartDeclined, match=currency):
            payments.start(payment)
    assert stripe_standin.requests.all() == []


@pytest.mark.parametrize(
    ("amount", "minor"), [("0.50", 50), ("1.15", 115), ("999999.99", 99999999)]
)
def test_amounts_are_exact(amount: str, minor: int) -> None:
    assert adapter._minor_units(Decimal(amount)) == minor
    assert read_amount(minor) == Decimal(amount)


def test_other_parameters_by_the_same_key_are_a_fault_in_the_log(
    payment: Payment, caplog: pytest.LogCaptureFixture
) -> None:
    payment.amount += 1
    with pytest.raises(ProviderUnavailable, match="same parameters"):
        payments.start(payment)
    assert "another request by this key" in caplog.text


ANSWERS = [
    b"",
    b"null",
    b"[]",
    b'"cs_1"',
    b"{}",
    b'{"id": "cs_1"}',
    b'{"id": 1, "url": "https://x/"}',
    b'{"id": "cs_1", "url": null}',
    b'{"id": "cs_1", "url": "javascript:alert()"}',
    b'{"id": "cs\\u0000", "url": "https://x/"}',
    b'{"error": []}',
    b"\xff",
    b"[" * 50_000,
    b'{"id":' * 20_000,
]


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_without_sense_decides_nothing(
    payment: Payment, monkeypatch: pytest.MonkeyPatch, answer: bytes, status: int
) -> None:
    def request(*args: Any, **kwargs: Any) -> tuple[bytes, int, dict[str, str]]:
        return answer, status, {}

    monkeypatch.setattr(stripe.RequestsClient, "request", request)
    with pytest.raises(ProviderUnavailable):
        payments.start(payment)
    with pytest.raises(ProviderUnavailable):
        payments.status(payment)


# How it ended


def test_after_its_time_a_payment_is_ended(payment: Payment, stripe_standin: StripeStandin) -> None:
    end_time(payment)
    assert payments.status(payment) is Outcome.DECLINED
    assert stripe_standin.sessions.get(payment.reference)["status"] == "expired"


def test_the_buyer_pays_at_the_moment_of_the_end(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    end_time(payment)
    stripe_standin.faults.hook(
        "POST .*/expire", before=lambda _: stripe_standin.sessions.pay(payment.reference)
    )
    assert payments.status(payment) is Outcome.PAID


def test_complete_does_not_mean_paid(payment: Payment, stripe_standin: StripeStandin) -> None:
    stripe_standin.sessions.pay_later(payment.reference)
    assert payments.status(payment) is Outcome.OPEN
    stripe_standin.sessions.settle(payment.reference)
    assert payments.status(payment) is Outcome.PAID


def test_a_declined_card_leaves_the_payment_open(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.sessions.decline_card(payment.reference)
    assert payments.status(payment) is Outcome.OPEN


def test_a_session_whose_answer_was_lost_is_ended_in_time(
    order: Order, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.PAYMENT_TIME = timedelta(milliseconds=1)
    payment = lose_start(order, stripe_standin)
    assert payments.status(payment) is Outcome.DECLINED
    [session] = stripe_standin.sessions.all()
    assert session["status"] == "expired"


def test_a_session_that_was_never_made_can_not_be_made_too_late(
    order: Order, stripe_standin: StripeStandin
) -> None:
    payment = lose_start(order, stripe_standin, "connection_closed")
    stripe_standin.clock.advance(45 * 60)
    assert payments.status(payment) is Outcome.OPEN
    end_time(payment)
    assert payments.status(payment) is Outcome.DECLINED
    assert stripe_standin.sessions.all() == []


def test_no_second_session_is_made_when_stripe_may_have_forgotten_the_key(
    order: Order, stripe_standin: StripeStandin
) -> None:
    payment = lose_start(order, stripe_standin)
    stripe_standin.keys.forget()
    Payment.objects.update(started_at=F("started_at") - timedelta(hours=21))
    payment.refresh_from_db()
    assert payments.status(payment) is Outcome.OPEN
    end_time(payment)
    assert payments.status(payment) is Outcome.DECLINED
    assert len(stripe_standin.sessions.all()) == 1


def test_money_is_found_by_a_payment_that_lost_its_reference_with_the_database(
    paid_there: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.keys.forget()
    move_back(paid_there, hours=21)
    paid_there.reference = ""
    assert payments.status(paid_there) is Outcome.PAID
    assert payments.statement(paid_there).fee is not None
    assert len(stripe_standin.sessions.all()) == 1


def test_another_accounts_key_says_nothing_of_the_payment(
    payment: Payment, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.STRIPE_SECRET_KEY = stripe_standin.live_secret_key
    with pytest.raises(ProviderUnavailable, match="No such checkout"):
        payments.status(payment)


# Time


def test_stripe_is_not_listened_to_for_longer_than_somebody_waits(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    """Each byte comes in time, so that no timeout of the connection ends it."""
    stripe_standin.faults.add(LOOK_UP, "drip", seconds=5)
    with answer_within(0.5), pytest.raises(ProviderUnavailable, match="in time"):
        payments.status(payment)
    assert payments.status(payment) is Outcome.OPEN


def test_a_buyer_reads_in_time_that_stripe_is_slow_and_pays_once(
    make_product: MakeProduct, stripe_standin: StripeStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer, product = Shopper(), make_product(5)
    buyer.reserve(product)
    form = buyer.checkout_form()
    with monkeypatch.context() as patched:
        patched.setattr(provider_waits, "TO_ACT", 0.5)
        patched.setattr(provider_waits, "TO_LOOK", 0.5)
        stripe_standin.faults.add(".*", "drip", seconds=5, times=None)
        page = buyer.client.post("/checkout/", form, follow=True)
    assert alerts(page)[0].startswith("The bank can't be reached at the moment.")
    assert stock_of(product) == 4
    stripe_standin.faults.clear()
    answer = buyer.pay(Order.objects.get())
    [session] = stripe_standin.sessions.all()
    assert answer["Location"] == session["url"]


def test_a_form_and_the_page_that_it_leads_to_share_the_time_of_one_buyer(
    payment: Payment, stripe_standin: StripeStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provider_waits.TO_ACT + provider_waits.TO_LOOK <= 8  # of ten
    buyer = Shopper()
    assert "The bank doesn't answer" not in buyer.look(payment.order)
    monkeypatch.setattr(provider_waits, "TO_LOOK", 0)
    assert "The bank doesn't answer" in buyer.look(payment.order)
    assert buyer.pay(payment.order)["Location"] == stripe_standin.page_of(payment.reference)
    monkeypatch.setattr(provider_waits, "TO_ACT", 0)
    assert buyer.pay(payment.order)["Location"].startswith("/orders/")


def test_without_time_nothing_is_asked(payment: Payment, stripe_standin: StripeStandin) -> None:
    stripe_standin.requests.clear()
    with answer_within(0), pytest.raises(ProviderUnavailable, match="No time is left"):
        payments.status(payment)
    assert stripe_standin.requests.all() == []


@pytest.mark.parametrize(("seconds", "attempts"), [(5.0, 2), (None, 3)])
def test_a_connection_that_breaks_is_tried_again(
    payment: Payment, stripe_standin: StripeStandin, seconds: float | None, attempts: int
) -> None:
    def status() -> Outcome:
        if seconds is None:
            return payments.status(payment)
        with answer_within(seconds):
            return payments.status(payment)

    stripe_standin.faults.add(LOOK_UP, "connection_closed", times=attempts - 1)
    assert status() is Outcome.OPEN
    stripe_standin.faults.add(LOOK_UP, "connection_closed", times=attempts)
    with pytest.raises(ProviderUnavailable):
        status()


def test_error_pages_do_not_show_the_secrets() -> None:
    shown = SafeExceptionReporterFilter().get_safe_settings()
    assert shown["STRIPE_SECRET_KEY"] == shown["STRIPE_WEBHOOK_SECRET"] == "*" * 20


def test_the_library_reports_nothing_about_this_machine() -> None:
    assert stripe.enable_telemetry is False


# Refunds


@pytest.mark.parametrize("kind", ["answer_lost", "server_error"])
def test_a_refund_whose_answer_is_lost_happens_once(
    refund: Refund, stripe_standin: StripeStandin, kind: Any
) -> None:
    number = stripe_standin.faults.add(REFUNDS, kind, times=None, done=True)
    with pytest.raises(ProviderUnavailable):
        payments.refund(refund)
    stripe_standin.faults.remove(number)
    stripe_standin.keys.forget()  # a day later
    assert payments.refund(refund) is RefundStatus.DONE
    assert [made["amount"] for made in stripe_standin.refunds.all()] == [200]


def test_workers_at_once_give_back_once(refund: Refund, stripe_standin: StripeStandin) -> None:
    answers = at_once([lambda: payments.refund(refund)] * 4)
    busy = of_kind(answers, ProviderUnavailable)
    assert set(answers) - set(busy) == {RefundStatus.DONE}
    assert len(stripe_standin.refunds.all()) == 1


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_a_refund_that_stripe_has_only_accepted(
    refund: Refund, stripe_standin: StripeStandin, status: str
) -> None:
    stripe_standin.refunds.begin_as(status)
    for _ in range(2):
        assert payments.refund(refund) is RefundStatus.PENDING
    [made] = stripe_standin.refunds.all()
    stripe_standin.refunds.succeed(made["id"])
    assert payments.refund(refund) is RefundStatus.DONE


def test_a_refund_that_failed_counts_as_declined_for_its_own_attempt_alone(
    refund: Refund, stripe_standin: StripeStandin
) -> None:
    assert payments.refund(refund) is RefundStatus.DONE
    [made] = stripe_standin.refunds.all()
    stripe_standin.refunds.fail(made["id"], "lost_or_stolen_card")
    with pytest.raises(RefundDeclined, match="The buyer's card was lost or stolen"):
        payments.refund(refund)
    refund.attempt += 1
    assert payments.refund(refund) is RefundStatus.DONE
    assert [made["status"] for made in stripe_standin.refunds.all()] == ["failed", "succeeded"]
    refund.attempt -= 1  # of a backup that was restored
    assert payments.refund(refund) is RefundStatus.DONE


def test_a_refund_that_fails_at_once_is_declined(
    refund: Refund, stripe_standin: StripeStandin
) -> None:
    stripe_standin.refunds.begin_as("failed")
    with pytest.raises(RefundDeclined, match="The buyer's bank has declined it"):
        payments.refund(refund)


def test_a_refund_of_another_amount_is_declined(
    refund: Refund, stripe_standin: StripeStandin
) -> None:
    assert payments.refund(refund) is RefundStatus.DONE
    refund.amount = Decimal("3.00")
    with pytest.raises(RefundDeclined, match=r"given 2\.00 back"):
        payments.refund(refund)
    assert len(stripe_standin.refunds.all()) == 1


def test_a_refund_of_more_than_is_left_is_declined(
    refund: Refund, stripe_standin: StripeStandin
) -> None:
    stripe_standin.refunds.dashboard(refund.payment.reference, 2400)
    with pytest.raises(RefundDeclined, match="greater than unrefunded amount"):
        payments.refund(refund)


def test_a_refund_of_a_disputed_payment_is_declined(
    refund: Refund, stripe_standin: StripeStandin
) -> None:
    stripe_standin.disputes.open(refund.payment.reference)
    with pytest.raises(RefundDeclined, match="charged back"):
        payments.refund(refund)


def test_a_payment_without_a_charge_has_nothing_to_give_back(payment: Payment) -> None:
    refund = Refund(payment=payment, key="never", amount=Decimal("1.00"))
    with pytest.raises(RefundDeclined, match="charged nothing"):
        payments.refund(refund)


def test_a_key_that_is_locked_out_leaves_the_refund_due(
    refund: Refund, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.STRIPE_SECRET_KEY = "rk_test_standin"
    stripe_standin.account.deny(REFUNDS)
    with pytest.raises(ProviderUnavailable, match="permissions"):
        carry_out(refund.pk)
    refund.refresh_from_db()
    assert refund.state == Refund.State.DUE


def test_refunds_are_found_on_all_pages(refund: Refund, stripe_standin: StripeStandin) -> None:
    assert payments.refund(refund) is RefundStatus.DONE
    for _ in range(130):
        stripe_standin.refunds.dashboard(refund.payment.reference, 1)
    stripe_standin.keys.forget()
    assert payments.refund(refund) is RefundStatus.DONE
    records = payments.statement(refund.payment).refunds
    assert (len(records), records[0].key) == (131, refund.key)


# Statements


def test_a_statement_tells_refunds_by_their_makers(
    refund: Refund, stripe_standin: StripeStandin
) -> None:
    payments.refund(refund)
    made = stripe_standin.refunds.dashboard(refund.payment.reference, 100)
    stripe_standin.refunds.fail(made["id"], "declined")
    ours, other = payments.statement(refund.payment).refunds
    assert (ours.key, ours.attempt, ours.copy) == (refund.key, 1, refund.copy)
    assert (ours.amount, ours.status, ours.problem) == (Decimal("2.00"), RefundStatus.DONE, "")
    assert (other.key, other.attempt, other.copy) == ("", 0, "")
    assert (other.amount, other.status) == (Decimal("1.00"), RefundStatus.FAILED)
    assert other.problem == "The buyer's bank has declined it."
    assert refund.copy != ""


def test_a_statement_before_and_after_the_payment(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    assert payments.statement(payment) == payments.Statement(Outcome.OPEN)
    stripe_standin.sessions.pay(payment.reference)
    statement = payments.statement(payment)
    [charge] = stripe_standin.books.charges()
    intent = stripe_standin.sessions.get(payment.reference)["payment_intent"]
    assert statement.outcome is Outcome.PAID
    assert statement.page == f"https://dashboard.stripe.com/test/payments/{intent}"
    assert (statement.fee, statement.fee_currency) == (fee_of(charge, stripe_standin), "EUR")
    assert (statement.refunds, statement.disputes) == ((), ())


def test_a_fee_that_stripe_knows_later_comes_with_a_message(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.sessions.pay(payment.reference, booked=False)
    orders.settle(payment.order_id)
    statements.look_into(payment.pk)
    payment.refresh_from_db()
    assert payment.fee is None
    stripe_standin.sessions.book(payment.reference)
    [booked] = stripe_standin.webhooks.queued("charge.updated")
    assert post(*stripe_standin.webhooks.sign(booked.body)) == 200
    [charge] = stripe_standin.books.charges()
    payment.refresh_from_db()
    assert payment.fee == fee_of(charge, stripe_standin)


def fee_of(charge: dict[str, Any], standin: StripeStandin) -> Decimal:
    booked = standin.ledger.get(charge["balance_transaction"], "balance_transaction")
    return Decimal(booked["fee"]) / 100


def test_the_dashboard_of_real_money_has_another_address(
    order: Order, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.STRIPE_SECRET_KEY = stripe_standin.live_secret_key
    go_to_bank(order)
    payment = order.payments.get()
    stripe_standin.sessions.pay(payment.reference)
    page = payments.statement(payment).page
    assert page.startswith("https://dashboard.stripe.com/payments/pi_")


def test_an_inquiry_that_is_closed(paid: Payment, stripe_standin: StripeStandin) -> None:
    dispute = stripe_standin.disputes.open(paid.reference, reason="not_received", inquiry=True)
    [record] = payments.statement(paid).disputes
    assert (record.reference, record.amount) == (dispute["id"], Decimal("25.00"))
    assert (record.status, record.reason) == (DisputeStatus.INQUIRY, "not received")
    stripe_standin.disputes.answer(dispute["id"])
    assert dispute_status(paid) is DisputeStatus.INQUIRY
    stripe_standin.disputes.close_inquiry(dispute["id"])
    assert dispute_status(paid) is DisputeStatus.WON


@pytest.mark.parametrize(
    ("end", "status"), [("win", DisputeStatus.WON), ("lose", DisputeStatus.LOST)]
)
def test_a_dispute_from_its_opening_to_its_end(
    paid: Payment, stripe_standin: StripeStandin, end: str, status: DisputeStatus
) -> None:
    dispute = stripe_standin.disputes.open(paid.reference, 1000)["id"]
    assert dispute_status(paid) is DisputeStatus.OPEN
    stripe_standin.disputes.answer(dispute)
    assert dispute_status(paid) is DisputeStatus.OPEN
    getattr(stripe_standin.disputes, end)(dispute)
    assert dispute_status(paid) is status


def test_a_dispute_that_stripe_prevents_with_our_money(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.disputes.prevent(paid.reference)
    assert dispute_status(paid) is DisputeStatus.LOST


def dispute_status(payment: Payment) -> DisputeStatus:
    [record] = payments.statement(payment).disputes
    return record.status


@pytest.mark.parametrize(
    ("status", "changes", "expected"),
    [
        ("prevented", [], DisputeStatus.WON),
        ("prevented", [-1000], DisputeStatus.LOST),
        ("prevented", [-1000, 1000], DisputeStatus.WON),
        ("appeal_under_review", [-1000], DisputeStatus.OPEN),
    ],
)
def test_disputes_that_the_stand_in_does_not_know(
    status: str, changes: list[int], expected: DisputeStatus
) -> None:
    booked = [{"amount": amount} for amount in changes]
    dispute = {"status": status, "balance_transactions": booked}
    assert adapter._dispute_status(dispute) is expected


# The list of payments


def test_the_list_has_what_was_started_refunded_or_disputed_since(
    make_product: MakeProduct, stripe_standin: StripeStandin
) -> None:
    product = make_product(20, price=Decimal("10.00"))

    def pay() -> Payment:
        order = place((product, 1))
        go_to_bank(order)
        payment = order.payments.get()
        stripe_standin.sessions.pay(payment.reference)
        orders.settle(order.pk)
        return payment

    _untouched, refunded, disputed = pay(), pay(), pay()
    stripe_standin.clock.advance(600)
    since = datetime.fromtimestamp(stripe_standin.clock.now(), UTC)
    new = pay()
    stripe_standin.clock.advance(60)
    open_ = place((product, 1))
    go_to_bank(open_)
    for payment in (refunded, new):
        stripe_standin.refunds.dashboard(payment.reference, 100)
        stripe_standin.refunds.dashboard(payment.reference, 100)
    stripe_standin.disputes.open(disputed.reference, 100)

    listed = list(payments.list_since("stripe", since))
    keys = [payment.key for payment in listed]
    assert set(keys[:2]) == {refunded.key, disputed.key}
    assert keys[2:] == [new.key, open_.payments.get().key]
    for found in listed:
        payment = Payment.objects.get(key=found.key)
        assert (found.reference, found.copy) == (payment.reference, payment.copy)
        assert (found.amount, found.currency) == (payment.amount, "EUR")
        assert found.statement == payments.statement(payment)
    assert len(listed[2].statement.refunds) == 2


def test_the_list_leaves_out_others_who_use_the_account(
    paid: Payment, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    client = stripe.StripeClient(
        stripe_standin.secret_key, base_addresses={"api": stripe_standin.url}
    )
    session = stripe_standin.sessions.get(paid.reference)
    key = "0f5ff846-9e5f-4a80-9f0d-3f4c0dbf5f11"
    for metadata in (
        {},
        {"payment": key, "shop": "https://other.example"},
        {"payment": key},
        {"payment": "7", "shop": "http://testserver"},
    ):
        parameters: Any = {
            "mode": "payment",
            "success_url": "https://other.example/",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "eur",
                        "unit_amount": 1000,
                        "product_data": {"name": "Other"},
                    },
                }
            ],
            "metadata": metadata,
            "payment_intent_data": {"metadata": metadata},
        }
        other = client.v1.checkout.sessions.create(parameters).id
        stripe_standin.sessions.pay(other)
        stripe_standin.refunds.dashboard(other, 100)
        stripe_standin.disputes.open(other, 100)
    since = datetime.fromtimestamp(session["created"], UTC)
    [listed] = payments.list_since("stripe", since)
    assert listed.key == paid.key


@pytest.mark.parametrize("is_older", [False, True])
def test_one_odd_payment_keeps_no_other_from_the_list(
    paid: Payment,
    make_product: MakeProduct,
    stripe_standin: StripeStandin,
    monkeypatch: pytest.MonkeyPatch,
    is_older: bool,
) -> None:
    since = paid.started_at
    if is_older:
        stripe_standin.clock.advance(600)
        since = datetime.fromtimestamp(stripe_standin.clock.now(), UTC)
    other = place((make_product(5), 1), buyer="B")
    go_to_bank(other)
    stripe_standin.refunds.dashboard(paid.reference, 100)
    monkeypatch.delitem(adapter.REFUND_STATUSES, "succeeded")  # Stripe has a new one
    listed = {payment.key: payment for payment in payments.list_since("stripe", since)}
    assert listed[paid.key].problem == "Stripe's answer about it makes no sense."
    assert listed[other.payments.get().key].problem == ""


@pytest.mark.parametrize(
    ("base_url", "has_payment", "expected"),
    [
        ("https://new.example", True, 1),  # the shop has moved since
        ("http://testserver", False, 1),  # the backup is older than its first payment
        ("https://new.example", False, 0),
    ],
)
def test_the_shop_knows_its_own_by_its_address(
    paid: Payment, settings: LazySettings, base_url: str, has_payment: bool, expected: int
) -> None:
    settings.BASE_URL = base_url
    if not has_payment:
        Payment.objects.update(provider="demo")
    assert len(list(payments.list_since("stripe", paid.started_at))) == expected
    Payment.objects.update(provider="stripe")


# Messages


def post(body: bytes, signature: str) -> int:
    address = reverse("payment-events", args=["stripe"])
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    headers = {"Stripe-Signature": signature}
    return client.post(address, body, "application/json", headers=headers).status_code


def completed(payment: Payment, standin: StripeStandin, **how: Any) -> int:
    """Deliver the message that the payment's session is complete; return the answer's status."""
    session = standin.sessions.get(payment.reference)
    return post(*standin.webhooks.event("checkout.session.completed", session, **how))


def test_a_message_settles_the_order(paid_there: Payment, stripe_standin: StripeStandin) -> None:
    for _ in range(2):
        assert completed(paid_there, stripe_standin, id="evt_1") == 200
    assert now(paid_there.order).state == State.PAID
    event = PaymentEvent.objects.get()
    assert (event.event_id, event.kind) == ("evt_1", "checkout.session.completed")


def test_a_message_is_a_reason_to_ask_not_the_truth(
    payment: Payment, stripe_standin: StripeStandin
) -> None:
    session = stripe_standin.sessions.get(payment.reference)
    session.update(payment_status="paid", status="complete")
    assert post(*stripe_standin.webhooks.event("checkout.session.completed", session)) == 200
    assert now(payment.order).state == State.PENDING


@pytest.mark.parametrize(("ago", "status"), [(290, 200), (-290, 200), (310, 400), (-310, 400)])
def test_a_message_must_be_recent_in_both_directions(
    paid_there: Payment, stripe_standin: StripeStandin, ago: int, status: int
) -> None:
    assert completed(paid_there, stripe_standin, at=int(time.time()) - ago) == status
    assert now(paid_there.order).state == (State.PAID if status == 200 else State.PENDING)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_web_machine_whose_clock_is_wrong_takes_messages(
    paid_there: Payment, stripe_standin: StripeStandin, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = stripe_standin.sessions.get(paid_there.reference)
    message = stripe_standin.webhooks.event("checkout.session.completed", session)
    wrong = time.time() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: wrong)
    assert post(*message) == 200
    assert now(paid_there.order).state == State.PAID


def test_forged_messages_change_nothing(paid_there: Payment, stripe_standin: StripeStandin) -> None:
    session = stripe_standin.sessions.get(paid_there.reference)
    body, good = stripe_standin.webhooks.event("checkout.session.completed", session)
    at, _, digest = good.partition(",v1=")
    for signature in (
        "",
        "t=,v1=",
        f"v1={digest}",
        at,
        f"{at},v0={digest}",
        f"{at},v1={digest[::-1]}",
        f"{at},v1=é",
        f"t={int(time.time()) + 1},v1={digest}",
        f"t={'9' * 5000},v1={digest}",
        f"t=x,v1={digest}",
        f"{at},{at},v1={digest}",
        f"{at},t=1,v1={digest}",
    ):
        assert post(body, signature) == 400, signature
    assert post(body + b" ", good) == 400
    assert completed(paid_there, stripe_standin, secret="whsec_other") == 400
    assert now(paid_there.order).state == State.PENDING
    assert not PaymentEvent.objects.exists()


@pytest.mark.parametrize("secret", ["", " ", "whsec_", "sk_test_standin"])
def test_without_a_secret_every_message_could_be_forged(
    paid_there: Payment, stripe_standin: StripeStandin, settings: LazySettings, secret: str
) -> None:
    settings.STRIPE_WEBHOOK_SECRET = secret
    session = stripe_standin.sessions.get(paid_there.reference)
    body, _ = stripe_standin.webhooks.event("checkout.session.completed", session)
    forged = stripe.WebhookSignature.generate_signature_header(body.decode(), secret)
    assert post(body, forged) == 400
    assert now(paid_there.order).state == State.PENDING


def test_a_wrong_secret_raises_an_alert_until_a_message_is_genuine(
    paid_there: Payment, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    settings.STRIPE_WEBHOOK_SECRET = "whsec_of_another_endpoint"
    assert completed(paid_there, stripe_standin) == 400
    orders.settle(paid_there.order_id)
    hour = timedelta(hours=1)
    Payment.objects.update(decided_at=F("decided_at") - hour, started_at=F("started_at") - hour)
    shop_alerts.check_all()
    alert = ShopAlert.objects.get()
    assert "/payments/stripe/events/, and that STRIPE_WEBHOOK_SECRET is their secret" in alert.text
    settings.STRIPE_WEBHOOK_SECRET = stripe_standin.webhook_secret
    assert completed(paid_there, stripe_standin) == 200
    shop_alerts.check_all()
    assert not ShopAlert.objects.open().exists()


def test_while_the_secret_is_changed_both_count(
    paid_there: Payment, stripe_standin: StripeStandin, settings: LazySettings
) -> None:
    stripe_standin.webhooks.roll_secret("whsec_new")
    assert completed(paid_there, stripe_standin) == 200
    settings.STRIPE_WEBHOOK_SECRET = "whsec_new"
    assert completed(paid_there, stripe_standin) == 200
    stripe_standin.webhooks.drop_old_secret()
    assert completed(paid_there, stripe_standin) == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"1",
        b"9" * 5000,
        b"[" * 50_000,
        b"{}",
        b'{"id": "evt_1"}',
        b'{"id": 1, "type": "x", "livemode": false, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": 1, "livemode": false, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "livemode": 0, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "livemode": false, "data": []}',
        b'{"id": "evt_1", "type": "x", "livemode": false, "data": {"object": []}}',
        b'{"id": "", "type": "x", "livemode": false, "data": {"object": {}}}',
        b'{"id": "a\\u0000", "type": "x", "livemode": false, "data": {"object": {}}}',
        b'{"id": "\\ud800", "type": "x", "livemode": false, "data": {"object": {}}}',
        json.dumps(
            {"id": "x" * 201, "type": "x", "livemode": False, "data": {"object": {}}}
        ).encode(),
    ],
)
def test_a_genuine_message_that_makes_no_sense_is_refused(
    stripe_standin: StripeStandin, body: bytes
) -> None:
    at = int(time.time())
    digest = stripe_standin.webhooks.sign(body, at=at).signature
    assert post(body, digest) == 400
    assert stripe_standin.requests.all() == []


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"payment": 7}},
        {"metadata": {"payment": "7"}},
        {"metadata": {"payment": "\u0000"}},
        {"metadata": {"payment": "0f5ff846-9e5f-4a80-9f0d-3f4c0dbf5f11"}},
        {"payment_intent": 7},
        {"payment_intent": []},
        {"payment_intent": {"id": {"id": "pi_1"}}},
        {"payment_intent": "pi_../../x"},
        {"payment_intent": "pi_of_another_account"},
        {"metadata": {"payment": ["x"] * 50}, "payment_intent": {}},
    ],
)
def test_a_genuine_message_about_no_payment_of_ours_is_taken_and_changes_nothing(
    payment: Payment, stripe_standin: StripeStandin, about: dict[str, Any]
) -> None:
    stripe_standin.requests.clear()
    assert post(*stripe_standin.webhooks.event("some.kind", about)) == 200
    assert not PaymentEvent.objects.exists()
    is_asked = about.get("payment_intent") == "pi_of_another_account"
    assert len(stripe_standin.requests.all()) == is_asked


def test_a_message_of_the_other_mode_is_not_ours(
    paid_there: Payment, stripe_standin: StripeStandin, caplog: pytest.LogCaptureFixture
) -> None:
    session = {**stripe_standin.sessions.get(paid_there.reference), "livemode": True}
    assert post(*stripe_standin.webhooks.event("checkout.session.completed", session)) == 200
    assert now(paid_there.order).state == State.PENDING
    assert "other mode" in caplog.text


def test_money_that_goes_in_the_dashboard_is_found_by_its_payment(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.webhooks.drop_queued()
    made = stripe_standin.refunds.dashboard(paid.reference, 300)
    dispute = stripe_standin.disputes.open(paid.reference, 100)
    [refund_created] = stripe_standin.webhooks.queued("refund.created")
    [dispute_created] = stripe_standin.webhooks.queued("charge.dispute.created")
    assert "payment" not in {**made["metadata"], **dispute["metadata"]}
    assert post(*stripe_standin.webhooks.sign(refund_created.body)) == 200
    assert post(*stripe_standin.webhooks.sign(dispute_created.body)) == 200
    assert paid.refunds.get().amount == Decimal("3.00")
    assert paid.disputes.get().amount == Decimal("1.00")
    assert paid.events.count() == 2


def test_while_stripe_can_not_be_asked_the_message_is_not_used_up(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    made = stripe_standin.refunds.dashboard(paid.reference, 300)
    message = stripe_standin.webhooks.event("refund.created", made)
    number = stripe_standin.faults.add("GET /v1/payment_intents/.*", "unavailable", times=None)
    assert post(*message) == 503
    stripe_standin.faults.remove(number)
    assert post(*message) == 200
    assert paid.refunds.get().amount == Decimal("3.00")


def test_what_a_message_missed_is_found_by_the_worker(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    stripe_standin.refunds.dashboard(paid.reference, 300)
    statements.look_into_recent()
    assert paid.refunds.get().amount == Decimal("3.00")


def test_a_dispute_of_an_old_payment_is_found_at_night(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    grow_old(paid, stripe_standin, days=60)
    dispute = stripe_standin.disputes.open(paid.reference)
    statements.look_into_recent()
    assert paid.disputes.get().reference == dispute["id"]
    assert now(paid.order).kept() == 0


def test_a_refund_of_an_old_payment_is_found_at_night_and_so_is_its_failure_weeks_later(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    grow_old(paid, stripe_standin, days=60)
    made = stripe_standin.refunds.dashboard(paid.reference, 300)
    statements.look_into_recent()
    assert now(paid.order).kept() == Decimal("22.00")
    grow_old(paid, stripe_standin, days=30)
    stripe_standin.refunds.fail(made["id"])
    statements.look_into_recent()
    assert now(paid.order).kept() == Decimal("25.00")


def test_the_end_of_a_dispute_is_found_at_night_however_long_it_took(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    dispute = stripe_standin.disputes.open(paid.reference)
    statements.look_into_recent()
    grow_old(paid, stripe_standin, days=100)
    stripe_standin.disputes.win(dispute["id"])
    statements.look_into_recent()
    assert paid.disputes.get().state == "WON"
    assert now(paid.order).kept() == Decimal("25.00")


def test_a_dispute_that_can_not_be_looked_up_hinders_no_other(
    paid: Payment, stripe_standin: StripeStandin
) -> None:
    dispute = stripe_standin.disputes.open(paid.reference)
    statements.look_into_recent()
    stripe_standin.disputes.lose(dispute["id"])
    unknown = Payment.objects.create(
        order=paid.order,
        provider="former",
        amount=1,
        currency="EUR",
        state="PAID",
        return_url=RETURN_URL,
        started_at=paid.started_at - timedelta(days=100),
        expires_at=paid.expires_at,
    )
    forgotten = unknown.disputes.create(
        reference="d", amount=1, state="OPEN", opened_at=paid.started_at
    )
    grow_old(paid, stripe_standin, days=100)
    statements.look_into_recent()
    assert paid.disputes.get().state == "LOST"
    forgotten.delete()
    unknown.delete()


def grow_old(payment: Payment, standin: StripeStandin, *, days: int) -> None:
    """Let all that there is be older by so many days, here and at the stand-in."""
    move_back(payment, days=days)
    for kind in ("checkout.session", "payment_intent", "charge", "refund", "dispute"):
        for each in standin.ledger.all(kind):
            each["created"] -= days * 24 * 60 * 60


# Pages


def test_the_checkout_says_where_the_buyer_pays(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    buyer = Shopper()
    buyer.reserve(make_product())
    assert "You pay on Stripe’s own page." in buyer.get("/checkout/")
    settings.PAYMENT_PROVIDER = "demo"
    assert "You pay on Demo bank’s own page." in buyer.get("/checkout/")


def test_forms_may_lead_to_stripes_pages(client: Client, settings: LazySettings) -> None:
    assert f"form-action 'self' {settings.STRIPE_API_BASE};" in policy(client)
    settings.STRIPE_API_BASE = "https://api.stripe.com"
    assert "form-action 'self' https://checkout.stripe.com;" in policy(client)


def policy(client: Client) -> str:
    return client.get("/")["Content-Security-Policy"]
