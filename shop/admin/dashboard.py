"""The admin's first page: a merchant's figures of the morning, in a handful of queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import InvalidPage
from django.db import connection
from django.db.models import Case, Count, F, Q, When, Window
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.module_loading import import_string
from django.views.decorators.http import require_POST

from inventory import alerts
from inventory.admin import charts
from inventory.admin.base import change_url
from inventory.law import HAS_LAPSED, IS_HELD, IS_SOLD, LAW, UNITS_HELD, UNITS_SOLD
from inventory.models import Product, Reservation, StockAlert
from inventory.words import counted
from shop import shop_alerts
from shop.clock import read_clock
from shop.models import Dispute, Order, Payment, Refund, Refusal, ShopAlert
from shop.notifications.alert_delivery import queue_new_alerts, report_missing_worker

SOON = timedelta(minutes=5)
LATE = 300  # seconds since the last check, which the worker does every minute
LOW_LAST = Case(When(kind=StockAlert.Kind.LOW_STOCK, then=1), default=0)
SHOWN = 5  # rows of each short list
IN_BANNER = 3
MOST_ALERTS = 100
# For each model whose pages are about one order: the way to that order.
ORDER_OF: dict[type[Any], str] = {
    Order: "pk",
    Payment: "order",
    Refund: "payment__order",
    Dispute: "payment__order",
}
AGAINST_THE_LAW = (StockAlert.Kind.NEGATIVE_STOCK, StockAlert.Kind.OVERSOLD, StockAlert.Kind.DRIFT)


def staff(request: HttpRequest) -> User:
    """The member of staff who asks; the admin lets in nobody else."""
    return cast(User, request.user)


# On every page: open alerts that nobody has acknowledged


def banner(request: HttpRequest) -> dict[str, Any]:
    """Context of ``admin/alert_banner.html``: alerts about stock, and all others."""
    user = request.user
    if not (user.is_active and user.is_staff):
        return {}
    parts = []
    if user.has_perm("shop.view_shopalert"):
        parts.append(_shop_banner(request))
    if user.has_perm("inventory.view_stockalert"):
        parts.append(_stock_banner(request))
    return {"banners": list(filter(None, parts))}


def _shop_banner(request: HttpRequest) -> dict[str, Any] | None:
    opened = open_shop_alerts(request)
    number = opened[0].unseen_in_all if opened else 0
    if not number:
        return None
    unseen = [alert for alert in opened if alert.acknowledged_at is None][:IN_BANNER]
    return {
        "label": "Alerts of orders and jobs",
        "heading": f"{counted(number, 'thing needs', 'things need')} a person",
        "alerts": [(change_url(alert), _title(alert), alert.text) for alert in unseen],
        "more": number - len(unseen),
        "url": _list(ShopAlert, "state=unseen"),
    }


def _title(alert: ShopAlert) -> str:
    """The alert in short. The order comes first: on a phone the end may be cut off."""
    kind = alert.get_kind_display()
    return f"{alert.order.number}: {kind}" if alert.order else kind.capitalize()


def _stock_banner(request: HttpRequest) -> dict[str, Any] | None:
    opened = open_alerts(request)
    number = opened[0].unseen_in_all if opened else 0
    if not number:
        return None
    unseen = [alert for alert in opened if alert.acknowledged_at is None][:IN_BANNER]
    return {
        "label": "Stock alerts",
        "heading": counted(number, "stock alert is open", "stock alerts are open"),
        "alerts": [
            (change_url(alert), f"{alert.product.name}: {alert.get_kind_display()}", alert.figures)
            for alert in unseen
        ],
        "more": number - len(unseen),
        "url": _list(StockAlert, "state=unseen"),
    }


def open_alerts(request: HttpRequest) -> list[Any]:
    """The open alerts of the shop's own products; once per request.

    Those of the page's product come first, then those that break the law. A flash sale's exhibits
    are made to be broken: the sale's page shows their alerts.
    """
    if not hasattr(request, "open_alerts"):
        opened = StockAlert.objects.open().filter(product__is_exhibit=False)
        request.open_alerts = list(  # type: ignore[attr-defined]
            opened.select_related("product")
            .annotate(unseen_in_all=Window(Count("pk", filter=Q(acknowledged_at=None))))
            .order_by(
                *_first("product", _product_of_page(request)),
                LOW_LAST,
                F("acknowledged_at").asc(nulls_first=True),
                "-pk",
            )[:MOST_ALERTS]
        )
    found: list[Any] = request.open_alerts  # type: ignore[attr-defined]
    return found


def open_shop_alerts(request: HttpRequest) -> list[Any]:
    """The other open alerts; once per request.

    Unacknowledged ones come first, then those of the page's order, then the latest.
    """
    if not hasattr(request, "open_shop_alerts"):
        opened = ShopAlert.objects.open().select_related("order")
        request.open_shop_alerts = list(  # type: ignore[attr-defined]
            opened.annotate(
                unseen_in_all=Window(Count("pk", filter=Q(acknowledged_at=None)))
            ).order_by(
                F("acknowledged_at").asc(nulls_first=True),
                *_first("order", _order_of_page(request)),
                "-pk",
            )[:MOST_ALERTS]
        )
    found: list[Any] = request.open_shop_alerts  # type: ignore[attr-defined]
    return found


def _first(field: str, pk: int | str | None) -> list[Case]:
    """The order in which the rows come first whose field is ``pk``."""
    return [Case(When(Q(**{field: pk}), then=0), default=1)] if pk else []


def _order_of_page(request: HttpRequest) -> int | None:
    """The order that the page is about; None if it is about none, or about several."""
    for model, order in ORDER_OF.items():
        if pk := _object_of_page(request, model):
            return model.objects.filter(pk=pk).values_list(order, flat=True).first()
    return None


def _product_of_page(request: HttpRequest) -> str | None:
    return _object_of_page(request, Product)


def _object_of_page(request: HttpRequest, model: type[Any]) -> str | None:
    """The primary key of the object that the page is about, if it is of that model.

    Only pages of objects that exist show the banner.
    """
    page = request.resolver_match
    name = f"{model._meta.app_label}_{model._meta.model_name}_"
    if page is None or not (page.url_name or "").startswith(name):
        return None
    return page.kwargs.get("object_id")


# Unfold's search of the admin's own pages


def search(request: HttpRequest) -> HttpResponse:
    """A page of search results; 404 if the page doesn't exist or is not a number."""
    try:
        found: HttpResponse = admin.site.search(request)  # type: ignore[attr-defined]
        return found
    except (InvalidPage, ValueError) as error:
        raise Http404 from error


# The dashboard


@dataclass(frozen=True)
class Figure:
    """A number, and a link to the list that it counts."""

    label: str
    value: str
    url: str
    note: str = ""


@dataclass(frozen=True)
class Numbers:
    """The numbers of one snapshot: units of stock; from ``pending`` on, orders and others."""

    available: int
    held: int
    lapsed: int
    """Units in holds that are over: still counted as held, and free for the next buyer."""
    sold_today: int
    lapsing: int
    pending: int
    to_ship: int
    checked_at: datetime | None
    seconds_ago: int | None
    worker_is_missing: bool
    low_stock: list[dict[str, Any]]


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fill the index page's context, without the parts that this user may not see."""
    may = staff(request).has_perm
    now = timezone.localtime(read_clock())
    numbers = _numbers(_midnight(now))
    _keep_watch(request, numbers)
    context["figures"] = [figure for right, figure in _figures(numbers, now) if may(right)]
    if may("inventory.view_stockalert"):
        opened = open_alerts(request)
        context |= {
            "law": law(numbers, opened),
            "may_check": _may_check(request),
            "open_alerts": opened[:SHOWN],
            "open_alerts_url": _list(StockAlert),
        }
    if may("shop.view_shopalert"):
        context |= {
            "shop_alerts": open_shop_alerts(request)[:SHOWN],
            "shop_alerts_url": _list(ShopAlert),
        }
    if may("inventory.view_reservation"):
        first = _hour(now - timedelta(hours=23), timezone.get_current_timezone())
        context |= {"hours": _hours_chart(first), "hours_links": _behind_the_hours(request, first)}
    if may("inventory.view_product"):
        context |= {
            "low_stock": [Product(**fields) for fields in numbers.low_stock],
            "low_stock_url": _list(Product, "stock_is=low"),
        }
    context["cards"] = _cards_of_apps(staff(request))
    context["title"] = "Dashboard"
    return context


def _keep_watch(request: HttpRequest, numbers: Numbers) -> None:
    """Find out on each visit whether a worker runs, and raise an alert if none does."""
    known = any(each.kind == ShopAlert.Kind.WORKER_GONE for each in open_shop_alerts(request))
    if known or numbers.worker_is_missing:
        report_missing_worker(is_missing=numbers.worker_is_missing)
        del request.open_shop_alerts  # type: ignore[attr-defined]


def law(numbers: Numbers, opened: list[StockAlert]) -> dict[str, Any]:
    """A line that says whether the law holds."""
    broken = [each for each in opened if each.kind in AGAINST_THE_LAW]
    if numbers.seconds_ago is None:
        words = "not checked yet"
    else:
        words = f"checked {_ago(numbers.seconds_ago)} ago"
    late = numbers.seconds_ago is None or numbers.seconds_ago > LATE
    return {
        "keeps": not broken and not late,
        "kept": not broken and numbers.seconds_ago is not None,
        "broken": broken[:SHOWN],
        "checked": words,
        "sentence": LAW,
    }


def _ago(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"


def _numbers(midnight: datetime) -> Numbers:
    """Read all numbers in one statement, and so from one snapshot."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT
                (SELECT coalesce(sum(stock), 0) FROM inventory_product WHERE NOT is_exhibit),
                coalesce(sum(units) FILTER (WHERE {IS_HELD}), 0),
                coalesce(sum(units) FILTER (WHERE {HAS_LAPSED}), 0),
                coalesce(sum(units) FILTER (WHERE {IS_SOLD}), 0),
                count(*) FILTER (WHERE {IS_HELD} AND expires_at > statement_timestamp()
                    AND expires_at <= statement_timestamp() + %(soon)s::interval),
                (SELECT count(*) FROM shop_order WHERE state = 'PENDING'),
                (SELECT count(*) FROM shop_order WHERE state = 'PAID'),
                (SELECT max(checked_at) FROM inventory_stockcheck),
                (SELECT extract(epoch FROM statement_timestamp() - max(checked_at))::int
                    FROM inventory_stockcheck),
                {shop_alerts.MISSING_WORKER},
                (SELECT coalesce(json_agg(low), '[]') FROM (
                    SELECT id, name, sku, stock, low_stock_threshold FROM inventory_product
                    WHERE low_stock_threshold > 0 AND stock < low_stock_threshold
                        AND is_active AND NOT is_exhibit
                    ORDER BY stock, id LIMIT %(shown)s) AS low)
            FROM (
                SELECT status, expires_at, product_id, {UNITS_HELD} AS units
                FROM inventory_reservation WHERE {IS_HELD}
                UNION ALL
                SELECT status, expires_at, product_id, {UNITS_SOLD}
                FROM inventory_reservation WHERE {IS_SOLD} AND decided_at >= %(midnight)s
            ) AS reservation
            JOIN inventory_product AS product
                ON product.id = reservation.product_id AND NOT product.is_exhibit
            """,
            {"soon": str(SOON), "midnight": midnight, "shown": SHOWN},
        )
        return Numbers(*cursor.fetchone())


def _midnight(now: datetime) -> datetime:
    """The beginning of the day."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _figures(numbers: Numbers, now: datetime) -> list[tuple[str, Figure]]:
    """The figures, each with the permission that it requires."""
    product, reservation = "inventory.view_product", "inventory.view_reservation"
    return [
        (product, Figure("Units available", f"{numbers.available:,}", _list(Product))),
        (
            reservation,
            Figure(
                "Units held",
                f"{numbers.held:,}",
                _reservations("status__exact=HELD"),
                f"{numbers.lapsed:,} lapsed, free for the next buyer" if numbers.lapsed else "",
            ),
        ),
        (
            reservation,
            Figure("Units sold today", f"{numbers.sold_today:,}", _sold_since(_midnight(now))),
        ),
        (
            reservation,
            Figure(
                "Holds that lapse soon",
                f"{numbers.lapsing:,}",
                _reservations("lapse=soon"),
                "within five minutes",
            ),
        ),
        (
            "shop.view_order",
            Figure(
                "Orders to ship",
                f"{numbers.to_ship:,}",
                _list(Order, "state__exact=PAID"),
                "paid, the oldest first",
            ),
        ),
        (
            "shop.view_order",
            Figure(
                "Orders waiting for payment",
                f"{numbers.pending:,}",
                _list(Order, "state__exact=PENDING"),
            ),
        ),
    ]


def _reservations(query: str) -> str:
    return _list(Reservation, query)


def _sold_since(since: datetime) -> str:
    return _reservations(f"status__exact=SOLD&{_from('decided_at', since)}")


def _from(field: str, since: datetime) -> str:
    return f"{field}_from_0={since:%Y-%m-%d}&{field}_from_1={since:%H:%M:%S}"


def _hours_chart(first: datetime) -> charts.Chart:
    """Sales and refusals of the last day, by the hour, from its first hour on."""
    zone = timezone.get_current_timezone()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT 'sold', date_trunc('hour', decided_at), sum({UNITS_SOLD})
            FROM inventory_reservation AS reservation
            JOIN inventory_product AS product ON product.id = reservation.product_id
            WHERE {IS_SOLD} AND decided_at >= %(first)s AND NOT product.is_exhibit
            GROUP BY 2
            UNION ALL
            SELECT 'refused', date_trunc('hour', refused_at), count(*)
            FROM shop_refusal WHERE refused_at >= %(first)s GROUP BY 2
            """,
            {"first": first},
        )
        counted = {(what, _hour(at, zone)): int(number) for what, at, number in cursor.fetchall()}
    hours = [_hour(first + timedelta(hours=hour), zone) for hour in range(24)]
    series = [
        (label, [counted.get((what, hour), 0) for hour in hours], colour)
        for what, label, colour in (
            ("sold", "units sold", charts.GREEN),
            ("refused", "buyers refused", charts.RED),
        )
    ]
    return charts.Chart(
        "Sales and refusals of the last day",
        "By the hour. A refusal: a buyer asked for more units than there were.",
        charts.chart_data([f"{hour:%H}:00" for hour in hours], series),
        charts.chart_options(),
    )


def _behind_the_hours(request: HttpRequest, first: datetime) -> list[tuple[str, str]]:
    """Links to the lists behind the chart."""
    links = [("Sales", _sold_since(first))]
    if staff(request).has_perm("shop.view_refusal"):
        links.append(("Refusals", _list(Refusal, _from("refused_at", first))))
    return links


def _hour(at: datetime, zone: Any) -> datetime:
    local = at.astimezone(ZoneInfo("UTC"))
    return local.replace(minute=0, second=0, microsecond=0).astimezone(zone)


def _cards_of_apps(user: User) -> list[charts.Card]:
    """Cards of other apps: each AppConfig may name a function as its dashboard_card."""
    names = [getattr(config, "dashboard_card", None) for config in apps.get_app_configs()]
    cards = [import_string(name)(user) for name in names if name]
    return [card for card in cards if card is not None]


def _list(model: type[Any], query: str = "") -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{query}" if query else url


# Check now


def _may_check(request: HttpRequest) -> bool:
    """Whether the user may raise and resolve alerts, of stock and of all else."""
    return staff(request).has_perms(["inventory.change_stockalert", "shop.change_shopalert"])


@require_POST
def check_now(request: HttpRequest) -> HttpResponse:
    """Check all products, as the worker does every minute, and show the result."""
    if not _may_check(request):
        raise PermissionDenied
    broken = alerts.check_all()
    shop_alerts.check_all()
    queue_new_alerts()
    if broken:
        whose = counted(len(broken), "product")
        messages.error(request, f"Checked: the stock of {whose} is wrong.")
    else:
        messages.success(request, "Checked: every unit is accounted for.")
    return HttpResponseRedirect(reverse(f"{admin.site.name}:index"))
