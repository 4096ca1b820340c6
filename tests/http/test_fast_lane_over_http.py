"""The fast lane behind gunicorn: two machines, a third without the lane, and some get killed.

By hand there is a longer drill: ``python -m tests.tools.kill_lane``.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from inventory import monitor
from inventory.models import Reservation
from shop.load_tests.serving import ServedShop
from tests.conftest import MakeProduct
from tests.http.shopper import Shopper
from tests.tools.kill_lane import MACHINES, drill

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BUYERS, UNITS, AT_ONCE = 60, 20, 20


@pytest.fixture
def machines(transactional_db: None) -> Iterator[list[ServedShop]]:
    """Two machines with the lane, and one without."""
    with ExitStack() as ends:
        shops = [ServedShop({**variables, "HTTPS": "false"}) for variables in MACHINES]
        for shop in shops:
            ends.callback(shop.stop)
            shop.start_web()
        yield shops


def test_a_sale_on_three_machines_is_exact(
    machines: list[ServedShop], make_product: MakeProduct
) -> None:
    product = make_product(UNITS, strategy="combined")
    shoppers = [Shopper(machines[number % 3].url, number) for number in range(BUYERS)]

    def reserve_twice(shopper: Shopper) -> tuple[int, int]:
        """Send the form, and again: the second answer is the same."""
        form = shopper.get(f"/products/{product.slug}/").form("/basket/holds/")
        return shopper.send(form, quantity="1").status, shopper.send(form, quantity="1").status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(reserve_twice, shoppers))
    assert sorted(statuses) == [(200, 200)] * UNITS + [(409, 409)] * (BUYERS - UNITS)
    state = monitor.state_of(product.pk)
    assert (state.available, state.held, state.sold) == (0, UNITS, 0)
    assert Reservation.objects.count() == UNITS


def test_buyers_are_told_the_truth_whoever_was_killed() -> None:
    figures = drill(forms=240, kills=6, seed=13)
    assert figures.kills.total() == 6
    assert figures.statuses == {302: 120, 409: 120}
    assert figures.held == 120
    assert figures.looks > 6
