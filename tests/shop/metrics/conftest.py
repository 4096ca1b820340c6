"""A shop whose metrics are on, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.shop.metrics.figures import Figures

TOKEN = "a-token-of-24-characters"

Scrape = Callable[[], Figures]


@pytest.fixture
def metrics_on(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN
    settings.METRICS_ADDRESS = None


@pytest.fixture
def scrape(metrics_on: None, db: None) -> Scrape:
    """A function that asks for the figures, as Prometheus does."""

    def ask() -> Figures:
        response = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert response.status_code == 200, response.content
        return Figures(response.content.decode())

    return ask
