"""An F() expression alone: no update is lost, and stock goes below zero."""

from django.db.models import F

from inventory.database import atomic
from inventory.models import Product, Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal


class UnguardedDecrement(Strategy):
    slug = "unguarded_decrement"
    label = "F() without a condition"
    is_safe = False
    how = (
        "Reads the stock, checks it in Python, and after the payment lets the database subtract. "
        "Every sale is counted, but the check is old by then: stock goes below zero."
    )
    when = "Never by itself; the backstop (a CHECK constraint) turns it into a late refusal."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        product = Product.objects.get(pk=request.product_id)
        if not product.is_active or product.stock < request.quantity:
            raise refusal(request)
        pay()
        with atomic():
            # The stock that was checked above may be gone by now.
            Product.objects.filter(pk=product.pk).update(
                stock=F("stock") - request.quantity, version=F("version") + 1
            )
            return record_hold(request)
