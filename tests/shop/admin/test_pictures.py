"""Uploaded pictures must be of a kind that browsers show, complete, and rightly named."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from inventory.models import Product
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import fields_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def drawn(kind: str, size: tuple[int, int] = (40, 30), **how: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **how)
    return file.getvalue()


def moving(kind: str) -> bytes:
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue", "green")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """Many pixels in few bytes, of which a program that decodes them knows nothing yet."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def upload(admin: Client, product: Product, name: str, content: bytes) -> Any:
    page = reverse("admin:inventory_product_change", args=[product.pk])
    form = fields_of(admin.get(page).content.decode(), "sku")
    return admin.post(page, {**form, "picture": SimpleUploadedFile(name, content, "image/png")})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "PNG"),
        ("a.PNG", "PNG"),
        ("a.jpg", "JPEG"),
        ("a.jpeg", "JPEG"),
        ("a.webp", "WEBP"),
        ("a.gif", "GIF"),
    ],
)
def test_a_picture_is_taken(
    admin: Client, make_product: MakeProduct, media: Path, name: str, kind: str
) -> None:
    product = make_product()
    assert upload(admin, product, name, drawn(kind)).status_code == 302
    product.refresh_from_db()
    assert (media / str(product.picture)).read_bytes() == drawn(kind)


def test_a_picture_of_a_camera_is_taken(admin: Client, make_product: MakeProduct) -> None:
    """The camera's file contains a second picture."""
    assert upload(admin, make_product(), "a.jpg", moving("MPO")).status_code == 302


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "13,000 × 13,000 pixels in 20 kB": ("a.png", lambda: huge_png(13_000, 13_000), "too many"),
    "more than Pillow itself opens": ("a.png", lambda: huge_png(20_000, 20_000), "too many"),
    "one pixel row too many": ("a.png", lambda: huge_png(5_000, 5_001), "5,000 × 5,001"),
    "a long line": ("a.png", lambda: huge_png(26_000_000, 1), "too many"),
    "a PNG named as a PDF": ("a.pdf", lambda: drawn("PNG"), "name it .png"),
    "a PNG named as a JPEG": ("a.jpg", lambda: drawn("PNG"), "name it .png"),
    "a PNG named as a page": ("a.html", lambda: drawn("PNG"), "name it .png"),
    "a PNG without an ending": ("a", lambda: drawn("PNG"), "name it .png"),
    "a PDF named as a PNG": ("a.png", lambda: drawn("PDF"), "no picture"),
    "a bitmap": ("a.bmp", lambda: drawn("BMP"), "no picture"),
    "a TIFF named as a PNG": ("a.png", lambda: drawn("TIFF"), "no picture"),
    "an SVG": ("a.svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no picture"),
    "an SVG named as a PNG": ("a.png", lambda: b"<svg/>", "no picture"),
    "half a PNG": ("a.png", lambda: drawn("PNG", (900, 900))[:1500], "no picture"),
    "half a JPEG": ("a.jpg", lambda: drawn("JPEG", (900, 900))[:3000], "no picture"),
    "a PNG's first bytes": ("a.png", lambda: b"\x89PNG\r\n\x1a\n", "no picture"),
    "a GIF that moves": ("a.gif", lambda: moving("GIF"), "moves"),
    "a PNG that moves": ("a.png", lambda: moving("PNG"), "moves"),
    "a WebP that moves": ("a.webp", lambda: moving("WEBP"), "moves"),
    "text": ("a.png", lambda: b"hello", "no picture"),
}


@pytest.mark.parametrize("what", BAD)
def test_anything_else_is_refused_at_its_field_and_not_kept(
    admin: Client, make_product: MakeProduct, media: Path, what: str
) -> None:
    name, content, why = BAD[what]
    product = make_product()
    answer = upload(admin, product, name, content())
    assert answer.status_code == 200
    [error] = answer.context["errors"][0]
    assert why in error
    product.refresh_from_db()
    assert not product.picture
    assert list(media.rglob("*.*")) == []


def test_a_product_is_changed_whose_picture_is_gone(
    admin: Client, make_product: MakeProduct, media: Path
) -> None:
    """A picture that was accepted once is not checked again."""
    product = make_product()
    upload(admin, product, "a.png", drawn("PNG"))
    product.refresh_from_db()
    (media / str(product.picture)).unlink()
    page = reverse("admin:inventory_product_change", args=[product.pk])
    form = fields_of(admin.get(page).content.decode(), "sku")
    assert admin.post(page, {**form, "name": "Another"}).status_code == 302


def test_the_form_says_what_it_takes(admin: Client) -> None:
    page = admin.get(reverse("admin:inventory_product_add")).content.decode()
    assert "up to 25 megapixels" in page
    assert 'accept=".jpg,.jpeg,.png,.webp,.gif"' in page
