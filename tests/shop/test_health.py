"""The answers of /healthz."""

from typing import Any

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
    assert (response.status_code, first_line(response)) == (200, "ok")
    assert client.head("/healthz").status_code == 200


def first_line(response: Any) -> str:
    return str(response.content.decode().splitlines()[0])


@pytest.mark.django_db
def test_it_is_asked_by_any_name(client: Client, settings: Any) -> None:
    """A load balancer asks each machine by its address, and by HTTP."""
    settings.ALLOWED_HOSTS = ["shop.example.org"]
    settings.SECURE_SSL_REDIRECT = True
    for path in ("/healthz", "/livez"):
        assert client.get(path, headers={"host": "10.0.0.7:8000"}).status_code == 200
    assert client.get("/basket/", headers={"host": "10.0.0.7:8000"}).status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("heartbeat", "text", "status_if_required"),
    [
        (None, "ok\nNo worker was seen in the last 2 minutes.\n", 503),
        ("130 s", "ok\nNo worker was seen in the last 2 minutes.\n", 503),
        ("7 s", "ok\nA worker was seen 7 seconds ago.\n", 200),
        ("-30 s", "ok\nA worker was seen 0 seconds ago.\n", 200),  # the clock was put back
    ],
)
def test_it_says_whether_a_worker_was_seen(
    client: Client, heartbeat: str | None, text: str, status_if_required: int
) -> None:
    """Without one the shop still sells, so it is a reason only for those who ask for it."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
        if heartbeat:
            cursor.execute(
                "INSERT INTO procrastinate_workers (last_heartbeat)"
                " VALUES (statement_timestamp() - %s::interval)",
                [heartbeat],
            )
    response = client.get("/healthz")
    assert (response.status_code, response.content.decode()) == (200, text)
    response = client.get("/healthz?worker=required")
    assert response.status_code == status_if_required
    assert first_line(response) == ("ok" if status_if_required == 200 else text.splitlines()[1])


@pytest.mark.parametrize("query", ["worker=", "worker=yes", "worker=required&worker=no"])
def test_a_question_about_the_worker_that_makes_no_sense(client: Client, query: str) -> None:
    response = client.get(f"/healthz?{query}")
    assert response.status_code == 400
    assert response.content == b"worker: it must be required, or left out.\n"


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
    with django_assert_num_queries(
        4
    ):  # migrations, jobs that wait, alerts of the worker, its signs
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
