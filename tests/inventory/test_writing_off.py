"""Lost units, which neither buyer nor shop has: they can be replaced, and can come back."""

from __future__ import annotations

from uuid import UUID

import pytest

from inventory import reservations, strategies
from inventory.exceptions import BuyerLimitExceeded, InvalidQuantity, ReservationEnded
from inventory.models import Product, Reservation
from inventory.reservations import confirm, reserve, return_units, return_written_off, write_off
from tests.concurrency import at_once, lapse, of_kind
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

SAFE = [strategy.slug for strategy in strategies.all_strategies() if strategy.is_safe]


def sell(product: Product, units: int) -> Reservation:
    return confirm(reserve(product, units, buyer="A").pk)


def stock_of(product: Product) -> int:
    product.refresh_from_db()
    return product.stock


@pytest.mark.parametrize("strategy", SAFE)
def test_they_do_not_count_against_the_limit(make_product: MakeProduct, strategy: str) -> None:
    product = make_product(9, max_per_buyer=2, strategy=strategy)
    sold = sell(product, 2)
    with pytest.raises(BuyerLimitExceeded):
        reserve(product, 1, buyer="A")
    write_off(sold.pk, 1)
    assert stock_of(product) == 7
    reserve(product, 1, buyer="A")
    with pytest.raises(BuyerLimitExceeded):
        reserve(product, 1, buyer="A")


def test_each_unit_is_with_the_buyer_or_written_off_or_returned(make_product: MakeProduct) -> None:
    product = make_product(5)
    sold = sell(product, 5)
    write_off(sold.pk, 2)
    return_units(sold.pk, 2)
    with pytest.raises(InvalidQuantity, match="1 are still sold"):
        write_off(sold.pk, 2)
    with pytest.raises(InvalidQuantity, match="1 are still sold"):
        return_units(sold.pk, 2)
    assert return_written_off(sold.pk, 2).returned == 4
    with pytest.raises(InvalidQuantity, match="0 are written off"):
        return_written_off(sold.pk, 1)
    assert stock_of(product) == 4


def test_only_a_sale_is_written_off(make_product: MakeProduct) -> None:
    hold = reserve(make_product(2), 1, buyer="A")
    with pytest.raises(ReservationEnded, match="still held"):
        write_off(hold.pk, 1)
    with pytest.raises(InvalidQuantity):
        return_written_off(hold.pk, 1)
    with pytest.raises(Reservation.DoesNotExist):
        write_off(UUID(int=0), 1)


def test_written_off_and_returned_at_once_no_unit_is_both(make_product: MakeProduct) -> None:
    product = make_product(6)
    sold = sell(product, 6)
    results = at_once([lambda: write_off(sold.pk, 2), lambda: return_units(sold.pk, 2)] * 3)
    assert len(of_kind(results, Reservation)) == 3, results
    sold.refresh_from_db()
    assert (sold.kept, sold.returned + sold.written_off) == (0, 6)
    at_once([lambda: return_written_off(sold.pk, 1)] * 8)
    assert stock_of(product) == 6


def test_only_lapsed_ones_of_those_named_are_taken_back(make_product: MakeProduct) -> None:
    one, other = make_product(5), make_product(5)
    alive, lapsed, unnamed = (reserve(one, 1, buyer="A") for _ in range(3))
    elsewhere = reserve(other, 2, buyer="B")
    for hold in (lapsed, unnamed, elsewhere):
        lapse(hold)
    assert reservations.expire([alive.pk, lapsed.pk, elsewhere.pk]) == 2
    assert (stock_of(one), stock_of(other)) == (3, 5)
    assert reservations.expire([alive.pk, lapsed.pk, elsewhere.pk]) == 0
