"""The answers of /healthz."""

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from shop import health


@pytest.fixture(autouse=True)
def a_new_process() -> None:
    health._known_complete.clear()


@pytest.mark.django_db
def test_a_healthy_shop_says_so(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_a_missing_migration_is_named(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'inventory'")
    response = client.get("/healthz")
    assert response.status_code == 503
    assert b"inventory.0001_initial" in response.content


@pytest.mark.django_db
def test_a_database_that_does_not_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OperationalError("connection refused: user=shop password=secret")

    monkeypatch.setattr("shop.health.MigrationExecutor", refuse)
    response = client.get("/healthz")
    assert response.status_code == 503
    assert response.content == b"The database does not answer.\n"


@pytest.mark.django_db
def test_it_costs_little_as_long_as_no_migration_comes_or_goes(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client.get("/healthz")
    with django_assert_num_queries(3):  # migrations, jobs that wait, an alert about the worker
        client.get("/healthz")


@pytest.mark.django_db
def test_a_migration_that_we_do_not_know_is_no_problem(client: Client) -> None:
    """Another machine has a later version already."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('x', 'y', now())"
        )
    assert client.get("/healthz").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'shop'")
    assert client.get("/healthz").status_code == 503
