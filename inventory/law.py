"""The law: received = available + held + sold, for every product, at every committed state.

All text, code and SQL about the law comes from here. All numbers are units of stock:

- received: ever put on sale, less those taken off again;
- available: free for any buyer now;
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
"""A lapsed hold: its time is over, and its units are as good as available."""
FOUND_HAS_LAPSED = f"CASE WHEN {IS_HELD} THEN expires_at <= statement_timestamp() ELSE false END"
"""The same, for rows that another condition finds: by their ids, or by their buyer.

No index of holds serves it. Right after many holds were made, the planner's statistics know of
none, and it would read all lapsed holds to find these few.
"""

UNITS_IN_HOLDS = f"""
    SELECT least(counted.units, greatest(asked.at_most, 0))
    FROM (SELECT {{arguments}}) AS asked (product_id, at_most{{more_names}}), LATERAL (
        SELECT coalesce(sum(units), 0) AS units FROM (
            SELECT {UNITS_HELD} AS units FROM inventory_reservation AS hold
            WHERE hold.product_id = asked.product_id AND {{condition}}
            ORDER BY hold.expires_at DESC LIMIT greatest(asked.at_most, 0)
        ) AS some_holds
    ) AS counted
"""

# From product to product in the index of holds: whatever the tables have, it looks twice for each
# product that has holds.
WITH_LAPSED_HOLDS = f"""
    WITH RECURSIVE with_holds (product_id) AS (
        (SELECT product_id FROM inventory_reservation WHERE {IS_HELD} ORDER BY product_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT next_one.product_id FROM inventory_reservation AS next_one
            WHERE {IS_HELD} AND next_one.product_id > with_holds.product_id
            ORDER BY next_one.product_id LIMIT 1
        ) FROM with_holds WHERE with_holds.product_id IS NOT NULL
    )
    SELECT product_id FROM with_holds WHERE product_id IS NOT NULL AND (
        SELECT true FROM inventory_reservation AS hold
        WHERE hold.product_id = with_holds.product_id AND {HAS_LAPSED}
        ORDER BY hold.expires_at LIMIT 1
    )
"""
"""The primary keys of the products that have a lapsed hold."""

FIGURES = f"""
    SELECT product.*, product.units_received AS received, product.stock AS available,
        coalesce(reserved.held, 0) AS held, coalesce(reserved.sold, 0) AS sold,
        coalesce(moved.units, 0) AS recorded
    FROM inventory_product AS product
    LEFT JOIN (
        SELECT product_id, sum({UNITS_HELD}) FILTER (WHERE {IS_HELD}) AS held,
            sum({UNITS_SOLD}) FILTER (WHERE {IS_SOLD}) AS sold
        FROM inventory_reservation
        WHERE {IS_COUNTED} AND product_id {{condition}}
        GROUP BY product_id
    ) AS reserved ON reserved.product_id = product.id
    LEFT JOIN (
        SELECT product_id, sum(units) AS units
        FROM inventory_stockmovement WHERE product_id {{condition}} GROUP BY product_id
    ) AS moved ON moved.product_id = product.id
    WHERE product.id {{condition}}
"""
BREAKS_LAW = """
    (available + held + sold <> received OR held + sold > received OR recorded <> received)
"""
"""The opposite of ``Figures.keeps_law``, for a row of ``figures_in_sql``."""


def figures_in_sql(condition: str = "IS NOT NULL") -> str:
    """The statement that reads products with their five figures.

    ``condition`` restricts their primary keys, as ``= 7`` does. The statement repeats it. One
    statement sees one snapshot, so each sale counts in all figures or in none. It reads each
    table once.
    """
    return FIGURES.format(condition=condition)


def units_in_holds_in_sql(arguments: str, condition: str, *names: str) -> str:
    """The subquery that counts the units in a product's holds, but never more than ``at_most``.

    ``arguments`` are the product's primary key, ``at_most`` (as a bigint), and values for further
    ``names``; ``condition`` may use them as ``asked.name``. Without ``IS_HELD`` in the condition
    no index serves it.

    A hold has at least one unit, so the subquery reads at most as many holds, whatever the product
    has. It reads those first that lapse last: the oldest ones are taken back first, and until
    PostgreSQL cleans up, a reader who began with them would pass all that were taken back.
    """
    more_names = "".join(f", {name}" for name in names)
    return UNITS_IN_HOLDS.format(arguments=arguments, more_names=more_names, condition=condition)


class Figures:
    """The five figures of a product at one instant; a mixin for classes that have them."""

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
        """The law's error: if it is not zero, an update was lost or units leaked."""
        return self.available + self.held + self.sold - self.received

    @property
    def unrecorded(self) -> int:
        """Units that were received or removed without a stock movement."""
        return self.received - self.recorded

    @property
    def keeps_law(self) -> bool:
        return not (self.drift or self.oversold or self.unrecorded)

    @property
    def right_stock(self) -> int:
        """The right value of ``available``; below zero if units were promised that don't exist."""
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
