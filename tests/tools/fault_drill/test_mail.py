"""The drill's mail server, as Django's own sender meets it."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from .mail import MailServer, Manner


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


def send(server: MailServer, text: str = "Hello") -> None:
    message = EmailMessage()
    message["To"], message["From"] = "buyer@example.org", "shop@example.org"
    message["Subject"], message["Message-ID"] = "Your order", "<1@example.org>"
    message["X-Order"] = "ABCD-EFGH"
    message.set_content(text)
    with smtplib.SMTP("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=60) as client:
        client.send_message(message)


def test_it_keeps_what_it_takes(server: MailServer) -> None:
    send(server, "Hello\n.\n..twice")
    [mail] = server.mails
    assert (mail.to, mail.subject) == ("buyer@example.org", "Your order")
    assert (mail.order, mail.message_id) == ("ABCD-EFGH", "<1@example.org>")
    assert mail.text.splitlines() == ["Hello", ".", "..twice"]


@pytest.mark.parametrize("manner", [Manner.DOWN, Manner.REFUSES])
def test_it_takes_nothing_when_it_is_down(server: MailServer, manner: Manner) -> None:
    server.behave(manner)
    with pytest.raises(smtplib.SMTPException):
        send(server)
    assert server.mails == []
    server.behave(Manner.TAKES)
    send(server)
    assert len(server.mails) == 1


def test_it_keeps_an_email_without_saying_so(server: MailServer) -> None:
    server.behave(Manner.CUTS)
    with pytest.raises(smtplib.SMTPException):
        send(server)
    assert len(server.mails) == 1
