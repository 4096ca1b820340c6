"""A connection that a test leaves open is found after that test, and told from all others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import connection

from shop.deployment.database import url_of
from tests.open_connections import close_those_left

pytestmark = pytest.mark.django_db(transaction=True)


def url() -> str:
    return url_of(connection.settings_dict).replace("postgres:", "postgresql:")


def test_the_connection_of_a_thread_that_has_ended_is_left() -> None:
    """Nothing refers to it any more, and no garbage collector has come by yet."""
    with ThreadPoolExecutor(1, thread_name_prefix="forgetful") as pool:
        pool.submit(lambda: connection.ensure_connection()).result()
    [place] = close_those_left()
    assert place.startswith("forgetful_0: ")


def test_it_is_named_by_our_own_lines_and_closed() -> None:
    left = psycopg.connect(url())
    [place] = close_those_left()
    assert "tests/test_open_connections.py:" in place
    assert left.closed
    assert close_those_left() == []


def test_closed_connections_and_the_tests_own_are_none() -> None:
    connection.close()
    connection.ensure_connection()
    psycopg.connect(url()).close()
    assert close_those_left() == []


@pytest.fixture(scope="module")
def lasting(django_db_setup: None) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url()) as session:
        yield session


def test_a_connection_of_the_modules_is_none(lasting: psycopg.Connection) -> None:
    assert close_those_left() == []
    assert not lasting.closed


def test_a_thread_that_works_on_may_close_its_own() -> None:
    """As a server does when its client has gone."""
    is_connected = threading.Event()

    def close_later() -> None:
        connection.ensure_connection()
        is_connected.set()
        time.sleep(0.2)
        connection.close()

    thread = threading.Thread(target=close_later)
    thread.start()
    is_connected.wait(60)
    assert close_those_left() == []
    thread.join()
