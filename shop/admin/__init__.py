"""The admin's pages for orders, money and people. What they do is in ``shop.orders``."""

from shop.admin import (  # noqa: F401  (registers)
    alerts,
    jobs,
    orders,
    payments,
    people,
    products,
    refusals,
    reservations,
)
