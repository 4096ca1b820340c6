"""Read, check, save: what everybody writes first."""

from inventory.database import atomic
from inventory.models import Product, Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal


class Naive(Strategy):
    slug = "naive"
    label = "Naive read and save"
    is_safe = False
    how = (
        "Reads the stock, checks it in Python, and saves what is left after the payment. Buyers "
        "who read the same number all write the same number: updates are lost."
    )
    when = "Never; it is here to be seen failing."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        product = Product.objects.get(pk=request.product_id)
        if not product.is_active or product.stock < request.quantity:
            raise refusal(request)
        pay()
        # Others have read the same stock meanwhile, and will overwrite this write.
        product.stock -= request.quantity
        product.version += 1
        with atomic():
            product.save(update_fields=["stock", "version"])
            return record_hold(request)
