"""The life of a reservation, one step at a time and two at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inventory import holds, monitor, reservations, stock
from inventory.exceptions import (
    BuyerLimitExceeded,
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidQuantity,
    InvalidText,
    NotForSale,
    ReservationChanged,
    ReservationEnded,
)
from inventory.holds import Request
from inventory.models import Product, Reservation
from inventory.reservations import (
    confirm,
    expire_lapsed,
    release,
    release_all,
    reserve,
    return_units,
    shrink,
)
from inventory.snapshots import holds_of_buyer
from tests.concurrency import (
    at_once,
    lapse,
    of_kind,
    wait_until_somebody_waits_for_a_lock,
)
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)


def stock_of(product: Product) -> int:
    product.refresh_from_db()
    return product.stock


# Reserving


def test_a_hold_has_the_price_and_the_strategy_of_its_moment(make_product: MakeProduct) -> None:
    product = make_product(10, price=Decimal("12.50"), strategy="conditional_update")
    hold = reserve(product, 2, buyer="A")
    Product.objects.update(price=Decimal("99.00"))
    hold.refresh_from_db()
    assert (hold.unit_price, hold.total) == (Decimal("12.50"), Decimal("25.00"))
    assert hold.strategy == "conditional_update"
    assert hold.status == Reservation.Status.HELD


def test_an_empty_strategy_is_the_settings_default(make_product: MakeProduct) -> None:
    assert reserve(make_product(), 1, buyer="A").strategy == "combined"


@pytest.mark.parametrize(
    "quantity", [0, -1, -3, True, None, "", "abc", "2", "2,5", 1.5, 1e3, 10**21, 87893287498]
)
def test_a_quantity_that_makes_no_sense_is_named_and_changes_nothing(
    make_product: MakeProduct, quantity: object
) -> None:
    product = make_product(10)
    with pytest.raises(InvalidQuantity, match="quantity must be"):
        reserve(product, quantity, buyer="A")  # type: ignore[arg-type]
    assert stock_of(product) == 10
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("quantity", [0, -1, True, "2", 1.5, 2_147_483_648])
def test_no_strategy_is_ever_asked_for_a_quantity_that_makes_no_sense(quantity: object) -> None:
    with pytest.raises(InvalidQuantity, match="quantity must be"):
        Request(
            product_id=1,
            sku="LAMP",
            quantity=quantity,  # type: ignore[arg-type]
            buyer="A",
            hold_for=timedelta(minutes=1),
            strategy="combined",
        )


UNSTORABLE = {
    "buyer too long": ({"buyer": 65 * "ä"}, "buyer's key must have at most 64 characters, not 65"),
    "buyer with NUL": ({"buyer": "A\0"}, "buyer's key must not have a NUL"),
    "buyer with half a character": ({"buyer": "A\ud83d"}, "buyer's key has half a character"),
    "key too long": (
        {"idempotency_key": 101 * "k"},
        "idempotency key must have at most 100 characters, not 101",
    ),
    "key with NUL": ({"idempotency_key": "\0"}, "idempotency key must not have a NUL"),
    "key with half a character": (
        {"idempotency_key": "\udc00"},
        "idempotency key has half a character",
    ),
}


@pytest.mark.parametrize(("texts", "message"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_text_that_cannot_be_stored_is_named_and_changes_nothing(
    make_product: MakeProduct, texts: dict[str, Any], message: str
) -> None:
    product = make_product(10)
    with pytest.raises(InvalidText, match=message):
        reserve(product, 1, **{"buyer": "A", **texts})
    assert stock_of(product) == 10
    assert not Reservation.objects.exists()


def test_the_longest_texts_are_stored(make_product: MakeProduct) -> None:
    hold = reserve(make_product(1), 1, buyer=64 * "ä", idempotency_key=100 * "😀")
    hold.refresh_from_db()
    assert (hold.buyer, hold.idempotency_key) == (64 * "ä", 100 * "😀")


@pytest.mark.parametrize("quantity", [11, 900_000_000, 2_147_483_647])
def test_more_than_there_is_is_refused_with_the_number_that_is_there(
    make_product: MakeProduct, quantity: int
) -> None:
    product = make_product(10)
    with pytest.raises(InsufficientStock, match="Only 10 of") as refused:
        reserve(product, quantity, buyer="A")
    assert (refused.value.requested, refused.value.available) == (quantity, 10)
    assert stock_of(product) == 10


def test_no_new_holds_on_a_product_that_is_switched_off_but_a_running_one_may_finish(
    make_product: MakeProduct,
) -> None:
    product = make_product(10)
    running = reserve(product, 1, buyer="A")
    Product.objects.update(is_active=False)
    with pytest.raises(NotForSale):
        reserve(product, 1, buyer="B")
    assert confirm(running.pk).status == Reservation.Status.SOLD


def test_a_limit_counts_what_is_held_and_sold_but_not_what_came_back(
    make_product: MakeProduct,
) -> None:
    product = make_product(10, max_per_buyer=3)
    sold = confirm(reserve(product, 2, buyer="A").pk)
    held = reserve(product, 1, buyer="A")
    with pytest.raises(BuyerLimitExceeded) as refused:
        reserve(product, 1, buyer="A")
    assert (refused.value.limit, refused.value.already) == (3, 3)
    assert reserve(product, 3, buyer="B").quantity == 3
    release(held.pk)
    return_units(sold.pk, 2)
    assert reserve(product, 3, buyer="A").quantity == 3


# From lapsed holds


def test_a_buyer_takes_back_a_few_lapsed_holds_more_than_needed_and_not_all(
    make_product: MakeProduct,
) -> None:
    product = make_product(70)
    for number in range(70):
        lapse(reserve(product, 1, buyer=f"gone {number}"))
    reserve(product, 2, buyer="A")
    assert stock_of(product) == holds.TAKE_BACK_AT_LEAST - 2
    assert Reservation.objects.lapsed().count() == 70 - holds.TAKE_BACK_AT_LEAST
    reserve(product, 68, buyer="A")
    assert (stock_of(product), Reservation.objects.lapsed().count()) == (0, 0)


@pytest.mark.parametrize("at_most", [1, 3])
def test_as_many_are_taken_back_as_are_needed_in_several_steps(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, at_most: int
) -> None:
    monkeypatch.setattr(holds, "TAKE_BACK_AT_MOST", at_most)
    product = make_product(10)
    for number in range(5):
        lapse(reserve(product, 2, buyer=f"gone {number}"))
    assert reserve(product, 7, buyer="A").quantity == 7
    with pytest.raises(InsufficientStock) as refused:
        reserve(product, 4, buyer="B")
    assert refused.value.available == 3


@pytest.mark.django_db(transaction=True)
def test_nobody_is_refused_since_the_oldest_lapsed_holds_were_just_paid_for(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buyer waits for them, finds none of them lapsed any more, and takes the next ones."""
    monkeypatch.setattr(holds, "TAKE_BACK_AT_LEAST", 2)
    product = make_product(4)
    held = [lapse(reserve(product, 1, buyer=f"gone {number}")) for number in range(4)]
    with transaction.atomic():
        for hold in held[:2]:
            confirm(hold.pk)
        buyer = threading.Thread(target=at_once, args=[[lambda: reserve(product, 2, buyer="A")]])
        buyer.start()
        wait_until_somebody_waits_for_a_lock()
    buyer.join()
    assert Reservation.objects.get(buyer="A").quantity == 2


def test_the_buyers_own_lapsed_holds_are_found_among_the_products_and_other_products(
    make_product: MakeProduct,
) -> None:
    product, other = make_product(10, max_per_buyer=2), make_product(10)
    lapsed = [
        lapse(reserve(product, 2, buyer="A")),
        lapse(reserve(product, 2, buyer="B")),
        lapse(reserve(other, 2, buyer="A")),
    ]
    assert reserve(product, 2, buyer="A").quantity == 2
    status = dict(Reservation.objects.values_list("pk", "status"))
    assert [status[hold.pk] for hold in lapsed] == ["EXPIRED", "HELD", "HELD"]


# Once only


def test_a_repeated_request_gets_the_first_result_also_when_nothing_is_left(
    make_product: MakeProduct,
) -> None:
    product = make_product(1, max_per_buyer=1)
    first = reserve(product, 1, buyer="A", idempotency_key="k")
    assert reserve(product, 1, buyer="A", idempotency_key="k").pk == first.pk
    release(first.pk)
    Product.objects.update(is_active=False)
    again = reserve(product, 1, buyer="A", idempotency_key="k")
    assert (again.pk, again.status) == (first.pk, Reservation.Status.RELEASED)


@pytest.mark.parametrize("other", ["buyer", "product"])
def test_a_key_never_gives_away_another_buyers_reservation(
    make_product: MakeProduct, other: str
) -> None:
    product = make_product(10)
    reserve(product, 1, buyer="A", idempotency_key="k")
    asked = make_product(10) if other == "product" else product
    with pytest.raises(IdempotencyKeyReused):
        reserve(asked, 1, buyer="A" if other == "product" else "B", idempotency_key="k")
    assert Reservation.objects.count() == 1


def test_a_repeated_request_inside_a_transaction_leaves_that_usable(
    make_product: MakeProduct,
) -> None:
    product = make_product(10)
    first = reserve(product, 1, buyer="A", idempotency_key="k")
    with transaction.atomic():
        assert reserve(product, 1, buyer="A", idempotency_key="k").pk == first.pk
        reserve(product, 1, buyer="A")
    assert stock_of(product) == 8


def test_a_hold_is_gone_with_the_callers_transaction(make_product: MakeProduct) -> None:
    product = make_product(10)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        reserve(product, 1, buyer="A")
        raise ZeroDivisionError
    assert stock_of(product) == 10
    assert not Reservation.objects.exists()


# Confirming, letting go


def test_confirming_twice_is_one_sale(make_product: MakeProduct) -> None:
    product = make_product(10)
    hold = reserve(product, 3, buyer="A")
    first, second = confirm(hold.pk), confirm(hold.pk)
    assert first.decided_at == second.decided_at
    state = monitor.state_of(product.pk)
    assert (state.available, state.held, state.sold) == (7, 0, 3)


def test_a_lapsed_hold_may_be_confirmed_until_it_is_taken_back(make_product: MakeProduct) -> None:
    product = make_product(1)
    kept = lapse(reserve(product, 1, buyer="A"))
    assert confirm(kept.pk).status == Reservation.Status.SOLD


def test_the_hold_lapses_another_buys_the_unit_and_the_first_comes_back(
    make_product: MakeProduct,
) -> None:
    product = make_product(1)
    lost = lapse(reserve(product, 1, buyer="A"))
    kept = reserve(product, 1, buyer="B")
    with pytest.raises(ReservationEnded, match="lapsed") as ended:
        confirm(lost.pk)
    assert ended.value.status == Reservation.Status.EXPIRED
    assert confirm(kept.pk).status == Reservation.Status.SOLD


WAYS_OF_ENDING: dict[str, Callable[[Reservation], object]] = {
    "the buyer or staff": lambda hold: release(hold.pk),
    "shrinking to nothing": lambda hold: shrink(hold.pk, 3, seen=3),
    "the sweep": lambda hold: expire_lapsed(),
    "the sweep of its product": lambda hold: expire_lapsed(hold.product_id),
}


@pytest.mark.parametrize("first", WAYS_OF_ENDING)
@pytest.mark.parametrize("second", WAYS_OF_ENDING)
def test_a_hold_of_three_ends_by_two_routes_and_comes_back_once(
    make_product: MakeProduct, first: str, second: str
) -> None:
    for together in (False, True):
        product = make_product(10)
        hold = lapse(reserve(product, 3, buyer="A"))
        calls = [lambda way=way: WAYS_OF_ENDING[way](hold) for way in (first, second)]
        if together:
            results = at_once(calls)
        else:
            results = [result for call in calls for result in at_once([call])]
        errors = of_kind(results, Exception)
        assert all(isinstance(error, ReservationEnded) for error in errors), errors
        assert stock_of(product) == 10
        product.reservations.all().delete()


def test_a_hold_is_confirmed_and_let_go_at_once(make_product: MakeProduct) -> None:
    """One of them wins, and both return the outcome."""
    for _ in range(10):
        product = make_product(5)
        hold = reserve(product, 5, buyer="A")
        at_once([lambda: confirm(hold.pk), lambda: release(hold.pk), lambda: shrink(hold.pk, 2)])
        hold.refresh_from_db()
        held_or_sold = hold.quantity if hold.status == Reservation.Status.SOLD else 0
        assert hold.status in (Reservation.Status.SOLD, Reservation.Status.RELEASED)
        assert stock_of(product) == 5 - held_or_sold


def test_a_sale_cannot_be_let_go(make_product: MakeProduct) -> None:
    product = make_product(10)
    sold = confirm(reserve(product, 1, buyer="A").pk)
    with pytest.raises(ReservationEnded, match="has been sold"):
        release(sold.pk)
    with pytest.raises(ReservationEnded, match="has been sold"):
        shrink(sold.pk, 1)
    assert stock_of(product) == 9


@pytest.mark.parametrize("change", [confirm, release, lambda pk: shrink(pk, 1)])
def test_a_reservation_that_never_was(
    make_product: MakeProduct, change: Callable[[uuid.UUID], object]
) -> None:
    with pytest.raises(Reservation.DoesNotExist):
        change(uuid.uuid4())


def test_many_are_released_together_each_once(make_product: MakeProduct) -> None:
    """Reservations that were sold or released in the meantime stay as they are."""
    one, other = make_product(10), make_product(10)
    held = [reserve(one, 1, buyer="A"), reserve(one, 2, buyer="B"), reserve(other, 3, buyer="A")]
    sold, gone = reserve(one, 4, buyer="A"), reserve(one, 1, buyer="A")
    confirm(sold.pk)
    release(gone.pk)
    ids = [each.pk for each in (*held, sold, gone)]
    released = release_all(ids)
    assert {each.pk for each in released} == {each.pk for each in held}
    assert release_all(ids) == []
    stocks = [Product.objects.get(pk=product.pk).stock for product in (one, other)]
    assert stocks == [6, 10]


def test_releasing_many_at_once_gives_back_once(make_product: MakeProduct) -> None:
    product = make_product(10)
    ids = [reserve(product, 1, buyer="A").pk for _ in range(6)]
    calls = [lambda: release_all(ids), lambda: release_all(ids[::-1])] * 3
    results = at_once([*calls, *[lambda: release(ids[0])] * 3])
    assert [result for result in results if isinstance(result, Exception)] == []
    assert Product.objects.get(pk=product.pk).stock == 10


# Parts


def test_shrinking_a_hold_gives_some_units_back(make_product: MakeProduct) -> None:
    product = make_product(10)
    hold = shrink(reserve(product, 3, buyer="A").pk, 1)
    assert (hold.quantity, hold.status, stock_of(product)) == (2, Reservation.Status.HELD, 8)


def test_the_same_shrinking_twice_at_once_counts_once(make_product: MakeProduct) -> None:
    product = make_product(10)
    hold = reserve(product, 3, buyer="A")
    results = at_once([lambda: shrink(hold.pk, 1, seen=3) for _ in range(4)])
    assert len(of_kind(results, ReservationChanged)) == 3, results
    assert stock_of(product) == 8


def test_no_more_can_be_shrunk_than_is_held(make_product: MakeProduct) -> None:
    product = make_product(10)
    hold = reserve(product, 3, buyer="A")
    with pytest.raises(InvalidQuantity, match="4 is more than the 3 held"):
        shrink(hold.pk, 4)
    assert stock_of(product) == 7


def test_ten_sold_three_returned_then_the_rest(make_product: MakeProduct) -> None:
    product = make_product(10)
    sold = confirm(reserve(product, 10, buyer="A").pk)
    assert return_units(sold.pk, 3).returned == 3
    assert stock_of(product) == 3
    assert return_units(sold.pk, 7).returned == 10
    with pytest.raises(InvalidQuantity, match="0 are still sold"):
        return_units(sold.pk, 1)
    assert stock_of(product) == 10


def test_the_same_return_twice_at_once_counts_once(make_product: MakeProduct) -> None:
    product = make_product(10)
    sold = confirm(reserve(product, 4, buyer="A").pk)
    results = at_once([lambda: return_units(sold.pk, 2, seen=0) for _ in range(4)])
    assert len(of_kind(results, ReservationChanged)) == 3, results
    assert stock_of(product) == 8


def test_only_a_sale_can_be_returned(make_product: MakeProduct) -> None:
    hold = reserve(make_product(10), 1, buyer="A")
    with pytest.raises(ReservationEnded, match="still held"):
        return_units(hold.pk, 1)


# Time


def test_two_sweeps_at_once_take_back_exactly_the_lapsed_holds_once(
    make_product: MakeProduct,
) -> None:
    products = [make_product(20) for _ in range(3)]
    for product in products:
        for n in range(8):
            hold = reserve(product, 2, buyer=f"buyer {n}")
            if n < 5:
                lapse(hold)
    swept = at_once([lambda: expire_lapsed(batch=2) for _ in range(2)])
    assert [sum(each) for each in zip(*swept, strict=True)] == [15, 30], swept
    assert [stock_of(product) for product in products] == [14, 14, 14]
    assert Reservation.objects.held().count() == 9


def test_a_lapsed_hold_is_confirmed_while_the_sweep_waits_for_it(
    make_product: MakeProduct,
) -> None:
    """The sweep checks again after its wait: a hold confirmed in the meantime stays sold."""
    product = make_product(5)
    hold = lapse(reserve(product, 5, buyer="A"))

    def confirm_slowly() -> None:
        with transaction.atomic():
            confirm(hold.pk)
            confirmed.set()
            wait_until_somebody_waits_for_a_lock()

    def sweep() -> tuple[int, int]:
        confirmed.wait(20)
        return expire_lapsed()

    confirmed = threading.Event()
    assert at_once([confirm_slowly, sweep]) == [None, (0, 0)]
    assert monitor.state_of(product.pk).sold == 5


def test_all_units_can_be_bought_again_after_one_hold_period_without_any_sweep(
    make_product: MakeProduct,
) -> None:
    product = make_product(3)
    for n in range(3):
        reserve(product, 1, buyer=f"gone {n}", hold_for=timedelta(0))
    assert reserve(product, 3, buyer="A").quantity == 3


def test_the_buyers_own_lapsed_hold_does_not_block_a_new_one(make_product: MakeProduct) -> None:
    product = make_product(1, max_per_buyer=1)
    lapse(reserve(product, 1, buyer="A"))
    again = reserve(product, 1, buyer="A")
    assert again.status == Reservation.Status.HELD
    with pytest.raises(BuyerLimitExceeded):
        reserve(product, 1, buyer="A")


@pytest.mark.parametrize(
    "zone", ["Etc/GMT-10", "Etc/GMT+8", "Europe/Berlin", "Australia/Lord_Howe"]
)
def test_a_hold_lasts_the_same_time_in_every_time_zone(
    make_product: MakeProduct, zone: str
) -> None:
    """Instants are compared, by one clock; the zones of shop and session don't matter."""
    product = make_product(5)
    with timezone.override(zone), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, false)", [zone])
        try:
            hold = reserve(product, 1, buyer="A", hold_for=timedelta(minutes=10))
            lapsed = reserve(product, 1, buyer="B", hold_for=timedelta(0))
            assert hold.expires_at - hold.created_at == timedelta(minutes=10)
            assert list(Reservation.objects.lapsed()) == [lapsed]
            assert expire_lapsed() == (1, 1)
        finally:
            cursor.execute("SELECT set_config('TimeZone', 'UTC', false)")
    hold.refresh_from_db()
    assert hold.status == Reservation.Status.HELD


def test_a_hold_that_spans_the_change_to_summer_time_keeps_its_length(
    make_product: MakeProduct,
) -> None:
    """A day may have 23 or 25 hours, but a minute is always a minute."""
    product = make_product(5)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', 'Europe/Berlin', false)")
        try:
            hold = reserve(product, 1, buyer="A", hold_for=timedelta(hours=24 * 365))
        finally:
            cursor.execute("SELECT set_config('TimeZone', 'UTC', false)")
    assert hold.expires_at - hold.created_at == timedelta(hours=24 * 365)
    halfway = timedelta(hours=24 * 182)  # a summer or a winter away
    Reservation.objects.filter(pk=hold.pk).update(expires_at=Now() + halfway)
    hold.refresh_from_db()
    assert abs(hold.expires_at - timezone.now() - halfway) < timedelta(minutes=1)


def test_a_repair_and_a_sale_at_once(make_product: MakeProduct) -> None:
    """A repair waits for a function that moves units, and the other way round."""
    product = make_product(10)
    hold = reserve(product, 4, buyer="A")
    at_once(
        [
            lambda: stock.repair(product),
            lambda: reservations.release(hold.pk),
            lambda: reserve(product, 2, buyer="B"),
            lambda: stock.repair(product),
        ]
    )
    assert stock_of(product) == 8


@pytest.mark.breaks_law
def test_in_a_rush_a_buyers_basket_is_found_without_reading_all_others(
    make_product: MakeProduct,
) -> None:
    """The planner's statistics are from before the rush, and know of no live hold."""
    product = make_product(10)
    insert_reservations(product, "EXPIRED", "now() - interval '1 hour'")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE inventory_reservation")
    insert_reservations(product, "HELD", "now() + interval '1 hour'")

    basket = Reservation.objects.alive().of_buyer("buyer-7")
    assert basket.count() == 1
    assert "reservation_of_buyer" in basket.explain()

    with CaptureQueriesContext(connection) as captured:
        assert holds_of_buyer("buyer-7").quantities == [1]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + captured.captured_queries[0]["sql"])
        assert "reservation_of_buyer" in str(cursor.fetchall())


def test_of_a_buyer_only_what_is_alive_counts(make_product: MakeProduct) -> None:
    product = make_product(10)
    reserve(product, 1, buyer="A", idempotency_key="first")
    reserve(product, 2, buyer="A")
    lapse(reserve(product, 3, buyer="A", idempotency_key="lapsed"))
    confirm(reserve(product, 1, buyer="A").pk)
    reserve(product, 1, buyer="B", idempotency_key="another's")
    assert sorted(holds_of_buyer("A").quantities) == [1, 2]
    for key, is_there in {"first": True, "lapsed": True, "another's": False, "new": False}.items():
        found = holds_of_buyer("A", key)
        assert sorted(found.quantities) == [1, 2]
        assert found.has_key is is_there


def insert_reservations(product: Product, status: str, expires_at: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO inventory_reservation (id, product_id, quantity, returned, unit_price,
                status, buyer, expires_at, strategy, created_at)
            SELECT gen_random_uuid(), %s, 1, 0, 1, %s, 'buyer-' || n, {expires_at},
                'single_statement', now()
            FROM generate_series(1, 3000) AS n
            """,
            [product.pk, status],
        )
