"""A database that is away: buyers notice nothing if it is back soon, else they get a 503."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import (
    DatabaseError,
    OperationalError,
    ProgrammingError,
    close_old_connections,
    connection,
)
from django.test import Client
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory.models import Product, Reservation
from shop import jobs
from shop.database_errors import is_outage, is_timeout
from shop.middleware import outages
from shop.models import Order
from tests.command_line import database_url, psql
from tests.conftest import MakeProduct
from tests.round_trips import counted_round_trips
from tests.shop.orders.pages import Shopper, text_of

pytestmark = pytest.mark.django_db(transaction=True)

Execute = Callable[..., Any]


def kill_backend() -> None:
    connection.ensure_connection()
    # Return when it has ended: within five seconds.
    psql(f"SELECT pg_terminate_backend({connection.connection.info.backend_pid}, 5000)")


@contextmanager
def lost_at(word: str, *, after: bool = False) -> Iterator[list[str]]:
    """Kill our backend when we send a statement with this word: before it, or after it.

    Yields the statements with the word that were sent.
    """
    sent: list[str] = []

    def kill(execute: Execute, sql: str, params: Any, many: bool, context: Any) -> Any:
        if word not in sql:
            return execute(sql, params, many, context)
        sent.append(sql)
        if len(sent) > 1:
            return execute(sql, params, many, context)
        if after:
            execute(sql, params, many, context)
        kill_backend()
        return execute("SELECT 1", None, False, context)

    with connection.execute_wrapper(kill):
        yield sent


def reserve(client: Client, product: Product) -> Any:
    form = {"product": product.slug, "quantity": 1, "key": uuid.uuid4()}
    return client.post("/basket/holds/", {**form, "seen_price": product.price})


def holds() -> int:
    return Reservation.objects.filter(status="HELD").count()


# It is back soon


def test_a_page_is_shown_even_if_the_connection_was_lost(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product()
    kill_backend()
    assert client.get(f"/products/{product.slug}/").status_code == 200


def test_a_purchase_is_made_even_if_the_connection_was_lost(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(1)
    kill_backend()
    answer = reserve(client, product)
    assert answer.status_code == 302
    assert "reserved for you" in text_of(client.get("/basket/"))
    assert holds() == 1


@pytest.mark.parametrize("strategy", ["combined", "single_statement", "select_for_update"])
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_a_purchase_that_was_lost_on_its_way_is_made_once(
    client: Client, make_product: MakeProduct, strategy: str, after: bool
) -> None:
    product = make_product(5, strategy=strategy)
    table = "inventory_product"
    update = f'UPDATE "{table}"' if strategy == "select_for_update" else f"UPDATE {table}"
    with lost_at(update, after=after) as sent:
        answer = reserve(client, product)
    assert sent
    assert answer.status_code == 302
    assert "reserved for you" in text_of(client.get("/basket/"))
    assert holds() == 1


def test_a_buyer_without_a_cookie_stays_the_same_buyer(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(5)
    with lost_at("UPDATE inventory_product", after=True):
        reserve(client, product)
    assert product.name in text_of(client.get("/basket/"))
    assert holds() == 1


def test_an_order_that_was_lost_on_its_way_is_placed_once(
    make_product: MakeProduct,
) -> None:
    with lost_at('INSERT INTO "shop_order"', after=True) as sent:
        Shopper().order(make_product(5))
    assert sent
    assert Order.objects.count() == 1


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_an_order_whose_job_was_lost_on_its_way_is_cancelled_once(
    make_product: MakeProduct, after: bool
) -> None:
    """The queue of jobs makes an error of its own of the database's error."""
    shopper = Shopper()
    shopper.order(make_product(5))
    order = Order.objects.get()
    with lost_at("procrastinate_defer", after=after) as sent:
        answer = shopper.client.post(f"/orders/{order.token}/cancellation/")
    assert sent
    assert answer.status_code == 302
    order.refresh_from_db()
    assert order.state == Order.State.CANCELLED
    assert ProcrastinateJob.objects.filter(task_name="shop.tasks.send_order_cancelled").count() == 1


def test_the_error_of_a_lost_database_is_django_s_own_if_a_job_is_queued() -> None:
    """After a restore, reconcile tells it from a fault of a single order by that."""
    with lost_at("procrastinate_defer"), pytest.raises(OperationalError):
        jobs.queue("send_order_paid", order_id=1)
    connection.close()


# The server has closed a connection that lay idle


@pytest.fixture
def lose_idle_connection() -> Callable[[], None]:
    """A function that kills our backend, and lets the next request begin as web servers do."""

    def lose() -> None:
        kill_backend()
        close_old_connections()  # a signal calls it, but not in Django's test client

    return lose


@pytest.fixture
def admin() -> Client:
    admin = Client(raise_request_exception=False)
    admin.force_login(get_user_model().objects.create_superuser("staff"))
    return admin


@pytest.fixture(params=["it has told so", "it died silently"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "it died silently":
        monkeypatch.setattr(outages, "_has_something_to_read", lambda file: False)


@pytest.mark.usefixtures("server")
def test_an_idle_connection_that_the_server_closed_keeps_no_page_from_its_reader(
    client: Client, admin: Client, make_product: MakeProduct, lose_idle_connection: Any
) -> None:
    page = f"/products/{make_product().slug}/"
    for path in ("/", page, f"{page}stock/", "/basket/", "/orders/", "/help/stock/", "/healthz"):
        lose_idle_connection()
        assert client.get(path).status_code == 200, path
    for path in ("/admin/", "/admin/inventory/product/", "/admin/shop/order/"):
        lose_idle_connection()
        assert admin.get(path).status_code == 200, path


@pytest.mark.usefixtures("server")
def test_an_idle_connection_that_the_server_closed_stops_no_form(
    client: Client, make_product: MakeProduct, lose_idle_connection: Any
) -> None:
    product = make_product(5)
    lose_idle_connection()
    assert reserve(client, product).status_code == 302
    [hold] = Reservation.objects.all()
    address = f"/basket/holds/{hold.pk}/"
    lose_idle_connection()
    line = {"quantity": 2, "seen": 1, "key": uuid.uuid4(), "hold": hold.pk}
    assert client.post(address, line).status_code == 302
    assert holds() == 2
    lose_idle_connection()
    assert client.post(address, {"remove": ""}).status_code == 302
    assert holds() == 0
    lose_idle_connection()
    login = {"username": "nobody", "password": "wrong"}
    assert client.post("/admin/login/", login).status_code == 200


def test_an_upload_arrives_in_spite_of_an_idle_connection_that_the_server_closed(
    admin: Client, lose_idle_connection: Any
) -> None:
    """It can't be read twice, so the closed connection must be found before it is used."""
    file = SimpleUploadedFile("products.csv", b"sku,name,price\nL,Lamp,5.00\n")
    lose_idle_connection()
    form = {"import_file": file, "format": "0", "resource": ""}
    answer = admin.post("/admin/inventory/product/import/", form)
    assert answer.status_code == 200
    assert "Lamp" in text_of(answer)


def test_no_round_trip_asks_whether_an_idle_connection_works(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product()
    client.get(f"/products/{product.slug}/")
    close_old_connections()
    with CaptureQueriesContext(connection) as statements, counted_round_trips() as round_trips:
        client.get(f"/products/{product.slug}/")
    assert round_trips.number == len(statements) > 0


def test_a_job_still_asks_whether_its_idle_connection_works(lose_idle_connection: Any) -> None:
    """No middleware does a job once more."""
    lose_idle_connection()
    assert Product.objects.count() == 0


# Requests that can't be handled twice, or not now


@pytest.fixture
def held(client: Client, make_product: MakeProduct) -> Reservation:
    reserve(client, make_product(5))
    return Reservation.objects.get()


def test_a_request_that_may_have_written_is_not_repeated_but_answered(
    client: Client, held: Reservation
) -> None:
    with lost_at('UPDATE "inventory_reservation"') as sent:
        answer = client.post(f"/basket/holds/{held.pk}/", {"remove": ""})
    assert len(sent) == 1
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert "no-store" in answer["Cache-Control"]
    assert "can’t reach its database" in text_of(answer)
    assert "Your reservations stay" in text_of(answer)
    assert holds() == 1


def test_a_request_that_has_written_nothing_is_repeated(client: Client, held: Reservation) -> None:
    kill_backend()
    assert client.post(f"/basket/holds/{held.pk}/", {"remove": ""}).status_code == 302
    assert holds() == 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        *(
            pytest.param(path, marks=pytest.mark.thorough)
            for path in ("/basket/", "/orders/", "/admin/login/")
        ),
    ],
)
def test_a_database_that_stays_away_gets_a_503(
    client: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The page needs no database. It comes at once if other requests wait already."""

    def refuse() -> None:
        raise OperationalError("connection refused")

    client.raise_request_exception = False
    client.cookies["sessionid"] = "0" * 32  # has the admin's middleware look for it
    connection.close()
    monkeypatch.setattr(connection, "connect", refuse)
    monkeypatch.setattr(outages, "SECONDS_TO_WAIT", 0)
    answer = client.get(path)
    monkeypatch.undo()
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"


def test_an_error_of_middleware_gets_a_503_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is the limits' counters, if they are in the database."""

    def fail(*args: object, **kwargs: object) -> None:
        kill_backend()
        connection.cursor().execute("SELECT 1")

    client.raise_request_exception = False
    monkeypatch.setattr("shop.middleware.rate_limits.seconds_to_wait", fail)
    monkeypatch.setattr(outages, "SECONDS_TO_WAIT", 0)
    answer = client.get("/")
    connection.close()
    assert answer.status_code == 503


def test_other_errors_stay_as_they_are(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        connection.cursor().execute("SELECT no_such_column")

    client.raise_request_exception = False
    monkeypatch.setattr("shop.middleware.rate_limits.seconds_to_wait", fail)
    assert client.get("/").status_code == 500
    client.raise_request_exception = True
    with pytest.raises(ProgrammingError):
        client.get("/")


def test_a_row_that_stays_locked_gets_a_503(client: Client, make_product: MakeProduct) -> None:
    product = make_product(5)
    with psycopg.connect(database_url().replace("postgres:", "postgresql:")) as other:
        other.execute("SELECT 1 FROM inventory_product WHERE id = %s FOR UPDATE", [product.pk])
        connection.cursor().execute("SET lock_timeout = '100ms'")
        answer = reserve(client, product)
        connection.cursor().execute("RESET lock_timeout")
        other.rollback()
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert "Very busy" in text_of(answer)
    assert holds() == 0
    assert reserve(client, product).status_code == 302


@pytest.mark.parametrize(
    ("code", "outage", "timeout"),
    [
        ("08006", True, False),  # the connection was lost
        ("08P01", True, False),  # PgBouncer has no server
        ("57P01", True, False),  # the server ends
        ("57P03", True, False),  # the server starts
        ("53300", True, False),  # too many connections
        ("25006", True, False),  # a standby
        ("55P03", False, True),  # lock_timeout
        ("57014", False, True),  # statement_timeout
        ("40001", False, False),
        ("23505", False, False),
        ("42P01", False, False),
    ],
)
def test_the_meaning_of_errors_of_the_database(code: str, outage: bool, timeout: bool) -> None:
    with pytest.raises(DatabaseError) as raised:
        connection.cursor().execute(
            f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$"
        )
    assert (is_outage(raised.value), is_timeout(raised.value)) == (outage, timeout)
    cause = raised.value.__cause__
    assert (is_outage(cause), is_timeout(cause)) == (outage, timeout)


def test_the_middleware_costs_no_statements(
    client: Client, make_product: MakeProduct, settings: LazySettings
) -> None:
    product = make_product()
    with CaptureQueriesContext(connection) as with_it:
        client.get(f"/products/{product.slug}/")
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "outages" not in name]
    with CaptureQueriesContext(connection) as without:
        Client().get(f"/products/{product.slug}/")
    assert len(with_it) == len(without) > 0


@pytest.mark.parametrize(
    ("sql", "may_write"),
    [
        ("SELECT 1", False),
        ("  select * from x for update", False),
        ("UPDATE x SET y = 1", True),
        ("WITH x AS (DELETE FROM y) SELECT 1", True),
        ("SELECT procrastinate_defer_jobs_v1(1)", True),
        (b"SELECT 1", True),
    ],
)
def test_which_statements_may_write(sql: Any, may_write: bool) -> None:
    sent = outages.Statements()
    sent(lambda *args: None, sql, None, False, {})
    assert sent.may_have_written == may_write
