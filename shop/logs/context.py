"""The context of log lines: the request or the job under way, its order and its product."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

REQUEST_ID = "shop.request_id"
"""The key of a request's id, in the ASGI scope and in the environ."""
PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MOST_PRIVATE = 400  # texts; a list of orders has hundreds, an export as many as you like
LEAST_LETTERS = 3  # of a text that is hidden: a country's code or a number of units stays


@dataclass(frozen=True)
class Context:
    """The request or job that the lines are about. Empty: nothing is known."""

    request_id: str = ""
    order: str = ""
    """The order's number."""
    product: str = ""
    """The product's SKU."""
    private: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_PRIVATE))
    """Texts that no line may show, such as a buyer's name; the last ones that were told."""
    sent: Callable[[], Iterable[str]] = tuple
    """Returns the texts that the visitor has sent, as far as they are read by now."""


NOTHING = Context()

_context: ContextVar[Context] = ContextVar("shop.logs.context", default=NOTHING)


class HasBuyer(Protocol):
    """An order, as far as log lines need it."""

    number: str
    name: str
    email: str
    street: str
    town: str


def current() -> Context:
    return _context.get()


def request_id() -> str:
    """The id of the request under way, or of the one that queued the job; empty without one."""
    return _context.get().request_id


def choose_request_id(given: str) -> str:
    """The id that the client or a proxy has given if it is plain and short, else a new one.

    Plain: up to 64 letters, digits, dots, underscores and hyphens of ASCII.
    """
    return given if PLAIN_ID.fullmatch(given) else os.urandom(8).hex()


def begin(request_id: str, sent: Callable[[], Iterable[str]] = tuple) -> None:
    """Let the lines from here on be about this request or job alone.

    Nothing ends it but the next one: Django logs an answer after all middleware is through.
    """
    _context.set(Context(request_id, sent=sent))


def bind(*, order: str = "", product: str = "") -> None:
    """Let further lines of this request or job name the order (its number), the product (SKU)."""
    context = _own()
    _context.set(replace(context, order=order or context.order, product=product or context.product))


def bind_order(order: HasBuyer) -> None:
    """Let further lines name the order, and hide what it says of its buyer."""
    bind(order=order.number)
    hide([order.name, order.email, order.street, order.town])


def hide(texts: Iterable[str]) -> None:
    """Let no further line of this request or job show these texts, nor a line of one of them."""
    private = _own().private
    for text in texts:
        private.extend({text, *text.splitlines()})


def _own() -> Context:
    """The context of this request, job or command; a new one if none has begun.

    All share NOTHING. So nothing may be added to it.
    """
    if _context.get() is NOTHING:
        _context.set(Context())
    return _context.get()


def unbind() -> None:
    """Let further lines of this request or job be about no order and no product."""
    context = _context.get()
    _context.set(Context(context.request_id, sent=context.sent))


def carry(work: Callable[..., T]) -> Callable[..., T]:
    """Let ``work``, called in another thread, be about what we are about now.

    A copy of all context variables would take Django's caches from the thread, too.
    """
    context = _context.get()

    def carried(*arguments: Any) -> T:
        _context.set(context)
        return work(*arguments)

    return carried


def private_texts() -> list[str]:
    """The texts that no line may show, the longest first."""
    context = _context.get()
    texts = {text.strip() for text in (*context.private, *context.sent())}
    return sorted((text for text in texts if len(text) >= LEAST_LETTERS), key=len, reverse=True)
