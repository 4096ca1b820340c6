"""Alerts: raised when something about a product's stock is wrong, resolved when it is right again.

At most one per product and kind is open, and its figures are kept up to date. Two parts raise or
resolve alerts, both with the product's row locked: this module, and the trigger that raises
NEGATIVE_STOCK in the transaction that takes the stock below zero (``models``).

Low stock comes and goes with the baskets. When it comes back within a day, with nothing received
meanwhile, it is the same shortage: its alert opens again, without another message. A broken law is
new damage each time, and gets a new alert.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models.functions import Now

from inventory import monitor
from inventory.database import atomic
from inventory.locking import lock_products
from inventory.models import Product, StockAlert, StockCheck, StockMovement
from inventory.monitor import StockState
from inventory.reservations import expire_lapsed

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

log = logging.getLogger(__name__)

Kind = StockAlert.Kind

SAME_SHORTAGE = timedelta(days=1)
PRODUCTS_AT_ONCE = 100  # products that one transaction locks at most


def check_all(*, exhibits: bool = False) -> list[StockState]:
    """Check the law for all products, and bring all alerts in line with their state.

    Returns the products that break the law, by SKU. Exhibits are among them only with
    ``exhibits``; their alerts are brought in line in any case.
    """
    states, sums = monitor.needing_a_look()
    if _take_back_lapsed([state.product_id for state in states if state.is_low]):
        states, sums = monitor.needing_a_look()
    for product_ids in _batches(_products_out_of_line(states)):
        refresh(product_ids)
    broken = [state for state in states if not state.keeps_law]
    own = [state for state in broken if not state.is_exhibit]
    outcome = {"checked_at": Now(), "broken": len(own), **asdict(sums)}
    StockCheck.objects.update_or_create(pk=1, defaults=outcome)
    return broken if exhibits else own


def _take_back_lapsed(product_ids: list[int]) -> bool:
    """Take back the lapsed holds of these products; return whether there were any.

    Lapsed holds are as good as stock: no alert is due as long as they fill the gap.
    """
    products = Product.objects.with_lapsed_holds().filter(pk__in=product_ids).order_by("pk")
    with_lapsed = list(products.values_list("pk", flat=True))
    for product_id in with_lapsed:
        expire_lapsed(product_id)
    return bool(with_lapsed)


def refresh(product_ids: Collection[int]) -> None:
    """Bring the alerts of these products in line with their state, in one transaction."""
    with atomic():
        lock_products(product_ids)
        # Under the lock, in a statement of its own: this state stays until the transaction ends.
        states = monitor.states_of(product_ids)
        open_alerts = _open_alerts(product_ids)
        for state in states:
            for kind, figures in _due_alerts(state).items():
                alert = open_alerts.pop((state.product_id, kind), None)
                if alert is None:
                    _raise_or_open_again(state, kind, figures)
                elif alert.as_dict() != figures:
                    StockAlert.objects.filter(pk=alert.pk).update(**figures)
        for alert in open_alerts.values():
            _resolve(alert)


def refresh_open(product_id: int) -> None:
    """Do the same for a product whose stock was moved, if it has open alerts.

    Without open alerts, leave it to the next check: the sums of a much sold product take long.
    """
    if StockAlert.objects.open().filter(product=product_id).exists():
        refresh([product_id])


def acknowledge(alert_ids: Collection[int], by: AbstractBaseUser) -> int:
    """Note that ``by`` has seen these open alerts; return how many were new to everybody."""
    return StockAlert.objects.filter(pk__in=alert_ids).acknowledge(by)


def _due_alerts(state: StockState) -> dict[Kind, dict[str, int]]:
    """The alerts that this state calls for."""
    figures = state.as_dict()
    called_for = {
        Kind.NEGATIVE_STOCK: state.available < 0,
        Kind.OVERSOLD: state.oversold > 0,
        Kind.DRIFT: state.drift != 0 or state.unrecorded != 0,
        Kind.LOW_STOCK: state.is_low,
    }
    return {kind: figures for kind, is_called_for in called_for.items() if is_called_for}


def _products_out_of_line(states: list[StockState]) -> list[int]:
    """The products whose open alerts are not what their state calls for, by primary key."""
    have: dict[int, dict[Kind, dict[str, int]]] = {}
    for (product_id, kind), alert in _open_alerts().items():
        have.setdefault(product_id, {})[kind] = alert.as_dict()
    return sorted(
        state.product_id for state in states if have.get(state.product_id, {}) != _due_alerts(state)
    )


def _open_alerts(product_ids: Collection[int] | None = None) -> dict[tuple[int, Kind], StockAlert]:
    alerts = StockAlert.objects.open()
    if product_ids is not None:
        alerts = alerts.filter(product__in=product_ids)
    return {(alert.product_id, Kind(alert.kind)): alert for alert in alerts.order_by("pk")}


def _raise_or_open_again(state: StockState, kind: Kind, figures: dict[str, int]) -> None:
    if kind is Kind.LOW_STOCK and (shortage := _same_shortage(state.product_id)):
        StockAlert.objects.filter(pk=shortage.pk).update(resolved_at=None, **figures)
    else:
        _raise(state, kind, figures)


def _same_shortage(product_id: int) -> StockAlert | None:
    """The low-stock alert of the last day, if it was resolved without a receipt of units."""
    lately = StockAlert.objects.filter(
        product=product_id, kind=Kind.LOW_STOCK, resolved_at__gt=Now() - SAME_SHORTAGE
    )
    last = lately.order_by("pk").last()
    if last is None:
        return None
    received = StockMovement.objects.filter(
        product=product_id, units__gt=0, made_at__gt=last.raised_at
    )
    return None if received.exists() else last


def _raise(state: StockState, kind: Kind, figures: dict[str, int]) -> None:
    StockAlert.objects.create(product_id=state.product_id, kind=kind, **figures)
    level = logging.WARNING if kind is Kind.LOW_STOCK else logging.ERROR
    level = logging.DEBUG if state.is_exhibit else level  # it was made to be broken
    log.log(level, "%s: %s", kind.label, state, extra={"product": state.sku})


def _resolve(alert: StockAlert) -> None:
    StockAlert.objects.filter(pk=alert.pk).update(resolved_at=Now())
    sku = alert.product.sku
    log.info("Right again: %s of product %s", alert.kind, sku, extra={"product": sku})


def _batches(product_ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(product_ids), PRODUCTS_AT_ONCE):
        yield product_ids[start : start + PRODUCTS_AT_ONCE]
