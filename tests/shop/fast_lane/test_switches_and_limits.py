"""The lane's switches; the limits of an address, HTTPS, hosts, staff, and the age of pages."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client

from inventory import reservations
from inventory.models import Product, Reservation
from shop import asgi
from shop.fast_lane import FastLane, pages
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve
from tests.shop.fast_lane.conftest import Browser, Request
from tests.shop.fast_lane.served import MakeShop, Response, comparable
from tests.shop.lane_client import LaneClients

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product(10, slug="lamp", name="Lamp")


PAGE = "/products/lamp/"
STOCK = "/products/lamp/stock/"


def with_headers(request: Request, **headers: str) -> Request:
    """The same request with these headers; underscores stand for hyphens."""
    scope, body = request
    wanted = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    kept = [(name, value) for name, value in scope["headers"] if name not in wanted]
    return {**scope, "headers": [*kept, *wanted.items()]}, body


def with_query(request: Request, query: str) -> Request:
    """The same request, which Django must answer."""
    return {**request[0], "query_string": query.encode()}, request[1]


# Switches


@pytest.mark.parametrize("change", ["one more", "one less", "another order"])
def test_with_other_middleware_django_answers(
    product: Product, make_shop: MakeShop, settings: Any, change: str
) -> None:
    known = list(settings.MIDDLEWARE)
    settings.MIDDLEWARE = {
        "one more": [*known, "django.middleware.http.ConditionalGetMiddleware"],
        "one less": [each for each in known if "clickjacking" not in each],
        "another order": [*known[:-2], known[-1], known[-2]],
    }[change]
    shop = make_shop(lane=True)
    assert shop.ask(*Browser().page(PAGE)).status == 200
    assert shop.ask(*Browser().form(product)).status == 302
    assert shop.answered == 0


@pytest.mark.parametrize("is_on", [True, False])
def test_the_setting_switches_the_lane(settings: Any, is_on: bool) -> None:
    settings.FAST_LANE = is_on
    assert asgi.__file__
    lane = runpy.run_path(asgi.__file__)["lane"]
    assert isinstance(lane, FastLane) if is_on else lane is None


def test_without_the_lane_django_answers(product: Product, make_shop: MakeShop) -> None:
    shop = make_shop(lane=False)
    assert shop.ask(*Browser().page(PAGE)).status == 200
    assert shop.ask(*Browser().form(product)).status == 302


# The limits of an address


def ask_each(make_shop: MakeShop, requests: list[Request], *, lane: bool) -> tuple[list[Any], int]:
    """The answers one after the other, by new counters; and how many were the lane's."""
    cache.clear()
    shop = make_shop(lane=lane)
    found = [shop.ask(*request) for request in requests]
    return [(each.status, bool(each.header("Retry-After"))) for each in found], shop.answered


def test_each_page_counts_once_whoever_answers_it(
    product: Product, make_shop: MakeShop, settings: Any
) -> None:
    settings.PAGES_PER_ADDRESS = "4/h"
    page = Browser().page(PAGE)
    # One by the lane, one by Django, and one that Django answers after the lane has counted it.
    holder = Browser()
    reservations.reserve(product, 1, buyer=holder.buyer)
    requests = [page, with_query(page, "q=1"), holder.page(STOCK), page, page, with_query(page, "")]
    answers, by_lane = ask_each(make_shop, requests, lane=True)
    assert answers == [(200, False)] * 4 + [(429, True)] * 2
    assert by_lane == 2
    assert ask_each(make_shop, requests, lane=False) == (answers, 0)


def test_each_form_counts_once_whoever_answers_it(
    product: Product, make_shop: MakeShop, settings: Any
) -> None:
    settings.POSTS_PER_ADDRESS = "3/h"
    browser = Browser()
    form = browser.form(product)
    requests = [form, form, browser.form(product), browser.form(product)]
    answers, by_lane = ask_each(make_shop, requests, lane=True)
    assert answers == [(302, False)] * 3 + [(429, True)]
    assert by_lane == 2  # the repeated form is Django's
    assert Reservation.objects.count() == 2


def test_shared_counters_count_each_request_once(
    product: Product, make_shop: MakeShop, settings: Any, tmp_path: Any
) -> None:
    shared = {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": tmp_path,
    }
    settings.CACHES = {"default": shared}
    settings.PAGES_PER_ADDRESS = "2/h"
    page = Browser().page(PAGE)
    answers, by_lane = ask_each(make_shop, [page, with_query(page, "q=1"), page], lane=True)
    assert answers == [(200, False)] * 2 + [(429, True)]
    assert by_lane == 1


def test_a_full_address_gets_the_answer_of_django_before_sold_out(
    product: Product, make_product: MakeProduct, make_shop: MakeShop, settings: Any
) -> None:
    settings.MOST_UNITS_PER_ADDRESS = 2
    other = make_product(10)
    gone = make_product(0)
    shop = make_shop(lane=True)
    assert shop.ask(*Browser().form(other, 2)).status == 302
    response = shop.ask(*Browser().form(gone))
    assert response.status == 409
    assert b"from your internet connection already" in response.body
    assert shop.answered == 1


# HTTPS and hosts


@pytest.fixture
def https(settings: Any) -> None:
    settings.HTTPS = settings.SECURE_SSL_REDIRECT = True
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 3600
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


def by_https(request: Request, **headers: str) -> Request:
    return with_headers(request, x_forwarded_proto="https", **headers)


@pytest.mark.usefixtures("https")
def test_by_https_the_answers_are_the_same(product: Product, make_shop: MakeShop) -> None:
    lane, django = make_shop(lane=True), make_shop(lane=False)
    browser = Browser()
    page = browser.page(PAGE)
    gone = browser.form(product, 11)
    expected = [
        (page, 301, False),
        (with_headers(page, host="example.org"), 400, False),
        (by_https(page), 200, True),
        (by_https(page, host="example.org"), 400, False),
        (by_https(page, cookie="other=1"), 200, True),
        (by_https(gone), 403, False),
        (by_https(gone, referer="https://example.org/"), 403, False),
        (by_https(gone, referer="https://localhost/"), 409, True),
        (by_https(gone, origin="https://localhost"), 409, True),
        (by_https(gone, origin="http://localhost"), 403, False),
    ]
    for request, status, is_lanes in expected:
        before = lane.answered
        ours = lane.ask(*request)
        assert (ours.status, lane.answered > before) == (status, is_lanes)
        names = {browser.buyer: "the buyer", browser.token: "the secret"}
        assert comparable(ours, names) == comparable(django.ask(*request), names)


def test_each_host_has_pages_of_its_own(
    product: Product, make_shop: MakeShop, settings: Any
) -> None:
    templates = {"shop/partials/product_stock.html": "{{ request.get_host }}"}
    [engine] = settings.TEMPLATES
    loaders = [("django.template.loaders.locmem.Loader", templates)]
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    shop = make_shop(lane=True)
    for host in ("localhost", "127.0.0.1", "localhost:8000", "localhost"):
        assert shop.ask(*with_headers(Browser().page(STOCK), host=host)).body == host.encode()
    assert shop.answered == 4


# Staff, and the age of pages


def test_staff_see_pages_by_django(product: Product, make_shop: MakeShop) -> None:
    product.strategy = "naive"
    product.save()
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("staff"))
    shop = make_shop(lane=True)
    page = Browser().page(PAGE)
    assert b"Staff only" not in shop.ask(*page).body
    session = client.cookies["sessionid"].value
    cookie = f"{Browser().cookies()}; sessionid={session}"
    assert b"Staff only" in shop.ask(*with_headers(page, cookie=cookie)).body
    assert shop.answered == 1


def test_a_page_is_kept_for_a_second_and_no_longer(
    product: Product, make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(pages, "time", SimpleNamespace(monotonic=lambda: now))
    shop = make_shop(lane=True)

    def units_shown() -> Response:
        return shop.ask(*Browser().page(STOCK))

    assert b"10 left" in units_shown().body
    reservations.reserve(product, 1, buyer="another")
    now += 1.0
    assert b"10 left" in units_shown().body
    now += 0.01
    assert b"9 left" in units_shown().body
    assert shop.answered == 3


def test_a_product_that_is_switched_off_is_gone_a_second_later(
    product: Product, make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(pages, "time", SimpleNamespace(monotonic=lambda: now))
    shop = make_shop(lane=True)
    assert shop.ask(*Browser().page(PAGE)).status == 200
    Product.objects.update(is_active=False)
    now += 1.01
    assert shop.ask(*Browser().page(PAGE)).status == 404


# The client by which other tests go through the lane


@pytest.mark.django_db
def test_clients_of_other_tests_are_answered_by_the_lane(
    client: Client, make_product: MakeProduct, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = LaneClients(monkeypatch)
    product = make_product(1)
    assert client.get(f"/products/{product.slug}/").status_code == 200
    assert reserve(product).status_code == 302
    assert reserve(product, by=Client()).status_code == 409
    assert clients.answered == 3
    assert client.get(f"/products/{product.slug}/").status_code == 200  # by Django: it has a hold
    assert clients.answered == 3
