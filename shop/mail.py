"""E-mails to buyers, in text and HTML. Sent by jobs: a mail server is never waited for elsewhere.

A job that is killed after its mail went out sends it again: better twice than never.
"""

from __future__ import annotations

from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from shop import outbox
from shop.models import Order, Payment, Refund


def send_order_paid(order_id: int) -> None:
    """Thank for the order, with what was bought and paid. Raises Order.DoesNotExist."""
    order = Order.objects.get(pk=order_id)
    _send("order_paid", f"Your order {order.number} is paid", order)


def send_order_shipped(order_id: int) -> None:
    """Tell that the order is on its way. Raises Order.DoesNotExist."""
    order = Order.objects.get(pk=order_id)
    _send("order_shipped", f"Your order {order.number} is on its way", order)


def send_order_refunded(refund_id: int) -> None:
    """Tell that money goes back, how much, and why. Raises Refund.DoesNotExist."""
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    order = refund.payment.order
    _send("order_refunded", f"Refund for your order {order.number}", order, refund=refund)


def _send(template: str, subject: str, order: Order, **more: object) -> None:
    last = Payment.objects.filter(order=order).last()
    context = {
        "order": order,
        "lines": order.grouped_lines(),
        "subject": subject,
        "order_url": last.return_url if last else "",
        **more,
    }
    mail = EmailMultiAlternatives(
        subject,
        render_to_string(f"shop/mail/{template}.txt", context),
        to=[order.email],
        headers={outbox.ORDER: order.number},
    )
    mail.attach_alternative(render_to_string(f"shop/mail/{template}.html", context), "text/html")
    mail.send()
