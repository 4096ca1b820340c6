"""Requests as sessions: ``request("/book/", user="ann")`` races like a request of a browser."""

from __future__ import annotations

import contextlib
import copy
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import got_request_exception
from django.db.models import Model
from django.dispatch import Signal
from django.http.request import validate_host
from django.test.signals import template_rendered

from .errors import Misuse

if TYPE_CHECKING:
    from django.http import HttpResponseBase
    from django.test import Client

User = Model | str


def request(
    path: str | Callable[[], str],
    *,
    method: str = "POST",
    data: object = None,
    content_type: str | None = None,
    headers: Mapping[str, str] | None = None,
    user: User | Callable[[], User] | None = None,
    client: Client | None = None,
) -> Request:
    """Return a session that sends one request, through the middleware, to its view.

    ``path``: with its query, as “/concerts/1/book”.
    ``method``: as “GET”.
    ``data``: the fields of the form, by name; for GET and HEAD, those of the query. With a
    ``content_type``, it is the body; what isn't text becomes JSON, or “key=value”, as that says.
    ``headers``: as {"X-Shop": "north"}.
    ``user``: the user who is logged in, or the user's name. The user has a browser of their own
    for each request, except with a ``client``.
    ``client``: a Django test client. Requests with the same one come from the same browser: they
    send its cookies, and the user is logged in there once.

    ``path``, ``data`` and ``user`` may also be functions without arguments, which are called
    after each ``setup``. The user is logged in at that time, too, which is no part of the race.

    The session returns the response, whose content was read to the end. It doesn't follow
    redirects, raises the exceptions of the view, and sends no CSRF token, since none is checked.
    Raises Misuse for a path that doesn't begin with a slash.
    """
    if not (callable(path) or path.startswith("/")):
        raise Misuse(f"The path of a request begins with a slash, as “/book/”; {path!r} doesn't.")
    return Request(path, method.upper(), data, content_type, dict(headers or {}), user, client)


class Request:
    """A session that sends one request. ``prepare`` is called after each ``setup``."""

    def __init__(
        self,
        path: str | Callable[[], str],
        method: str,
        data: object,
        content_type: str | None,
        headers: dict[str, str],
        user: User | Callable[[], User] | None,
        client: Client | None,
    ) -> None:
        self.path = path
        self.method = method
        self.data = data
        self.content_type = content_type
        self.headers = headers
        self.user = user
        self.client = client
        self._written: tuple[str, bytes, str] | None = None
        self._browser = client

    def __repr__(self) -> str:
        return f"<{self.method} {self._written[0] if self._written else self.path}>"

    @property
    def place(self) -> str:
        """As “POST /book/”; empty if its path isn't known yet."""
        return f"{self.method} {self._written[0]}" if self._written else ""

    def prepare(self) -> None:
        """Write the request, and log the user in. Raises Misuse."""
        if self._written is None or callable(self.path) or callable(self.data):
            self._written = self._write()  # once if possible: a file can be read only once
        self._browser = self.client or new_client()
        if self.user is not None:
            log_in(self._browser, value_of(self.user))

    def __call__(self) -> HttpResponseBase:
        if self._written is None:
            self.prepare()
        assert self._written is not None
        assert self._browser is not None
        path, body, content_type = self._written
        # Not the browser itself: others may use it at the same time.
        client = new_client()
        client.cookies.update(self._browser.cookies)
        response: HttpResponseBase = client.generic(
            self.method,
            path,
            body,
            content_type,
            secure=settings.SECURE_SSL_REDIRECT,
            headers=self.headers,
        )
        read_to_the_end(response)
        return response

    def _write(self) -> tuple[str, bytes, str]:
        """Return the path, the body and its type."""
        path, data = value_of(self.path), value_of(self.data)
        if self.method in ("GET", "HEAD"):
            query = urlencode(data, doseq=True) if data else ""
            return f"{path}{'&' if '?' in path else '?'}{query}" if query else path, b"", ""
        try:
            return path, *body_of(data, self.content_type)
        except (AttributeError, TypeError) as error:
            raise Misuse(f"The data of {self.method} {path} can't be sent: {error}") from error


def body_of(data: Any, content_type: str | None) -> tuple[bytes, str]:
    """Return the body of a request and its type: by default, as a form with files sends it."""
    from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

    if content_type is None and not isinstance(data, str | bytes):
        return encode_multipart(BOUNDARY, {} if data is None else data), MULTIPART_CONTENT
    content_type = content_type or "application/octet-stream"
    if data is None:
        data = b""
    elif not isinstance(data, str | bytes):
        if content_type.startswith("application/x-www-form-urlencoded"):
            data = urlencode(data, doseq=True)
        else:
            data = json.dumps(data, cls=DjangoJSONEncoder)
    return data.encode() if isinstance(data, str) else data, content_type


def log_in(client: Client, user: User) -> None:
    """Log in a user as stored now: ``setup`` may have made the row anew. Raises Misuse."""
    if not apps.is_installed("django.contrib.sessions"):
        raise Misuse(
            "request(user=…) logs the user in by a session of django.contrib.sessions, which is "
            "not in INSTALLED_APPS. Send what your project checks instead, as in "
            'request(…, headers={"Authorization": …}).'
        )
    client.force_login(stored_user(user))


def stored_user(user: User) -> Any:
    from django.contrib.auth import get_user_model

    model: Any = get_user_model()
    try:
        if isinstance(user, Model):
            return model._base_manager.get(pk=user.pk)
        return model._default_manager.get_by_natural_key(user)
    except ObjectDoesNotExist as error:
        raise Misuse(
            f"There is no user “{user}” after setup(). Let setup() make the user, or keep the row."
        ) from error


def new_client() -> Client:
    """A test client that raises the views' exceptions, on a host that the project serves."""
    from django.test import Client

    return Client(enforce_csrf_checks=False, SERVER_NAME=served_host())


def served_host() -> str:
    """A host of ALLOWED_HOSTS: “testserver” in tests, where Django allows it."""
    allowed = [*settings.ALLOWED_HOSTS]
    hosts = ("testserver", "localhost", *(host.removeprefix(".") for host in allowed))
    return next((host for host in hosts if validate_host(host, allowed)), "localhost")


def read_to_the_end(response: Any) -> None:
    """Read a streamed response, as a server does: its rows may be read only then."""
    if not response.streaming:
        return
    if response.is_async:
        async_to_sync(read_async)(response.streaming_content)
    else:
        deque(response.streaming_content, maxlen=0)


async def read_async(chunks: Any) -> None:
    async for _ in chunks:
        pass


def value_of(given: Any) -> Any:
    return given() if callable(given) else given


# Test clients in threads

_asking: ContextVar[object] = ContextVar("the request of a test client that is under way")


@contextlib.contextmanager
def clients_keep_to_themselves() -> Iterator[None]:
    """Keep a test client from taking another session's exceptions and templates for its own.

    Django tells all clients that wait for a response of each exception and each template,
    whichever request they belong to. Here, a client is told of those of its own request. Sessions
    may share a client, too: each request gets a copy, which has the same cookies.
    """
    from django.test.client import AsyncClient, Client

    request, async_request = Client.request, AsyncClient.request

    def request_of(self: Client, **environ: Any) -> Any:
        token = _asking.set(object())
        try:
            return request(copy.copy(self), **environ)
        finally:
            _asking.reset(token)

    async def async_request_of(self: AsyncClient, **scope: Any) -> Any:
        token = _asking.set(object())
        try:
            return await async_request(copy.copy(self), **scope)
        finally:
            _asking.reset(token)

    Client.request, AsyncClient.request = request_of, async_request_of  # type: ignore[method-assign]
    try:
        with (
            telling_clients_of_their_own(template_rendered, "template-render-"),
            telling_clients_of_their_own(got_request_exception, "request-exception-"),
        ):
            yield
    finally:
        Client.request, AsyncClient.request = request, async_request  # type: ignore[method-assign]


@contextlib.contextmanager
def telling_clients_of_their_own(signal: Signal, prefix: str) -> Iterator[None]:
    """Let receivers of clients, whose names begin so, get only what their request has caused."""
    connect = signal.connect

    def connect_for_own(
        receiver: Callable[..., Any],
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
    ) -> None:
        own = _asking.get(None)

        def receive_own(**sent: Any) -> None:
            if _asking.get(None) is own:
                receiver(**sent)

        if own is not None and str(dispatch_uid).startswith(prefix):
            connect(receive_own, sender, weak=False, dispatch_uid=dispatch_uid)
        else:
            connect(receiver, sender, weak, dispatch_uid)

    signal.connect = connect_for_own  # type: ignore[method-assign]
    try:
        yield
    finally:
        del signal.connect
