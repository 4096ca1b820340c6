"""Pages for shoppers and machines: help, pictures, health."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.static import serve

from inventory import conf, strategies
from inventory.law import LAW
from inventory.models import Product
from inventory.words import counted
from shop import health, shop_alerts, shop_kind
from shop.delayed_pages import may_be_delayed
from shop.deployment import replicas
from shop.middleware.buyer import ShopRequest
from shop.middleware.rate_limits import not_limited
from shop.notifications import alert_delivery


@require_safe
@may_be_delayed
def how_we_take_stock(request: ShopRequest) -> HttpResponse:
    """Explain reserving to shoppers, the strategies in use to the curious, and warn of those that
    oversell."""
    own = Product.objects.for_sale().exclude(strategy="").order_by()
    slugs = {conf.default_strategy(), *own.values_list("strategy", flat=True).distinct()}
    used = [strategy for strategy in strategies.all_strategies() if strategy.slug in slugs]
    context = {
        "strategies": used,
        "unsafe": [strategy for strategy in used if not strategy.is_safe],
        "default": conf.default_strategy(),
        "law": LAW,
        "minutes": _minutes(conf.hold_for()),
        "payment_minutes": _minutes(settings.PAYMENT_TIME),
        "most_minutes": _minutes(settings.HOLD_AT_MOST),
    }
    return render(request, "shop/how_we_take_stock.html", context)


def _minutes(time: timedelta) -> int:
    return int(time.total_seconds() // 60)


@require_safe
@cache_control(public=True)
def picture(request: HttpRequest, path: str) -> HttpResponseBase:
    """Serve a picture that staff uploaded. A web server in front of the shop may do so instead."""
    try:
        return serve(request, path, document_root=str(settings.MEDIA_ROOT))
    except OSError as error:  # not a file name, for example too long
        raise Http404 from error


@require_safe
@not_limited
def livez(request: HttpRequest) -> HttpResponse:
    """200. The web server answers it before Django, without a thread (HealthChecks)."""
    return _health(HTTPStatus.OK, "ok")


@require_safe
@not_limited
def healthz(request: HttpRequest) -> HttpResponse:
    """200 if the shop can serve customers, else 503 with the reason; a header names its kind.

    Without a worker stock and money stay right, so it is a reason only for those who ask for that:
    ``?worker=required``.

    Each request also looks after the worker: if jobs wait and none runs, managers get one e-mail.
    """
    if request.GET.getlist("worker") not in ([], ["required"]):
        return _health(HTTPStatus.BAD_REQUEST, "worker: it must be required, or left out.")
    problem = health.find_problem()
    if problem:
        return _health(HTTPStatus.SERVICE_UNAVAILABLE, problem)
    alert_delivery.report_missing_worker(is_missing=shop_alerts.worker_is_missing())
    seconds = health.seconds_since_worker_seen()
    if seconds is not None:
        return _health(HTTPStatus.OK, "ok", f"A worker was seen {counted(seconds, 'second')} ago.")
    if "worker" in request.GET:
        return _health(HTTPStatus.SERVICE_UNAVAILABLE, health.NO_WORKER_SEEN)
    return _health(HTTPStatus.OK, "ok", health.NO_WORKER_SEEN)


def _health(status: HTTPStatus, *lines: str) -> HttpResponse:
    if settings.REPLICA_URL:
        lines = (*lines, replicas.describe())
    return HttpResponse(
        "".join(f"{line}\n" for line in lines),
        content_type="text/plain; charset=utf-8",
        status=status,
        headers={shop_kind.HEADER: shop_kind.DEMO if settings.DEMO else shop_kind.LIVE},
    )
