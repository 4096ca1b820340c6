"""A database that is away or too slow, a full disk: handle the request again, or answer 503.

A request is handled a second time only if the first time can't have changed anything, or if its
view is marked as ``repeatable``.
"""

from __future__ import annotations

import logging
import re
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar, cast

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from shop.database_errors import is_full_disk, is_outage, is_timeout
from shop.views import errors
from shop.waiting_rooms import ProductBusy

log = logging.getLogger(__name__)

SECONDS_TO_WAIT = 3.0  # for the database to come back, within a request
SECONDS_BETWEEN_TRIES = 0.1
RETRY_AFTER = 5  # seconds
# In the ASGI scope of a request for which the fast lane has waited as long as a request may.
WAITED_IN_VAIN = "shop.waited_in_vain"

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
READS = re.compile(r"\s*SELECT\b(?!.*\bprocrastinate_)", re.DOTALL | re.IGNORECASE)

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def repeatable(view: View) -> View:
    """Mark a view that may handle a request twice, since the second time changes nothing more."""

    @wraps(view)
    def handled_again(*args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(*args, **kwargs)

    handled_again.repeatable = True  # type: ignore[attr-defined]
    return cast(View, handled_again)


class OutageMiddleware:
    """Answer 503 if the database can't be used, after a second attempt if that is safe.

    All middleware that uses the database must be inside of it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        # One thread stays free for requests that don't need the database.
        self._may_wait = threading.BoundedSemaphore(max(1, settings.WEB_THREADS - 1))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if WAITED_IN_VAIN in request.META.get("asgi.scope", ()):
            return unavailable_page(request, ProductBusy(""))
        spare_health_check()
        sent = Statements()
        with connection.execute_wrapper(sent):
            response = self.get_response(request)
        if not isinstance(response, Failed):
            return response
        if is_outage(response.error) and can_repeat(request, sent) and self._is_back():
            log.warning("%s %s is handled again.", request.method, request.path)
            response = self.get_response(request)
            if not isinstance(response, Failed):
                return response
        return unavailable_page(request, response.error)

    def process_exception(self, request: HttpRequest, error: Exception) -> Failed | None:
        """Take an error of a view or its template, before Django makes a 500 page of it."""
        return failed_response(request, error)

    def _is_back(self) -> bool:
        """Wait for the database unless too many requests do; return whether it answers."""
        if not self._may_wait.acquire(blocking=False):
            return False
        try:
            return wait_for_database()
        finally:
            self._may_wait.release()


def spare_health_check() -> None:
    """Save the question by which Django finds out whether the idle connection still works.

    It costs a round trip before each request's first statement. A server that has closed the
    connection has told so: the socket has something to read. If it died without a word, the first
    statement fails, and the request is handled again.
    """
    idle = connection.connection
    if idle is None or connection.in_atomic_block:
        return
    if idle.closed or _has_something_to_read(idle.fileno()):
        connection.close()
    else:
        connection.health_check_done = True  # type: ignore[attr-defined]  # Django has it


def _has_something_to_read(file: int) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))


class Statements:
    """An execute wrapper that notes whether a request may have written to the database."""

    def __init__(self) -> None:
        self.may_have_written = False

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not isinstance(sql, str) or not READS.match(sql):
            self.may_have_written = True
        return execute(sql, params, many, context)


class Failed(HttpResponse):
    """Carries an error to ``OutageMiddleware``; no browser ever sees it."""

    def __init__(self, error: BaseException) -> None:
        # With this status no other middleware saves anything.
        super().__init__(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        self.error = error


def failed_response(request: HttpRequest, error: BaseException | None) -> Failed | None:
    """The response that carries an error of the database to the middleware; else None."""
    if error is None or not (
        is_outage(error)
        or is_timeout(error)
        or is_full_disk(error)
        or isinstance(error, ProductBusy)
    ):
        return None
    words = str(error).strip().splitlines() or [type(error).__name__]
    log.warning("%s %s: %s", request.method, request.path, words[0])
    return Failed(error)


def server_error(request: HttpRequest) -> HttpResponse:
    """``handler500``: for errors of middleware, which don't reach ``process_exception``."""
    return failed_response(request, sys.exc_info()[1]) or errors.server_error(request)


def can_repeat(request: HttpRequest, sent: Statements) -> bool:
    """Whether the request may be handled again after these statements and a lost connection."""
    if connection.in_atomic_block:  # a transaction round the request is lost, too
        return False
    if request.method in SAFE_METHODS:
        return True
    if request.FILES:  # uploads can't be read a second time
        return False
    match = request.resolver_match
    return not sent.may_have_written or getattr(match and match.func, "repeatable", False)


def wait_for_database(seconds: float = SECONDS_TO_WAIT) -> bool:
    """Connect again, and return whether the database answers within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(Error):
            connection.close()
            connection.ensure_connection()
            if connection.is_usable():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(SECONDS_BETWEEN_TRIES)


def unavailable_page(request: HttpRequest, error: BaseException) -> HttpResponse:
    """The page that says that the shop can't do this now, and when to come back."""
    context = {
        "product": error.product_name if isinstance(error, ProductBusy) else "",
        "is_full": is_full_disk(error),
        "is_busy": not (is_outage(error) or is_full_disk(error)),
        "seconds": RETRY_AFTER,
    }
    response = render(request, "503.html", context, status=HTTPStatus.SERVICE_UNAVAILABLE)
    response["Retry-After"] = str(RETRY_AFTER)
    response["Cache-Control"] = "no-store"
    return response
