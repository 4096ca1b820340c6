"""E-mails about orders. Only jobs send them: nothing else waits for a mail server.

Each e-mail tells the state of things when it is sent, which may have changed since its job was
queued. If a job is killed after its e-mail went out, it sends it again, by the same Message-ID
(``sending``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse

from shop import logs
from shop.models import Dispute, Order, Payment, Refund
from shop.notifications import outbox
from shop.notifications.sending import send_mail, send_to_managers
from shop.orders import CancelledBy

State = Order.State
UNTOLD = ""
# In these states of a refund its buyer needs no e-mail: by the state that was mailed last, the
# buyer knows how it stands.
KNOWN_BY: dict[Refund.State, set[str]] = {
    Refund.State.DUE: {Refund.State.DUE},
    Refund.State.DONE: {Refund.State.DONE},
    Refund.State.FAILED: {Refund.State.FAILED},
    Refund.State.UNDONE: {Refund.State.UNDONE, UNTOLD},
}
REFUND_SUBJECTS = {
    Refund.State.DUE: "Refund for your order {}",
    Refund.State.DONE: "Refund for your order {}",
    Refund.State.FAILED: "Your refund for order {} was not paid out",
    Refund.State.UNDONE: "About the refund for your order {}",
}


# To buyers


def send_order_paid(order_id: int) -> None:
    """Thank for the order, with its lines and the sum paid. Send nothing if it is closed.

    Raises Order.DoesNotExist.
    """
    order = Order.objects.get(pk=order_id)
    logs.bind_order(order)
    if order.state in (State.PAID, State.SHIPPED):
        _send("order_paid", f"Your order {order.number} is paid", order, [order.token])


def send_order_shipped(order_id: int) -> None:
    """Say that the order is on its way. Send nothing if it is closed.

    Raises Order.DoesNotExist.
    """
    order = Order.objects.get(pk=order_id)
    logs.bind_order(order)
    if order.state == State.SHIPPED:
        _send("order_shipped", f"Your order {order.number} is on its way", order, [order.token])


def send_order_refunded(refund_id: int) -> None:
    """Say how the refund stands, and the reason for it.

    It promises nothing that the provider hasn't confirmed. Send nothing if the buyer knows how this
    refund stands. Raises Refund.DoesNotExist.
    """
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    logs.bind_order(refund.payment.order)
    if refund.mailed_state in KNOWN_BY[Refund.State(refund.state)]:
        return
    order = refund.payment.order
    _send(
        "order_refunded",
        REFUND_SUBJECTS[Refund.State(refund.state)].format(order.number),
        order,
        [refund.key, refund.state, refund.attempt],
        refund=refund,
        is_disputed=Dispute.objects.undecided().taken().filter(payment__order=order).exists(),
    )
    Refund.objects.filter(pk=refund_id).update(mailed_state=refund.state)


def send_order_cancelled(order_id: int, by: str) -> None:
    """Say that an unpaid order is cancelled, and why (``CancelledBy``).

    Raises Order.DoesNotExist.
    """
    order = Order.objects.get(pk=order_id)
    logs.bind_order(order)
    _send(
        "order_cancelled",
        f"Your order {order.number} is cancelled",
        order,
        [order.token],
        by=CancelledBy(by),
        may_still_be_charged=order.payments.under_way().exists(),
        was_charged=order.paid() > 0,
        taken_by_bank=order.disputed() > 0,
        back_if_won=order.back_if_won(),
    )


def _send(
    template: str, subject: str, order: Order, about: Sequence[object], **more: object
) -> None:
    """Send the e-mail. The template and ``about`` tell it from all others."""
    context = {**_context(order), "subject": subject, **more}
    send_mail(
        [template, *about],
        subject,
        render_to_string(f"shop/mail/{template}.txt", context),
        to=order.email,
        html=render_to_string(f"shop/mail/{template}.html", context),
        headers={outbox.ORDER: order.number},
    )


# To the merchant


def send_order_to_managers(order_id: int) -> None:
    """Mail a paid order to the managers (setting MANAGERS). Send nothing if it needn't be sent.

    Raises Order.DoesNotExist.
    """
    order = Order.objects.get(pk=order_id)
    logs.bind_order(order)
    if order.state != State.PAID:
        return
    context = _context(order)
    if context["order_url"]:
        path = reverse("admin:shop_order_change", args=[order.pk])
        context["admin_url"] = urljoin(context["order_url"], path)
    send_to_managers(
        ["order_to_managers", order.token],
        f"Order {order.number} is paid: please send it",
        render_to_string("shop/mail/order_to_managers.txt", context),
    )


def _context(order: Order) -> dict[str, Any]:
    return {
        "order": order,
        "lines": order.grouped_lines(),
        "order_url": _order_url(order),
        "shop_name": settings.SHOP_NAME,
        "shop_address": settings.SHOP_ADDRESS,
    }


def _order_url(order: Order) -> str:
    """The address of the order's page, by BASE_URL or by a payment; empty if neither has it."""
    base_url: str = settings.BASE_URL
    if base_url:
        return base_url + reverse("order", args=[order.token])
    last = Payment.objects.filter(order=order).last()
    return last.return_url if last else ""
