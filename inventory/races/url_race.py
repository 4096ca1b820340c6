"""URLs as sessions: the requests of ``manage.py races /a/ /b/``, in a database of their own.

Before they race, each request is sent alone. So a request that doesn't do what was meant (a log-in
is needed, a form lacks a field) is told at once, and is no pass.
"""

from __future__ import annotations

import contextlib
import http
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core import mail
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpResponseBase
from django.test import Client
from django.test.utils import override_settings, setup_test_environment, teardown_test_environment

from . import explorer, statements, surroundings, web
from .errors import Misuse, RacesError
from .failing import guesses, is_resolved
from .image import Image
from .repeats import shortened
from .result import Result, Run
from .scratch import check_answering, scratch_database
from .server import Server, check_vendor
from .session import sqlstate_of
from .statements import Kind

PLACEHOLDER = re.compile(r"\{(\w+)\}")
IN_THIS_PROCESS = ("LocMemCache", "DummyCache")
MEMORY = "django.core.cache.backends.locmem.LocMemCache"
UNDEFINED_TABLE = "42P01"
LONGEST_ERROR = 200  # characters


@dataclass(frozen=True)
class Asked:
    """A request as it was asked for. Names in braces stand for values that ``setup`` returns."""

    name: str
    method: str
    url: str
    user: str | None = None
    data: tuple[tuple[str, str], ...] | str = ()
    """The fields of a form, or the text of a JSON document."""
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.url}" + (f" as {self.user}" if self.user else "")


@dataclass
class Alone:
    """The outcome of a request that nobody raced with."""

    asked: Asked
    status: int | None = None
    error: str = ""
    """The exception of its view."""
    details: str = ""
    """Where a redirect leads, or what forms say."""
    statements: int = 0
    has_written: bool = False
    refusal: str = ""
    """The reason why this can't be what was meant, if that is certain."""

    @property
    def is_success(self) -> bool:
        return self.status is not None and self.status < 400

    def __str__(self) -> str:
        words = self.error or status_in_words(self.status)
        words += f" {self.details}" if self.details else ""
        return words if self.has_written else f"{words}; changes nothing"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.asked.name,
            "method": self.asked.method,
            "url": self.asked.url,
            "user": self.asked.user,
            "alone": {
                "status": self.status,
                "error": self.error or None,
                "details": self.details or None,
                "statements": self.statements,
                "has_written": self.has_written,
            },
        }


class UrlRace:
    """A race of requests. Made by ``race_of``."""

    def __init__(
        self,
        asked: Sequence[Asked],
        setup: Callable[[], object] | None,
        invariant: Callable[..., object] | None,
        using: str,
    ) -> None:
        self.values: dict[str, object] = {}
        """The values that ``setup`` returned, by name."""
        self._setup = setup
        self._invariant = invariant
        self._using = using
        self._browsers: dict[str, Client] = {}
        self._requests = {each.name: UrlRequest(self, each) for each in asked}

    def look(self) -> list[Alone]:
        """Call ``setup``, and send each request alone; bring the rows back after each.

        Raises Misuse if they can't race: one can't be what was meant, all fail, or none writes.
        """
        self._make_rows()
        looks = []
        with self._rows_kept() as image:
            for request in self._requests.values():
                request.prepare()
                looks.append(self._look_at(request))
                image.restore()
        check(looks)
        return looks

    def explore(self, **options: Any) -> Result:
        """Perform every schedule, after ``look``. ``options``: those of ``races.explore``."""
        return explorer.explore(self._requests, **self._given(), **options)

    def replay(self, schedule: str, **options: Any) -> Run:
        """Perform one schedule, after ``look``. ``options``: those of ``races.replay``."""
        return explorer.replay(schedule, self._requests, **self._given(), **options)

    def _given(self) -> dict[str, Any]:
        return {
            "setup": lambda: None,  # the rows are there
            "image": True,
            "invariant": None if self._invariant is None else self._judge,
            "using": self._using,
        }

    def _make_rows(self) -> None:
        returned = self._call_setup()
        self.values = dict(returned) if isinstance(returned, Mapping) else {}
        for request in self._requests.values():
            request.write_and_log_in()

    @contextlib.contextmanager
    def _rows_kept(self) -> Iterator[Image]:
        server = Server(self._using)
        try:
            image = Image(server, self._using)
            try:
                yield image
            finally:
                image.close()
        finally:
            server.close()

    def _call_setup(self) -> object:
        if self._setup is None:
            return None
        try:
            returned = self._setup()
        except RacesError:
            raise
        except Exception as error:
            raise Misuse(f"setup failed: {error_in_words(error)}{hint_on(error)}") from error
        if connections[self._using].in_atomic_block or not connections[self._using].autocommit:
            raise Misuse("setup must commit: it left a transaction open.")
        return returned

    def _judge(self, run: Run) -> object:
        """Call the invariant. Its AssertionError is a verdict; another error is its own fault."""
        assert self._invariant is not None
        try:
            return self._invariant(run)
        except (AssertionError, RacesError):
            raise
        except Exception as error:
            raise Misuse(f"invariant failed: {error_in_words(error)}{hint_on(error)}") from error

    def browser_of(self, asked: Asked) -> Client:
        """The browser that sends a request: one for each user, so with one session of Django's."""
        if asked.user is None:
            return web.new_client()
        return self._browsers.setdefault(asked.user, web.new_client())

    def filled(self, text: str, asked: Asked) -> str:
        """The text with the values for its names in braces."""

        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name not in self.values:
                known = ", ".join(map(str, self.values)) or "nothing"
                raise Misuse(
                    f"{asked.name}: {text} needs a value for “{name}”. Let setup return it, as in "
                    f'return {{"{name}": …}}; it returned {known}.'
                )
            return str(self.values[name])

        return PLACEHOLDER.sub(value, text)

    def _look_at(self, request: UrlRequest) -> Alone:
        alone = Alone(request.asked)

        def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            alone.statements += 1
            returned = execute(sql, params, many, context)
            kind = statements.kind_of(sql)
            changed = kind is Kind.WRITE and context["cursor"].rowcount != 0
            alone.has_written |= changed or kind is Kind.OTHER
            return returned

        with connections[self._using].execute_wrapper(count):
            try:
                response = request()
            except RacesError:
                raise
            except Exception as error:
                alone.error = error_in_words(error)
                return alone
        alone.status = response.status_code
        alone.details = details_of(response)
        alone.refusal = refusal_of(response, request.asked, request.path_sent)
        return alone


class UrlRequest(web.Request):
    """A request with the values that ``setup`` returned last."""

    def __init__(self, race: UrlRace, asked: Asked) -> None:
        super().__init__(
            path=lambda: race.filled(asked.url, asked),
            method=asked.method,
            data=lambda: self._filled_data(),
            content_type="application/json" if isinstance(asked.data, str) else None,
            headers={},
            user=asked.user,
            client=None,
        )
        self.asked = asked
        self.path_sent = ""
        self._race = race

    def prepare(self) -> None:
        """Forget what an earlier schedule left in memory. Rows are brought back by the image."""
        surroundings.clear_caches()
        if hasattr(mail, "outbox"):
            mail.outbox.clear()

    def write_and_log_in(self) -> None:
        """Write the request, and log the user in, once: the session's row is in the image."""
        headers = [
            (name, self._race.filled(value, self.asked)) for name, value in self.asked.headers
        ]
        self.headers = {name: value for name, value in headers if name.lower() != "cookie"}
        self.client = self._race.browser_of(self.asked)
        for name, value in headers:
            if name.lower() == "cookie":
                self.client.cookies.load(value)
        super().prepare()
        self.path_sent = self._race.filled(self.asked.url, self.asked)

    def _filled_data(self) -> object:
        asked = self.asked
        if isinstance(asked.data, str):
            return self._race.filled(asked.data, asked)
        fields: dict[str, list[str]] = {}
        for name, value in asked.data:
            fields.setdefault(name, []).append(self._race.filled(value, asked))
        return fields or None


@contextlib.contextmanager
def race_of(
    asked: Sequence[Asked],
    *,
    setup: Callable[[], object] | None,
    invariant: Callable[..., object] | None,
    using: str,
) -> Iterator[UrlRace]:
    """Make a place where these requests change nothing that is anybody's.

    A scratch database, caches in memory, e-mails that aren't sent. Other databases raise Misuse.
    Files and other services are the real ones. Raises Misuse if the database is none on which
    races can be explored.
    """
    check_vendor(using)
    check_answering(using)
    surroundings.check_connection(using)
    with (
        as_in_tests(),
        without_lines_on_responses(),
        override_settings(CACHES=caches_in_memory()),
        scratch_database(using),
        only(using),
    ):
        yield UrlRace(asked, setup, invariant, using)


@contextlib.contextmanager
def as_in_tests() -> Iterator[None]:
    """Django's own environment for tests: e-mails are kept, and responses know their forms."""
    try:
        setup_test_environment(debug=False)
    except RuntimeError:  # this runs in a test
        yield
        return
    try:
        yield
    finally:
        teardown_test_environment()


@contextlib.contextmanager
def without_lines_on_responses() -> Iterator[None]:
    """Let Django not log each answer of 400 or more: there may be thousands of the same."""
    logger = logging.getLogger("django.request")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def caches_in_memory() -> dict[str, dict[str, Any]]:
    """The project's caches, each replaced by one in memory if it is outside of this process."""
    return {
        alias: cache
        if cache.get("BACKEND", "").rpartition(".")[2] in IN_THIS_PROCESS
        else {
            **{key: cache[key] for key in ("KEY_PREFIX", "TIMEOUT", "VERSION") if key in cache},
            "BACKEND": MEMORY,
            "LOCATION": f"races {alias}",
        }
        for alias, cache in {DEFAULT_CACHE_ALIAS: {"BACKEND": MEMORY}, **settings.CACHES}.items()
    }


@contextlib.contextmanager
def only(using: str) -> Iterator[None]:
    """Raise Misuse where another database is used: it would be the real one."""

    def refuse(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        if connection.alias != using:
            connection.close()
            raise Misuse(
                f"The database “{connection.alias}” was used, too. Only “{using}” has a scratch "
                "database here; in the other one, the race would change real rows."
            )

    connections.close_all()
    connection_created.connect(refuse, dispatch_uid="races: only one database")
    try:
        yield
    finally:
        connection_created.disconnect(dispatch_uid="races: only one database")


# A request alone


def check(looks: Sequence[Alone]) -> None:
    """Raise Misuse if these requests can't race."""
    refusals = [alone.refusal for alone in looks if alone.refusal]
    if refusals:
        raise Misuse("\n".join(dict.fromkeys(refusals)))
    without_sql = next((alone for alone in looks if not alone.statements), None)
    if without_sql is not None:
        raise Misuse(
            f"{without_sql.asked.name}: {without_sql.asked} runs no SQL ({without_sql}), so there "
            "is nothing to order."
        )
    each = "".join(f"\n  {alone.asked.name}  {alone.asked}: {alone}" for alone in looks)
    if not any(alone.is_success for alone in looks):
        raise Misuse(
            "After setup, no request succeeds, not even alone. Does setup make all that they "
            f"need, and is the --data complete?{each}"
        )
    if not any(alone.has_written for alone in looks):
        raise Misuse(
            "After setup, no request changes anything, so nothing can go wrong. Does setup make "
            f"all that they need, and is the --data complete?{each}"
        )


def refusal_of(response: Any, asked: Asked, path: str) -> str:
    """The reason why this can't be what was meant; empty if it may be."""
    place = f"{asked.name}: {path}"
    status = response.status_code
    location = urlsplit(response.headers.get("Location", ""))
    if status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = response.headers.get("Allow") or "other methods"
        return f"{place} doesn't take {asked.method}, but {allowed}. Choose by --method or --get."
    if status == http.HTTPStatus.NOT_FOUND and not is_resolved(response):
        return f"{place}: no URL of the project fits. {guesses(path)}".rstrip()
    if status in (301, 308) and location.path == urlsplit(path).path + "/":
        return f"{place} redirects to {location.path}: give the URL with its slash."
    asks_for_login = REDIRECT_FIELD_NAME in parse_qs(location.query) and 300 <= status < 400
    if asks_for_login or status == http.HTTPStatus.UNAUTHORIZED:
        how = "answers 401" if status == 401 else f"leads to the log-in ({location.path})"
        if asked.user is None:
            return f"{place} {how}. Say whose request it is, with --as USERNAME."
        return f"{place} {how}, although “{asked.user}” is logged in. Is a permission missing?"
    return ""


def details_of(response: HttpResponseBase) -> str:
    """Where a redirect leads; else what the forms of the page complain about."""
    if 300 <= response.status_code < 400:
        return f"to {response.headers.get('Location', '')}"
    errors = []
    for context in getattr(response, "context", None) or ():
        for value in getattr(context, "dicts", [{}])[-1].values():
            found = getattr(value, "errors", None)
            if getattr(value, "is_bound", False) and isinstance(found, Mapping):
                errors += [error_of_field(value, *each) for each in found.items()]
    if errors:
        return f"(its form says: {in_one_line('; '.join(dict.fromkeys(errors)))})"
    body = getattr(response, "content", b"")
    if response.status_code >= 400 and response.headers.get("Content-Type", "").startswith(
        ("text/plain", "application/json")
    ):
        return f"({in_one_line(body.decode(errors='replace'))})"
    return ""


def error_of_field(form: Any, name: str, texts: Any) -> str:
    """The error with the name by which --data sets the field."""
    said = " ".join(map(str, texts))
    if name not in getattr(form, "fields", {}):
        return said
    return f"{form.add_prefix(name)}: {said}"


def status_in_words(status: int | None) -> str:
    try:
        return f"{status} {http.HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


# Errors in words


def error_in_words(error: BaseException) -> str:
    """The exception, its first line, and the last place in the project's own code."""
    from .listing.own import is_own_file, shown_path

    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if is_own_file(file):
            place = f" ({shown_path(Path(file))}:{trace.tb_lineno})"
        trace = trace.tb_next
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}{': ' if text else ''}{in_one_line(text)}{place}"


def hint_on(error: BaseException) -> str:
    if sqlstate_of(error) == UNDEFINED_TABLE:
        return ". The scratch database has the tables that migrations make; setup may add others."
    return ""


def in_one_line(text: str) -> str:
    return shortened(" ".join(text.split()), LONGEST_ERROR)
