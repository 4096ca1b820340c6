"""The database of the stock: the one to which the project's routers send ``Product``.

Without routers it is ``default``. All tables of the app are in it, and the users to whom they
refer, for reading as for writing (``checks``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.apps import apps
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

Answer = TypeVar("Answer")


def alias() -> str:
    """The database's name in the setting DATABASES."""
    product = apps.get_model("inventory", "Product")  # Django imports this module before the models
    return router.db_for_write(product)


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to it."""
    return connections[alias()]


def reading_connection() -> BaseDatabaseWrapper:
    """This thread's connection to the database from which a router reads products at this moment.

    It is another one where a project sends reads that may be a moment old to a replica.
    """
    return connections[router.db_for_read(apps.get_model("inventory", "Product"))]


def atomic() -> transaction.Atomic:
    """A transaction on it, or a savepoint inside of one."""
    return transaction.atomic(using=alias())


@dataclass(frozen=True)
class Question(Generic[Answer]):
    """A statement that is still to be sent, alone or together with others."""

    sql: str
    parameters: Mapping[str, Any]
    read: Callable[[CursorWrapper], Answer]
    """Reads the answer; the cursor is at the statement's first row."""


def ask(question: Question[Answer]) -> Answer:
    """Send the statement, and return its answer."""
    answer: Answer
    [answer] = ask_together(question)
    return answer


def ask_together(*questions: Question[Any]) -> list[Any]:
    """Send the statements in one round trip and in one transaction; return their answers.

    Each has a snapshot of its own: it sees what others committed while those before it waited.
    """
    parameters: dict[str, Any] = {}
    for question in questions:
        if shared := parameters.keys() & question.parameters.keys():
            raise ValueError(f"Two statements have parameters of one name: {sorted(shared)}.")
        parameters |= question.parameters
    answers = []
    with reading_connection().cursor() as cursor:
        cursor.execute(";".join(question.sql for question in questions), parameters)
        for question in questions:
            answers.append(question.read(cursor))
            cursor.nextset()
    return answers
