"""Each request is counted once, under its view and status, whoever answers it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.test import Client

from inventory.models import Reservation
from shop.metrics import counters
from shop.middleware.request_metrics import RequestMetricsMiddleware
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve, both_ways
from tests.shop.metrics.figures import Figures
from tests.shop.programs import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def metrics_on(settings: Any) -> None:
    settings.METRICS_TOKEN = "a-token-of-24-characters"


class Counted:
    """The counts since this was made."""

    def __init__(self) -> None:
        self.before = self.now()

    def now(self) -> Figures:
        from prometheus_client import generate_latest

        return Figures(generate_latest(counters.registry).decode())

    def __call__(self, name: str, **labels: object) -> float:
        return self.now().number(name, **labels) - self.before.number(name, **labels)

    def requests(self, view: str, status: int) -> float:
        return self("shop_request_seconds_count", view=view, status=status)

    def all_requests(self) -> float:
        def total(figures: Figures) -> float:
            return sum(
                sample.value
                for family in figures.families
                for sample in family.samples
                if sample.name == "shop_request_seconds_count"
            )

        return total(self.now()) - total(self.before)


@pytest.mark.parametrize(
    ("path", "view", "status"),
    [
        ("/", "product-list", 200),
        ("/help/stock/", "help-stock", 200),
        ("/products/there-is-none/", "product", 404),
        ("/there-is-none", "unknown", 404),
        ("/basket", "unknown", 301),
        ("/?q=%00", "unknown", 400),
        ("/static/shop/shop.css", "static", 200),
        ("/static/there-is-none.css", "static", 404),
        ("/admin/", "admin", 302),
        ("/admin/inventory/product/", "admin", 302),
        ("/admin/search/", "admin", 302),
        ("/media/there-is-none.png", "picture", 404),
        ("/metrics", "metrics", 401),
    ],
)
def test_a_request_is_counted_once(path: str, view: str, status: int) -> None:
    counts = Counted()
    response = Client().get(path)
    response.close()
    assert response.status_code == status
    assert counts.requests(view, status) == 1
    assert counts.all_requests() == 1


def test_an_error_of_a_view_is_counted_as_500(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("for this test")

    monkeypatch.setattr("shop.views.pages.render", fail)
    counts = Counted()
    assert Client(raise_request_exception=False).get("/help/stock/").status_code == 500
    assert counts.requests("help-stock", 500) == 1


def test_a_request_for_another_host_is_counted() -> None:
    counts = Counted()
    assert Client().get("/", headers={"host": "evil.example.org"}).status_code == 400
    assert counts.requests("unknown", 400) == 1


def test_a_redirect_to_https_is_counted(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    counts = Counted()
    assert Client().get("/").status_code == 301
    assert counts.requests("unknown", 301) == 1


@both_ways
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("way")
class TestEitherWay:
    """The fast lane counts its own answers, and not the pages that it has Django make for it."""

    def test_pages_of_a_product(self, make_product: MakeProduct, client: Client) -> None:
        product = make_product(5)
        counts = Counted()
        for _ in range(3):
            assert client.get(f"/products/{product.slug}/").status_code == 200
        assert client.get(f"/products/{product.slug}/stock/").status_code == 200
        assert counts.requests("product", 200) == 3
        assert counts.requests("product-stock", 200) == 1
        assert counts.all_requests() == 4

    def test_forms(self, make_product: MakeProduct, client: Client, reserve: Reserve) -> None:
        product = make_product(3)
        client.get(f"/products/{product.slug}/")  # gives the buyer's cookie
        counts = Counted()
        assert reserve(product, 2).status_code == 302
        other = Client()
        other.get(f"/products/{product.slug}/")
        assert reserve(product, 2, by=other).status_code == 409
        assert Reservation.objects.count() == 1
        assert counts.requests("basket-holds", 302) == 1
        assert counts.requests("basket-holds", 409) == 1
        assert counts("shop_reservations_total", strategy="combined") == 1
        assert counts("shop_refusals_total", strategy="combined") == 1
        assert counts("shop_reserve_seconds_count", strategy="combined") == 2
        assert counts.all_requests() == 3

    def test_a_form_that_is_sent_again_is_a_request_and_no_reservation(
        self, make_product: MakeProduct, client: Client, reserve: Reserve
    ) -> None:
        product = make_product(3)
        client.get(f"/products/{product.slug}/")
        counts = Counted()
        key = "11111111-1111-4111-8111-111111111111"
        for _ in range(2):
            assert reserve(product, key=key).status_code == 302
        assert counts.requests("basket-holds", 302) == 2
        assert counts("shop_reservations_total", strategy="combined") == 1

    def test_a_buyer_with_a_basket_who_is_refused_is_counted_once(
        self, make_product: MakeProduct, client: Client, reserve: Reserve
    ) -> None:
        """The lane leaves these to Django, after it has found that there are too few units."""
        product, other = make_product(1), make_product(5)
        client.get(f"/products/{other.slug}/")
        assert reserve(other).status_code == 302
        counts = Counted()
        assert reserve(product, 2).status_code == 409
        assert counts("shop_refusals_total", strategy="combined") == 1
        assert counts.requests("basket-holds", 409) == 1
        assert counts.all_requests() == 1


class TestOff:
    def test_the_middleware_is_not_there(self, settings: Any) -> None:
        settings.METRICS_TOKEN = ""

        def respond(request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        with pytest.raises(MiddlewareNotUsed):
            RequestMetricsMiddleware(respond)

    @pytest.mark.slow
    @pytest.mark.parametrize("app", ["shop.asgi", "shop.wsgi"])
    def test_a_shop_without_metrics_does_not_load_the_library(self, app: str) -> None:
        program = (
            f"import sys, {app}; from inventory import signals; import shop.urls;"
            "print('prometheus_client' in sys.modules, signals.reservation_tried.receivers)"
        )
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert run.stdout == "False []\n"
