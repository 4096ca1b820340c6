"""The law: received = available + held + sold, for every product, at every committed state.

Whatever says, shows, computes or asks the database for it takes it from here. All numbers are
units:

- received: ever put on sale, less what was taken off again;
- available: anybody may take them now;
- held: in reservations with status HELD;
- sold: in reservations with status SOLD, less those that came back;
- recorded: the sum of the product's stock movements, which ``received`` must be.
"""

from __future__ import annotations

LAW = "received = available + held + sold"
NAMES = ("received", "available", "held", "sold", "recorded")

# The same in SQL, of rows of inventory_reservation.
IS_HELD = "status = 'HELD'"
IS_SOLD = "status = 'SOLD'"
UNITS_HELD = "quantity"
UNITS_SOLD = "quantity - returned"
IS_COUNTED = "status IN ('HELD', 'SOLD')"
HAS_LAPSED = f"{IS_HELD} AND expires_at <= statement_timestamp()"
"""A hold whose time is over: anybody may have its units, so they are as good as available."""

FIGURES = f"""
    SELECT product.*, product.units_received AS received, product.stock AS available,
        coalesce(reserved.held, 0) AS held, coalesce(reserved.sold, 0) AS sold,
        coalesce(moved.units, 0) AS recorded
    FROM inventory_product AS product
    LEFT JOIN (
        SELECT product_id, sum({UNITS_HELD}) FILTER (WHERE {IS_HELD}) AS held,
            sum({UNITS_SOLD}) FILTER (WHERE {IS_SOLD}) AS sold
        FROM inventory_reservation
        WHERE {IS_COUNTED} AND product_id {{whose}}
        GROUP BY product_id
    ) AS reserved ON reserved.product_id = product.id
    LEFT JOIN (
        SELECT product_id, sum(units) AS units
        FROM inventory_stockmovement WHERE product_id {{whose}} GROUP BY product_id
    ) AS moved ON moved.product_id = product.id
    WHERE product.id {{whose}}
"""
BREAKS_LAW = """
    (available + held + sold <> received OR held + sold > received OR recorded <> received)
"""
"""What ``Figures.keeps_law`` denies, of a row of ``figures_in_sql``."""


def figures_in_sql(whose: str = "IS NOT NULL") -> str:
    """The statement that reads products with their five figures.

    ``whose`` is a condition on their primary keys, such as ``= 7``; it stands there three times.
    It is one statement, so one snapshot: no sale is seen in one figure and not in another. Each
    table is read once.
    """
    return FIGURES.format(whose=whose)


class Figures:
    """What was seen of a product's stock; mixed into what holds the five figures."""

    received: int
    available: int
    held: int
    sold: int
    recorded: int

    @property
    def oversold(self) -> int:
        """Units promised that do not exist."""
        return max(0, self.held + self.sold - self.received)

    @property
    def drift(self) -> int:
        """Not zero: an update was lost, or units leaked."""
        return self.available + self.held + self.sold - self.received

    @property
    def unrecorded(self) -> int:
        """Units received, or gone, without a stock movement."""
        return self.received - self.recorded

    @property
    def keeps_law(self) -> bool:
        return not (self.drift or self.oversold or self.unrecorded)

    @property
    def right_stock(self) -> int:
        """What ``available`` must be; below zero where units were promised that don't exist."""
        return self.received - self.held - self.sold

    def as_dict(self) -> dict[str, int]:
        """The five figures by name."""
        return {name: getattr(self, name) for name in NAMES}

    def in_words(self) -> str:
        """``received 10, available 9, held 0, sold 15: drift +14, oversold 5``"""
        words = (
            f"received {self.received}, available {self.available}, held {self.held}, "
            f"sold {self.sold}: drift {self.drift:+d}, oversold {self.oversold}"
        )
        if self.unrecorded:
            words += f", {self.unrecorded:+d} received without a movement"
        return words

    def as_equation(self) -> str:
        """``available 0 + held 2 + sold 0 ≠ received 1: oversold 1, drift +1``"""
        text = f"available {self.available} + held {self.held} + sold {self.sold}"
        text += f" {'≠' if self.drift else '='} received {self.received}"
        wrong = [f"oversold {self.oversold}"] * bool(self.oversold)
        wrong += [f"drift {self.drift:+d}"] * bool(self.drift)
        return text + (f": {', '.join(wrong)}" if wrong else "")
