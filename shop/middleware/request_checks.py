"""What comes in is looked at before anything else reads it: its size, its encoding, its text.

Views and forms then get UTF-8 of a sensible size, without what no text has and PostgreSQL doesn't
take. Nothing that is refused here was read any further, let alone kept on disk.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.utils.datastructures import MultiValueDict
from django.utils.http import parse_header_parameters

View = Callable[..., HttpResponseBase]
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
NUL = "\0"
KEPT = "shop.content_type"  # where the environment has a Content-Type that Django mustn't see
UNREADABLE = (
    BadRequest,
    MultiPartParserError,
    SuspiciousOperation,  # too many fields
    UnicodeError,
    UnreadablePostError,  # the sender has gone
)


def keep_other_charsets(application: Application) -> Application:
    """The WSGI application, kept from a Content-Type with a charset that isn't UTF-8.

    Django reads the address in that charset, too, and fails at it before any middleware runs.
    ``RequestChecksMiddleware`` answers instead.
    """

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        content_type = environ.get("CONTENT_TYPE", "")
        if not is_utf8(content_type):
            environ = {**environ, "CONTENT_TYPE": "", KEPT: content_type}
        return application(environ, start_response)

    return guarded


def is_utf8(content_type: str) -> bool:
    """Whether a Content-Type says that it is of UTF-8, or says nothing of it, as browsers do."""
    try:
        _, parameters = parse_header_parameters(content_type)
        return codecs.lookup(parameters.get("charset", "utf-8")).name in ("utf-8", "ascii")
    except (LookupError, ValueError):
        return False


class RequestChecksMiddleware:
    """Refuse what no browser sends, before sessions, forms and views come to see it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return _refuse_head(request) or self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: View, args: object, kwargs: object
    ) -> HttpResponse | None:
        """By now it is known who asks, and the body is still unread."""
        return _refuse_size(request) or _refuse_body(request, view)


def _refuse_head(request: HttpRequest) -> HttpResponse | None:
    if not is_utf8(request.META.get(KEPT, request.META.get("CONTENT_TYPE", ""))):
        return _answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    try:
        texts = [request.path_info, *_texts(request.GET), *request.COOKIES.values()]
    except UNREADABLE:
        return _answer(HTTPStatus.BAD_REQUEST)
    return _refuse_nul(texts)


def _refuse_size(request: HttpRequest) -> HttpResponse | None:
    """Refuse a body that is larger than who asks may send. Django reads no more than is announced.

    Of a body whose size isn't announced Django would read nothing at all.
    """
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        return _answer(HTTPStatus.LENGTH_REQUIRED)
    most = _most_bytes(request)
    try:
        announced = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return _answer(HTTPStatus.BAD_REQUEST)
    if announced > most:
        return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most=filesizeformat(most))
    return None


def _most_bytes(request: HttpRequest) -> int:
    small: int = settings.MOST_FORM_BYTES
    large: int = settings.MOST_UPLOAD_BYTES
    may_upload = request.path_info.startswith("/admin/") and getattr(
        request.user, "is_staff", False
    )
    return large if may_upload else small


def _refuse_body(request: HttpRequest, view: View) -> HttpResponse | None:
    """Refuse a form that can't be read. A message of a machine is for its view to read."""
    if request.method != "POST" or getattr(view, "csrf_exempt", False):
        return None
    try:
        texts = [*_texts(request.POST), *_texts(request.FILES)]
    except UNREADABLE:
        return _answer(HTTPStatus.BAD_REQUEST)
    return _refuse_nul(texts)


def _texts(sent: MultiValueDict[str, Any]) -> list[str]:
    """The names and values that were sent; of a file, its name."""
    return [str(text) for name, values in sent.lists() for text in (name, *values)]


def _refuse_nul(texts: Iterable[str]) -> HttpResponse | None:
    return _answer(HTTPStatus.BAD_REQUEST) if any(NUL in text for text in texts) else None


def _answer(status: HTTPStatus, **context: object) -> HttpResponse:
    return HttpResponse(render_to_string(f"{status.value}.html", context), status=status)
