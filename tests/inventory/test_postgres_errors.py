"""PostgreSQL's code and constraint of an error, however it is wrapped."""

from __future__ import annotations

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError, connection, transaction

from inventory.models import KEY_ONCE
from inventory.postgres_errors import UNDEFINED_TABLE, constraint_name, sqlstate
from inventory.reservations import reserve
from tests.conftest import MakeProduct


@pytest.mark.django_db
def test_the_code_of_an_error_of_django_or_psycopg() -> None:
    with pytest.raises(ProgrammingError) as of_django, transaction.atomic():
        connection.cursor().execute("SELECT 1 FROM no_such_table")
    assert sqlstate(of_django.value) == sqlstate(of_django.value.__cause__) == UNDEFINED_TABLE
    assert sqlstate(psycopg.errors.DeadlockDetected("…")) == "40P01"


@pytest.mark.parametrize(
    "error", [None, ValueError("none of it"), OperationalError("no server"), psycopg.Error("…")]
)
def test_an_error_that_came_from_no_server_has_no_code(error: Exception | None) -> None:
    assert sqlstate(error) is None


@pytest.mark.django_db
def test_the_constraint_that_was_violated(make_product: MakeProduct) -> None:
    first, second = (reserve(make_product(1), 1, buyer="A") for _ in range(2))
    type(first).objects.filter(pk=first.pk).update(idempotency_key="once")
    second.idempotency_key = "once"
    with pytest.raises(IntegrityError) as error, transaction.atomic():
        second.save()
    assert constraint_name(error.value) == KEY_ONCE
    assert constraint_name(IntegrityError("by hand")) is None
