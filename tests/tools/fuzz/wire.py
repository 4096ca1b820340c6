"""A request as it goes over the wire."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

BOUNDARY = "frontier"
FILE_NAMES = [
    "a.csv",
    "a.png",
    "../a",
    "x" * 300 + ".png",
    "",
    "a\0.png",
    "a.svg",
    "a.html",
    "\xff",
]
CONTENTS = [b"sku,units\r\nMUG,1\r\n", b"\x89PNG\r\n\x1a\n", b"GIF89a"]


@dataclass
class Request:
    """A request. Its texts are Latin-1: one character for each byte."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sender: str = "visitor"
    raw: bytes | None = None
    """All bytes of a request that is none, in place of all above."""
    is_forged: bool = False
    """Whether another site's page sends it."""
    is_whole: bool = True
    """Whether a server can answer it: it doesn't wait for more."""

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def decoded_path(self) -> str:
        """The path as the shop reads it."""
        return unquote_to_bytes(self.path).decode(errors="replace")

    def as_bytes(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body

    def contains(self, text: str) -> bool:
        """Whether the sender sent this text, encoded or not; a cookie doesn't count."""
        names = [value for name, value in self.headers.items() if name != "Cookie"]
        sent = "\n".join([self.target, *names]).encode("latin-1") + b"\n" + self.body
        if self.raw is not None:
            sent += self.raw
        word = text.encode()
        return word in sent or word in unquote_to_bytes(sent.replace(b"+", b" "))


@dataclass
class Answer:
    """An answer, as it came."""

    status: int
    """0 if the connection was closed without one; 599 if nothing came in time."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    seconds: float = 0.0
    count: int = 1
    """The number of answers that came; a request that is none may get several."""

    def header(self, name: str) -> str:
        """The value of a header; empty if there is none."""
        values = [value for each, value in self.headers if each.lower() == name.lower()]
        return values[0] if values else ""

    @property
    def kind(self) -> str:
        """The Content-Type without its parameters."""
        return self.header("Content-Type").split(";")[0].strip().lower()

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def multipart(fields: list[tuple[str, bytes]], chance: random.Random, marker: bytes) -> bytes:
    """The fields as multipart. Now and then one is a file, or has headers that don't fit."""
    parts = []
    for name, value in fields:
        head = f'Content-Disposition: form-data; name="{name}"'.encode("latin-1")
        if "file" in name or name == "picture" or chance.random() < 0.05:
            file_name = chance.choice(FILE_NAMES).encode("latin-1")
            if chance.random() < 0.5:
                file_name = marker.replace(b'"', b"%22").replace(b"\r\n", b"") + file_name
            head += b'; filename="%s"' % file_name
            value = chance.choice([value, *CONTENTS])
        if chance.random() < 0.05:
            head += chance.choice(
                [
                    b"\r\nContent-Type: text/csv; charset=utf-16",
                    b"\r\nContent-Transfer-Encoding: base64",
                    b"; filename*=utf-99''x",
                    b"; name*=utf-8''%ff",
                    b"\r\nX: " + b"y" * 2000,
                ]
            )
        parts.append(b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), head, value))
    return b"".join(parts) + b"--%s--\r\n" % BOUNDARY.encode()
