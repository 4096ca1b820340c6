"""The admin's pages for orders, money and people. What they do is in ``shop.orders``."""

from shop.admin import orders, payments, people, refusals, reservations  # noqa: F401  (registers)
