"""Checks of each request before anything else reads it: its size, its encoding, its text.

Views and forms then get UTF-8 of a sensible size without NUL, which PostgreSQL doesn't store. The
rest of a rejected request is not read, let alone written to the disk.
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
KEPT = "shop.content_type"  # the key for a Content-Type that is hidden from Django
UNREADABLE = (
    BadRequest,
    MultiPartParserError,
    SuspiciousOperation,  # too many fields
    UnicodeError,
    UnreadablePostError,  # the sender has gone
)


def hide_other_charsets(application: Application) -> Application:
    """Wrap the WSGI application: hide a Content-Type with a charset other than UTF-8 from Django.

    Django would read the address in that charset, too, and fail before any middleware runs.
    ``RequestChecksMiddleware`` answers such a request instead.
    """

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        content_type = environ.get("CONTENT_TYPE", "")
        if not is_utf8(content_type):
            environ = {**environ, "CONTENT_TYPE": "", KEPT: content_type}
        return application(environ, start_response)

    return guarded


def is_utf8(content_type: str) -> bool:
    """Whether a Content-Type has the charset UTF-8, or none, as browsers send it."""
    try:
        _, parameters = parse_header_parameters(content_type)
        return codecs.lookup(parameters.get("charset", "utf-8")).name in ("utf-8", "ascii")
    except (LookupError, ValueError):
        return False


class RequestChecksMiddleware:
    """Reject requests that no browser sends, before sessions, forms and views read them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return reject_head(request) or self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: View, args: object, kwargs: object
    ) -> HttpResponse | None:
        """Check the body, which is still unread; the user is known here."""
        return reject_size(request) or reject_body(request, view)


def reject_head(request: HttpRequest) -> HttpResponse | None:
    """Reject an address, cookies or a charset that no browser sends."""
    if not is_utf8(request.META.get(KEPT, request.META.get("CONTENT_TYPE", ""))):
        return _answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    try:
        texts = [request.path_info, *_texts(request.GET), *request.COOKIES.values()]
    except UNREADABLE:
        return _answer(HTTPStatus.BAD_REQUEST)
    return _reject_nul(texts)


def reject_size(request: HttpRequest) -> HttpResponse | None:
    """Reject a body whose announced size is more than this user may send, or isn't announced.

    Django reads no more than the announced size, and nothing of a body without one.
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


def reject_body(request: HttpRequest, view: View) -> HttpResponse | None:
    """Reject a form that can't be read. The body of a machine's message is left to its view."""
    if request.method != "POST" or getattr(view, "csrf_exempt", False):
        return None
    try:
        texts = [*_texts(request.POST), *_texts(request.FILES)]
    except UNREADABLE:
        return _answer(HTTPStatus.BAD_REQUEST)
    return _reject_nul(texts)


def _texts(sent: MultiValueDict[str, Any]) -> list[str]:
    """All names and values that were sent; for a file, its file name."""
    return [str(text) for name, values in sent.lists() for text in (name, *values)]


def _reject_nul(texts: Iterable[str]) -> HttpResponse | None:
    return _answer(HTTPStatus.BAD_REQUEST) if any(NUL in text for text in texts) else None


def _answer(status: HTTPStatus, **context: object) -> HttpResponse:
    return HttpResponse(render_to_string(f"{status.value}.html", context), status=status)
