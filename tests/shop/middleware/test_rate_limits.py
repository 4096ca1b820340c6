"""The limit of requests per network address, and which address counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client, RequestFactory, override_settings

from shop import checks
from shop.middleware import rate_limits
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.mark.django_db
def test_too_many_pages_get_an_answer_that_says_when_to_come_back(
    client: Client, settings: Any
) -> None:
    settings.PAGES_PER_ADDRESS = "2/h"
    codes = [client.get("/help/stock/").status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    response = client.get("/")
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 3600
    assert response["Retry-After"] in response.content.decode()
    assert Client(REMOTE_ADDR="203.0.113.7").get("/").status_code == 200


@pytest.mark.django_db
def test_too_many_forms_change_nothing(
    make_product: MakeProduct, reserve: Reserve, settings: Any
) -> None:
    settings.POSTS_PER_ADDRESS = "2/h"
    product = make_product(10)
    assert [reserve(product).status_code for _ in range(4)] == [302, 302, 429, 429]
    assert product.reservations.count() == 2


@pytest.mark.django_db
def test_healthz_has_no_limit(client: Client, settings: Any) -> None:
    settings.PAGES_PER_ADDRESS = "1/h"
    assert {client.get("/healthz").status_code for _ in range(3)} == {200}


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "address"),
    [
        (0, "10.0.0.1", "1.2.3.4", "10.0.0.1"),  # anyone can send the header
        (1, "10.0.0.1", "1.2.3.4", "1.2.3.4"),
        (1, "10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),  # the first was made up
        (2, "10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        (2, "10.0.0.1", "1.2.3.4", "10.0.0.1"),  # it came past one of them
        (1, "10.0.0.1", "", "10.0.0.1"),
        (1, "10.0.0.1", "nonsense", "10.0.0.1"),
        (0, "::ffff:1.2.3.4", "", "1.2.3.4"),
        (0, "2001:db8::1", "", "2001:db8::1"),
        (0, "", "", "0.0.0.0"),
    ],
)
def test_the_address_is_believed_only_from_our_own_proxies(
    settings: Any, proxies: int, remote: str, forwarded: str, address: str
) -> None:
    settings.PROXIES = proxies
    request = RequestFactory(REMOTE_ADDR=remote).get("/", headers={"x-forwarded-for": forwarded})
    assert rate_limits.client_address(request) == address


def test_deploying_without_a_shared_cache_gets_a_warning() -> None:
    [warning] = checks.counters_are_shared()
    assert "CACHE_URL" in str(warning.hint)
    shared = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "shop_cache"}
    with override_settings(CACHES={"default": shared}):
        assert checks.counters_are_shared() == []
