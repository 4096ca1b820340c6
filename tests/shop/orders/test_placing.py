"""From the basket to an order: the same holds, the same prices, once; within the limits."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import LazySettings
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from inventory import reservations
from inventory.exceptions import InsufficientStock
from inventory.models import Product, Reservation
from inventory.reservations import reserve
from shop import orders
from shop.exceptions import (
    BasketChanged,
    EmptyBasket,
    HoldInOrder,
    KeyReused,
    LimitPerCustomer,
    NotInThisState,
)
from shop.holds import open_holds, release_hold, shrink_hold
from shop.models import DemoBankCharge, Order, OrderLine, Payment
from shop.orders import checkout
from tests.concurrency import (
    at_once,
    lapse,
    of_kind,
    wait_until_somebody_waits_for_a_lock,
)
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    at_bank,
    choose_again,
    go_to_bank,
    lapse_all,
    now,
    order_holds,
    place,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


# The order's contents


def test_an_order_takes_over_the_holds_at_the_prices_shown_with_them(
    make_product: MakeProduct,
) -> None:
    lamp, vase = make_product(price=Decimal("20.00")), make_product(price=Decimal("7.50"))
    holds = [reserve(lamp, 2, buyer="A"), reserve(vase, 1, buyer="A")]
    Product.objects.update(price=Decimal("99.00"))
    order = order_holds(holds, seen_total=Decimal("52.50"))
    assert (order.state, order.total, order.shipping_cost) == (
        Order.State.PENDING,
        Decimal("52.50"),
        Decimal("5.00"),
    )
    assert [(line.name, line.unit_price, line.quantity) for line in order.lines.all()] == [
        (lamp.name, Decimal("20.00"), 2),
        (vase.name, Decimal("7.50"), 1),
    ]
    assert at_bank(order, APPROVE).amount == Decimal("52.50")
    assert orders.settle(order.pk).state == Order.State.PAID


def test_the_holds_are_prolonged_for_the_payment_but_not_beyond_the_cap(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.PAYMENT_TIME = timedelta(minutes=30)
    settings.HOLD_AT_MOST = timedelta(minutes=45)
    fresh = reserve(make_product(), 1, buyer="A", hold_for=timedelta(minutes=1))
    old = reserve(make_product(), 1, buyer="A", hold_for=timedelta(minutes=1))
    Reservation.objects.filter(pk=old.pk).update(created_at=Now() - timedelta(minutes=40))
    order_holds([fresh, old])
    fresh.refresh_from_db()
    old.refresh_from_db()
    assert timedelta(minutes=29) < fresh.expires_at - timezone.now() <= timedelta(minutes=30)
    assert old.expires_at == old.created_at + timedelta(minutes=45)


def test_an_order_never_shortens_a_hold(make_product: MakeProduct, settings: LazySettings) -> None:
    settings.PAYMENT_TIME = timedelta(minutes=1)
    hold = reserve(make_product(), 1, buyer="A", hold_for=timedelta(minutes=20))
    order_holds([hold])
    assert Reservation.objects.get(pk=hold.pk).expires_at == hold.expires_at


def test_a_lapsed_hold_that_nobody_took_back_can_still_be_ordered(
    make_product: MakeProduct,
) -> None:
    order_holds([lapse(reserve(make_product(1), 1, buyer="A"))])
    assert Reservation.objects.alive().count() == 1


def test_a_hold_that_was_taken_back_is_named(make_product: MakeProduct) -> None:
    lamp, vase = make_product(1, name="Lamp"), make_product(1, name="Vase")
    holds = [lapse(reserve(lamp, 1, buyer="A")), reserve(vase, 1, buyer="A")]
    reserve(lamp, 1, buyer="B")
    with pytest.raises(BasketChanged, match="time for Lamp is over"):
        order_holds(holds)
    assert not Order.objects.exists()


def test_a_hold_at_its_cap_is_named(make_product: MakeProduct) -> None:
    hold = lapse(reserve(make_product(1, name="Lamp"), 1, buyer="A"))
    Reservation.objects.update(created_at=Now() - timedelta(days=1))
    with pytest.raises(BasketChanged, match="time for Lamp is over"):
        order_holds([hold])


def test_another_buyers_hold_and_a_missing_one_look_alike(
    make_product: MakeProduct,
) -> None:
    foreign = reserve(make_product(), 1, buyer="B")
    ordered = reserve(make_product(), 1, buyer="B")
    order_holds([ordered], buyer="B")
    absent = Reservation(buyer="A")
    messages = set()
    for hold in (foreign, ordered, absent):
        with pytest.raises(BasketChanged) as refused:
            order_holds([hold])
        messages.add(str(refused.value))
    assert len(messages) == 1
    with pytest.raises(EmptyBasket):
        order_holds([])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", "x" * 201),
        ("email", "nobody"),
        ("street", " \n"),
        ("postcode", "1" * 21),
        ("town", "x" * 101),
        ("country", "DEU"),
    ],
)
def test_an_entry_that_makes_no_sense_is_named_by_its_field(
    make_product: MakeProduct, field: str, value: str
) -> None:
    hold = reserve(make_product(), 1, buyer="A")
    entered = {"name": "Ada", "email": "a@example.org", "street": "1 Main Street", field: value}
    with pytest.raises(ValidationError) as refused:
        checkout.place_order("A", [hold.pk], Order(**entered), idempotency_key="k")
    assert set(refused.value.message_dict) == {field}
    assert not Order.objects.exists()


def test_an_address_in_plain_text_is_kept_as_it_is_in_lines(make_product: MakeProduct) -> None:
    hold = reserve(make_product(), 1, buyer="A")
    typed = Order(
        name="Ada", email="a@example.org", street=" 1 Main Street\r\n 10115 Springfield\r\n"
    )
    order = checkout.place_order("A", [hold.pk], typed, idempotency_key="k")
    assert now(order).address == "1 Main Street\n10115 Springfield"


# Once only


def test_a_double_click_makes_one_order(make_product: MakeProduct) -> None:
    hold = reserve(make_product(), 1, buyer="A")
    first, *others = at_once([lambda: order_holds([hold], key="same")] * 4)
    assert isinstance(first, Order)
    assert {order.pk for order in others} == {first.pk}
    assert OrderLine.objects.count() == 1


def test_a_form_posted_again_later_shows_the_first_order(make_product: MakeProduct) -> None:
    hold = reserve(make_product(), 1, buyer="A")
    order = order_holds([hold], key="same")
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    assert order_holds([hold], key="same") == order
    with pytest.raises(KeyReused):
        order_holds([hold], buyer="B", key="same")


def test_two_tabs_that_order_the_same_holds_make_one_order(make_product: MakeProduct) -> None:
    hold = reserve(make_product(), 1, buyer="A")
    results = at_once([lambda: order_holds([hold])] * 2)
    [order], [refused] = of_kind(results, Order), of_kind(results, HoldInOrder)
    assert refused.order == order


# The basket, meanwhile


def test_holds_in_an_order_are_no_longer_in_the_basket(make_product: MakeProduct) -> None:
    product = make_product(5)
    ordered, kept = reserve(product, 1, buyer="A"), reserve(product, 2, buyer="A")
    reserve(product, 1, buyer="B")
    order_holds([ordered])
    assert list(open_holds("A")) == [kept]
    with pytest.raises(HoldInOrder):
        release_hold("A", ordered.pk)
    with pytest.raises(HoldInOrder):
        shrink_hold("A", ordered.pk, 1)
    with pytest.raises(Reservation.DoesNotExist):
        release_hold("B", kept.pk)
    assert shrink_hold("A", kept.pk, 1).quantity == 1
    assert release_hold("A", kept.pk).status == Reservation.Status.RELEASED
    assert stock_of(product) == 3


@pytest.mark.parametrize("attempt", range(5))
def test_a_hold_that_shrinks_while_it_is_ordered_is_charged_as_it_is(
    make_product: MakeProduct, attempt: int
) -> None:
    hold = reserve(make_product(5, price=Decimal("10.00")), 3, buyer="A")
    placed, shrunk = at_once(
        [
            lambda: order_holds([hold], seen_total=Decimal("35.00")),
            lambda: shrink_hold("A", hold.pk, 2, seen=3),
        ]
    )
    hold.refresh_from_db()
    if isinstance(placed, Order):
        assert isinstance(shrunk, HoldInOrder)
        assert (hold.quantity, placed.total) == (3, Decimal("35.00"))
    else:
        assert isinstance(placed, BasketChanged)
        assert "15.00" in str(placed)
        assert (hold.quantity, isinstance(shrunk, Reservation)) == (1, True)


def test_the_basket_waits_for_an_order_that_is_being_placed(make_product: MakeProduct) -> None:
    """The basket locks the hold before it looks whether the hold is in an order."""
    hold = reserve(make_product(5), 3, buyer="A")
    locked, go_on = threading.Event(), threading.Event()

    def place_slowly() -> Order:
        saved = connection.connection is not None

        def wait_before_the_lines(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
            if sql.startswith('INSERT INTO "shop_order"'):
                locked.set()
                assert go_on.wait(30)
            return execute(sql, params, many, context)

        assert saved
        with connection.execute_wrapper(wait_before_the_lines):
            return order_holds([hold])

    def shrink_meanwhile() -> Reservation:
        assert locked.wait(30)
        return shrink_hold("A", hold.pk, 2)

    def let_it_go_on() -> None:
        assert locked.wait(30)
        wait_until_somebody_waits_for_a_lock()
        go_on.set()

    placed, shrunk, _ = at_once([place_slowly, shrink_meanwhile, let_it_go_on])
    assert isinstance(placed, Order)
    assert isinstance(shrunk, HoldInOrder)
    assert placed.lines.get().quantity == 3


# Limits per customer (the same from two browsers)


def test_two_browsers_with_one_address_get_no_more_than_the_limit(
    make_product: MakeProduct,
) -> None:
    product = make_product(10, max_per_buyer=2)
    first = place((product, 2), buyer="A", email="Ada@Example.org")
    hold = reserve(product, 1, buyer="B")
    with pytest.raises(LimitPerCustomer, match=f"At most 2 of {product.name}"):
        order_holds([hold], buyer="B", email=" ada@example.ORG ")
    orders.cancel(first.pk)
    order_holds([hold], buyer="B", email="ada@example.org")


def test_five_browsers_with_one_address_at_once(make_product: MakeProduct) -> None:
    product = make_product(10, max_per_buyer=2)
    holds = {buyer: reserve(product, 1, buyer=buyer) for buyer in "ABCDE"}
    calls = [
        lambda buyer=buyer, hold=hold: order_holds([hold], buyer=buyer, email="ada@example.org")
        for buyer, hold in holds.items()
    ]
    results = at_once(calls)
    assert (len(of_kind(results, Order)), len(of_kind(results, LimitPerCustomer))) == (2, 3)


def test_a_late_payment_does_not_get_around_the_limit(make_product: MakeProduct) -> None:
    product = make_product(10, max_per_buyer=2)
    late = place((product, 2), buyer="A", email="ada@example.org")
    at_bank(late, APPROVE)
    lapse_all(late)
    reservations.expire_lapsed()
    second = place((product, 2), buyer="B", email="ADA@example.org")
    at_bank(second, APPROVE)
    assert orders.settle(second.pk).state == Order.State.PAID
    assert orders.settle(late.pk).state == Order.State.REFUNDED
    assert stock_of(product) == 8


@pytest.mark.parametrize("attempt", range(4))
def test_a_late_payment_and_a_new_order_at_once_stay_within_the_limit(
    make_product: MakeProduct, attempt: int
) -> None:
    product = make_product(10, max_per_buyer=2)
    late = place((product, 2), buyer="A", email="ada@example.org")
    at_bank(late, APPROVE)
    lapse_all(late)
    reservations.expire_lapsed()
    hold = reserve(product, 2, buyer="B")
    settled, placed = at_once(
        [
            lambda: orders.settle(late.pk),
            lambda: order_holds([hold], buyer="B", email="ada@example.org"),
        ]
    )
    is_placed = isinstance(placed, Order)
    assert is_placed or isinstance(placed, LimitPerCustomer)
    assert settled.state == (Order.State.REFUNDED if is_placed else Order.State.PAID)


# The payment


def test_as_long_as_a_payment_is_open_it_stays_the_only_one(make_product: MakeProduct) -> None:
    order = place((make_product(), 1))
    urls = at_once([lambda: go_to_bank(order)] * 4)
    assert len(set(urls)) == 1
    assert go_to_bank(order) == urls[0]
    assert DemoBankCharge.objects.count() == 1


def test_after_a_declined_payment_there_is_another_try(make_product: MakeProduct) -> None:
    order = place((make_product(), 1))
    at_bank(order, DECLINE)
    assert orders.settle(order.pk).state == Order.State.PENDING
    at_bank(order, APPROVE)
    assert orders.settle(order.pk).state == Order.State.PAID
    states = list(order.payments.values_list("state", flat=True))
    assert states == [Payment.State.DECLINED, Payment.State.PAID]
    with pytest.raises(NotInThisState, match="is paid"):
        go_to_bank(order)


def test_an_approved_payment_whose_answer_is_lost_is_not_made_again(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(), 1))
    at_bank(order, APPROVE)
    with pytest.raises(NotInThisState, match="is paid"):
        go_to_bank(order)
    assert now(order).state == Order.State.PAID


def test_a_buyer_who_left_the_bank_goes_on_with_the_same_order(
    make_product: MakeProduct,
) -> None:
    product = make_product(1)
    order = place((product, 1))
    url = go_to_bank(order)
    with pytest.raises(InsufficientStock):
        reserve(product, 1, buyer="A")
    assert list(checkout.unfinished_orders("A")) == [order]
    assert go_to_bank(order) == url


def test_a_buyer_who_starts_again_after_cancelling_never_wins_twice(
    make_product: MakeProduct,
) -> None:
    product = make_product(1)
    first = place((product, 1))
    go_to_bank(first)
    orders.cancel(first.pk)
    second = place((product, 1))
    at_bank(second, APPROVE)
    choose_again(first.payments.get(), APPROVE)  # in the other tab
    states = at_once([lambda: orders.settle(first.pk), lambda: orders.settle(second.pk)])
    assert [order.state for order in states] == [Order.State.CANCELLED, Order.State.PAID]
    assert now(first).refunded() == first.total


def test_an_order_that_costs_nothing_needs_no_bank(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.SHIPPING_COST = Decimal(0)
    order = place((make_product(price=Decimal(0)), 1))
    assert go_to_bank(order) == "http://testserver/orders/x/"
    assert now(order).state == Order.State.PAID
    assert not Payment.objects.exists()
