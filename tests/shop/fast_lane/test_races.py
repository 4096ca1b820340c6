"""The lane's batches against each other, Django's way, and all that changes holds or the product.

In each order of their statements the law is kept, and each buyer is told the truth: one who was
told “reserved” got the hold, and nobody gets more than allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from inventory import monitor, reservations
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation
from inventory.races import RaceFound, Result, Run, explore
from inventory.reservations import reserve
from shop import basket
from shop.fast_lane import reserving
from shop.fast_lane.reserving import Form, Outcome, serve
from shop.models import HoldAddress, Refusal
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.race_bounds import Bounds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ADDRESS = "192.0.2.1"


class Sale:
    """A product with a hold of two units that has lapsed."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.units = product.stock
        self.forms: list[Form] = []

    def open(self) -> None:
        """Put all as it was."""
        HoldAddress.objects.all().delete()
        Refusal.objects.all().delete()
        Reservation.objects.all().delete()
        Product.objects.filter(pk=self.product.pk).update(
            stock=self.units, is_active=True, strategy="combined", max_per_buyer=None
        )
        self.hold = lapse(reserve(self.product, 2, buyer="earlier"))
        self.forms = []

    def form(self, buyer: str, quantity: int, key: int) -> Form:
        form = Form(
            slug=self.product.slug,
            quantity=quantity,
            key=UUID(int=key),
            seen_price=None,
            buyer=buyer,
            network=ADDRESS,
        )
        self.forms.append(form)
        return form

    def batch(self, *buyers: str, quantity: int = 1, key: int = 1) -> list[str]:
        forms = [self.form(buyer, quantity, key) for buyer in buyers]
        serve(self.product.slug, forms)
        return [form.outcome.name for form in forms]

    def by_django(self, buyer: str, quantity: int = 1, key: int = 1) -> str:
        product = Product.objects.get(pk=self.product.pk)
        try:
            basket.reserve(product, quantity, buyer=buyer, key=UUID(int=key), address=ADDRESS)
        except basket.BasketError:
            return "REFUSED"
        return "RESERVED"

    def change(self, **fields: object) -> None:
        Product.objects.filter(pk=self.product.pk).update(**fields)

    def is_right(self, run: Run) -> None:
        state = monitor.state_of(self.product.pk)
        assert state.keeps_law, str(state)
        for error in run.raised.values():
            assert isinstance(error, InventoryError), repr(error)
        for form in self.forms:
            made = Reservation.objects.filter(pk=form.hold_id or UUID(int=0)).first()
            assert (made is not None) == (form.outcome is Outcome.RESERVED), form
            if made is not None:
                assert (made.buyer, made.quantity) == (form.buyer, form.quantity)
        keys = Reservation.objects.exclude(pk=self.hold.pk).values_list("idempotency_key")
        assert len(set(keys)) == len(keys)


def race(
    sale: Sale,
    sessions: Mapping[str, Callable[[], object]],
    bounds: Bounds,
    *also: Callable[[Run], None],
) -> Result:
    def is_right(run: Run) -> None:
        sale.is_right(run)
        for check in also:
            check(run)

    return explore(
        sessions,
        setup=sale.open,
        invariant=is_right,
        describe=lambda: str(monitor.state_of(sale.product.pk)),
        serial=False,
        **bounds,
    )


@pytest.fixture
def sale(make_product: MakeProduct) -> Sale:
    """One unit is available. Without the backstop, which could hide a missing guard."""
    return Sale(make_product(3, strategy="combined", backstop=False))


@pytest.fixture
def big_sale(make_product: MakeProduct) -> Sale:
    return Sale(make_product(11, strategy="combined", backstop=False))


OTHERS: dict[str, Callable[[Sale], object]] = {
    "another batch": lambda sale: sale.batch("C", "D"),
    "Django's way": lambda sale: sale.by_django("C", 2),
    "the same form by Django": lambda sale: sale.by_django("A"),
    "reserve": lambda sale: reserve(sale.product, 2, buyer="C", strategy="conditional_update"),
    "confirm": lambda sale: reservations.confirm(sale.hold.pk),
    "release": lambda sale: reservations.release(sale.hold.pk),
    "expire": lambda sale: reservations.expire_lapsed(sale.product.pk),
    "switch off": lambda sale: sale.change(is_active=False),
    "another strategy": lambda sale: sale.change(strategy="single_statement"),
    "a limit": lambda sale: sale.change(max_per_buyer=1),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_batch_against_all_that_changes_the_product(
    sale: Sale, bounds: Bounds, other: str
) -> None:
    sessions: dict[str, Callable[[], object]] = {
        "batch": lambda: sale.batch("A", "B"),
        "other": lambda: OTHERS[other](sale),
    }
    found = race(sale, sessions, bounds)
    found.assert_holds()
    assert len(found.runs) > 1


# One buyer, and one address, in two processes


def two_ways(sale: Sale, way: str, buyers: str, quantity: int) -> dict[str, Callable[[], object]]:
    one, other = list(buyers)
    second: Callable[[], object] = lambda: sale.batch(other, quantity=quantity, key=2)  # noqa: E731
    if way == "Django":
        second = lambda: sale.by_django(other, quantity, 2)  # noqa: E731
    return {"lane": lambda: sale.batch(one, quantity=quantity, key=1), way: second}


@pytest.mark.parametrize("way", ["another lane", "Django"])
def test_a_buyer_never_keeps_more_than_allowed(
    big_sale: Sale, settings: Any, bounds: Bounds, way: str
) -> None:
    settings.MOST_UNITS_PER_BUYER = 3
    way = way.replace(" ", "-")

    def keeps_to_the_limit(run: Run) -> None:
        alive = Reservation.objects.alive().filter(buyer="A").units()
        assert alive <= 3
        for form in big_sale.forms:
            if form.outcome is Outcome.OVER_LIMIT:
                assert form.why
        told = [form.quantity for form in big_sale.forms if form.outcome is Outcome.RESERVED]
        if way == "Django":
            told += [2] * (run.returned.get(way) == "RESERVED")
        assert sum(told) == alive

    sessions = two_ways(big_sale, way, "AA", 2)
    found = race(big_sale, sessions, bounds, keeps_to_the_limit)
    found.assert_holds()


@pytest.mark.parametrize("way", ["another lane", "Django"])
def test_an_address_never_gets_more_than_allowed(
    big_sale: Sale, settings: Any, bounds: Bounds, way: str
) -> None:
    """Neither of them lets go of units: it never had more than in the end."""
    settings.MOST_UNITS_PER_ADDRESS = 3

    def keeps_to_the_limit(run: Run) -> None:
        assert Reservation.objects.alive().exclude(pk=big_sale.hold.pk).units() == 2

    sessions = two_ways(big_sale, way.replace(" ", "-"), "AB", 2)
    found = race(big_sale, sessions, bounds, keeps_to_the_limit)
    found.assert_holds()


def test_without_its_second_look_a_buyer_gets_more_than_allowed(
    big_sale: Sale, settings: Any, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MOST_UNITS_PER_BUYER = 3

    def believe(reserved: dict[Form, UUID]) -> None:
        for form, hold_id in reserved.items():
            form.outcome, form.hold_id = Outcome.RESERVED, hold_id

    def keeps_to_the_limit(run: Run) -> None:
        assert Reservation.objects.alive().filter(buyer="A").units() <= 3

    monkeypatch.setattr(reserving, "_look_again", believe)
    with pytest.raises(RaceFound):
        race(
            big_sale, two_ways(big_sale, "another-lane", "AA", 2), bounds, keeps_to_the_limit
        ).assert_holds()
