"""The answers of /healthz."""

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.test import Client


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
