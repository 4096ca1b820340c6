"""The three requests that the lane answers.

All of it runs in the event loop's own thread, but for what ``Threads`` runs.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from shop import metrics, notices
from shop.deployment.wsgi_threads import Scope
from shop.fast_lane import sure
from shop.fast_lane.batches import Batches, Threads
from shop.fast_lane.pages import Answer, Pages
from shop.fast_lane.reserving import (
    Form,
    Outcome,
    note_reserved,
    read_form,
    record_refusals,
    serve,
)
from shop.fast_lane.visitors import Visitor, look_up
from shop.middleware import outages, rate_limits
from shop.middleware.buyer import ShopRequest
from shop.views import basket

log = logging.getLogger(__name__)

THREADS_TO_RESERVE = 4  # one for each product in a rush: a locked row keeps a thread waiting
THREADS_TO_LOOK = 3  # for pages and visitors


class FastLane:
    """The lane of one process. Django does again what fails here."""

    def __init__(self) -> None:
        self._to_reserve, self._to_look = Threads(THREADS_TO_RESERVE), Threads(THREADS_TO_LOOK)
        self._forms: Batches[str, Form] = Batches(serve, self._to_reserve)
        self._refused: Batches[str, Form] = Batches(record_refusals, self._to_reserve)
        self._visitors: Batches[None, Visitor] = Batches(look_up, self._to_look)
        self._pages = Pages(self._to_look)
        self._reader = sure.Reader()
        self._is_on = not sure.strange_settings()
        self._counters_are_shared = rate_limits.counters_are_shared()
        self._holds = reverse("basket-holds")
        self._shows_product = re.compile(
            f"(?P<product>{_pattern('product')})|{_pattern('product-stock')}"
        )
        self._count = _counter()

    async def answer(self, scope: Scope, body: bytes) -> Answer | None:
        """The answer to an HTTP request; None if the lane isn't sure, and Django must answer.

        ``scope`` is ASGI's, ``body`` is the whole body.
        """
        if not self._is_on or not sure.is_plain(scope):
            return None
        began = scope.get(metrics.BEGAN) or time.perf_counter()
        answer = None
        try:
            if scope["path"] == self._holds:
                view = "basket-holds"
                answer = await self._reserve(scope, body)
            elif scope["method"] == "GET" and (
                shown := self._shows_product.fullmatch(scope["path"])
            ):
                view = "product" if shown["product"] else "product-stock"
                answer = await self._show(scope, body)
        except Exception:
            log.exception("The fast lane leaves %s to Django.", scope["path"])
        if answer and self._count:
            self._count(view, answer.status, time.perf_counter() - began)
        return answer

    def close(self) -> None:
        """Close the lane's connections to the database. Not for the loop's own thread."""
        self._to_reserve.close()
        self._to_look.close()

    async def _reserve(self, scope: Scope, body: bytes) -> Answer | None:
        request = self._reader.form_request(scope, body)
        form = read_form(request) if request else None
        if request is None or form is None or await self._is_one_too_many(request):
            return None
        if await self._forms.join(form.slug, form):
            scope[outages.WAITED_IN_VAIN] = True
        match form.outcome:
            case Outcome.RESERVED:
                page = await self._pages.get(request, HTTPStatus.FOUND, _to_basket)
                return page.fill(request, notices=note_reserved(request, form)) if page else None
            case Outcome.REFUSED:
                page = await self._pages.get(
                    request, HTTPStatus.CONFLICT, basket.refused, form.slug, form.quantity
                )
                if page is None or not await self._record(scope, form):
                    return None
                return page.fill(request, key=form.key)
            case Outcome.OVER_LIMIT:
                return await self._pages.own(
                    request, basket.refused, form.slug, form.quantity, form.why
                )
        return None

    async def _record(self, scope: Scope, refused: Form) -> bool:
        """Whether the refusal is on record now.

        This comes last: a form that the lane leaves to Django is put on record there.
        """
        if await self._refused.join(refused.slug, refused):
            scope[outages.WAITED_IN_VAIN] = True
        return refused.is_on_record

    async def _show(self, scope: Scope, body: bytes) -> Answer | None:
        request = self._reader.page_request(scope, body)
        if request is None or await self._is_one_too_many(request):
            return None
        if request.buyer:
            visitor = Visitor(request.buyer)
            if await self._visitors.join(None, visitor):
                scope[outages.WAITED_IN_VAIN] = True
            if visitor.has_something is not False:
                return None
        page = await self._pages.get(request, HTTPStatus.OK)
        return page.fill(request) if page else None

    async def _is_one_too_many(self, request: ShopRequest) -> bool:
        """Count the request for the limits of its address. Django won't count it again."""
        if self._counters_are_shared:  # asking for them takes its time
            return bool(await self._to_look.run(rate_limits.seconds_to_wait, request))
        return bool(rate_limits.seconds_to_wait(request))


def _to_basket(request: ShopRequest) -> HttpResponse:
    """The response to a buyer for whom units were reserved; its notice is of no hold."""
    notices.note_reserved(request, UUID(int=0), wanted=1, seen_price=None, more=False)
    return redirect("basket")


def _counter() -> Callable[[str, int, float], None] | None:
    """The function that counts an answer; None while the metrics are off."""
    if not metrics.are_on():
        return None
    from shop.metrics import counters

    counters.listen()
    return counters.count_request


def _pattern(name: str) -> str:
    """The addresses of this page, for any product."""
    return re.escape(reverse(name, args=["slug"])).replace("slug", "[-a-zA-Z0-9_]+")
