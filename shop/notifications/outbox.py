"""The e-mails of a demo: kept in the database, and shown as pages instead of being sent.

They are in the database because the worker writes them and the web server's processes show them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from shop.models import Order, OutboxMail

ORDER = "X-Order"
"""The header with the number of the order that an e-mail is about."""
KEEP = timedelta(days=7)
ADDRESS = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)]")


class EmailBackend(BaseEmailBackend):
    """Keeps each e-mail (``EMAIL_URL=outbox://``, the default of a demo)."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Keep these e-mails, and return how many."""
        kept = OutboxMail.objects.bulk_create(_outbox_mail(message) for message in email_messages)
        return len(kept)


def _outbox_mail(message: EmailMessage) -> OutboxMail:
    return OutboxMail(
        order=Order.objects.filter(number=message.extra_headers.get(ORDER, "")).first(),
        sender=message.from_email,
        recipients=", ".join(message.recipients()),
        subject=str(message.subject),
        text=str(message.body),
        html=_html_of(message),
    )


def _html_of(message: EmailMessage) -> str:
    if isinstance(message, EmailMultiAlternatives):
        for content, mimetype in message.alternatives:
            if mimetype == "text/html":
                return str(content)
    return ""


def text_with_links(text: str, hosts: Collection[str]) -> SafeString:
    """The text of an e-mail as HTML, with links to the pages of these hosts.

    Other addresses stay text: a customer may have typed them, and staff read the e-mail, too.
    """
    parts = []
    end = 0
    for found in ADDRESS.finditer(text):
        if _host_of(found[0]) in hosts:
            link = format_html('<a href="{0}">{0}</a>', found[0])
            parts += [escape(text[end : found.start()]), link]
            end = found.end()
    return mark_safe("".join([*parts, escape(text[end:])]))


def _host_of(address: str) -> str:
    """The name of the host; empty if the address has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def is_shown() -> bool:
    """Whether this shop shows its e-mails on its pages."""
    return settings.DEMO and f"{__name__}.{EmailBackend.__name__}" == settings.EMAIL_BACKEND


def visible_mails(user: AbstractBaseUser | AnonymousUser, buyer: str) -> QuerySet[OutboxMail]:
    """All e-mails for staff who change orders; for others those about this buyer's orders."""
    mails = OutboxMail.objects.order_by("-sent_at", "-pk")
    if may_see_all(user):
        return mails
    return mails.filter(order__buyer=buyer) if buyer else mails.none()


def may_see_all(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Whether the user is staff with the right to change orders.

    An e-mail leads to its order's page, where the order can be cancelled. So it isn't for staff
    with the right to look only.
    """
    return isinstance(user, User) and user.is_staff and user.has_perm("shop.change_order")


def delete_old_mails() -> None:
    """Delete e-mails that nobody will look for any more."""
    OutboxMail.objects.filter(sent_at__lt=Now() - KEEP).delete()
