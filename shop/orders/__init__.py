"""Orders: placing, paying, shipping, cancelling, refunding. The names below are for all callers.

``checkout`` makes an order of a basket. ``lifecycle`` takes it from state to state. ``refunds``
gives money back. ``customer_limits`` knows a customer by the e-mail address. ``status_page`` says
how an order stands. ``rescue`` withdraws promises after an oversell.
"""

from shop.orders.checkout import (
    correct_contact,
    place_order,
    start_payment,
    unfinished_orders,
)
from shop.orders.lifecycle import (
    TOO_LATE,
    CancelledBy,
    abandoned_orders,
    cancel,
    cancel_unpaid,
    close_abandoned,
    lock_order,
    refund,
    restock,
    settle,
    settle_free,
    ship,
    unsettled_orders,
    was_let_go,
)

__all__ = [
    "TOO_LATE",
    "CancelledBy",
    "abandoned_orders",
    "cancel",
    "cancel_unpaid",
    "close_abandoned",
    "correct_contact",
    "lock_order",
    "place_order",
    "refund",
    "restock",
    "settle",
    "settle_free",
    "ship",
    "start_payment",
    "unfinished_orders",
    "unsettled_orders",
    "was_let_go",
]
