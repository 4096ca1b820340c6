"""The law: its sentence, its figures in Python, and the same figures in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as every
from typing import Any

import pytest
from django.core.management import load_command_class
from django.test import Client
from django.urls import reverse

from inventory import law, monitor
from inventory.law import Figures
from inventory.models import Product, Reservation, StockAlert, StockMovement
from inventory.snapshots import available_now
from tests.concurrency import lapse
from tests.conftest import MakeProduct


@dataclass(frozen=True)
class Seen(Figures):
    received: int
    available: int
    held: int = 0
    sold: int = 0
    recorded: int = 10


@pytest.mark.parametrize(
    ("seen", "oversold", "drift", "unrecorded", "right_stock"),
    [
        (Seen(10, 10), 0, 0, 0, 10),
        (Seen(10, 3, 2, 5), 0, 0, 0, 3),
        (Seen(10, 9, 0, 15), 5, 14, 0, -5),  # lost updates
        (Seen(10, -5, 0, 15), 5, 0, 0, -5),  # counted right, and below zero
        (Seen(10, 1, 2, 5), 0, -2, 0, 3),  # a leak
        (Seen(12, 12), 0, 0, 2, 12),  # received without a movement
    ],
)
def test_what_the_figures_say(
    seen: Seen, oversold: int, drift: int, unrecorded: int, right_stock: int
) -> None:
    assert (seen.oversold, seen.drift, seen.unrecorded) == (oversold, drift, unrecorded)
    assert seen.right_stock == right_stock
    assert seen.keeps_law is (oversold == drift == unrecorded == 0)


def test_the_figures_in_words() -> None:
    assert Seen(10, 9, 0, 15).in_words() == (
        "received 10, available 9, held 0, sold 15: drift +14, oversold 5"
    )
    assert Seen(12, 12).in_words().endswith("oversold 0, +2 received without a movement")
    assert Seen(10, 3, 2, 5).as_equation() == "available 3 + held 2 + sold 5 = received 10"
    assert Seen(1, 0, 2).as_equation() == (
        "available 0 + held 2 + sold 0 ≠ received 1: oversold 1, drift +1"
    )
    assert Seen(10, 3, 2, 5).as_dict() == {
        "received": 10,
        "available": 3,
        "held": 2,
        "sold": 5,
        "recorded": 10,
    }


@pytest.mark.django_db
@pytest.mark.breaks_law
class TestInSql:
    def test_sql_and_python_call_the_same_products_broken(self) -> None:
        """Every combination of small numbers, with a product for each."""
        numbers = list(every((0, 1, 3), (-1, 0, 2), (0, 1), (0, 2), (0, 3)))
        for number, (received, available, held, sold, recorded) in enumerate(numbers):
            broken_product(number, received, available, held, sold, recorded)
        pks = Product.objects.values_list("pk", flat=True)
        seen = {state.sku: state for state in monitor.states_of(pks)}
        assert [(s.received, s.available, s.held, s.sold, s.recorded) for s in seen.values()] == [
            *numbers
        ]
        found = {state.sku for state in monitor.check()}
        assert found == {sku for sku, state in seen.items() if not state.keeps_law}
        assert 0 < len(found) < len(numbers)

    def test_what_came_back_was_ended_or_written_off(self, make_product: MakeProduct) -> None:
        """Returned units are no longer sold. Only holds count as held, lapsed ones included."""
        product = make_product(100)
        for status, quantity, fields in (
            ("HELD", 1, {}),
            ("SOLD", 2, {}),
            ("SOLD", 10, {"returned": 3, "written_off": 1}),
            ("RELEASED", 20, {}),
            ("EXPIRED", 40, {}),
        ):
            reservation(product, status, quantity, **fields)
        lapse(reservation(product, "HELD", 5))
        state = monitor.state_of(product.pk)
        assert (state.held, state.sold) == (1 + 5, 2 + 7)
        now = available_now(product.pk, needed=200)
        assert (now.stock, now.lapsed, now.units) == (100, 5, 105)


@pytest.mark.django_db(transaction=True)
@pytest.mark.breaks_law
def test_the_database_alone_sees_the_same_figures(make_product: MakeProduct) -> None:
    """The trigger raises the alert in the transaction that takes the stock below zero."""
    product = make_product(10, backstop=False)
    make_product(7)
    reservation(product, "HELD", 4)
    reservation(product, "SOLD", 9, returned=1)
    reservation(product, "RELEASED", 5)
    Product.objects.filter(pk=product.pk).update(stock=-3, units_received=11)
    alert = StockAlert.objects.get()
    assert alert.as_dict() == {
        "received": 11,
        "available": -3,
        "held": 4,
        "sold": 8,
        "recorded": 10,
    }
    assert alert.as_dict() == monitor.state_of(product.pk).as_dict()
    Product.objects.filter(pk=product.pk).update(stock=-4)
    alert.refresh_from_db()
    assert alert.available == -4


@pytest.mark.django_db
def test_pages_and_commands_say_the_same_sentence(client: Client) -> None:
    assert law.LAW == "received = available + held + sold"
    assert law.LAW in client.get(reverse("help-stock")).content.decode()
    assert law.LAW in load_command_class("inventory", "check_stock").help


def broken_product(
    number: int, received: int, available: int, held: int, sold: int, recorded: int
) -> None:
    product = Product.objects.create(
        sku=f"{number:03}",
        slug=f"product-{number}",
        name="Mug",
        price=1,
        backstop=False,
        stock=available,
        units_received=received,
    )
    if held:
        reservation(product, "HELD", held)
    if sold:
        reservation(product, "SOLD", sold)
    if recorded:
        StockMovement.objects.create(
            product=product, units=recorded, reason="OTHER", stock_before=0, stock_after=recorded
        )


def reservation(product: Product, status: str, quantity: int, **fields: Any) -> Reservation:
    return Reservation.objects.create(
        product=product,
        quantity=quantity,
        unit_price=1,
        status=status,
        buyer="A",
        expires_at="2100-01-01T00:00Z",
        strategy="naive",
        **fields,
    )
