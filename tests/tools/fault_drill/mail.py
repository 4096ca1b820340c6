"""The mail server: it keeps every e-mail, and goes wrong on demand."""

from __future__ import annotations

import enum
import socketserver
import threading
from dataclasses import dataclass
from email import message_from_bytes, policy

LONGEST_SILENCE = 60.0  # seconds


class Manner(enum.StrEnum):
    """How the mail server behaves."""

    TAKES = "takes e-mails"
    DOWN = "is down"
    """It closes each connection at once."""
    REFUSES = "is overloaded"
    """It asks each sender to come back later."""
    SILENT = "is silent"
    """It takes connections, and says nothing."""
    CUTS = "cuts connections"
    """It takes the e-mail, and closes the connection without saying so."""


@dataclass(frozen=True)
class Mail:
    """An e-mail that was sent."""

    to: str
    subject: str
    order: str
    """The number of its order; empty if it has none in a header."""
    message_id: str
    text: str


class MailServer:
    """An SMTP server on a free port of this machine; ``manner`` can be changed at any time."""

    def __init__(self) -> None:
        self.manner = Manner.TAKES
        self.changed = threading.Event()
        """Set whenever a silent connection shall end."""
        self.is_asked = threading.Event()
        """Set once a sender has connected."""
        self._mails: list[Mail] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.mail = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def url(self) -> str:
        """The EMAIL_URL that leads here."""
        return f"smtp://127.0.0.1:{self._server.server_address[1]}"

    @property
    def mails(self) -> list[Mail]:
        """All e-mails that were taken so far, the oldest first."""
        with self._lock:
            return list(self._mails)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.behave(Manner.DOWN)
        self._server.shutdown()
        self._server.server_close()

    def behave(self, manner: Manner) -> None:
        """Behave in another manner from now on; connections that were kept waiting end."""
        self.manner = manner
        self.changed.set()
        self.changed = threading.Event()

    def keep(self, content: bytes) -> None:
        """Keep an e-mail as it came."""
        message = message_from_bytes(content, policy=policy.default)
        body = message.get_body(("plain",))
        mail = Mail(
            str(message["To"]),
            str(message["Subject"]),
            str(message["X-Order"] or ""),
            str(message["Message-ID"]),
            body.get_content() if body else "",
        )
        with self._lock:
            self._mails.append(mail)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    mail: MailServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed, or hung up."""


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        manner = self.server.mail.manner
        self.server.mail.is_asked.set()
        if manner is Manner.DOWN:
            return
        if manner is Manner.REFUSES:
            self._say("421 busy, try again later")
            return
        if manner is Manner.SILENT:
            self.server.mail.changed.wait(LONGEST_SILENCE)
            return
        self._say("220 fault drill")
        while line := self.rfile.readline():
            if not self._obey(line.strip().upper()):
                return

    def _obey(self, command: bytes) -> bool:
        """Answer a command; False if the connection ends."""
        if command.startswith(b"DATA"):
            return self._take_content()
        self._say("221 bye" if command.startswith(b"QUIT") else "250 ok")
        return not command.startswith(b"QUIT")

    def _take_content(self) -> bool:
        self._say("354 go on")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.server.mail.keep(b"".join(lines))
        if self.server.mail.manner is Manner.CUTS:
            return False
        self._say("250 taken")
        return True

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
