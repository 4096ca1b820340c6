"""The figures are shown to those who may see them, and only at the right address."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from shop.metrics.exposition import FAMILIES
from tests.shop.metrics.conftest import TOKEN, Scrape

OWN: dict[str, Any] = {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "9100"}

pytestmark = pytest.mark.django_db


def ask(path: str = "/metrics", client: Client | None = None, **options: Any) -> HttpResponse:
    response: Any = (client or Client()).get(path, **options)
    return response  # type: ignore[no-any-return]


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_settings_there_is_no_such_page(settings: Any) -> None:
    assert (settings.METRICS_TOKEN, settings.METRICS_ADDRESS) == ("", None)
    for headers in ({}, with_token(""), with_token(TOKEN)):
        assert ask(headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": ""}, 401),
        (with_token(TOKEN[:-1]), 403),
        (with_token(TOKEN + "x"), 403),
        (with_token(""), 403),
        (with_token("é" * 24), 403),
        ({"Authorization": TOKEN}, 403),
        ({"Authorization": f"Basic {TOKEN}"}, 403),
        (with_token(TOKEN), 200),
    ],
)
def test_only_the_token_opens_the_page(
    metrics_on: None, headers: dict[str, str], status: int
) -> None:
    response = ask(headers=headers)
    assert response.status_code == status
    assert (b"shop_stock_units" in response.content) == (status == 200)
    assert response["Cache-Control"] == "no-store"
    assert response["X-Robots-Tag"] == "noindex"


def test_only_reading_is_possible(metrics_on: None) -> None:
    response = Client().post("/metrics", headers=with_token(TOKEN))
    assert response.status_code == 405


def test_a_machine_may_ask_by_any_host_over_http_and_as_often_as_it_likes(
    metrics_on: None, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["shop.example.org"]
    settings.SECURE_SSL_REDIRECT = True
    settings.PAGES_PER_ADDRESS = "1/h"
    client = Client()
    for _ in range(3):
        response = ask(client=client, headers={**with_token(TOKEN), "Host": "10.1.2.3:8000"})
        assert response.status_code == 200
    assert not response.cookies


class TestAtItsOwnAddress:
    @pytest.fixture(autouse=True)
    def own_address(self, settings: Any) -> None:
        settings.METRICS_ADDRESS = ("127.0.0.1", 9100)

    def test_the_figures_are_everybodys(self) -> None:
        assert ask(**OWN).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/healthz", "/admin/", "/static/shop/shop.css", "/x"])
    def test_there_is_nothing_else(self, path: str) -> None:
        assert ask(path, **OWN).status_code == 404

    def test_the_shop_itself_has_no_such_page_without_a_token(self) -> None:
        assert ask().status_code == 404
        assert ask(headers=with_token("")).status_code == 404
        assert ask("/").status_code == 200

    def test_a_host_in_the_request_does_not_make_it_the_address(self) -> None:
        assert ask(headers={"Host": "127.0.0.1:9100"}).status_code == 404

    @pytest.mark.parametrize(
        ("address", "name", "port", "is_it"),
        [
            (("0.0.0.0", 9100), "192.0.2.7", "9100", True),
            (("::", 9100), "::ffff:192.0.2.7", "9100", True),
            (("0.0.0.0", 9100), "192.0.2.7", "8000", False),
            (("192.0.2.7", 8000), "127.0.0.1", "8000", False),
            (("192.0.2.7", 8000), "192.0.2.7", "8000", True),
        ],
    )
    def test_an_address_for_all_networks(
        self, settings: Any, address: tuple[str, int], name: str, port: str, is_it: bool
    ) -> None:
        settings.METRICS_ADDRESS = address
        status = ask(SERVER_NAME=name, SERVER_PORT=port).status_code
        assert status == (200 if is_it else 404)


def test_each_family_has_the_name_and_the_labels_that_it_declares(scrape: Scrape) -> None:
    """Alert rules and dashboards are checked against the declarations."""
    Client().get("/")
    figures = scrape()
    exposed = {family.name: family for family in figures.families}
    names = {name.removesuffix("_total") for name in FAMILIES}  # the parser takes it off, too
    assert set(exposed) == names
    for name, labels in FAMILIES.items():
        if figures.labels_of(name):
            assert figures.labels_of(name) == set(labels), name
