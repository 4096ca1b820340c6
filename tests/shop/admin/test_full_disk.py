"""A real disk that is full: staff read so, and nothing is half done."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http.multipartparser import MultiPartParser
from django.test import Client
from django.urls import reverse
from PIL import Image

from inventory.models import Product
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import fields_of
from tests.shop.admin.test_pictures import drawn
from tests.shop.programs import needs_root

pytestmark = [pytest.mark.django_db(transaction=True), needs_root]

SIZE = 128 * 1024  # bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "test", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def picture(colours: int) -> bytes:
    """A picture that can't be made smaller: noise, at 3 bytes for each of so many pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", (colours, 1), os.urandom(3 * colours)).save(file, "PNG")
    return file.getvalue()


def upload(admin: Client, product: Product, content: bytes) -> Any:
    page = reverse("admin:inventory_product_change", args=[product.pk])
    form = {**fields_of(admin.get(page).content.decode(), "sku"), "description": "New words."}
    return admin.post(page, {**form, "picture": SimpleUploadedFile("a.png", content, "image/png")})


def test_a_picture_for_which_there_is_no_room_is_an_error_of_the_form(
    admin: Client, make_product: MakeProduct, small_disk: Path, settings: Any
) -> None:
    settings.MEDIA_ROOT = small_disk
    product = make_product()
    answer = upload(admin, product, picture(SIZE))
    assert answer.status_code == 200
    words = answer.content.decode()
    assert "The file can&#x27;t be stored: the disk for uploaded files says" in words
    assert "No space left on device" in words
    product.refresh_from_db()
    assert (product.picture.name, product.description) == ("", "")
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []
    assert upload(admin, product, drawn("PNG")).status_code == 302
    product.refresh_from_db()
    assert Path(product.picture.path).read_bytes() == drawn("PNG")
    assert len([path for path in small_disk.rglob("*") if path.is_file()]) == 1


def test_an_upload_for_which_the_disk_for_temporary_files_has_no_room_gets_a_503(
    admin: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a real disk: Django would keep its half file open until the end of the test."""

    def find_no_room(parser: MultiPartParser) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    product = make_product()
    admin.raise_request_exception = False
    monkeypatch.setattr(MultiPartParser, "parse", find_no_room)
    answer = upload(admin, product, drawn("PNG"))
    assert answer.status_code == 503
    assert "no room to store this" in answer.content.decode()
    assert answer["Retry-After"]
    product.refresh_from_db()
    assert product.description == ""
