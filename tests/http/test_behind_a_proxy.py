"""Two proxies in front, which end HTTPS and name the client: both web servers believe the same."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.conftest import APPS, Served, serve
from tests.shop.programs import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BY_HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access"


@pytest.fixture(scope="module", params=APPS)
def shop(
    django_db_setup: None, request: pytest.FixtureRequest, access_log: Path
) -> Iterator[Served]:
    yield from serve(
        request.param,
        WEB_CONCURRENCY="1",
        HTTPS="true",
        BEHIND_PROXY="true",
        PROXIES="2",
        PAGES_PER_ADDRESS="2/h",
        GUNICORN_CMD_ARGS=f"--access-logfile={access_log}",
    )


def status_of(shop: Served, headers: dict[str, str], path: str = "/help/stock/") -> int:
    """The status of the answer to what the inner proxy sends: it names the outer one, too."""
    connection = http.client.HTTPConnection(shop.host, shop.port, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    lines = [("Host", "localhost"), *headers.items(), ("X-Forwarded-For", "10.0.0.2")]
    for name, value in lines:
        connection.putheader(name, value)
    connection.endheaders()
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


def test_the_access_log_names_the_client(shop: Served, access_log: Path) -> None:
    """The path tells these lines from those of other tests."""
    path = f"/products/of-{shop.port}/"
    clients = {"192.0.2.5": "192.0.2.5", "6.6.6.6, 192.0.2.6": "192.0.2.6", "": "127.0.0.1"}
    for made_up in clients:
        status_of(shop, {**BY_HTTPS, "X-Forwarded-For": made_up}, path)

    def logged() -> list[str]:
        lines = access_log.read_text().splitlines()
        return [line.split('"')[0].split()[-1] for line in lines if path in line]

    wait_until(lambda: len(logged()) == len(clients), "all requests are logged")
    assert logged() == list(clients.values())
