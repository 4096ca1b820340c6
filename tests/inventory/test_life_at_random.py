"""A random walk through the life of reservations and movements. The law must hold after each step.

The model in Python knows each right number, independently of the database.
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
)

from inventory import monitor, stock, strategies
from inventory.exceptions import (
    BuyerLimitExceeded,
    InsufficientStock,
    InvalidQuantity,
    NotForSale,
    ReservationEnded,
)
from inventory.models import Product, Reservation, StockMovement
from inventory.reservations import (
    confirm,
    expire_lapsed,
    release,
    reserve,
    return_units,
    return_written_off,
    shrink,
    write_off,
)
from tests.concurrency import lapse

SLUGS = [strategy.slug for strategy in strategies.all_strategies()]
LIMIT = 6

small = st.integers(min_value=1, max_value=5)
buyers = st.sampled_from(["A", "B", "C"])
_numbers = itertools.count(1)


@dataclass
class Hold:
    """A reservation in the model."""

    pk: uuid.UUID
    buyer: str
    quantity: int
    status: str = "HELD"
    is_lapsed: bool = False
    returned: int = 0
    written_off: int = 0

    @property
    def kept(self) -> int:
        return self.quantity - self.returned - self.written_off


class LifeOfStock(RuleBasedStateMachine):
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        number = next(_numbers)
        self.product = Product.objects.create(
            sku=f"random-{number}",
            slug=f"random-{number}",
            name="Random",
            price=Decimal("1.00"),
            max_per_buyer=LIMIT,
        )
        self.received = 0
        self.known: list[Hold] = []

    # The expected numbers

    def units(self, status: str) -> int:
        return sum(hold.quantity - hold.returned for hold in self.known if hold.status == status)

    @property
    def available(self) -> int:
        return self.received - self.units("HELD") - self.units("SOLD")

    def lapsed(self) -> list[Hold]:
        return [hold for hold in self.known if hold.status == "HELD" and hold.is_lapsed]

    def note_what_was_taken_back(self) -> None:
        """The database chooses which lapsed holds go first; but only lapsed ones may go."""
        for hold in self.known:
            status = Reservation.objects.get(pk=hold.pk).status
            if status != hold.status:
                assert (status, hold.is_lapsed) == ("EXPIRED", True)
                hold.status = status

    # The steps

    @rule(units=small)
    def receive(self, units: int) -> None:
        movement = stock.receive(self.product, units)
        assert (movement.stock_before, movement.stock_after) == (
            self.available,
            self.available + units,
        )
        self.received += units

    @rule(units=small)
    def remove(self, units: int) -> None:
        could = self.available + sum(hold.quantity for hold in self.lapsed())
        try:
            stock.remove(self.product, units, reason=StockMovement.Reason.DAMAGE)
        except InsufficientStock:
            assert units > could
            self.note_what_was_taken_back()  # they were available all the same
        else:
            assert units <= could
            self.note_what_was_taken_back()
            self.received -= units

    @rule(target=holds, quantity=small, buyer=buyers, strategy=st.sampled_from(SLUGS))
    def reserve(self, quantity: int, buyer: str, strategy: str) -> object:
        could = self.available + sum(hold.quantity for hold in self.lapsed())
        promised = sum(
            hold.kept
            for hold in self.known
            if hold.buyer == buyer
            and hold.status in ("HELD", "SOLD")
            and not (hold.status == "HELD" and hold.is_lapsed)
        )
        try:
            reservation = reserve(self.product, quantity, buyer=buyer, strategy=strategy)
        except BuyerLimitExceeded:
            assert promised + quantity > LIMIT
        except InsufficientStock as refused:
            assert quantity > could
            assert refused.available == could
        else:
            assert quantity <= could
            self.note_what_was_taken_back()
            hold = Hold(reservation.pk, buyer, quantity)
            self.known.append(hold)
            return hold
        return multiple()

    @rule(hold=holds)
    def time_passes(self, hold: Hold) -> None:
        if hold.status == "HELD":
            lapse(Reservation.objects.get(pk=hold.pk))
            hold.is_lapsed = True

    @rule()
    def sweep(self) -> None:
        lapsed = self.lapsed()
        assert expire_lapsed(self.product.pk) == (
            len(lapsed),
            sum(hold.quantity for hold in lapsed),
        )
        for hold in lapsed:
            hold.status = "EXPIRED"

    @rule(hold=holds)
    def confirm(self, hold: Hold) -> None:
        try:
            confirm(hold.pk)
        except ReservationEnded:
            assert hold.status in ("RELEASED", "EXPIRED")
        else:
            assert hold.status in ("HELD", "SOLD")
            hold.status = "SOLD"

    @rule(hold=holds)
    def release(self, hold: Hold) -> None:
        try:
            release(hold.pk)
        except ReservationEnded:
            assert hold.status == "SOLD"
        else:
            assert hold.status != "SOLD"
            hold.status = "RELEASED" if hold.status == "HELD" else hold.status

    @rule(hold=holds, units=small)
    def shrink(self, hold: Hold, units: int) -> None:
        try:
            shrink(hold.pk, units)
        except ReservationEnded:
            assert hold.status != "HELD"
        except InvalidQuantity:
            assert units > hold.quantity
        else:
            assert hold.status == "HELD"
            if units == hold.quantity:
                hold.status = "RELEASED"
            else:
                hold.quantity -= units

    @rule(hold=holds, units=small)
    def return_units(self, hold: Hold, units: int) -> None:
        try:
            return_units(hold.pk, units)
        except ReservationEnded:
            assert hold.status != "SOLD"
        except InvalidQuantity:
            assert units > hold.kept
        else:
            assert hold.status == "SOLD"
            hold.returned += units

    @rule(hold=holds, units=small)
    def write_off(self, hold: Hold, units: int) -> None:
        try:
            write_off(hold.pk, units)
        except ReservationEnded:
            assert hold.status != "SOLD"
        except InvalidQuantity:
            assert units > hold.kept
        else:
            assert hold.status == "SOLD"
            hold.written_off += units

    @rule(hold=holds, units=small)
    def return_written_off(self, hold: Hold, units: int) -> None:
        try:
            return_written_off(hold.pk, units)
        except InvalidQuantity:
            assert units > hold.written_off
        else:
            hold.written_off -= units
            hold.returned += units

    @rule(repaired=st.booleans())
    @precondition(lambda self: self.available > 0)
    def the_count_is_wrong_and_gets_repaired(self, repaired: bool) -> None:
        Product.objects.filter(pk=self.product.pk).update(stock=self.available + 3)
        assert stock.repair(self.product) is not None
        assert stock.repair(self.product) is None

    @rule()
    def switched_off_for_a_moment(self) -> None:
        Product.objects.filter(pk=self.product.pk).update(is_active=False)
        with pytest.raises(NotForSale):
            reserve(self.product, 1, buyer="nobody yet")
        Product.objects.filter(pk=self.product.pk).update(is_active=True)

    # The invariants

    @invariant()
    def the_law_holds_and_every_number_is_right(self) -> None:
        state = monitor.state_of(self.product.pk)
        assert state.keeps_law, state
        assert (state.received, state.available, state.held, state.sold) == (
            self.received,
            self.available,
            self.units("HELD"),
            self.units("SOLD"),
        )


@pytest.mark.django_db(transaction=True)
def test_the_law_holds_after_every_step_of_any_life() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        LifeOfStock,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
