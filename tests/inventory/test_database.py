"""The database of the stock, and the messages of `manage.py check` about it."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db.models import Model

from inventory import checks, database
from inventory.models import Product, Reservation
from tests.round_trips import counted_round_trips


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


# Several statements in one round trip


def number(value: object, name: str) -> database.Question[int]:
    return database.Question(
        f"SELECT %({name})s::int", {name: value}, lambda cursor: int(cursor.fetchone()[0])
    )


def nothing() -> database.Question[list[object]]:
    return database.Question("SELECT 1 WHERE false", {}, lambda cursor: list(cursor.fetchall()))


@pytest.mark.django_db
def test_each_of_several_statements_gets_its_own_answer() -> None:
    assert database.ask(number(1, "a")) == 1
    with counted_round_trips() as round_trips:
        assert database.ask_together(number(1, "a"), nothing(), number(3, "b")) == [1, [], 3]
    assert round_trips.number == 1


@pytest.mark.django_db
def test_statements_whose_parameters_would_be_mixed_up_are_not_sent() -> None:
    with pytest.raises(ValueError, match=r"parameters of one name: \['a'\]"):
        database.ask_together(number(1, "a"), number(2, "a"))
