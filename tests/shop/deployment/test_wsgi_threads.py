"""A WSGI application's response, as messages of ASGI."""

from __future__ import annotations

from typing import Any

import pytest

from shop.deployment.wsgi_threads import PIECE, fetch, make_environ


def messages_of(
    chunks: list[bytes], headers: list[tuple[str, str]], method: str = "GET"
) -> list[dict[str, Any]]:
    def application(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", headers)
        return chunks

    return [
        message
        for messages, _ in fetch(application, {"REQUEST_METHOD": method})
        for message in messages
    ]


@pytest.mark.parametrize(
    ("method", "sent", "expected"),
    [
        ("GET", [], [(b"content-length", b"3")]),
        ("GET", [("Content-Length", " 3 ")], [(b"content-length", b"3")]),
        ("HEAD", [], []),  # the length of what GET would answer isn't known
        ("HEAD", [("Content-Length", "3")], [(b"content-length", b"3")]),
    ],
)
def test_a_client_learns_the_length_of_the_body(
    method: str, sent: list[tuple[str, str]], expected: list[tuple[bytes, bytes]]
) -> None:
    start, body = messages_of([b"ab", b"c"], sent, method)
    assert start == {"type": "http.response.start", "status": 200, "headers": expected}
    assert body["body"] == (b"abc" if method == "GET" else b"")
    assert not body["more_body"]


def test_a_large_body_comes_in_pieces() -> None:
    start, *bodies = messages_of([b"x" * PIECE, b"y"], [])
    assert start["headers"] == []
    assert [len(each["body"]) for each in bodies] == [PIECE, 1]
    assert [each["more_body"] for each in bodies] == [True, False]


def test_a_path_keeps_its_bytes() -> None:
    """ASGI's decoded path has lost those that are not UTF-8."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/\ufffd/",
        "raw_path": b"/%ff/",
        "query_string": b"a=%ff",
        "headers": [(b"content-length", b"3"), (b"x-a", b"1"), (b"x-a", b"2")],
    }
    environ = make_environ(scope, b"abc")
    assert environ["PATH_INFO"] == "/\xff/"
    assert environ["QUERY_STRING"] == "a=%ff"
    assert environ["HTTP_X_A"] == "1,2"
    assert environ["wsgi.input"].read() == b"abc"
