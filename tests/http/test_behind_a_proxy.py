"""A proxy in front, which ends HTTPS and names the client: both web servers believe the same."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.http.conftest import APPS, Served, serve

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BY_HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module", params=APPS)
def shop(django_db_setup: None, request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serve(
        request.param,
        WEB_CONCURRENCY="1",
        HTTPS="true",
        BEHIND_PROXY="true",
        PROXIES="1",
        PAGES_PER_ADDRESS="2/h",
    )


def status_of(shop: Served, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(shop.host, shop.port, timeout=30)
    connection.request("GET", "/help/stock/", headers={"Host": "localhost", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_the_proxy_says_by_which_scheme_the_client_came(shop: Served) -> None:
    client = {"X-Forwarded-For": "192.0.2.1"}
    assert status_of(shop, client) == 301
    assert status_of(shop, {**client, "X_Forwarded_Proto": "https"}) == 301
    assert status_of(shop, {**client, "X-Forwarded-Proto": "http"}) == 301
    assert status_of(shop, {**client, **BY_HTTPS}) == 200


def test_the_proxy_says_who_the_client_is(shop: Served) -> None:
    for _ in range(2):
        assert status_of(shop, {**BY_HTTPS, "X-Forwarded-For": "192.0.2.2"}) == 200
    for made_up in ("192.0.2.2", "192.0.2.3, 192.0.2.2"):
        assert status_of(shop, {**BY_HTTPS, "X-Forwarded-For": made_up}) == 429
    same = {"X-Forwarded-For": "192.0.2.2", "X_Forwarded_For": "192.0.2.4"}
    assert status_of(shop, {**BY_HTTPS, **same}) == 429
    assert status_of(shop, {**BY_HTTPS, "X-Forwarded-For": "192.0.2.4"}) == 200
