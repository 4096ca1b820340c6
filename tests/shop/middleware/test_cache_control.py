"""No page is kept where somebody else could find it. New pages are tested, too, by their routes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import URLResolver, get_resolver

from shop.models import Order
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper, page_of

pytestmark = pytest.mark.django_db(transaction=True)

# Pages that a browser may keep for its back button, if it asks again before it shows them.
SHELVES = ("/products/", "/help/")


def routes(patterns: list[Any], before: str = "") -> Iterator[str]:
    """The routes of all pages, those of the admin among them."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            yield route


def addresses(arguments: dict[str, object]) -> list[str]:
    """An address of each page, with ``arguments`` by their names in the routes."""
    found = []
    for route in routes(get_resolver().url_patterns):
        address = "/" + route
        for name, value in arguments.items():
            address = address.replace(f"<{name}>", str(value))
        found.append(address)
    return found


def assert_not_kept(answer: Any, address: str) -> None:
    said = answer.headers["Cache-Control"]
    assert "private" in said, (address, answer.status_code)
    if address != "/" and not address.startswith(SHELVES):
        assert "no-store" in said, (address, answer.status_code)
    else:
        assert "no-cache" in said, (address, answer.status_code)


def test_no_page_is_kept_where_others_could_find_it(
    make_product: MakeProduct, settings: Any
) -> None:
    settings.DEMO = True
    ada, product = Shopper("Ada"), make_product()
    order, answer = ada.order(product)
    bank = urlsplit(answer).path
    ada.reserve(product)
    staff = get_user_model().objects.create_superuser("staff")
    ada.client.force_login(staff)
    ada.client.raise_request_exception = False
    arguments = {
        "slug:slug": product.slug,
        "slug:token": order.token,
        "uuid:hold_id": uuid.uuid4(),
        "str:provider": "demo",
        "str:reference": bank.rstrip("/").split("/")[-1],
        "int:pk": 1,
        "path:object_id": product.pk,
        "path:path": "nope.png",
    }
    asked = addresses(arguments)
    assert {"/", "/basket/", "/checkout/", page_of(order), bank, "/admin/"} <= set(asked)
    for address in asked:
        if "<" in address or "logout" in address:  # routes of Django's admin without a page of ours
            continue
        assert_not_kept(ada.client.get(address), address)
        if not address.startswith("/admin/"):
            assert_not_kept(ada.client.post(address), address)
    assert Order.objects.count() == 1


def test_errors_and_redirects_are_not_kept_either(make_product: MakeProduct, settings: Any) -> None:
    settings.DEMO = False
    forger = Client(enforce_csrf_checks=True, raise_request_exception=False)
    slug = make_product().slug
    for answer, address in (
        (forger.get("/nope"), "/nope"),
        (forger.get("/orders/nope/"), "/orders/nope/"),
        (forger.get("/products/nope/"), "/products/nope/"),
        (forger.get("/basket"), "/basket"),
        (forger.get("/basket/holds/"), "/basket/holds/"),
        (forger.get("/admin/"), "/admin/"),
        (forger.get("/demo/outbox/"), "/demo/outbox/"),
        (forger.get("/", headers={"host": "evil.example.org"}), "/"),
        (forger.post("/checkout/", {}), "/checkout/"),
        (forger.delete(f"/products/{slug}/"), f"/products/{slug}/"),
    ):
        assert answer.status_code >= 300
        assert_not_kept(answer, address)
    settings.PAGES_PER_ADDRESS = "1/h"
    answers = [forger.get("/checkout/") for _ in range(2)]
    assert answers[-1].status_code == 429
    assert_not_kept(answers[-1], "/checkout/")


def test_a_mistake_of_ours_is_not_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("shop.views.catalogue.search", broken)
    client.raise_request_exception = False
    answer = client.get("/")
    assert answer.status_code == 500
    assert_not_kept(answer, "/")


def test_a_picture_is_the_same_for_everybody(
    client: Client, make_product: MakeProduct, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    product = make_product()
    product.picture.save("cup.png", ContentFile(b"\x89PNG picture"))
    picture: Any = client.get(product.picture.url)
    picture.close()
    assert picture.headers["Cache-Control"] == "public"
    assert_not_kept(client.get("/media/nope.png"), "/media/nope.png")
