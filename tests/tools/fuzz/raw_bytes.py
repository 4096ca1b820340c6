"""Bytes that are no request, or several: what a proxy or an attacker may send to the web server."""

from __future__ import annotations

import random

PAGE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A second request, hidden in the body of the first. Nobody may get its answer."""


def malformed(marker: bytes, chance: random.Random) -> tuple[bytes, bool]:
    """Bytes for a connection of their own, and whether a server need not wait for more.

    At most one answer may come.
    """
    plain = marker.replace(b"\r\n", b"")
    path = chance.choice(
        [b"/", b"/products/mug/", b"/admin/login/", b"/basket/holds/", b"/no/" + plain]
    )
    host = b"Host: localhost\r\n"
    post = b"POST %s HTTP/1.1\r\n%s" % (path, host)
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    size = len(PAGE)
    whole = [
        # Request lines
        b"GET\r\n\r\n",
        b"GET %s\r\n\r\n" % path,
        b"GET  %s HTTP/1.1\r\n%s\r\n" % (path, host),
        b"GET %s HTTP/1.1 \r\n%s\r\n" % (path, host),
        b"GET %s HTTP/9.9\r\n%s\r\n" % (path, host),
        b"GET %s HTTP/0.9\r\n\r\n" % path,
        b"GET %s HTTP/1.0\r\n\r\n" % path,
        b"GET %s http/1.1\r\n%s\r\n" % (path, host),
        b"get %s HTTP/1.1\r\n%s\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%s\r\n" % (plain, host),
        b"GET http://%s/ HTTP/1.1\r\n%s\r\n" % (plain.replace(b" ", b""), host),
        b"GET http://[/ HTTP/1.1\r\n%s\r\n" % host,
        b"GET //zq.example/%%2e%%2e HTTP/1.1\r\n%s\r\n" % host,
        b"GET /%%%02x HTTP/1.1\r\n%s\r\n" % (chance.randrange(256), host),
        b"GET /\xff\xfe\x00 HTTP/1.1\r\n%s\r\n" % host,
        b"OPTIONS * HTTP/1.1\r\n%s\r\n" % host,
        b"CONNECT localhost:80 HTTP/1.1\r\n%s\r\n" % host,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"\r\n\r\n\r\nGET %s HTTP/1.1\r\n%s\r\n" % (path, host),
        bytes(chance.randrange(256) for _ in range(200)) + b"\r\n\r\n",
        # Heads
        b"GET %s HTTP/1.1\r\n\r\n" % path,
        b"GET %s HTTP/1.1\r\n%s%s\r\n" % (path, host, host),
        b"GET %s HTTP/1.1\r\n%sHost: zq.example\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%sX\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%s: x\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%sX : y\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%s X: y\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%sX: y\r\n folded\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%sX: a\0b\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%sX: a\rb\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\n%s\n" % (path, b"Host: localhost\n"),
        b"GET %s HTTP/1.1\r\n%sX%s: y\r\n\r\n" % (path, host, plain.replace(b":", b"")),
        b"GET %s HTTP/1.1\r\n%s%s\r\n" % (path, host, b"X: y\r\n" * 300),
        b"GET %s HTTP/1.1\r\n%sX: %s\r\n\r\n" % (path, host, b"y" * 70_000),
        b"GET /%s HTTP/1.1\r\n%s\r\n" % (b"x" * 70_000, host),
        b"GET %s HTTP/1.1\r\n%sUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" % (path, host),
        b"GET %s HTTP/1.1\r\n%sConnection: %s\r\n\r\n" % (path, host, plain),
        b"GET %s HTTP/1.1\r\n%sExpect: %s\r\n\r\n" % (path, host, plain),
        # Bodies whose end is not clear
        b"%sContent-Length: %d\r\nContent-Length: 0\r\n\r\n%s" % (post, size, PAGE),
        b"%sContent-Length: 0\r\nContent-Length: %d\r\n\r\n%s" % (post, size, PAGE),
        b"%sContent-Length: 0, %d\r\n\r\n%s" % (post, size, PAGE),
        b"%sContent-Length: -1\r\n\r\n%s" % (post, PAGE),
        b"%sContent-Length: +%d\r\n\r\n%s" % (post, size, PAGE),
        b"%sContent-Length: 0x10\r\n\r\n%s" % (post, PAGE),
        b"%sContent-Length: 1_0\r\n\r\n%s" % (post, PAGE),
        b"%sContent-Length: %s\r\n\r\n%s" % (post, b"9" * 40, PAGE),
        b"%sContent-Length: %s\r\n\r\n%s" % (post, "²".encode(), PAGE),
        b"%sContent-Length: \r\n\r\n%s" % (post, PAGE),
        b"%sContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s"
        % (post, size, PAGE),
        b"%sTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%s" % (post, PAGE),
        b"%sTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n%s" % (post, PAGE),
        b"%sTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n%s" % (post, PAGE),
        b"%sTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n%s" % (post, PAGE),
        b"%sTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n%s" % (post, PAGE),
        b"%sTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % post,
        b"%s%sTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n" % (post, form),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n" % (post, form),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n%s\r\nabc\r\n0\r\n\r\n" % (post, form, b"f" * 40),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n3;%s\r\na=b\r\n0\r\n\r\n" % (post, form, plain),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n3\r\na=bXX0\r\n\r\n" % (post, form),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n0\r\nX-%s: y\r\n\r\n"
        % (post, form, plain.replace(b":", b"")),
        b"%s%sTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n" % (post, form),
        b"GET %s HTTP/1.0\r\n%sTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (path, host),
    ]
    waiting = [
        b"",
        b"G",
        b"GET %s" % path,
        b"GET %s HTTP/1.1\r\nHost: loc" % path,
        b"%s%sContent-Length: 500\r\n\r\na=b" % (post, form),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n" % (post, form),
        b"%s%sTransfer-Encoding: chunked\r\n\r\n5\r\nabc" % (post, form),
        b"%s%sExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % (post, form),
        b"\0" * 100,
    ]
    if chance.random() < 0.1:
        return chance.choice(waiting), False
    return chance.choice(whole), True
