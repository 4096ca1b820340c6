"""A mutex that all processes share: PostgreSQL's advisory lock."""

from django.db.models import F

from inventory.database import atomic
from inventory.locking import queue_product
from inventory.models import Product, Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal


class Mutex(Strategy):
    slug = "mutex"
    label = "Mutex across processes (advisory lock)"
    is_safe = True
    how = (
        "Takes an advisory lock on the product for the length of the transaction, then reads, "
        "checks and subtracts. One buyer at a time, whatever the process or machine."
    )
    when = "When what must not happen twice at once is more than one row, or no row at all."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with atomic():
            queue_product(request.product_id)
            product = Product.objects.get(pk=request.product_id)
            if product.is_active and product.stock >= request.quantity:
                # F(), not the number that was read: a transaction that gives units back (a
                # released hold, a delivery) does not wait in this queue, and must not be
                # overwritten. All that take units away wait in it (see locking.py).
                Product.objects.filter(pk=product.pk).update(
                    stock=F("stock") - request.quantity, version=F("version") + 1
                )
                return record_hold(request)
        raise refusal(request)
