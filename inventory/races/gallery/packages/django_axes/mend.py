"""Guesses at one account's password, one after the other."""

from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponseBase

View = Callable[..., HttpResponseBase]


def one_at_a_time(log_in: View) -> View:
    """The view, for each username after all requests for it that began earlier."""

    def log_in_after_others(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with transaction.atomic(), connection.cursor() as cursor:
            # A lock on a word, since there need not be a user of that name, nor a failure yet.
            name = request.POST.get("username", "").casefold()
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
            return log_in(request, *args, **kwargs)

    return log_in_after_others
