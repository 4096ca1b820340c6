"""A product whose row stays locked: its buyers get an answer, and others notice nothing."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice

import psycopg
import pytest

from inventory.models import Product, Reservation
from tests.command_line import database_url
from tests.conftest import MakeProduct
from tests.http.conftest import Served, serve
from tests.http.shopper import Page, Shopper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BUYERS = 24  # more than all threads: 2 web workers × 8
LONG = {"LOCK_TIMEOUT": "120", "STATEMENT_TIMEOUT": "120"}
SLOTS = 12  # two threads of each worker are free for others
MOST_SECONDS = 30  # for an answer


@pytest.fixture(scope="module")
def patient(django_db_setup: None) -> Iterator[Served]:
    """A shop that waits for locks longer than the test waits for an answer."""
    yield from serve(WEB_THREADS="8", FAST_LANE="off", **LONG)


@contextmanager
def locked(product: Product) -> Iterator[None]:
    """An idle transaction that has locked the product's row."""
    with psycopg.connect(database_url().replace("postgres:", "postgresql:")) as somebody:
        somebody.execute("SELECT 1 FROM inventory_product WHERE id = %s FOR UPDATE", [product.pk])
        yield
        somebody.rollback()


@pytest.mark.parametrize("strategy", ["combined", "select_for_update"])
def test_one_stuck_product_does_not_stop_the_shop(
    patient: Served, make_product: MakeProduct, strategy: str
) -> None:
    stuck, other = make_product(100, strategy=strategy), make_product(100)
    shoppers = [Shopper(patient.url, number) for number in range(BUYERS)]
    pages = [shopper.get(f"/products/{stuck.slug}/") for shopper in shoppers]

    def buy(number: int) -> Page:
        return shoppers[number].send(pages[number].form("/basket/holds/"))

    with ThreadPoolExecutor(BUYERS) as buyers, locked(stuck):
        answers = [buyers.submit(buy, number) for number in range(BUYERS)]
        turned_away = [each.result() for each in first_done(answers, BUYERS - SLOTS)]
        for path in ["/healthz", f"/products/{other.slug}/"] * 5:
            with urllib.request.urlopen(f"{patient.url}{path}", timeout=MOST_SECONDS) as answer:
                assert answer.status == 200
    assert [page.status for page in turned_away] == [503] * len(turned_away)
    assert all(f"want {stuck.name} at this moment" in page.html for page in turned_away)
    statuses = Counter(each.result().status for each in answers)
    assert statuses.keys() == {200, 503}
    assert Reservation.objects.count() == statuses[200] <= SLOTS


def first_done(answers: list[Future[Page]], number: int) -> list[Future[Page]]:
    return list(islice(as_completed(answers, timeout=MOST_SECONDS), number))


def test_a_buyer_of_a_stuck_product_gets_an_answer(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(1)
    shopper = Shopper(served.url, 1)
    with locked(product):
        page = shopper.reserve(product.slug)
    assert page.status == 503
    assert "Very busy right now" in page.html
    assert not Reservation.objects.exists()
    assert shopper.reserve(product.slug).status == 200
