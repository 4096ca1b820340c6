"""Sending alerts to people, once each: an e-mail to the managers, and JSON to a webhook.

``inventory.alerts`` raises the alerts of stock, ``shop.shop_alerts`` all others. Every minute a job
looks for alerts that are not sent yet. Alerts of exhibits are shown with their flash sale, and
never sent.

No job can report that no worker runs. The web process that notices it sends that alert, in a thread
of its own, so that no visitor waits for a mail server (``report_missing_worker``).
"""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Collection, Sequence
from threading import Thread

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.template.loader import render_to_string

from inventory.models import Alert, StockAlert
from shop import jobs, shop_alerts
from shop.models import TRY_AGAIN_AFTER, ShopAlert
from shop.notifications.sending import send_to_managers

log = logging.getLogger(__name__)

SECONDS_FOR_THE_WEBHOOK = 10


def queue_new_alerts() -> int:
    """Queue the jobs that send each new alert; return the number of alerts.

    The same transaction marks the alerts as sent: other processes that look meanwhile send nothing.
    """
    with transaction.atomic():
        stock_alerts, shop_alerts = _take_unsent()
        if not stock_alerts and not shop_alerts:
            return 0
        jobs.queue(
            "mail_alerts",
            alert_ids=[alert.pk for alert in stock_alerts],
            shop_alert_ids=[alert.pk for alert in shop_alerts],
        )
        if settings.ALERT_WEBHOOK_URL:
            for stock_alert in stock_alerts:
                jobs.queue("post_alert", alert_id=stock_alert.pk)
            for shop_alert in shop_alerts:
                jobs.queue("post_shop_alert", alert_id=shop_alert.pk)
    for each in stock_alerts:
        sku = each.product.sku
        log.warning(
            "Stock alert for %s: %s, %s", sku, each.kind, each.figures, extra={"product": sku}
        )
    return len(stock_alerts) + len(shop_alerts)


def _take_unsent() -> tuple[list[StockAlert], list[ShopAlert]]:
    """Lock the alerts that are not sent yet, mark them as sent, and return them."""
    stock_alerts = list(
        StockAlert.objects.unsent()
        .select_related("product")
        .order_by("pk")
        .select_for_update(skip_locked=True, of=("self",), no_key=True)
    )
    shop_alerts = list(
        ShopAlert.objects.unsent()
        .order_by("pk")
        .select_for_update(skip_locked=True, of=("self",), no_key=True)
    )
    stock_ids = [alert.pk for alert in stock_alerts]
    StockAlert.objects.filter(pk__in=stock_ids).update(notified_at=Now())
    shop_ids = [alert.pk for alert in shop_alerts]
    ShopAlert.objects.filter(pk__in=shop_ids).update(notified_at=Now())
    return stock_alerts, shop_alerts


def mail_alerts(alert_ids: Collection[int], shop_alert_ids: Collection[int] = ()) -> None:
    """Mail these alerts to the managers (setting MANAGERS), all in one e-mail."""
    stock_alerts = StockAlert.objects.filter(pk__in=alert_ids).select_related("product")
    shop_alerts = ShopAlert.objects.filter(pk__in=shop_alert_ids)
    _mail(list(stock_alerts.order_by("pk")), list(shop_alerts.order_by("pk")))


def _mail(stock_alerts: Sequence[StockAlert], shop_alerts: Sequence[ShopAlert]) -> None:
    subjects = [f"{each.product.sku}: {each.get_kind_display()}" for each in stock_alerts]
    subjects += [_subject(each) for each in shop_alerts]
    if not subjects:
        return  # the alerts were deleted meanwhile
    subject = subjects[0]
    if len(subjects) > 1:
        subject = f"{len(subjects)} {'alerts' if shop_alerts else 'stock alerts'}"
    context = {
        "alerts": stock_alerts,
        "shop_alerts": shop_alerts,
        "base_url": settings.BASE_URL,
    }
    # An alert's number comes again after a restored backup, its time doesn't.
    identity = [
        (type(each).__name__, each.pk, each.raised_at) for each in (*stock_alerts, *shop_alerts)
    ]
    send_to_managers(identity, subject, render_to_string("shop/mail/alerts.txt", context))


def _subject(alert: ShopAlert) -> str:
    words = alert.get_kind_display().capitalize()
    return f"{words}: order {alert.order.number}" if alert.order else words


def post_stock_alert(alert_id: int) -> None:
    """Send the stock alert to the webhook as JSON. Raises OSError if the receiver doesn't take it.

    The receiver knows a repetition by its ``id``.
    """
    if settings.ALERT_WEBHOOK_URL:  # it may have been switched off since
        _post(stock_alert_as_json(StockAlert.objects.select_related("product").get(pk=alert_id)))


def post_shop_alert(alert_id: int) -> None:
    """Send an alert that isn't about stock to the webhook. Raises OSError."""
    if settings.ALERT_WEBHOOK_URL:
        alert = ShopAlert.objects.select_related("order").get(pk=alert_id)
        _post(shop_alert_as_json(alert))


def _post(content: dict[str, object]) -> None:
    request = urllib.request.Request(
        settings.ALERT_WEBHOOK_URL,
        data=json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=SECONDS_FOR_THE_WEBHOOK):
        pass


def stock_alert_as_json(alert: StockAlert) -> dict[str, object]:
    """The stock alert as the webhook gets it; numbers are units."""
    return {
        "id": alert.pk,
        "kind": alert.kind,
        "sku": alert.product.sku,
        "name": alert.product.name,
        **alert.as_dict(),
        "oversold": alert.oversold,
        "drift": alert.drift,
        **_times_as_json(alert),
    }


def shop_alert_as_json(alert: ShopAlert) -> dict[str, object]:
    """Another alert as the webhook gets it; no stock alert has the same ``id``."""
    return {
        "id": f"shop-{alert.pk}",
        "kind": alert.kind,
        "text": alert.text,
        "order": alert.order.number if alert.order else None,
        **_times_as_json(alert),
    }


def _times_as_json(alert: Alert) -> dict[str, object]:
    return {
        "raised_at": alert.raised_at.isoformat(),
        "resolved_at": alert.resolved_at.isoformat() if alert.resolved_at else None,
    }


# Without a worker


def report_missing_worker(*, is_missing: bool) -> None:
    """If no worker runs (``worker_is_missing``), let the first process that sees it send an alert.

    This returns at once, since the sending is done in a thread. If that fails, or if its process
    is killed, another process tries again a minute later.
    """
    alert = shop_alerts.update_worker_alert(is_missing=is_missing)
    if alert is not None and alert.notified_at is None and _is_first_to_try(alert):
        Thread(target=_send_now, args=[alert], daemon=True).start()


def _is_first_to_try(alert: ShopAlert) -> bool:
    long_ago = Q(tried_at=None) | Q(tried_at__lt=Now() - TRY_AGAIN_AFTER)
    still_to_be_sent = ShopAlert.objects.open().filter(long_ago, pk=alert.pk, notified_at=None)
    return still_to_be_sent.update(tried_at=Now()) == 1


def _send_now(alert: ShopAlert) -> None:
    try:
        _mail([], [alert])
        # At once: if the webhook fails, the e-mail isn't sent again.
        ShopAlert.objects.filter(pk=alert.pk).update(notified_at=Now())
        if settings.ALERT_WEBHOOK_URL:
            _post_or_queue(alert)
    except Exception:
        log.exception("The alert that no worker runs could not be sent; it will be tried again.")
    finally:
        connection.close()


def _post_or_queue(alert: ShopAlert) -> None:
    """Send the alert to the webhook, or leave that to the worker that comes back."""
    try:
        _post(shop_alert_as_json(alert))
    except OSError:
        log.exception("The alert that no worker runs could not be sent to the webhook.")
        jobs.queue("post_shop_alert", alert_id=alert.pk)
