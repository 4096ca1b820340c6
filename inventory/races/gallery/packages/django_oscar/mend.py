"""The checkout and the basket, each with a lock on the row that two requests change."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from oscar.apps.basket.middleware import BasketMiddleware
from oscar.apps.checkout.views import PaymentDetailsView
from oscar.apps.order.exceptions import UnableToPlaceOrder
from oscar.core.loading import get_model

Basket = get_model("basket", "Basket")
StockRecord = get_model("partner", "StockRecord")


class PlaceOrderInTurn(PaymentDetailsView):
    """The view that each shop subclasses anyway, since it takes no payment by itself."""

    @transaction.atomic
    def place_order(self, basket: Any, **kwargs: Any) -> Any:
        """Place the order, after the orders of the same products that began earlier."""
        wanted = {line.stockrecord_id: line.quantity for line in basket.all_lines()}
        records = StockRecord.objects.filter(pk__in=wanted).order_by("pk")
        for record in records.select_for_update(no_key=True):
            if record.can_track_allocations and record.net_stock_level < wanted[record.pk]:
                raise UnableToPlaceOrder("Sold out meanwhile.")
        return super().place_order(basket=basket, **kwargs)


class MergeInTurn(BasketMiddleware):
    @transaction.atomic
    def merge_baskets(self, master: Any, slave: Any) -> None:
        """Merge the basket unless another request has done so since it was read."""
        open_ones = Basket.objects.select_for_update(no_key=True).filter(status=Basket.OPEN)
        if open_ones.filter(pk=slave.pk).first():
            super().merge_baskets(master, slave)
