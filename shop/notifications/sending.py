"""Sending an e-mail, to be found once in its reader's mailbox.

Nobody can know whether a mail server has taken an e-mail if the answer is lost, or if the sender is
killed before it has put the answer on record. Then it is sent again: better twice than never. Both
have the same Message-ID, by which mail servers and programs drop the second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from email.utils import parseaddr
from uuid import NAMESPACE_URL, uuid5

from django.conf import settings
from django.core.mail import EmailMultiAlternatives


def send_mail(
    identity: Collection[object],
    subject: str,
    text: str,
    *,
    to: str,
    html: str,
    headers: Mapping[str, str],
) -> None:
    """Send an e-mail to a buyer.

    ``identity`` tells it from all other e-mails of the shop, and has something in it that nobody
    can guess. Raises OSError if the mail server can't be reached or doesn't take it.
    """
    mail = EmailMultiAlternatives(
        subject, text, to=[to], headers={**headers, "Message-ID": message_id(identity)}
    )
    mail.attach_alternative(html, "text/html")
    mail.send()


def send_to_managers(identity: Collection[object], subject: str, text: str) -> None:
    """Send an e-mail to the managers, if there are any (setting MANAGERS). See ``send_mail``."""
    if settings.MANAGERS:
        EmailMultiAlternatives(
            f"{settings.EMAIL_SUBJECT_PREFIX}{subject}",
            text,
            from_email=settings.SERVER_EMAIL,
            to=[address for _, address in settings.MANAGERS],
            headers={"Message-ID": message_id(identity)},
        ).send()


def message_id(identity: Collection[object]) -> str:
    """The Message-ID of that e-mail, the same each time."""
    _, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    name = uuid5(NAMESPACE_URL, "|".join(map(str, identity)))
    return f"<{name}@{sender.rpartition('@')[2]}>"
