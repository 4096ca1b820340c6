"""Makes the odd request of a number: from the seed and the number alone.

Keys and tokens in it are those of the world that it is made for.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode
from uuid import UUID

from tests.tools.fuzz.addresses import Address
from tests.tools.fuzz.forms import STAFF, Form, is_for
from tests.tools.fuzz.markers import make_marker
from tests.tools.fuzz.raw_bytes import malformed
from tests.tools.fuzz.values import (
    CONTENT_TYPES,
    COOKIES,
    HEADERS,
    LIST,
    METHODS,
    ODD,
    ODD_COOKIES,
    PARAMETERS,
    REFLECTING_HEADERS,
)
from tests.tools.fuzz.wire import BOUNDARY, Request, multipart

CSRF = "a" * 32
RAW = 0.04  # of all requests
FORGED = 0.04
BITS_OF_A_KEY = 128


@dataclass
class Targets:
    """The targets of requests, and their senders."""

    addresses: list[Address]
    forms: list[Form] = field(default_factory=list)
    real: dict[str, list[str]] = field(default_factory=dict)
    """Values of existing things, by the name of the part of an address."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Names that a query may contain, by the beginning of the address."""
    cookies: dict[str, str] = field(default_factory=dict)
    """The cookies of each kind of sender."""


def odd_request(targets: Targets, seed: int, number: int) -> Request:
    """The request of this number: a form of the shop, any address, or bytes that are no request."""
    chance = random.Random(f"{seed}-{number}")
    return _Maker(targets, number, chance).make()


class _Maker:
    def __init__(self, targets: Targets, number: int, chance: random.Random) -> None:
        self.targets = targets
        self.chance = chance
        self.number = number

    def make(self) -> Request:
        chance = self.chance
        if chance.random() < RAW:
            raw, is_whole = malformed(self._marker(), chance)
            return Request("RAW", "", raw=raw, is_whole=is_whole)
        sender = self._sender()
        if self.targets.forms and chance.random() < 0.5:
            request = self._send_form(sender)
        else:
            request = self._ask(sender)
        request.sender = sender
        request.headers = {
            "Host": "localhost",
            "Cookie": self._cookies(sender),
            "X-CSRFToken": CSRF,
            **{name: self._plain_marker() for name in REFLECTING_HEADERS},
            **request.headers,
        }
        for name in chance.sample(sorted(HEADERS), k=chance.choice([0, 0, 0, 1, 1, 3])):
            request.headers[name] = chance.choice(HEADERS[name])
        if chance.random() < FORGED:
            self._forge(request)
        if request.body or request.method == "POST":
            request.headers["Content-Length"] = str(len(request.body))
        return request

    def _sender(self) -> str:
        """As often a customer as staff."""
        everybody = sorted(self.targets.cookies)
        is_staff = self.chance.random() < 0.5
        fitting = [each for each in everybody if (each in STAFF) == is_staff]
        return self.chance.choice(fitting or everybody)

    def _forge(self, request: Request) -> None:
        """Send it as another site's page would: with the cookies, but without the token."""
        request.is_forged = True
        del request.headers["X-CSRFToken"]
        request.headers["Origin"] = "https://zq.example"
        request.body = request.body.replace(CSRF.encode(), b"")

    def _marker(self) -> bytes:
        return make_marker(self.number, self.chance)

    def _plain_marker(self) -> str:
        return make_marker(self.number, self.chance, plain=True).decode("latin-1")

    def _ask(self, sender: str) -> Request:
        chance = self.chance
        every = self.targets.addresses
        fitting = [each for each in every if is_for(f"/{each.route}", sender)]
        address = chance.choice(fitting if fitting and chance.random() < 0.6 else every)
        path = self._fill(address)
        request = Request(chance.choice(METHODS), path, self._query(path, address.queried))
        if request.method not in ("GET", "HEAD") or chance.random() < 0.05:
            names = chance.sample(PARAMETERS, k=chance.randint(0, 6))
            fields = [(name, self._value(name)) for name in names]
            self._put_body(request, [*fields, ("zq", self._marker())])
        return request

    def _send_form(self, sender: str) -> Request:
        """A form, most often with one to three fields made odd, left out, or sent twice."""
        chance = self.chance
        fitting = [form for form in self.targets.forms if is_for(form.address, sender)]
        form = chance.choice(fitting if fitting and chance.random() < 0.8 else self.targets.forms)
        fields = [(name, self._fresh(name, value)) for name, value in form.fields]
        for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
            if not fields:
                break
            at = chance.randrange(len(fields))
            name, _ = fields[at]
            change = chance.randrange(8)
            if change == 0:
                del fields[at]
            elif change == 1:
                fields.append((name, self._odd()))
            elif change == 2:
                fields.append((chance.choice(PARAMETERS), self._odd()))
            elif change == 3:
                fields[at] = (self._odd().decode("latin-1"), self._odd())
            else:
                fields[at] = (name, self._value(name))
        if chance.random() < 0.5:
            fields.append(("zq", self._marker()))
        request = Request("POST", quote(form.address, safe="/%"), "")
        if chance.random() < 0.2:
            request.query = self._query(request.path)
        self._put_body(request, fields, with_files=form.has_file)
        return request

    def _fresh(self, name: str, value: bytes) -> bytes:
        """A field's value; another key each time, since a form counts once."""
        if name == "key" and self.chance.random() < 0.8:
            return str(UUID(int=self.chance.getrandbits(BITS_OF_A_KEY), version=4)).encode()
        return value

    def _fill(self, address: Address) -> str:
        """The address with values of existing things, or with odd ones."""
        chance = self.chance
        path = address.path({name: self._part(address, name) for name in address.names})
        if chance.random() < 0.06:
            path += quote(self._odd())
        return path

    def _part(self, address: Address, name: str) -> str:
        chance = self.chance
        of_model = "/".join(address.route.split("/")[:3])
        real = self.targets.real.get(of_model if name in ("object_id", "id") else name)
        if real and chance.random() < 0.75:
            return quote(chance.choice(real), safe="/")
        if chance.random() < 0.4:
            return quote(address.some_value(name, chance), safe="/")
        return quote(self._odd(), safe=chance.choice(["", "/"]))

    def _query(self, path: str, read: tuple[str, ...] = ()) -> str:
        """A query with names that make sense there; ``read`` are those that its view reads."""
        chance = self.chance
        if chance.random() < 0.3:
            return ""
        if chance.random() < 0.05:
            return chance.choice(["&" * 3000, "%", "a=%ff&%ff=%00", "=", "a" * 7000, "\xff=\xfe"])
        every = self.targets.names
        known = next((every[each] for each in every if path.startswith(each)), PARAMETERS)
        names = chance.sample(known, k=min(len(known), chance.randint(1, 4)))
        if chance.random() < 0.7:
            names += chance.sample(read, k=min(len(read), chance.randint(1, 2)))
        if path.startswith("/admin/") and chance.random() < 0.5:
            names.append(chance.choice(LIST))
        if chance.random() < 0.2:
            names.append(names[0])
        fields = [(name, self._value(name)) for name in names]
        if chance.random() < 0.3:
            fields.append((self._plain_marker(), self._marker()))
        return urlencode(fields)

    def _value(self, name: str) -> bytes:
        real = self.targets.real.get(name)
        if real and self.chance.random() < 0.3:
            return self.chance.choice(real).encode()
        return self._odd()

    def _odd(self) -> bytes:
        return self._marker() if self.chance.random() < 0.4 else self.chance.choice(ODD)

    def _put_body(
        self, request: Request, fields: list[tuple[str, bytes]], *, with_files: bool = False
    ) -> None:
        """Write the fields as a form, as JSON, or broken; mostly as the header says."""
        chance = self.chance
        if chance.random() < 0.9:
            fields = [*fields, ("csrfmiddlewaretoken", CSRF.encode())]
        kind = "multipart" if with_files else chance.choice(["form", "form", "multipart", "json"])
        if kind == "form":
            content_type, body = CONTENT_TYPES[0], urlencode(fields).encode()
        elif kind == "json":
            content_type = "application/json"
            body = json.dumps({name: value.decode("latin-1") for name, value in fields}).encode()
        else:
            content_type = f"multipart/form-data; boundary={BOUNDARY}"
            body = multipart(fields, chance, self._marker())
        if chance.random() < 0.1:
            content_type = chance.choice(CONTENT_TYPES)
        if chance.random() < 0.07:
            cut = chance.randint(0, len(body))
            body = body[:cut] + chance.choice([b"", b"\xff", b"\0", body])
        request.headers["Content-Type"] = content_type
        request.body = body

    def _cookies(self, sender: str) -> str:
        cookies = f"{self.targets.cookies[sender]}; zq={self._cookie_marker()}"
        if self.chance.random() < 0.1:
            odd = self.chance.choice([*ODD_COOKIES, self._cookie_marker()])
            cookies += f"; {self.chance.choice(COOKIES)}={odd}"
        return cookies

    def _cookie_marker(self) -> str:
        """The marker as far as a cookie's value can have it, since it ends at a semicolon."""
        return self._plain_marker().replace(";", "")
