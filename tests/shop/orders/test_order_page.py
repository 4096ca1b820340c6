"""An order's page in every situation, and the actions on it."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import LazySettings, settings
from django.core import mail
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.test import Client

from inventory import reservations
from inventory.models import Product, Reservation
from shop import orders, payments
from shop.models import DemoBankCharge, Order, Payment, Refund
from shop.orders import checkout, refunds, status_page
from shop.payments import ProviderUnavailable
from shop.payments.demo import Choice, DemoBank
from tests.conftest import MakeProduct
from tests.shop.orders.pages import (
    Shopper,
    alerts,
    heading,
    offers_to_pay,
    page_of,
    text_of,
)
from tests.shop.orders.steps import (
    choose_again,
    close_payment_time,
    decide_at_bank,
    dispute_at_bank,
    do_jobs,
    lapse_all,
    look_into,
    now,
    order_holds,
    refunds_of,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State


@pytest.fixture
def ada() -> Shopper:
    return Shopper("Ada")


def unreachable(payment: Payment) -> None:
    raise ProviderUnavailable("No network.")


# How it stands


def test_it_shows_the_lines_and_the_address(ada: Shopper, make_product: MakeProduct) -> None:
    order, _ = ada.order(make_product(name="Lamp", price=Decimal("12.50")), 2)
    page = ada.look(order)
    for shown in (order.number, "2 × Lamp", "€25.00", "€5.00", "€30.00"):
        assert shown in page
    assert "Ada<br>1 Main Street<br>10115 Springfield<br>Germany" in page


def test_no_payment_was_begun(ada: Shopper, make_product: MakeProduct) -> None:
    hold = reservations.reserve(make_product(), 1, buyer="A")
    page = ada.look(order_holds([hold]))
    assert heading(page) == "Not paid yet"
    assert "Kept for you for" in page
    assert offers_to_pay(page)


def test_left_at_the_bank(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    page = ada.look(order)
    assert heading(page) == "Waiting for the payment"
    assert "every 4s" in page
    assert ada.pay(order)["Location"].endswith(bank)


def test_approved(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    assert ada.choose(bank)["Location"].endswith(page_of(order))
    page = ada.look(order)
    assert heading(page) == "Paid. Thank you!"
    assert not offers_to_pay(page)
    assert "every 4s" not in page
    assert now(order).state == State.PAID


def test_a_buyer_who_never_reached_the_bank_reads_of_no_payment(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product())
    away = ProviderUnavailable("The bank is away.")
    with patch.object(DemoBank, "start", side_effect=away):
        ada.check_out()
        order = Order.objects.get()
        for page in (ada.look(order), ada.look(order)):
            assert heading(page) == "Not paid yet"
            assert "Not begun: nothing charged" in page
            assert "Go on with the payment" not in page
        assert in_short(ada) == ["waiting for payment"]
        lapse_all(order)
        assert "You can still try to pay" in ada.look(order)
    ada.choose(ada.pay(order)["Location"])
    assert heading(ada.look(order)) == "Paid. Thank you!"


def test_a_cancelled_order_that_never_reached_the_bank_was_charged_nothing(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product())
    with patch.object(DemoBank, "start", side_effect=ProviderUnavailable("The bank is away.")):
        ada.check_out()
    order = Order.objects.get()
    assert "If you have paid" not in ada.get(f"{page_of(order)}cancellation/")
    ada.cancel(order)
    do_jobs("send_order_cancelled")
    for words in (ada.look(order), str(mail.outbox[-1].body)):
        assert "Nothing was charged." in words
        assert "If you still" not in words


def test_a_payment_whose_time_went_by_was_not_declined(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, _ = ada.order(make_product())
    assert "If you have paid meanwhile" in ada.get(f"{page_of(order)}cancellation/")
    lapse_all(order)
    close_payment_time(order)
    page = ada.look(order)
    assert "Not paid in its time: nothing charged" in page
    assert "Declined" not in page


def test_after_a_declined_payment_the_page_offers_another(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    page = ada.look(order)
    assert heading(page) == "The payment did not go through"
    assert "Declined: nothing charged" in page
    again = ada.pay(order)["Location"]
    assert not again.endswith(bank)
    ada.choose(again)
    assert heading(ada.look(order)) == "Paid. Thank you!"
    assert DemoBankCharge.objects.filter(state="APPROVED").count() == 1


def test_lapsed_but_not_taken_back(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    lapse_all(order)
    page = ada.look(order)
    assert heading(page) == "Your time is over"
    assert "You can still try to pay" in page
    assert "/demo-bank/" in ada.pay(order)["Location"]


def test_lapsed_and_taken_back(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    lapse_all(order)
    reservations.expire_lapsed()
    page = ada.look(order)
    assert (heading(page), offers_to_pay(page)) == ("Your time is over", False)
    assert "Nothing was charged" in page
    answer = ada.client.post(f"{page_of(order)}payment/", follow=True)
    assert "it can't be paid any more, and nothing was charged" in alerts(answer)[0]
    assert not DemoBankCharge.objects.filter(state="APPROVED").exists()


def test_taken_back_while_the_buyer_is_at_the_bank(ada: Shopper, make_product: MakeProduct) -> None:
    order, _ = ada.order(make_product())
    lapse_all(order)
    reservations.expire_lapsed()
    page = ada.look(order)
    assert heading(page) == "Your time is over"
    assert "or all of your money back. You need not ask" in page
    assert not offers_to_pay(page)


@pytest.mark.parametrize("is_at_bank", [True, False])
def test_a_hold_released_before_its_time_is_not_called_lapsed(
    ada: Shopper, make_product: MakeProduct, is_at_bank: bool
) -> None:
    """No page of ours does this to an order, but other code may."""
    product = make_product(2)
    order, bank = ada.order(product)
    if not is_at_bank:
        ada.choose(bank, Choice.DECLINE)
        ada.look(order)
    reservations.release(order.lines.get().reservation_id)
    page = ada.look(order)
    assert (heading(page), offers_to_pay(page)) == ("No longer kept for you", False)
    answer = text_of(ada.client.post(f"{page_of(order)}payment/", follow=True))
    assert "This order is no longer kept for you: " in answer
    for shown in (page, answer, ada.get("/orders/"), ada.get("/basket/")):
        assert "time is over" not in shown
        assert "not paid in its time" not in shown
    if not is_at_bank:
        orders.close_abandoned(order.pk)
        do_jobs("send_order_cancelled")
        assert "We have cancelled your order." in mail.outbox[-1].body


def use_up_the_longest_hold(order: Order, *, seconds_left: int = 0) -> None:
    """Make the holds as old as a hold may be, less ``seconds_left``."""
    Reservation.objects.filter(order_line__order=order).update(
        created_at=Now() - settings.HOLD_AT_MOST + timedelta(seconds=seconds_left),
        expires_at=Now(),
    )


def test_an_order_held_for_the_longest_time_is_not_offered_for_payment(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    use_up_the_longest_hold(order)
    page = ada.look(order)
    assert (heading(page), offers_to_pay(page)) == ("Your time is over", False)
    assert "this order can't be paid any more" in page
    assert "Kept for you for" not in page
    assert order.number not in ada.get("/basket/")
    answer = ada.client.post(f"{page_of(order)}payment/", follow=True)
    assert alerts(answer) == [
        "Your time for this order is over: it can't be paid any more, and nothing was charged."
    ]


def test_an_order_that_can_still_be_held_is_offered_for_payment_and_can_be_paid(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    use_up_the_longest_hold(order, seconds_left=60)
    assert offers_to_pay(ada.look(order))
    assert order.number in ada.get("/basket/")
    assert "/demo-bank/" in ada.pay(order)["Location"]


def test_the_longest_time_ends_while_the_buyer_is_at_the_bank(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    use_up_the_longest_hold(order)
    page = ada.look(order)
    assert (heading(page), offers_to_pay(page)) == ("Your time is over", False)
    assert "or all of your money back. You need not ask" in page
    assert order.number in ada.get("/basket/")
    ada.choose(bank)
    assert heading(ada.look(order)) == "Paid. Thank you!"


def test_after_the_loss_of_one_hold_the_others_have_no_countdown(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(name="Cup"))
    order, bank = ada.order(make_product(name="Lamp"))
    ada.choose(bank, Choice.DECLINE)
    lapsed = Reservation.objects.filter(product__name="Lamp")
    lapsed.update(expires_at=Now())
    reservations.expire_lapsed()
    page = ada.look(order)
    assert (heading(page), offers_to_pay(page)) == ("Your time is over", False)
    assert "Kept for you for" not in page


def test_shipped(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank)
    orders.ship(orders.settle(order.pk).pk, "TR-<1>")
    page = ada.look(order)
    assert heading(page) == "On its way"
    assert "TR-<1>" in page
    assert "/cancellation/" not in page


def test_refunded_in_part_and_then_in_whole(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product(price=Decimal("10.00")), 2)
    ada.choose(bank)
    ada.look(order)
    orders.refund(order.pk, amount=Decimal("4.00"))
    page = ada.look(order)
    assert heading(page) == "Paid. Thank you!"
    assert "Owed to you: the bank has not confirmed it yet <" in page
    assert "−€4.00" in page
    do_jobs("carry_out_refund")
    assert "Given back" in ada.look(order)
    orders.refund(order.pk)
    assert heading(ada.look(order)) == "Refund not finished yet"
    assert in_short(ada) == ["refund not finished"]
    do_jobs("carry_out_refund")
    assert heading(ada.look(order)) == "Refunded"
    assert in_short(ada) == ["refunded"]


def test_a_refund_that_the_bank_declines_is_announced(
    ada: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decline(refund: Refund) -> None:
        raise payments.RefundDeclined("Account closed.")

    order, bank = ada.order(make_product())
    ada.choose(bank)
    ada.look(order)
    ada.cancel(order)
    monkeypatch.setattr(payments, "refund", decline)
    refunds.carry_out(Refund.objects.get().pk)
    page = ada.look(order)
    assert "The bank did not give you back all of the money that we owe you" in page
    assert "goes back" not in page
    assert "Account closed" not in page


def test_the_bank_is_silent(
    ada: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank)
    with monkeypatch.context() as patched:
        patched.setattr(payments, "status", unreachable)
        page = ada.look(order)
        assert heading(page) == "Waiting for the payment"
        assert "The bank doesn't answer at the moment. We keep asking." in page
        answer = ada.client.post(f"{page_of(order)}payment/", follow=True)
        assert "Your order is kept for you" in alerts(answer)[0]
    assert heading(ada.look(order)) == "Paid. Thank you!"


def test_every_situation_has_a_template_of_its_own(ada: Shopper, make_product: MakeProduct) -> None:
    order, _ = ada.order(make_product())
    stands = status_page.look_up(order.token)
    headings = {}
    for situation in status_page.Situation:
        shown = dataclasses.replace(stands, situation=situation)
        page = render_to_string(shown.template, {"standing": shown, "order": order})
        headings[shown.template] = heading(page)
        assert f"standing--{situation}" in page
        label = re.findall(r'id="pay" type="submit">(.*?)</button>', page, re.DOTALL)
        assert [bool(words.strip()) for words in label] == ([True] if shown.can_be_paid else [])
    assert all(headings.values())
    folder = settings.BASE_DIR / "templates/shop/order_status"
    assert {f"shop/order_status/{file.name}" for file in folder.iterdir()} == {
        *headings,
        "shop/order_status/base.html",
    }


# A page that is open


def ask(ada: Shopper, order: Order, seen: str) -> Any:
    return ada.client.get(page_of(order), {"seen": seen}, headers={"HX-Request": "true"})


def test_an_open_page_gets_only_news_and_stops_asking_at_the_end(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    seen = status_page.look_up(order.token).fingerprint
    assert ask(ada, order, seen).status_code == 204
    answer = ask(ada, order, "something else")
    assert (answer.status_code, heading(text_of(answer))) == (200, "Waiting for the payment")
    ada.choose(bank)
    last = ask(ada, order, seen)
    assert (last.status_code, heading(text_of(last))) == (286, "Paid. Thank you!")
    assert "<html" not in text_of(last)


# Correcting


CORRECTED = {
    "name": "Ada Lovelace",
    "email": "lovelace@example.org",
    "address": "12 St James's Square",
    "postcode": "SW1Y 4JH",
    "town": "London",
    "country": "GB",
}


def contact_of(order: Order) -> str:
    return f"{page_of(order)}contact/"


def test_the_buyer_corrects_an_unpaid_order(ada: Shopper, make_product: MakeProduct) -> None:
    order, _ = ada.order(make_product())
    assert f'href="{contact_of(order)}"' in ada.look(order)
    asked = ada.get(contact_of(order))
    for shown in ('value="Ada"', 'value="10115"', '<option value="DE" selected>', "1 Main Street"):
        assert shown in asked
    answer = ada.client.post(contact_of(order), CORRECTED, follow=True)
    page = text_of(answer)
    assert f"Order {order.number} has your corrections now." in page
    written = "Ada Lovelace<br>12 St James's Square<br>London SW1Y 4JH<br>United Kingdom"
    assert written in page
    assert now(order).email_key == "lovelace@example.org"
    assert offers_to_pay(page)


def test_a_correction_that_makes_no_sense_has_an_error_beside_its_field(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, _ = ada.order(make_product())
    answer = ada.client.post(contact_of(order), {**CORRECTED, "town": " "})
    assert answer.status_code == 422
    assert '<p class="error" id="id_town_error">Enter the town.' in text_of(answer)
    assert 'value="SW1Y 4JH"' in text_of(answer)
    assert now(order).town == "Springfield"


def test_a_correction_does_not_get_around_the_limit_per_customer(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp", max_per_buyer=1)
    Shopper("Bob", "bob@example.org").order(product)
    order, _ = ada.order(product)
    answer = ada.client.post(contact_of(order), {**CORRECTED, "email": "Bob@example.org"})
    assert answer.status_code == 409
    assert "At most 1 of Lamp per customer" in text_of(answer)
    assert now(order).email == "ada@example.org"


def test_a_paid_order_is_not_corrected_any_more(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank)
    assert contact_of(order) not in ada.look(order)
    assert ada.client.get(contact_of(order))["Location"] == page_of(order)
    answer = ada.client.post(contact_of(order), CORRECTED, follow=True)
    assert "Your corrections came too late" in alerts(answer)[0]
    assert now(order).town == "Springfield"


def test_another_browser_that_knows_the_address_corrects_nothing(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, _ = ada.order(make_product())
    bob = Shopper("Bob")
    assert contact_of(order) not in bob.look(order)
    assert bob.client.get(contact_of(order))["Location"] == page_of(order)
    assert bob.client.post(contact_of(order), CORRECTED).status_code == 403
    assert now(order).town == "Springfield"


# Cancelling


def test_cancelling_asks_first_and_then_gives_the_units_back(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(3)
    order, _ = ada.order(product, 2)
    asked = ada.get(f"{page_of(order)}cancellation/")
    assert "can't be undone" in asked
    assert now(order).state == State.PENDING
    for _ in range(2):
        assert ada.cancel(order)["Location"] == page_of(order)
    page = ada.look(order)
    assert heading(page) == "Cancelled"
    assert "If you still finish the payment, the money goes back" in page
    assert not offers_to_pay(page)
    assert stock_of(product) == 3


def test_cancelling_a_paid_order_gives_the_money_back(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product(price=Decimal("10.00")))
    ada.choose(bank)
    ada.look(order)
    assert "You get your money back, €15.00, as soon as" in ada.get(
        f"{page_of(order)}cancellation/"
    )
    ada.cancel(order)
    page = ada.look(order)
    assert heading(page) == "Cancelled"
    assert "We owe you the money" in page
    assert refunds_of(order) == [("CANCELLED", Decimal("15.00"))]


def test_a_shipped_order_can_not_be_cancelled(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank)
    orders.ship(orders.settle(order.pk).pk)
    assert ada.client.get(f"{page_of(order)}cancellation/")["Location"] == page_of(order)
    answer = ada.client.post(f"{page_of(order)}cancellation/", follow=True)
    assert "has been shipped: it can be refunded, not cancelled" in alerts(answer)[0]
    assert now(order).state == State.SHIPPED


def test_paying_a_cancelled_or_paid_order_leads_to_the_page_that_says_so(
    ada: Shopper, make_product: MakeProduct
) -> None:
    cancelled, _ = ada.order(make_product())
    ada.cancel(cancelled)
    paid, bank = ada.order(make_product())
    ada.choose(bank)
    for order in (cancelled, paid):
        assert ada.pay(order)["Location"] == page_of(order)
    assert heading(ada.look(paid)) == "Paid. Thank you!"


# Its owner


def test_the_address_opens_the_page_and_can_not_be_guessed(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, _ = ada.order(make_product())
    assert len(order.token) >= 32
    assert order.number in Shopper("Bob").look(order)
    stranger = Client()
    for guess in (order.number, str(order.pk), order.token[:-1], "x" * 500):
        for part in ("", "payment/", "cancellation/"):
            assert stranger.get(f"/orders/{guess}/{part}").status_code == 404
            assert stranger.post(f"/orders/{guess}/{part}").status_code in (404, 405)
    assert now(order).state == State.PENDING


def test_looking_and_forms_from_elsewhere_change_nothing(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, _ = ada.order(make_product())
    careful = Client(enforce_csrf_checks=True)
    for part in ("payment/", "cancellation/"):
        assert ada.client.get(page_of(order) + part).status_code in (200, 302)
        assert careful.post(page_of(order) + part).status_code == 403
    assert ada.client.post(page_of(order)).status_code == 405
    assert now(order).state == State.PENDING
    assert order.payments.count() == 1


def test_the_address_reaches_no_other_site_search_engine_or_cache(
    ada: Shopper, make_product: MakeProduct, settings: Any
) -> None:
    settings.SECURE_REFERRER_POLICY = "unsafe-url"
    order, bank = ada.order(make_product())
    for address in (page_of(order), f"{page_of(order)}cancellation/", "/orders/", bank):
        headers = ada.client.get(address).headers
        assert headers["Referrer-Policy"] == "same-origin", address
        assert "noindex" in headers["X-Robots-Tag"], address
        assert "no-store" in headers["Cache-Control"], address


def in_short(ada: Shopper) -> list[str]:
    """The words for each order in the list, the newest first."""
    return re.findall(r"<strong>([^<]*)</strong></p>", ada.get("/orders/"))


def test_a_buyer_of_very_many_orders_gets_them_page_by_page(
    ada: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a few statements: no page grows with all that a buyer ever ordered."""
    monkeypatch.setattr("shop.views.orders.ON_A_PAGE", 2)
    monkeypatch.setattr("shop.orders.status_page.MOST_UNFINISHED", 2)
    product = make_product()
    numbers = [ada.order(product)[0].number for _ in range(5)]

    def shown(address: str) -> list[str]:
        return [number for number in numbers if number in ada.get(address)]

    assert shown("/orders/") == numbers[3:]
    assert 'href="?page=2"' in ada.get("/orders/")
    assert shown("/orders/?page=2") == numbers[1:3]
    assert shown("/orders/?page=3") == numbers[:1]
    assert shown("/basket/") == shown(f"/products/{product.slug}/") == numbers[3:]


def test_the_list_of_orders_says_how_each_stands(ada: Shopper, make_product: MakeProduct) -> None:
    order, bank = ada.order(make_product())
    assert in_short(ada) == ["waiting for the bank's answer"]
    ada.choose(bank, Choice.DECLINE)
    ada.look(order)
    assert in_short(ada) == ["payment declined, you can try again"]
    lapse_all(order)
    assert in_short(ada) == ["not paid in its time, you can still try"]
    use_up_the_longest_hold(order)
    assert in_short(ada) == ["not paid in its time"]
    ada.cancel(order)
    assert in_short(ada) == ["cancelled"]
    paid, bank = ada.order(make_product())
    ada.choose(bank)
    ada.look(paid)
    late, bank = ada.order(make_product())
    lapse_all(late)
    reservations.expire_lapsed()
    assert in_short(ada) == [
        "its time is over, waiting for the bank's answer",
        "paid",
        "cancelled",
    ]
    Product.objects.update(is_active=False)
    choose_again(late.payments.get(), Choice.APPROVE)
    ada.look(late)
    assert in_short(ada)[0] == "paid too late, refund not finished"
    do_jobs("carry_out_refund")
    assert in_short(ada)[0] == "paid too late, refunded"
    assert set(status_page.IN_SHORT) == set(status_page.Situation)


def test_an_order_that_can_not_be_paid_any_more_is_never_called_waiting_for_its_payment(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product()
    order, bank = ada.order(product)
    places = ("/basket/", "/checkout/", f"/products/{product.slug}/")
    ada.choose(bank, Choice.DECLINE)
    ada.look(order)
    for address in places:
        assert f"{order.number}</strong> is not paid yet: its payment of" in ada.get(address)
    lapse_all(order)
    for address in places:
        assert f"{order.number}</strong> is not paid yet, and its time is over" in ada.get(address)
    use_up_the_longest_hold(order)
    for address in places:
        assert order.number not in ada.get(address)


def test_paying_when_it_is_too_late_does_not_call_a_payment_under_way_uncharged(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, _ = ada.order(make_product())
    lapse_all(order)
    reservations.expire_lapsed()
    answer = ada.client.post(f"{page_of(order)}payment/", follow=True)
    assert alerts(answer) == ["Your time for this order is over: you can't begin another payment."]


def test_a_notice_about_a_payment_is_not_shown_when_it_is_no_longer_true(
    ada: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, _ = ada.order(make_product())
    with monkeypatch.context() as patched:
        patched.setattr(payments, "status", unreachable)
        ada.pay(order)  # the next page never comes
    orders.cancel(order.pk)
    assert alerts(ada.client.get("/orders/")) == []
    order, _ = ada.order(make_product())
    with monkeypatch.context() as patched:
        patched.setattr(payments, "status", unreachable)
        ada.pay(order)
        lapse_all(order)
        page = ada.client.get("/orders/")
    assert alerts(page) == [
        "The bank can't be reached at the moment. You can try to pay once more in a minute."
    ]


def test_your_orders_are_those_of_this_browser(ada: Shopper, make_product: MakeProduct) -> None:
    assert "No orders from this browser" in ada.get("/orders/")
    order, _ = ada.order(make_product(name="Lamp"))
    page = ada.get("/orders/")
    assert order.number in page
    assert "1 × Lamp" in page
    assert f'href="{page_of(order)}"' in page
    assert order.number not in Shopper("Bob").get("/orders/")
    assert not checkout.unfinished_orders("").exists()


# The bank's page


def test_the_bank_looks_like_another_company_and_says_that_no_money_moves(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product(price=Decimal("10.00")))
    page = ada.get(bank)
    for shown in ("Demo bank", "No real money", "€15.00", f"Order {order.number}"):
        assert shown in page
    for choice in Choice:
        assert f'value="{choice}"' in page
        assert f'id="{choice}"' in page  # its consequence
    careful = Client(enforce_csrf_checks=True)
    assert careful.post(bank, {"choice": "approve"}).status_code == 403


def test_the_bank_explains_an_unknown_choice(ada: Shopper, make_product: MakeProduct) -> None:
    _, bank = ada.order(make_product())
    answer = ada.client.post(bank, {"choice": "steal"})
    assert (answer.status_code, alerts(answer)) == (400, ["Choose one of these four."])


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice.APPROVE, "approved"),
        (Choice.DECLINE, "declined"),
        (Choice.APPROVE_LATE, "the money is on its way"),
    ],
)
def test_the_bank_says_what_is_decided_already(
    ada: Shopper, make_product: MakeProduct, choice: Choice, words: str
) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, choice)
    page = ada.get(bank)
    assert "This payment has ended already" in page
    assert words in page
    assert 'name="choice"' not in page
    assert page_of(order) in page


def test_after_its_time_the_bank_offers_nothing_to_choose(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    close_payment_time(order)
    assert "its time is over" in ada.get(bank)
    ada.choose(bank)
    assert heading(ada.look(order)) == "The payment did not go through"


def test_a_lost_answer_is_mentioned_only_after_a_charge(
    ada: Shopper, make_product: MakeProduct
) -> None:
    _, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    assert ada.choose(bank, Choice.LOSE_ANSWER).status_code == 302


def test_messages_of_a_provider_are_never_too_many(settings: Any) -> None:
    settings.POSTS_PER_ADDRESS = "1/h"
    answers = [Client().post("/payments/demo/events/").status_code for _ in range(3)]
    assert answers == [400, 400, 400]


# Words about money and goods agree with the books


@pytest.mark.parametrize("state", ["OPEN", "LOST"])
def test_a_disputed_order_that_its_buyer_cancels(
    ada: Shopper, make_product: MakeProduct, state: str
) -> None:
    order, bank = ada.order(make_product(price=Decimal("18.00")))
    ada.choose(bank)
    ada.look(order)
    dispute = dispute_at_bank(order)
    decide_at_bank(dispute, state)
    look_into(order)
    asked = ada.get(f"{page_of(order)}cancellation/")
    ada.cancel(order)
    do_jobs("send_order_cancelled")
    promise = "If it decides for us, we give €23.00 back to you."
    for words in (asked, ada.look(order), str(mail.outbox[-1].body)):
        assert "Your bank has taken" in words
        assert "no money left" not in words
        assert (promise in words) == (state == "OPEN")
    if state == "OPEN":
        decide_at_bank(dispute, "WON")
        look_into(order)
        do_jobs("carry_out_refund")
        assert "We have given you back the money" in ada.look(order)


def test_returned_goods_that_were_free_are_not_called_refunded_money(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.SHIPPING_COST = Decimal(0)
    ada = Shopper()
    order, _ = ada.order(make_product(2, price=Decimal(0)))
    assert "There is no money left to give back" in ada.get(f"{page_of(order)}cancellation/")
    orders.refund(order.pk, restock=True)
    assert "your money" not in ada.look(order)


def test_a_cancelled_order_of_a_product_that_is_switched_off_is_not_called_on_sale(
    make_product: MakeProduct,
) -> None:
    ada, product = Shopper(), make_product(2)
    order, _ = ada.order(product)
    Product.objects.filter(pk=product.pk).update(is_active=False)
    ada.cancel(order)
    assert "on sale" not in ada.look(order)
