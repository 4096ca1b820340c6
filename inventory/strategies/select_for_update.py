"""The textbook: lock the row, check, write."""

from inventory.database import atomic
from inventory.locking import lock_product
from inventory.models import Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal


class SelectForUpdate(Strategy):
    slug = "select_for_update"
    label = "Row lock (select_for_update)"
    is_safe = True
    how = (
        "Locks the product's row, checks the stock in Python, and saves. Everybody else waits "
        "at the lock for each of these steps and for the commit."
    )
    when = "When the decision needs Python, and few want the same product at once."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with atomic():
            product = lock_product(request.product_id)
            if product.is_active and product.stock >= request.quantity:
                product.stock -= request.quantity
                product.version += 1
                product.save(update_fields=["stock", "version"])
                return record_hold(request)
        raise refusal(request)
