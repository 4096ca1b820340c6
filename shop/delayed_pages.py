"""Pages that may be a moment old, so that a read replica may serve them.

Of nobody who has something, or has just changed something: a page that follows one's own change
must not show the state before it. Nothing is decided on such a page: the form on it asks the
primary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.conf import settings
from django.db import Error, connections
from django.http import HttpResponse

from shop.database_errors import is_outage
from shop.deployment import replicas
from shop.middleware.buyer import CHANGED, ShopRequest
from shop.notice_storage import NoticeStorage

View = TypeVar("View", bound=Callable[..., HttpResponse])


def may_be_delayed(view: View) -> View:
    """Mark a view that only shows, and that may read from the replica for most visitors."""

    @wraps(view)
    def answer(request: ShopRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if settings.REPLICA_URL and _may_see_old_state(request) and replicas.is_usable():
            try:
                with replicas.reading_from_replica():
                    return view(request, *args, **kwargs)
            except Error as error:  # also a table or a column that it lacks yet
                if is_outage(error):
                    replicas.note_failure(error)
                connections[replicas.REPLICA].close()
        return view(request, *args, **kwargs)

    answer.only_shows = True  # type: ignore[attr-defined]
    return cast(View, answer)


def _may_see_old_state(request: ShopRequest) -> bool:
    """Whether the visitor has nothing, has changed nothing lately, and isn't of the staff."""
    from shop.fast_lane.visitors import buyers_with_something

    mine = (settings.SESSION_COOKIE_NAME, NoticeStorage.cookie_name, CHANGED)
    return not any(name in request.COOKIES for name in mine) and not (
        request.buyer and buyers_with_something([request.buyer])
    )
