"""The numbers and words of an availability, compared with sums in Python."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory.models import Product, Reservation
from inventory.snapshots import available_now
from shop.catalogue import (
    LAPSED_COUNTED,
    Availability,
    availability_now,
    in_stock,
)
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db, pytest.mark.breaks_law]

YOU, OTHER = "you", "somebody else"


@dataclass
class Holds:
    """Units in each hold of a kind."""

    lapsed: list[int] = field(default_factory=list)
    """Of anybody."""
    yours: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)

    def write(self, product: Product) -> None:
        numbers = itertools.count(1)
        for buyers, minutes, quantities in (
            ([YOU, OTHER], -1, self.lapsed),
            ([YOU], 1, self.yours),
            ([OTHER], 1, self.others),
        ):
            Reservation.objects.bulk_create(
                Reservation(
                    product=product,
                    quantity=quantity,
                    unit_price=1,
                    buyer=buyers[number % len(buyers)],
                    expires_at=Now() + timedelta(minutes=minutes, milliseconds=next(numbers)),
                    strategy="combined",
                )
                for number, quantity in enumerate(quantities)
            )


def units(most_holds: int) -> st.SearchStrategy[list[int]]:
    """Units of up to so many holds, most of one unit, as baskets have them."""
    return st.lists(st.sampled_from([1, 1, 1, 1, 2, 20]), max_size=most_holds)


holds = st.builds(
    Holds,
    # A few lapsed holds, or so many that their units lie around the bound.
    lapsed=units(6) | st.integers(80, 130).map(lambda number: [1] * number) | units(130),
    yours=units(3),
    others=units(3),
)
stocks = st.integers(-8, 5) | st.integers(-140, -80) | st.sampled_from([100, 5000])


@given(holds, stocks, st.integers(1, 160))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_it_is_exact_below_the_bound_and_says_at_least_above_it(
    make_product: MakeProduct, held: Holds, stock: int, wanted: int
) -> None:
    product = make_product(0, backstop=False)
    Product.objects.filter(pk=product.pk).update(stock=stock)
    held.write(product)
    can_be_had = stock + sum(held.lapsed)
    after_all_others = can_be_had + sum(held.others)

    for visitor, yours in (("", 0), (YOU, sum(held.yours)), ("a third", 0)):
        now = availability_now(product, visitor)
        if visitor == YOU:
            assert now.may_come_back is (after_all_others > 0)
        else:
            assert now.may_come_back is (after_all_others + sum(held.yours) > 0)
        assert now.held_by_you == yours
        if now.may_be_more:
            assert LAPSED_COUNTED <= now.available <= can_be_had
        else:
            assert now.available == max(0, can_be_had)
        assert (now.available > 0) is (can_be_had > 0)
        if sum(held.lapsed) + min(stock, 0) < LAPSED_COUNTED:
            assert not now.may_be_more
        assert now.state == state_of(can_be_had, now)
        assert ("At least" in str(now)) is now.may_be_more

    # Somebody who wants so many units gets to know whether they are there, and else how many are.
    now = availability_now(product, YOU, wanted=wanted)
    assert (now.available >= wanted) is (can_be_had >= wanted)
    if can_be_had < wanted:
        assert now.available == max(0, can_be_had)
    snapshot = available_now(product.pk, wanted)
    assert (snapshot.units >= wanted) is (can_be_had >= wanted)
    if can_be_had < wanted:
        assert snapshot.units == can_be_had
    assert 0 <= snapshot.lapsed <= sum(held.lapsed)

    is_in_stock = in_stock(Product.objects.filter(pk=product.pk)).exists()
    assert is_in_stock is (can_be_had > 0)
    Reservation.objects.all().delete()


def state_of(can_be_had: int, now: Availability) -> str:
    if can_be_had > 3:
        return "plenty"
    if can_be_had > 0:
        return "few"
    if now.may_come_back:
        return "held"
    return "yours" if now.held_by_you else "gone"


@pytest.mark.parametrize(
    ("stock", "lapsed", "words"),
    [
        (12, [], "12 left"),
        (12, [20], "32 left"),
        (0, [1] * 99, "99 left"),
        (0, [1] * 100, "At least 100 left"),
        (0, [60, 60], "At least 100 left"),
        (500, [1] * 101, "At least 600 left"),
        (-7, [1] * 106, "99 left"),
        (-7, [1] * 108, "At least 100 left"),
        (-120, [1] * 121, "Last one"),
        (-120, [1] * 120, "Sold out"),
        (-250, [1] * 130, "Sold out"),
    ],
)
def test_its_words_on_the_page(
    client: Client, make_product: MakeProduct, stock: int, lapsed: list[int], words: str
) -> None:
    product = make_product(0, backstop=False)
    Product.objects.filter(pk=product.pk).update(stock=stock)
    Holds(lapsed).write(product)
    for page in ("/", f"/products/{product.slug}/", f"/products/{product.slug}/stock/"):
        assert f">{words}</p>" in client.get(page).content.decode()
