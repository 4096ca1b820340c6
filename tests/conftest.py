"""Shared by all tests: products, and a check of the law after each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase, override_settings
from psycopg import sql
from pytest_django import DjangoDbBlocker

from inventory import monitor, stock
from inventory.models import Product
from tests import emptying

pytest_plugins = [
    "inventory.races.pytest_plugin",
    "tests.open_connections",
    "tests.stripe_standin.fixtures",
]

MakeProduct = Callable[..., Product]

_numbers = itertools.count(1)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than processors: many tests wait for programs, and not for a processor."""
    return (os.cpu_count() or 1) + 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="run the tests marked thorough, too (an hour)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the thorough tests, and let the longest begin first.

    Else a long one would go on when all others are over. The first worker has them at the
    beginning of its share, of which the others take the rest.
    """
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)  # stable


@pytest.fixture(scope="session")
def is_thorough(request: pytest.FixtureRequest) -> bool:
    """Whether searches go all the way, and not only to the bound that each run keeps to."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test database, emptied after each test that commits by ``emptying``, not by Django."""
    with django_db_blocker.unblock():
        emptying.remember_what_migrations_left()
        wait_for_no_disk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TransactionTestCase, "_fixture_teardown", lambda case: emptying.empty_tables()
        )
        yield


def wait_for_no_disk() -> None:
    """Let each COMMIT in the test database return before the disk has it.

    A crash of the server would lose the last ones. Committed rows are visible at once, as always.
    """
    database = sql.Identifier(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database))
    connection.close()  # new connections have it


@pytest.fixture(scope="session", autouse=True)
def look_for_static_files_when_asked_for_one() -> Iterator[None]:
    """Else WhiteNoise goes through all of them for each new Client, as at the start of a shop."""
    with override_settings(WHITENOISE_AUTOREFRESH=True):
        yield


@pytest.fixture
def make_product(db: None) -> MakeProduct:
    """A function that makes a product and receives its stock as a delivery."""

    def make(units: int = 10, **fields: Any) -> Product:
        number = next(_numbers)
        values = {
            "sku": f"SKU-{number}",
            "slug": f"product-{number}",
            "name": f"Product {number}",
            "price": Decimal("19.90"),
            **fields,
        }
        product = Product.objects.create(**values)
        if units:
            stock.receive(product, units)
        product.refresh_from_db()
        return product

    return make


@pytest.fixture(autouse=True)
def messages_stay_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset COLUMNS, which some tests and tools set: with it, commands fold their messages."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def the_law_holds_after_each_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check the law after each test that uses the database.

    Tests marked ``breaks_law`` break it on purpose, and check the figures themselves.
    """
    uses_database = "db" in request.fixturenames or "transactional_db" in request.fixturenames
    marked = request.node.get_closest_marker("django_db")
    if (uses_database or marked) and not request.node.get_closest_marker("breaks_law"):
        request.getfixturevalue("transactional_db" if _commits(marked) else "db")
        yield
        if connection.connection is not None and not connection.needs_rollback:
            assert monitor.check() == []
    else:
        yield


def _commits(marked: pytest.Mark | None) -> bool:
    return marked is not None and bool(marked.kwargs.get("transaction"))
