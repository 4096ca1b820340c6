"""Sending an e-mail, to be found once in its reader's mailbox.

Nobody can know whether a mail server has taken an e-mail if the answer is lost, or if the sender is
killed before it has put the answer on record. Then it is sent again: better twice than never. Both
have the same Message-ID, by which mail servers and programs drop the second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from email.utils import parseaddr
from smtplib import SMTPRecipientsRefused, SMTPResponseException
from uuid import NAMESPACE_URL, uuid5

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection


class AnswerLost(Exception):
    """The mail server may have taken the e-mail, or may not: its answer was lost."""


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
    can guess. Raises OSError if the mail server can't be reached or doesn't take it, AnswerLost.
    """
    mail = EmailMultiAlternatives(
        subject, text, to=[to], headers={**headers, "Message-ID": message_id(identity)}
    )
    mail.attach_alternative(html, "text/html")
    _send(mail)


def send_to_managers(identity: Collection[object], subject: str, text: str) -> None:
    """Send an e-mail to the managers, if there are any (setting MANAGERS). See ``send_mail``."""
    if settings.MANAGERS:
        mail = EmailMultiAlternatives(
            f"{settings.EMAIL_SUBJECT_PREFIX}{subject}",
            text,
            from_email=settings.SERVER_EMAIL,
            to=[address for _, address in settings.MANAGERS],
            headers={"Message-ID": message_id(identity)},
        )
        _send(mail)


def _send(mail: EmailMultiAlternatives) -> None:
    """Send it, and tell a lost answer from a server that was never reached."""
    connection = get_connection()
    connection.open()
    try:
        connection.send_messages([mail])
    except (SMTPResponseException, SMTPRecipientsRefused):
        raise  # it is the answer
    except OSError as error:
        raise AnswerLost(f"The mail server's answer was lost: {error}") from error
    finally:
        connection.close()


def message_id(identity: Collection[object]) -> str:
    """The Message-ID of that e-mail, the same each time."""
    _, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    name = uuid5(NAMESPACE_URL, "|".join(map(str, identity)))
    return f"<{name}@{sender.rpartition('@')[2]}>"
