"""Odd requests, byte by byte: both web servers give the same answers to them, and none is a 5xx."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest

from tests.http.conftest import APPS, Served, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SECONDS = 60
HOST = b"Host: localhost\r\n"
LAST = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
"""Sent after each request, so that the server ends the connection itself."""


def get(target: bytes, headers: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n"


def post(headers: bytes, body: bytes) -> bytes:
    return get(b"/basket/holds/", headers, b"POST") + body


CHUNKED = b"3\r\na=b\r\n0\r\n\r\n"

REQUESTS = {
    "another host": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": get(b"/healthz", HOST),
    "a path that is not UTF-8": get(b"/%ff/"),
    "a path with half of a surrogate pair": get(b"/products/%ed%a0%80/"),
    "a path that is not UTF-8, in the answer": get(b"/admin/%ff/"),
    "bytes in the path": get(b"/\xff/"),
    "a query that is not UTF-8": get(b"/?q=%ff"),
    "bytes in the query": get(b"/?q=\xff"),
    "NUL in the path": get(b"/a%00b"),
    "a bad escape": get(b"/products/%zz/"),
    "an escaped slash": get(b"/products%2fx/"),
    "a whole URL": get(b"http://localhost/?q=1"),
    "a whole URL of another host": get(b"http://example.org/healthz"),
    "a whole URL without a path": get(b"http://localhost"),
    "a whole URL that is none": get(b"http://[/"),
    "a fragment": get(b"/healthz#x"),
    "a query and a fragment": get(b"/?q=1#x"),
    "two slashes": get(b"//example.org/"),
    "no slash": get(b"healthz"),
    "a query alone": get(b"?a=b"),
    "parameters": get(b"/healthz;a"),
    "dots": get(b"/static/../../etc/passwd"),
    "escaped dots": get(b"/static/%2e%2e/%2e%2e/etc/passwd"),
    "all of the server": get(b"*", method=b"OPTIONS"),
    "CONNECT": get(b"localhost:80", method=b"CONNECT"),
    "TRACE": get(b"/", method=b"TRACE"),
    "an unknown method": get(b"/", method=b"FOO"),
    "a small method": get(b"/", method=b"get"),
    "HEAD": get(b"/", method=b"HEAD"),
    "HEAD of nothing": get(b"/no/", method=b"HEAD"),
    "HEAD of a file": get(b"/static/shop/shop.css", method=b"HEAD"),
    "part of a file": get(b"/static/shop/shop.css", b"Range: bytes=0-9\r\n"),
    "garbage": b"garbage\r\n\r\n",
    "an empty line": b"\r\n" + get(b"/healthz"),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\n\r\n",
    "lines without CR": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "a long target": get(b"/" + b"a" * 9000),
    "a long header": get(b"/", b"X-A: " + b"a" * 9000 + b"\r\n"),
    "many headers": get(b"/", b"X-A: a\r\n" * 150),
    "a header with a space": get(b"/", b"X A: 1\r\n"),
    "a space before the colon": get(b"/", b"X-A : 1\r\n"),
    "a folded header": get(b"/", b"X-A: 1\r\n  2\r\n"),
    "NUL in a header": get(b"/", b"X-A: a\0b\r\n"),
    "bytes in a cookie": get(b"/", b"Cookie: a=\xff\r\n"),
    "two headers of cookies": get(b"/", b"Cookie: csrftoken=a\r\nCookie: buyer=b\r\n"),
    "a path in a header": get(b"/healthz", b"SCRIPT_NAME: /x\r\nPATH_INFO: /y\r\n"),
    "another scheme": get(b"/healthz", b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"),
    "a form": post(b"Content-Length: 3\r\n", b"a=b"),
    "an empty form": post(b"Content-Length: 0\r\n", b""),
    "no length": post(b"", b""),
    "a signed length": post(b"Content-Length: +3\r\n", b"a=b"),
    "a negative length": post(b"Content-Length: -3\r\n", b"a=b"),
    "an underscore in the length": post(b"Content-Length: 1_0\r\n", b"a=b"),
    "letters in the length": post(b"Content-Length: x\r\n", b"a=b"),
    "a length with zeros": post(b"Content-Length: 003\r\n", b"a=b"),
    "two lengths": post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"a=b"),
    "a list of lengths": post(b"Content-Length: 3, 3\r\n", b"a=b"),
    "a body that is too large": post(b"Content-Length: 100000\r\n", b"a"),
    "a length and chunks": post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    "chunks": post(b"Transfer-Encoding: chunked\r\n", CHUNKED),
    "gzip": post(b"Transfer-Encoding: gzip\r\n", CHUNKED),
    "gzip in chunks": post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED),
    "identity": post(b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n", b"a=b"),
    "a body of a GET": get(b"/healthz", b"Content-Length: 3\r\n") + b"a=b",
    "chunks of a GET": get(b"/", b"Transfer-Encoding: chunked\r\n") + CHUNKED,
    "a sender who waits": post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"a=b"),
    "UTF-16": post(
        b"Content-Type: application/x-www-form-urlencoded; charset=utf-16\r\nContent-Length: 3\r\n",
        b"a=b",
    ),
    "two types": post(b"Content-Type: a/b\r\nContent-Type: a/b\r\nContent-Length: 3\r\n", b"a=b"),
    "a WebSocket": get(
        b"/healthz",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    ),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy's line": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(b"/healthz"),
    "requests in one piece": get(b"/no/") + get(b"/healthz"),
}


@pytest.fixture(scope="module")
def servers(django_db_setup: None) -> Iterator[list[Served]]:
    """The same shop behind both servers."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serving(app, WEB_CONCURRENCY="1")) for app in APPS]


def test_odd_requests_get_the_same_answers(servers: list[Served]) -> None:
    different = {}
    for name, request in REQUESTS.items():
        one, other = (answers_to(request, server) for server in servers)
        assert one, name
        assert not any(status.startswith(b"5") for status, *_ in one), name
        if one != other:
            different[name] = one, other
    assert not different


Answer = tuple[bytes, ...]
SIZE_OF_CHUNK = rb"(^|\r\n)[0-9a-fA-F]+\r\n"


def answers_to(request: bytes, server: Served) -> list[Answer]:
    """Status, headers and body of each answer, but for values that are random or a server's own."""
    with socket.create_connection((server.host, server.port), timeout=SECONDS) as connection:
        connection.sendall(request + LAST)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    answers = re.split(rb"(?=HTTP/1\.[01] \d{3} )", received)[1:]
    return [parts_of(each) for each in answers if not each.startswith(b"HTTP/1.1 100")]


def parts_of(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    if not any(header.lower().startswith(b"content-security-policy:") for header in headers):
        return (status.split()[1],)  # the server itself has rejected the request
    kept = sorted(
        re.sub(rb"(csrftoken|buyer)=[^;]*|expires=[^;]*", b"", header).lower()
        for header in headers
        if not re.match(
            rb"(?i)(server|date|connection|expires|content-length|transfer-encoding|x-request-id):",
            header,
        )
    )
    body = re.sub(rb'value="[A-Za-z0-9]{64}"|[0-9a-f]{8}-[0-9a-f-]{27}', b"", body)
    return (status.split()[1], *kept, re.sub(SIZE_OF_CHUNK, b"", body).rstrip())
