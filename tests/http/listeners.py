"""Small servers on this machine that a shop talks to. They keep what they are sent."""

from __future__ import annotations

import gzip
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Listener:
    """A server in a thread; ``sent`` has what came, in the order in which it came."""

    def __init__(self, server: Any) -> None:
        self.sent: list[str] = []
        self._server = server
        self._server.sent = self.sent
        self.port: int = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class Sentry(Listener):
    """Takes envelopes of Sentry's library."""

    def __init__(self) -> None:
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), _TakePost))

    def dsn(self, key: str) -> str:
        return f"http://{key}@127.0.0.1:{self.port}/7"


class _TakePost(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append(unpacked(body, self.headers.get("Content-Encoding", "")).decode())
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


def unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "br":  # where the package is installed, as by Locust
        import brotli  # type: ignore[import-untyped]

        plain: bytes = brotli.decompress(body)
        return plain
    return body


class MailServer(Listener):
    """Takes e-mails, but none to an address that begins with ``refused``."""

    def __init__(self) -> None:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _TakeMail)
        server.daemon_threads = True
        super().__init__(server)


class _TakeMail(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        self._say("220 here")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"RCPT" and b"<refused" in line:
                self._say(f"550 {line.decode().strip()}: no such mailbox")
            elif word == b"DATA":
                self._say("354 go on")
                self._take_body()
            elif word == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _take_body(self) -> None:
        body = b""
        for line in self.rfile:
            if line == b".\r\n":
                break
            body += line
        self.server.sent.append(body.decode())
        self._say("250 taken")

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())
