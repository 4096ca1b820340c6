"""Shared by the tests of the shop's pages."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from inventory.models import Product
from shop.payments import silence
from tests.race_bounds import Bounds
from tests.shop.lane_client import LaneClients

Reserve = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_rate_limits(settings: Any) -> None:
    """Tests send as many requests as they like; tests of the limits set them."""
    settings.PAGES_PER_ADDRESS = settings.POSTS_PER_ADDRESS = None


@pytest.fixture(autouse=True)
def no_provider_was_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that was silent in one test is asked again at once in the next."""
    monkeypatch.setattr(silence, "_silent_until", {})


@pytest.fixture
def bounds(is_thorough: bool) -> Bounds:
    """Options of ``explore``, by which two requests or functions of the shop are raced.

    In each run: the orders without preemption, the most promising ones with one, and a few more
    with one anywhere. With --thorough: all with one, and the most promising ones with two.
    """
    if is_thorough:
        return Bounds(max_preemptions=2, budget=200, samples=0)
    return Bounds(max_preemptions=1, budget=15, samples=5)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """``django``: requests go to Django alone. ``lane``: they go to the fast lane first."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "lane":
            LaneClients(patch)
        yield request.param


# For tests of the product's page, its stock, and the form to reserve. It comes with the mark
# usefixtures("way").
both_ways = pytest.mark.parametrize("way", ["django", "lane"], indirect=True)


@pytest.fixture
def reserve(client: Client) -> Reserve:
    """A function that sends the form to reserve, by default for the test's one buyer."""

    def send(
        product: Product, quantity: object = 1, *, by: Client = client, key: object = None
    ) -> HttpResponse:
        form = {"product": product.slug, "quantity": quantity, "key": key or uuid.uuid4()}
        response: Any = by.post("/basket/holds/", form)
        return response  # type: ignore[no-any-return]

    return send
