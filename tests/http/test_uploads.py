"""Pictures that staff upload: large bodies, which a thread reads as they come."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.urls import reverse
from PIL import Image

from inventory.models import Product
from tests.conftest import MakeProduct
from tests.http.conftest import APPS, OTHER_DEADLINES, Served, serve
from tests.shop.admin.conftest import fields_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SECONDS = 25  # for an answer; gunicorn itself waits 30 for the next piece of a body
THREADS = 2


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module", params=APPS)
def shop(django_db_setup: None, media: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serve(
        request.param,
        OTHER_DEADLINES,
        WEB_CONCURRENCY="1",
        WEB_THREADS=str(THREADS),
        MEDIA_ROOT=str(media),
        SECONDS_TO_SEND_REST="8",
    )


@pytest.fixture(scope="module")
def picture() -> bytes:
    """Nearly 10 MB, the most that staff may send."""
    side = 1800
    file = BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(
        file, "PNG", compress_level=0
    )
    return file.getvalue()


@pytest.fixture
def upload(make_product: MakeProduct, picture: bytes) -> tuple[Product, str, bytes]:
    """A product; the head of a request that gives it the picture, but for its end; the body."""
    product = make_product()
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    address = reverse("admin:inventory_product_change", args=[product.pk])
    form = fields_of(client.get(address).content.decode(), "sku")
    file = SimpleUploadedFile("a.png", picture, "image/png")
    body = encode_multipart(BOUNDARY, {**form, "picture": file})
    cookies = "; ".join(f"{name}={each.value}" for name, each in client.cookies.items())
    head = [
        f"POST {address} HTTP/1.1",
        "Host: localhost",
        f"Cookie: {cookies}",
        f"Content-Type: {MULTIPART_CONTENT}",
        f"Content-Length: {len(body)}",
    ]
    return product, "\r\n".join(head), body


def connect(shop: Served, sent: str) -> socket.socket:
    connection = socket.create_connection((shop.host, shop.port), timeout=SECONDS)
    connection.sendall(sent.encode())
    return connection


def status_of(connection: socket.socket) -> int:
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


@pytest.mark.parametrize("waits", [False, True])
def test_a_large_picture_comes_whole(
    shop: Served, media: Path, picture: bytes, upload: tuple[Product, str, bytes], waits: bool
) -> None:
    product, head, body = upload
    more = "\r\nExpect: 100-continue" if waits else ""
    with connect(shop, f"{head}{more}\r\n\r\n") as connection:
        if waits:
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert status_of(connection) == 302
    product.refresh_from_db()
    assert (media / str(product.picture)).read_bytes() == picture


def test_uploads_that_stop_in_the_middle_change_nothing(
    shop: Served, upload: tuple[Product, str, bytes]
) -> None:
    product, head, body = upload
    with contextlib.ExitStack() as stack:
        for number in range(2 * THREADS):
            connection = stack.enter_context(connect(shop, f"{head}\r\n\r\n"))
            connection.sendall(body[: len(body) // 2])
            if number < THREADS:
                connection.close()
        with connect(shop, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as other:
            assert status_of(other) == 200
    product.refresh_from_db()
    assert not product.picture
