"""The admin's pages for orders, money and people. Their rules are in ``shop.orders``."""

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
