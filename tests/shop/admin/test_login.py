"""The page on which staff log in."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.shop.orders.pages import text_of

pytestmark = pytest.mark.django_db


def test_a_wrong_password_marks_no_field(client: Client) -> None:
    wrong = {"username": "admin", "password": "wrong"}
    page = text_of(client.post("/admin/login/", wrong))
    assert "Please enter the correct username and password" in page
    assert "marked fields" not in page


def test_a_missing_password_marks_its_field(client: Client) -> None:
    page = text_of(client.post("/admin/login/", {"username": "admin", "password": ""}))
    assert "Please correct the marked fields below." in page
    assert "This field is required." in page
