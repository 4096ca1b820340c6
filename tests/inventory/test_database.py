"""The database of the stock, and the messages of `manage.py check` about it."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db.models import Model

from inventory import checks, database
from inventory.models import Product, Reservation


class Router:
    """A router that sends models to databases by name, for reading and for writing."""

    def __init__(self, reads: dict[type[Model], str], writes: dict[type[Model], str]) -> None:
        self.reads, self.writes = reads, writes

    def db_for_read(self, model: type[Model], **hints: object) -> str | None:
        return self.reads.get(model)

    def db_for_write(self, model: type[Model], **hints: object) -> str | None:
        return self.writes.get(model)


def errors() -> list[str]:
    return [str(error.msg) for error in checks.all_tables_are_in_one_database()]


def test_without_routers_it_is_the_default(settings: LazySettings) -> None:
    assert database.alias() == "default"
    assert errors() == []


def test_it_is_where_routers_send_the_products(settings: LazySettings) -> None:
    settings.DATABASE_ROUTERS = [Router({}, {Product: "stock"})]
    assert database.alias() == "stock"


@pytest.mark.parametrize(
    ("router", "said"),
    [
        (Router({Product: "replica"}, {}), "inventory.Product is read from “replica”"),
        (Router({}, {Reservation: "other"}), "inventory.Reservation is written to “other”"),
        (Router({User: "users"}, {User: "users"}), "auth.User is written to “users”"),
    ],
)
def test_what_is_elsewhere_is_named(settings: LazySettings, router: Router, said: str) -> None:
    settings.DATABASE_ROUTERS = [router]
    assert f"The stock is kept in the database “default”, and {said}." in errors()
