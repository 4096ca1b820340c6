"""Money that goes, in the admin: disputes, refunds at the provider, and the provider's messages."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from inventory.models import Product
from shop import orders, payments, shop_alerts
from shop.models import DemoBankRefund, Dispute, Order, Payment, Refund, ShopAlert
from shop.orders import refunds
from shop.payments.base import ProviderUnavailable
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff
from tests.shop.orders.pages import tell
from tests.shop.orders.steps import (
    APPROVE,
    at_bank,
    decide_at_bank,
    decline_refunds,
    dispute_at_bank,
    fail_at_bank,
    go_to_bank,
    look_into,
    now,
    place,
    refund_at_bank,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def lamp(make_product: MakeProduct, settings: LazySettings) -> Product:
    settings.SHIPPING_COST = Decimal("5.00")
    return make_product(20, name="Lamp", price=Decimal("10.00"))


def paid(product: Product, units: int = 10) -> Order:
    order = place((product, units))
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def page(obj: Order | Payment | Refund | Dispute, name: str = "change") -> str:
    return reverse(f"admin:shop_{obj._meta.model_name}_{name}", args=[obj.pk])


def text(response: Any) -> str:
    """The text of a page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def test_the_page_of_an_order_shows_where_its_money_is(admin: Client, lamp: Product) -> None:
    order = paid(lamp)
    dispute_at_bank(order, Decimal("60.00"))
    refund_at_bank(order, Decimal("15.00"))
    look_into(order)
    seen = text(admin.get(page(order)))
    assert "Kept €30.00" in seen
    assert "Taken by disputes €60.00" in seen
    assert "Given back €15.00" in seen
    looked_up = text(admin.get(page(order.payments.get())))
    assert re.search(r"Last looked up at [\d-]{10} [\d:]{8} Refunds", looked_up)
    [dispute] = Dispute.objects.all()
    assert page(dispute) in admin.get(page(order)).content.decode()


@pytest.mark.parametrize("how", ["declined", "failed later", "not asked for yet"])
def test_money_that_the_buyer_has_not_got_is_owed_not_given_back(
    admin: Client, lamp: Product, how: str
) -> None:
    order, given = paid(lamp, 2), paid(lamp, 1)
    if how == "declined":
        decline_refunds(order)
    orders.cancel(order.pk)
    orders.refund(given.pk)
    for refund in Refund.objects.all():
        if how != "not asked for yet" or refund.payment.order_id == given.pk:
            refunds.carry_out(refund.pk)
    if how == "failed later":
        fail_at_bank(DemoBankRefund.objects.get(amount=Decimal("25.00")))
        look_into(order)
    seen = text(admin.get(page(order)))
    assert "cancelled, €25.00 owed to the buyer" in seen
    assert "Given back €0.00" in seen
    assert "Owed to the buyer €25.00" in seen
    assert "Given back €15.00 Owed to the buyer €0.00" in text(admin.get(page(given)))
    listed = text(admin.get(reverse("admin:shop_order_changelist")))
    assert listed.count("owed to the buyer") == 1
    assert "cancelled, €25.00 owed to the buyer" in listed


def test_a_disputed_order_is_cancelled_and_then_won(admin: Client, lamp: Product) -> None:
    order = paid(lamp, 2)
    dispute = dispute_at_bank(order)
    look_into(order)
    assert "and isn't shipped yet: think before you ship it." in alert_text()
    will = text(admin.get(page(order, "cancel")))
    assert "has taken €25.00 by a dispute. If it is decided for you, €25.00 of it goes back" in will
    assert "If a payment still arrives" not in will
    orders.cancel(order.pk)
    assert "The order is cancelled: if you win, €25.00 goes back" in alert_text()
    assert "keeps its units" not in alert_text()
    decide_at_bank(dispute, "WON")
    look_into(order)
    for _ in range(2):
        assert "The order is cancelled, so €25.00 goes back to the buyer by itself." in alert_text()
    refunds.carry_out(Refund.objects.get().pk)
    assert alert_text().endswith("The order is cancelled, and its money is the buyer's.")


def test_a_lost_dispute_of_a_cancelled_order_leaves_nothing_to_do(
    admin: Client, lamp: Product
) -> None:
    order = paid(lamp, 2)
    decide_at_bank(dispute_at_bank(order), "LOST")
    look_into(order)
    assert "The order keeps its units" in alert_text()
    assert "no money left to give back" not in text(admin.get(page(order, "cancel")))
    orders.cancel(order.pk)
    assert alert_text().endswith("The order is cancelled, so you need to do nothing.")


def alert_text() -> str:
    """The text of the open alert of a dispute, after the worker has looked."""
    shop_alerts.check_all()
    opened = ShopAlert.objects.open().filter(kind=ShopAlert.Kind.PAYMENT_DISPUTED)
    return str(opened.get().text)


@pytest.mark.parametrize("state", [Order.State.PAID, Order.State.SHIPPED])
def test_an_order_whose_money_is_gone_says_so_wherever_it_is_sent(
    admin: Client, lamp: Product, state: str
) -> None:
    well, order = paid(lamp, 1), paid(lamp, 2)
    if state == Order.State.SHIPPED:
        orders.ship(order.pk)
        orders.ship(well.pk)
    refund_at_bank(order, Decimal("25.00"))
    look_into(order)
    seen = text(admin.get(reverse("admin:shop_order_changelist"), {"state__exact": state}))
    assert f"{now(order).get_state_display()}, €25.00 missing".lower() in seen.lower()
    assert seen.count("missing") == 1
    warning = "its units are worth €25.00, and €0.00 are kept"
    for each, is_missing in ((order, True), (well, False)):
        assert (warning in text(admin.get(page(each)))) == is_missing
        if state == Order.State.PAID:
            assert (warning in text(admin.get(page(each, "ship")))) == is_missing
            assert (warning in text(admin.get(page(each, "packing_slip")))) == is_missing


def test_goodwill_is_no_missing_money(admin: Client, lamp: Product) -> None:
    order = paid(lamp)
    orders.refund(order.pk, amount=Decimal("5.00"))
    orders.refund(order.pk, units={order.lines.get().pk: 2})
    assert now(order).missing() == 0


@pytest.mark.parametrize(
    ("address", "is_link"),
    [
        ("https://dashboard.example.com/payments/1", True),
        ("http://127.0.0.1/payments/1", True),
        ("javascript:alert(1)", False),
        ("//example.com/", False),
        ("", False),
    ],
)
def test_a_payment_leads_to_the_dashboard_of_its_provider(
    admin: Client, lamp: Product, address: str, is_link: bool
) -> None:
    order = paid(lamp)
    Payment.objects.update(provider_page=address)
    dispute_at_bank(order)
    look_into(order)
    Payment.objects.update(provider_page=address)
    for each in (order, order.payments.get(), Dispute.objects.get()):
        source = admin.get(page(each)).content.decode()
        link = f'href="{address}" target="_blank" rel="noopener noreferrer"'
        assert (link in source) == is_link
        assert ("javascript:alert" in source) is False


def test_the_page_of_a_payment_shows_all_that_its_provider_has_said(
    admin: Client, lamp: Product
) -> None:
    order = paid(lamp)
    assert "Provider’s fee unknown" in text(admin.get(page(order.payments.get())))
    Payment.objects.update(fee=Decimal("1.25"), fee_currency="USD")
    refund_at_bank(order, Decimal("15.00"))
    dispute_at_bank(order, Decimal("20.00"))
    for _ in range(2):
        assert tell(order) == 200
    payment = order.payments.get()
    seen = text(admin.get(page(payment)))
    assert "Provider’s fee $1.25" in seen
    assert "Kept €70.00" in seen
    assert "€15.00, done" in seen
    assert "€20.00, money taken until it is decided" in seen
    message = payment.events.get()
    assert message.deliveries == 2
    assert message.outcome in seen
    assert payment.reference not in seen


def test_a_payment_is_looked_up(admin: Client, lamp: Product) -> None:
    order = paid(lamp)
    payment = order.payments.get()
    refund_at_bank(order, Decimal("15.00"))
    look_up = page(payment, "look_up")
    assert "records what is new" in text(admin.get(look_up))
    assert now(order).kept() == Decimal("105.00")
    answers = [text(admin.post(look_up, {"confirmed": "yes"}, follow=True)) for _ in range(2)]
    assert "A refund of €15.00 was made at the provider." in answers[0]
    assert "The provider knows nothing new." in answers[1]
    assert now(order).kept() == Decimal("90.00")


def test_a_payment_that_is_not_paid_is_settled_instead(admin: Client, lamp: Product) -> None:
    order = place((lamp, 1))
    go_to_bank(order)
    payment = order.payments.get()
    assert page(payment, "look_up") not in admin.get(page(payment)).content.decode()
    assert "Settle its order instead." in text(
        admin.post(page(payment, "look_up"), {"confirmed": "yes"})
    )


def test_a_provider_that_is_down_is_no_error_page(
    admin: Client, lamp: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(payment: Payment) -> None:
        raise ProviderUnavailable("No network.")

    payment = paid(lamp).payments.get()
    monkeypatch.setattr(payments, "statement", fail)
    assert "No network." in text(admin.post(page(payment, "look_up"), {"confirmed": "yes"}))


def test_disputes_are_listed_by_their_state(staff: Staff, lamp: Product) -> None:
    first, second = paid(lamp, 1), paid(lamp, 1)
    decide_at_bank(dispute_at_bank(first), "LOST")
    dispute_at_bank(second)
    for order in (first, second):
        look_into(order)
    for role in ("merchant", "auditor"):
        client = staff(role, role)
        assert "Disputes" in text(client.get("/admin/"))
        found = client.get(reverse("admin:shop_dispute_changelist"), {"state__exact": "LOST"})
        assert [each.payment.order for each in found.context["cl"].result_list] == [first]
        found = client.get(reverse("admin:shop_dispute_changelist"), {"q": second.number})
        assert [each.payment.order for each in found.context["cl"].result_list] == [second]
        lost = client.get(page(Dispute.objects.get(state="LOST")))
        assert "decided for the buyer" in text(lost)
        assert client.get(reverse("admin:shop_dispute_add")).status_code == 403


def test_a_refund_made_at_the_provider_is_not_tried_again(admin: Client, lamp: Product) -> None:
    order = paid(lamp)
    made = refund_at_bank(order, Decimal("15.00"))
    look_into(order)
    fail_at_bank(made)
    look_into(order)
    refund = Refund.objects.get()
    seen = text(admin.get(page(refund)))
    assert "came to nothing" in seen
    assert "Try now" not in seen
    assert "Given back by hand" not in seen


def test_staff_read_of_a_dispute_before_they_give_money_by_hand(
    admin: Client, lamp: Product
) -> None:
    order = paid(lamp)
    orders.cancel(order.pk)
    decline_refunds(order)
    refund = refunds.carry_out(Refund.objects.get().pk)
    dispute_at_bank(order)
    look_into(order)
    for step in ("carry_out", "note_by_hand"):
        assert "taken €105.00 of this payment back" in text(admin.get(page(refund, step)))
