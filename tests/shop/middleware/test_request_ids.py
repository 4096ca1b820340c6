"""Each answer repeats the id of its request: the one that it was given if that is plain."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from django.test import Client

from shop import health, logs
from shop.logs.context import private_texts
from tests.shop.fast_lane.served import shops

pytestmark = pytest.mark.django_db

NEW = re.compile("[0-9a-f]{16}")
PATHS = {"/": 200, "/no/": 404, "/admin/": 302, "/a%00b": 400}


@pytest.mark.parametrize(("path", "status"), PATHS.items())
def test_a_plain_id_is_given_back(client: Client, path: str, status: int) -> None:
    answer = client.get(path, headers={"X-Request-ID": "Ab-1.2_3"})
    assert (answer.status_code, answer["X-Request-ID"]) == (status, "Ab-1.2_3")


def test_a_static_file_has_it_too(client: Client) -> None:
    answer = client.get("/static/shop/shop.css", headers={"X-Request-ID": "Ab-1.2_3"})
    answer.close()
    assert (answer.status_code, answer["X-Request-ID"]) == (200, "Ab-1.2_3")


@pytest.mark.parametrize("given", ["", "a b", "a@example.org", "é", "a\nb", "x" * 65, "a,b", "a/b"])
def test_another_id_is_replaced(client: Client, given: str) -> None:
    answers = [client.get("/", headers={"X-Request-ID": given}) for _ in range(2)]
    first, second = (answer["X-Request-ID"] for answer in answers)
    assert NEW.fullmatch(first)
    assert NEW.fullmatch(second)
    assert first != second


def test_a_failed_request_has_its_id_in_the_answer_and_in_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("It is a test.")

    ids: list[str] = []
    monkeypatch.setattr(health, "find_problem", fail)
    client.raise_request_exception = False
    handler = logging.Handler()
    handler.emit = lambda record: ids.append(logs.request_id())  # type: ignore[method-assign]
    logging.getLogger("django.request").addHandler(handler)
    try:
        answer = client.get("/healthz", headers={"X-Request-ID": "req-1"})
    finally:
        logging.getLogger("django.request").removeHandler(handler)
    assert (answer.status_code, answer["X-Request-ID"], ids) == (500, "req-1", ["req-1"])


def test_what_a_visitor_has_typed_is_private_while_the_request_is_handled(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[str]] = []

    def look(*_: object) -> None:
        found.append(private_texts())

    monkeypatch.setattr(health, "find_problem", look)
    client.get("/healthz?q=Zed+Quillfeather&page=1&c=DE")
    assert found == [["Zed Quillfeather"]]


def test_so_is_an_odd_part_of_the_path(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.get("/no/Zed%20Quillfeather/")
    assert private_texts() == ["Zed Quillfeather"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lane", [True, False])
def test_the_fast_lane_and_django_behind_it_give_the_id_back_once(
    lane: bool, make_product: Any
) -> None:
    product = make_product(3, strategy="combined")
    with shops() as make_shop:
        shop = make_shop(lane=lane)
        for given in ("req-1", "req-2"):
            answer = shop.ask(scope(f"/products/{product.slug}/", given))
            assert answer.status == 200
            assert answer.header("X-Request-ID") == [given]
        assert shop.answered == (2 if lane else 0)
        assert shop.ask(scope("/livez", "req-3")).header("X-Request-ID") == ["req-3"]
        [made] = shop.ask(scope("/", "a b")).header("X-Request-ID")
        assert NEW.fullmatch(made)


def scope(path: str, request_id: str) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"x-request-id", request_id.encode())],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000),
    }
