"""Receivers of the app's signals hear of each reservation and each refusal, once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.dispatch import Signal

from inventory import reservations, signals
from inventory.exceptions import BuyerLimitExceeded, InsufficientStock, NotForSale
from inventory.models import Product, Reservation
from inventory.reservations import Wanted
from inventory.signals import Outcome
from tests.concurrency import at_once
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

RESERVED, REFUSED = Outcome.RESERVED, Outcome.REFUSED
Heard = list[dict[str, Any]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """The attempts that were reported."""
    yield from heard_of(signals.reservation_tried)


@pytest.fixture
def batches() -> Iterator[Heard]:
    """The batches that were reported."""
    yield from heard_of(signals.batch_sent)


def heard_of(signal: Signal) -> Iterator[Heard]:
    found: Heard = []

    def receive(sender: object, signal: object, **said: Any) -> None:
        found.append(said)

    signal.connect(receive)
    yield found
    signal.disconnect(receive)


def counts(heard: Heard) -> Counter[tuple[str, Outcome]]:
    """How many buyers had each outcome, by strategy."""
    number: Counter[tuple[str, Outcome]] = Counter()
    for said in heard:
        number[said["strategy"], said["outcome"]] += len(said["seconds"])
    return number


@pytest.mark.parametrize("slug", ["combined", "single_statement", "serializable", "naive"])
def test_each_reservation_and_each_refusal_is_reported_with_its_time(
    make_product: MakeProduct, heard: Heard, slug: str
) -> None:
    product = make_product(3)
    began = time.perf_counter()
    for number in range(2):
        reservations.reserve(product, 1, buyer=str(number), strategy=slug)
    with pytest.raises(InsufficientStock):
        reservations.reserve(product, 2, buyer="c", strategy=slug)
    all_seconds = time.perf_counter() - began
    assert counts(heard) == {(slug, RESERVED): 2, (slug, REFUSED): 1}
    seconds = [each for said in heard for each in said["seconds"]]
    assert all(each > 0 for each in seconds)
    assert sum(seconds) < all_seconds


def test_a_repeated_request_is_no_second_reservation(
    make_product: MakeProduct, heard: Heard
) -> None:
    product = make_product(3)
    for _ in range(3):
        reservations.reserve(product, 1, buyer="a", idempotency_key="key")
    assert counts(heard) == {("combined", RESERVED): 1}


def test_units_of_lapsed_holds_are_a_reservation_and_no_refusal(
    make_product: MakeProduct, heard: Heard
) -> None:
    product = make_product(1)
    hold = reservations.reserve(product, 1, buyer="a")
    Reservation.objects.filter(pk=hold.pk).update(expires_at=Now() - timedelta(minutes=1))
    reservations.reserve(product, 1, buyer="b")
    assert counts(heard) == {("combined", RESERVED): 2}


def test_other_errors_are_neither(make_product: MakeProduct, heard: Heard) -> None:
    limited, closed = make_product(5, max_per_buyer=1), make_product(5)
    Product.objects.filter(pk=closed.pk).update(is_active=False)
    with pytest.raises(BuyerLimitExceeded):
        reservations.reserve(limited, 2, buyer="a")
    with pytest.raises(NotForSale):
        reservations.reserve(closed, 1, buyer="a")
    assert heard == []


class TestInATransaction:
    def test_a_reservation_is_reported_when_it_is_committed(
        self, make_product: MakeProduct, heard: Heard
    ) -> None:
        product = make_product(3)
        with transaction.atomic():
            reservations.reserve(product, 1, buyer="a")
            assert heard == []
        assert counts(heard) == {("combined", RESERVED): 1}

    def test_one_that_is_rolled_back_is_not_reported(
        self, make_product: MakeProduct, heard: Heard
    ) -> None:
        lines = [(make_product(3), 1), (make_product(0), 1)]
        with pytest.raises(InsufficientStock):
            reservations.reserve_together(lines, buyer="a")
        assert counts(heard) == {("combined", REFUSED): 1}
        assert not Reservation.objects.exists()


class TestForMany:
    def test_reservations_are_reported_together_and_refusals_are_left_to_the_caller(
        self, make_product: MakeProduct, heard: Heard
    ) -> None:
        product = make_product(3)
        errors = reservations.reserve_for_many(product, [wanted(str(n)) for n in range(5)])
        assert [error is None for error in errors] == [True, True, True, False, False]
        assert counts(heard) == {("combined", RESERVED): 3}

    def test_a_buyer_waits_from_when_the_caller_says(
        self, make_product: MakeProduct, heard: Heard
    ) -> None:
        early = Wanted(1, "a", "key", uuid4(), began=time.perf_counter() - 1000)
        reservations.reserve_for_many(make_product(3), [early, wanted("b")])
        [said] = heard
        first, second = said["seconds"]
        assert 1000 < first < 2000
        assert 0 < second < 1000


class TestBatches:
    def test_the_size_is_the_number_of_requests_in_the_statement(
        self, make_product: MakeProduct, batches: Heard
    ) -> None:
        product = make_product(9)
        reservations.reserve(product, 2, buyer="alone")
        reservations.reserve_for_many(product, [wanted(str(number)) for number in range(5)])
        reservations.reserve(product, 1, buyer="a", strategy="single_statement")
        assert batches == [{"requests": 1}, {"requests": 5}]

    def test_buyers_of_several_threads_add_up(
        self, make_product: MakeProduct, batches: Heard
    ) -> None:
        product = make_product(20)
        at_once(
            [partial(reservations.reserve, product, 1, buyer=str(number)) for number in range(12)]
        )
        assert sum(said["requests"] for said in batches) == 12


def test_an_error_of_a_receiver_stops_nobody(make_product: MakeProduct) -> None:
    def fail(**said: Any) -> None:
        raise RuntimeError("the receiver's own")

    both = [signals.reservation_tried, signals.batch_sent]
    for signal in both:
        signal.connect(fail)
    try:
        product = make_product(1)
        reservations.reserve(product, 1, buyer="a")
        with pytest.raises(InsufficientStock):
            reservations.reserve(product, 1, buyer="b")
    finally:
        for signal in both:
            signal.disconnect(fail)


def wanted(buyer: str) -> Wanted:
    return Wanted(1, buyer, f"key of {buyer}", uuid4())
