"""Telling people of stock alerts: an e-mail to the managers, and JSON to a webhook.

``inventory.alerts`` raises them; a job looks every minute for those that nobody was told of.
Alerts of exhibits are shown in the admin, never sent.
"""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Collection

from django.conf import settings
from django.core.mail import mail_managers
from django.db import transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string

from inventory.models import StockAlert
from shop import jobs

log = logging.getLogger(__name__)

SECONDS_FOR_THE_WEBHOOK = 10


def send_new() -> int:
    """Queue what tells people of each alert that is still to be sent; return of how many.

    In one transaction with the mark that makes it happen once, whoever else looks meanwhile.
    """
    with transaction.atomic():
        unsent = StockAlert.objects.unsent().select_related("product").order_by("pk")
        alerts = list(unsent.select_for_update(skip_locked=True, of=("self",), no_key=True))
        if not alerts:
            return 0
        ids = [alert.pk for alert in alerts]
        StockAlert.objects.filter(pk__in=ids).update(notified_at=Now())
        jobs.queue("mail_alerts", alert_ids=ids)
        if settings.ALERT_WEBHOOK_URL:
            for pk in ids:
                jobs.queue("post_alert", alert_id=pk)
    for alert in alerts:
        log.warning("Stock alert for %s: %s, %s", alert.product.sku, alert.kind, alert.figures)
    return len(alerts)


def mail(alert_ids: Collection[int]) -> None:
    """Mail these alerts to the managers (setting MANAGERS), all in one letter."""
    alerts = list(
        StockAlert.objects.filter(pk__in=alert_ids).select_related("product").order_by("pk")
    )
    subject = f"{alerts[0].product.sku}: {alerts[0].get_kind_display()}"
    if len(alerts) > 1:
        subject = f"{len(alerts)} stock alerts"
    mail_managers(subject, render_to_string("shop/mail/alerts.txt", {"alerts": alerts}))


def post(alert_id: int) -> None:
    """Send the alert to the webhook as JSON. Raises OSError where it isn't taken.

    A receiver knows a repetition by ``id``.
    """
    if not settings.ALERT_WEBHOOK_URL:
        return  # switched off since
    alert = StockAlert.objects.select_related("product").get(pk=alert_id)
    request = urllib.request.Request(
        settings.ALERT_WEBHOOK_URL,
        data=json.dumps(as_json(alert)).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=SECONDS_FOR_THE_WEBHOOK):
        pass


def as_json(alert: StockAlert) -> dict[str, object]:
    """What the webhook gets; numbers in units."""
    return {
        "id": alert.pk,
        "kind": alert.kind,
        "sku": alert.product.sku,
        "name": alert.product.name,
        "received": alert.received,
        "available": alert.available,
        "held": alert.held,
        "sold": alert.sold,
        "oversold": alert.oversold,
        "drift": alert.drift,
        "raised_at": alert.raised_at.isoformat(),
        "resolved_at": alert.resolved_at.isoformat() if alert.resolved_at else None,
    }
