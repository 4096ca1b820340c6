"""Colours in the admin's lists: they belong to a state, not to its label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site
from django.db.models import TextChoices
from unfold.utils import display_for_label

from inventory.models import Product, Reservation
from shop.models import Order, Payment, Refund

Colours = dict[TextChoices, str]
SHOWN = {"success": "bg-green", "danger": "bg-red", "warning": "bg-orange", "info": "bg-blue"}


def columns() -> list[tuple[str, Callable[[Any], tuple[str, str]], Colours]]:
    """The columns with colours: their names, what they show, and their colours."""
    found = [
        (f"{model.__name__}.{name}", getattr(model_admin, str(name), None))
        for model, model_admin in site._registry.items()
        for name in model_admin.list_display
    ]
    return [
        (name, column, column.label)
        for name, column in found
        if column and isinstance(getattr(column, "label", None), dict)
    ]


def test_there_are_such_columns() -> None:
    assert {"Reservation.shown_status", "Order.shown_state", "StockAlert.shown_kind"} <= {
        name for name, _, _ in columns()
    }


@pytest.mark.parametrize("colours", [pytest.param(each[2], id=each[0]) for each in columns()])
def test_each_value_of_a_state_has_its_colour(colours: Colours) -> None:
    [states] = {type(state) for state in colours if isinstance(state, TextChoices)}
    assert set(states) <= set(colours)  # a column may tell of more than the state
    assert set(colours.values()) <= set(SHOWN)


@pytest.mark.parametrize(
    ("model", "field", "states", "column"),
    [
        (Reservation, "status", Reservation.Status, "shown_status"),
        (Order, "state", Order.State, "shown_state"),
        (Payment, "state", Payment.State, "shown_state"),
        (Refund, "state", Refund.State, "shown_state"),
    ],
)
def test_a_list_shows_the_words_in_the_colour_of_the_state(
    model: Any, field: str, states: type[TextChoices], column: str
) -> None:
    show = getattr(site._registry[model], column)
    for state in states:
        html = display_for_label(show(model(**{field: state.value})), "-", show.label)
        assert SHOWN[show.label[state]] in html
        assert str(state.label) in html
        assert state.value not in html


@pytest.mark.parametrize(
    ("product", "words", "colour"),
    [
        (Product(is_active=True), "for sale", "success"),
        (Product(is_active=False), "switched off", "warning"),
        (Product(is_active=True, is_exhibit=True), "exhibit", "info"),
    ],
)
def test_the_list_of_products_does_so_too(product: Product, words: str, colour: str) -> None:
    show: Any = site._registry[Product].state  # type: ignore[attr-defined]
    html = display_for_label(show(product), "-", show.label)
    assert words in html
    assert SHOWN[colour] in html
