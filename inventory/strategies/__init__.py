"""Ways of taking stock: one file each, one contract (``Strategy``), and the registry of them.

A strategy of your own is a class in a file of yours:

    from inventory.database import atomic
    from inventory.strategies import Pay, Request, Strategy, record_hold, refusal

    class Careful(Strategy):
        slug = "careful"
        label = "Careful"
        is_safe = True
        how = "Two sentences on how it works. They are shown to people."
        when = "A sentence on when to use it."

        def _take(self, request: Request, pay: Pay) -> Reservation:
            with atomic():
                ...  # take request.quantity units of the product request.product_id
                if there were enough:
                    return record_hold(request)
            raise refusal(request)

and a line in your settings:

    from inventory.conf import STRATEGIES

    INVENTORY_STRATEGIES = [*STRATEGIES, "guitars.strategies.Careful"]

Products, forms, flash sales and the race explorer then know it by its slug. A strategy takes
the locks of ``inventory.locking``, in their order.
"""

from inventory.holds import Request, record_hold
from inventory.snapshots import refusal
from inventory.strategies.base import Pay, Strategy
from inventory.strategies.registry import all_strategies, create, find, get, label_of

__all__ = [
    "Pay",
    "Request",
    "Strategy",
    "all_strategies",
    "create",
    "find",
    "get",
    "label_of",
    "record_hold",
    "refusal",
]
