"""Check and write in one UPDATE; the number of rows decides."""

from django.db.models import F

from inventory.database import atomic
from inventory.models import Product, Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal


class ConditionalUpdate(Strategy):
    slug = "conditional_update"
    label = "Conditional F() update"
    is_safe = True
    how = (
        "One UPDATE subtracts only where enough is left, and the number of updated rows decides. "
        "The row stays locked until the reservation is written and committed."
    )
    when = "The first thing to reach for: plain ORM, short, and hard to get wrong."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with atomic():
            enough = Product.objects.filter(
                pk=request.product_id, is_active=True, stock__gte=request.quantity
            )
            if enough.update(stock=F("stock") - request.quantity, version=F("version") + 1):
                return record_hold(request)
        raise refusal(request)
