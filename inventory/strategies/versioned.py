"""Optimistic: write only if nobody else has written since we read."""

from inventory.database import atomic
from inventory.models import Product, Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal
from inventory.strategies.retry import attempts


class Overtaken(Exception):
    """Somebody else wrote the product since we read it."""


class Versioned(Strategy):
    slug = "versioned"
    label = "Versioned save (optimistic)"
    is_safe = True
    how = (
        "Reads the stock and the row's version, and writes only if the version is still the same. "
        "A buyer who was overtaken tries again after a short random pause, for up to 30 seconds."
    )
    when = "When conflicts are rare, or the reader must think long before writing (a form)."

    def _attempt(self, request: Request, pay: Pay) -> Reservation:
        for _ in attempts(request.sku):
            try:
                return super()._attempt(request, pay)
            except Overtaken:
                continue  # outside the transaction: nobody waits for us while we pause
        raise AssertionError("attempts() ends by raising")

    def _take(self, request: Request, pay: Pay) -> Reservation:
        product = Product.objects.get(pk=request.product_id)
        if not product.is_active or product.stock < request.quantity:
            raise refusal(request)
        with atomic():
            unchanged = Product.objects.filter(pk=product.pk, version=product.version)
            if not unchanged.update(
                stock=product.stock - request.quantity, version=product.version + 1
            ):
                raise Overtaken
            return record_hold(request)
