"""Guard, decrement and reservation in one SQL statement."""

from inventory.holds import HOLD_COLUMNS, HOLD_VALUES, hold_parameters
from inventory.models import Reservation
from inventory.strategies import Pay, Request, Strategy, refusal

TAKE = f"""
    WITH product AS (
        UPDATE inventory_product
        SET stock = stock - %(quantity)s, version = version + 1
        WHERE id = %(product_id)s AND is_active AND stock >= %(quantity)s
        RETURNING id, price
    )
    INSERT INTO inventory_reservation ({HOLD_COLUMNS})
    SELECT {HOLD_VALUES} FROM product
    RETURNING *
"""


class SingleStatement(Strategy):
    slug = "single_statement"
    label = "Single statement"
    is_safe = True
    how = (
        "One SQL statement subtracts where enough is left and writes the reservation. The row is "
        "locked for one statement and its commit, never while Python or the network is waited for."
    )
    when = "Inside a transaction of your own, and wherever few want the same product at once."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        reservation = take_if_available(request)
        if reservation is None:
            raise refusal(request)
        return reservation


def take_if_available(request: Request) -> Reservation | None:
    """Take the units and return the reservation, or None if too few are available."""
    taken = list(Reservation.objects.raw(TAKE, hold_parameters(request)))
    return taken[0] if taken else None
