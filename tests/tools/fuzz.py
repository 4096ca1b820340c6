"""Send the shop thousands of odd requests, and print every answer that is a 5xx.

    python -m tests.tools.fuzz [--requests N] [--seed N] [--only N]

The shop runs on a scratch database, with a gunicorn of its own. Addresses come from the URLconf,
and forms from the pages. A part of each request is made odd: its address, query, method, headers,
cookies or body. The senders are a visitor, a buyer, and each kind of staff. A request depends on
the seed and its number alone: ``--only`` sends it again. (The answer also depends on the requests
before it.)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode
from uuid import uuid4
from wsgiref.util import setup_testing_defaults

import django

LOGOUT = "admin/logout/"  # sent as seldom as any other request, or no senders would be left
METHODS = ["GET"] * 8 + ["POST"] * 8 + ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "FOO"]
CSRF = "a" * 32
BOUNDARY = "frontier"
AGAIN = 100  # requests; after them, senders who were logged out or deleted get new sessions
SECONDS = 20  # for an answer

# Bytes, since not all of it is text.
ODD: list[bytes] = [
    b"",
    b" ",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # a lone surrogate
    "\N{SMILING FACE WITH SUNGLASSES}".encode(),
    "²٣".encode(),  # digits that are no ASCII
    b"%00",
    b"%zz",
    b"_00",  # how the admin quotes a NUL
    b"_zz_",
    b"'\"<script>{{7*7}}",
    b"../../../etc/passwd",
    b"..\\..\\x",
    b"//example.org/",
    b"http://[/",
    b"\r\nX-Odd: yes",
    b"0",
    b"-1",
    b"1.5",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"2147483648",
    b"99999999999999999999",
    b"9" * 5000,
    b"x" * 300,
    b"x" * 6000,
    b"/".join([b"x"] * 200),
    b"0001-01-01",
    b"9999-12-31",
    b"99999-99-99",
    b"25:61:61",
    b"00:00:00",
    b"00000000-0000-0000-0000-000000000000",
    b"None",
    b"null",
    b"true",
    b"[]",
    b'{"a": 1}',
    b"a,b,,c",
    b"id__exact=1&pk=2",
    b"__class__",
    b"password",
    b"id",
    b"logentry",
    b"groups",
]

CONTENT_TYPES = [
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-16",
    "application/x-www-form-urlencoded; charset=base64",
    "application/x-www-form-urlencoded; charset=nonsense",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=b\xe9",
    f"multipart/form-data; boundary={BOUNDARY}; charset=utf-16",
    f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7",
    "application/json",
    "application/json; charset=utf-16",
    "text/plain; charset=utf-32",
    "text/html; charset=idna",
    "image/png",
    ";;;",
    "\xff/\xff",
]

HEADERS = {
    "Accept": ["*/*", "text/html;q=x", "\xff", "," * 1000],
    "Accept-Encoding": ["gzip, br", "br;q=nan", "\xff"],
    "Accept-Language": ["de", "x" * 600, "*;q=1e999", "\xff", "en-" * 300],
    "Forwarded": ["for=\xff"],
    "HX-Current-URL": ["http://[", "\xff"],
    "HX-Request": ["true"],
    "HX-Target": ["\xff"],
    "Host": ["[", "localhost:99999", "\xff", "a b", "", "127.0.0.1:x", "xn--a"],
    "If-Match": ["\xff"],
    "If-Modified-Since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 99999 99:99:99 GMT"],
    "If-None-Match": ['"x"', "*", "\xff"],
    "Origin": ["null", "http://[", "\xff", "https://example.org"],
    "Range": ["bytes=0-1", "bytes=9-1", "bytes=-", "bytes=x", "bytes=99999999999999999999-"],
    "Referer": ["http://[", "\xff", "x" * 3000],
    "User-Agent": ["\xff", "x" * 3000, ""],
    "X-CSRFToken": ["\xff", "x", ""],
    "X-Forwarded-For": ["\xff", "1.2.3.4", "::1, x", "," * 500],
    "X-Forwarded-Proto": ["https", "\xff"],
    "X-HTTP-Method-Override": ["DELETE"],
    "X-Requested-With": ["XMLHttpRequest"],
}
COOKIES = ["sessionid", "csrftoken", "buyer", "messages"]
ODD_COOKIES = ["", "x", "x" * 3000, '"a\\000bcdefgh"', "\xff", "a:b:c", '"', "a" * 32, "[[1]]:x:y"]

PARAMETERS = re.findall(
    r"\S+",
    """
    p o q s all e page extended next sort in_stock seen before term app_label model_name
    field_name _to_field _popup _changelist_filters _facets action index select_across
    _selected_action state state__exact status__exact status__isnull kind__exact shelf lapse
    stock_is is_active__exact product__id__exact groups__id__exact action_flag__exact
    reason__exact placed_at_from_0 placed_at_from_1 placed_at_to_0 placed_at_to_1 made_at_from_0
    made_at_to_0 created_at_from_0 created_at_from_1 decided_at_to_0 refused_at_from_0
    started_at_to_1 token__regex id__in pk__gt product__sku id units name__icontains product
    quantity key hold remove choice name email address seen_total confirmed units reason note
    restock amount tracking strategy initial-strategy price slug sku picture format resource
    import_file import_file_name original_file_name export_items username password password1
    password2 network cancel_orders postcode town country shown_price
    lines-TOTAL_FORMS lines-INITIAL_FORMS _save _continue _saveasnew
    """,
)


LIST = re.findall(
    r"\S+",
    """
    p o q all e state shelf lapse stock_is _facets _to_field _popup _changelist_filters
    """,
)


@dataclass
class Request:
    """A request as it goes over the wire. Its texts are Latin-1: one character for each byte."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def as_bytes(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


@dataclass
class Form:
    """A form of a page, as a browser would send it."""

    address: str
    fields: list[tuple[str, bytes]]
    has_file: bool


@dataclass
class World:
    """The targets of requests, and their senders."""

    routes: list[str]
    forms: list[Form]
    real: dict[str, list[str]]
    """Values of existing things, by the name of the part of an address."""
    names: dict[str, list[str]]
    """Names that a query may contain, by the beginning of the address."""
    cookies: dict[str, str]
    """The cookies of each kind of sender."""

    def odd_request(self, chance: random.Random) -> Request:
        """A random request with an odd part: a form of the shop, or any address."""
        if self.forms and chance.random() < 0.5:
            request = self._send_form(chance)
        else:
            request = self._ask(chance)
        request.headers = {
            "Host": "localhost",
            "Cookie": self._cookies(chance),
            "X-CSRFToken": CSRF,
            **request.headers,
        }
        for name in chance.sample(sorted(HEADERS), k=chance.choice([0, 0, 1, 1, 2, 4])):
            request.headers[name] = chance.choice(HEADERS[name])
        if request.body or request.method == "POST":
            request.headers["Content-Length"] = str(len(request.body))
        return request

    def _ask(self, chance: random.Random) -> Request:
        path = self._fill(chance.choice(self.routes), chance)
        request = Request(chance.choice(METHODS), path, self._query(path, chance))
        if request.method not in ("GET", "HEAD") or chance.random() < 0.05:
            names = chance.sample(PARAMETERS, k=chance.randint(0, 6))
            fields = [(name, self._value(name, chance)) for name in names]
            self._put_body(request, fields, chance)
        return request

    def _send_form(self, chance: random.Random) -> Request:
        """A form with one to three of its fields made odd, left out, or sent twice."""
        form = chance.choice(self.forms)
        fields = list(form.fields)
        for _ in range(chance.randint(1, 3)):
            if not fields:
                break
            at = chance.randrange(len(fields))
            name, _ = fields[at]
            change = chance.randrange(8)
            if change == 0:
                del fields[at]
            elif change == 1:
                fields.append((name, chance.choice(ODD)))
            elif change == 2:
                fields.append((chance.choice(PARAMETERS), chance.choice(ODD)))
            elif change == 3:
                fields[at] = (chance.choice(ODD).decode("latin-1"), chance.choice(ODD))
            else:
                fields[at] = (name, self._value(name, chance))
        request = Request("POST", quote(form.address, safe="/%"), "")
        if chance.random() < 0.2:
            request.query = self._query(request.path, chance)
        self._put_body(request, fields, chance, with_files=form.has_file)
        return request

    def _fill(self, route: str, chance: random.Random) -> str:
        """An address of the route, with values of existing things, or with odd ones."""

        def value(found: re.Match[str]) -> str:
            name = found["name"]
            if name == "object_id":
                name = "/".join(route.split("/")[:3])
            real = self.real.get(name)
            if real and chance.random() < 0.6:
                return quote(chance.choice(real), safe="/")
            return quote(chance.choice(ODD), safe=chance.choice(["", "/"]))

        path = re.sub(r"<(?:\w+:)?(?P<name>\w+)>", value, route)
        if chance.random() < 0.05:
            path += quote(chance.choice(ODD))
        return f"/{path}"

    def _query(self, path: str, chance: random.Random) -> str:
        if chance.random() < 0.3:
            return ""
        if chance.random() < 0.05:
            return chance.choice(["&" * 3000, "%", "a=%ff&%ff=%00", "=", "a" * 7000, "\xff=\xfe"])
        known = next((self.names[each] for each in self.names if path.startswith(each)), PARAMETERS)
        names = chance.sample(known, k=min(len(known), chance.randint(1, 4)))
        if path.startswith("/admin/") and chance.random() < 0.5:
            names.append(chance.choice(LIST))
        if chance.random() < 0.2:
            names.append(names[0])
        return urlencode([(name, self._value(name, chance)) for name in names])

    def _value(self, name: str, chance: random.Random) -> bytes:
        real = self.real.get(name)
        if real and chance.random() < 0.3:
            return chance.choice(real).encode()
        return chance.choice(ODD)

    def _put_body(
        self,
        request: Request,
        fields: list[tuple[str, bytes]],
        chance: random.Random,
        *,
        with_files: bool = False,
    ) -> None:
        """Write the fields as a form, as JSON, or broken; mostly as the header says."""
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
            body = multipart(fields, chance)
        if chance.random() < 0.15:
            content_type = chance.choice(CONTENT_TYPES)
        if chance.random() < 0.1:
            cut = chance.randint(0, len(body))
            body = body[:cut] + chance.choice([b"", b"\xff", b"\0", body])
        request.headers["Content-Type"] = content_type
        request.body = body

    def _cookies(self, chance: random.Random) -> str:
        cookies = self.cookies[chance.choice(sorted(self.cookies))]
        if chance.random() < 0.1:
            cookies += f"; {chance.choice(COOKIES)}={chance.choice(ODD_COOKIES)}"
        return cookies


def multipart(fields: list[tuple[str, bytes]], chance: random.Random) -> bytes:
    """The fields as multipart. Now and then one is a file, or has headers that don't fit."""
    parts = []
    for name, value in fields:
        head = f'Content-Disposition: form-data; name="{name}"'.encode("latin-1")
        if "file" in name or name == "picture" or chance.random() < 0.05:
            names = ["a.csv", "a.png", "../a", "x" * 300 + ".png", "", "a\0.png", "a.svg", "\xff"]
            head += f'; filename="{chance.choice(names)}"'.encode("latin-1")
            value = chance.choice(
                [value, b"sku,units\r\nMUG,1\r\n", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
            )
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


# Targets


def make_world() -> World:
    """Fill the database with one of each thing, and read the forms of all pages."""
    from django.urls import get_resolver

    real = make_things()
    world = World(list(routes(get_resolver())), [], real, names_in_queries(), {})
    make_sessions(world)
    forms = {(form.address, *(name for name, _ in form.fields)): form for form in read_forms(world)}
    world.forms = [form for form in forms.values() if not form.address.endswith(LOGOUT)]
    return world


def routes(resolver: Any, before: str = "") -> Iterator[str]:
    """The routes as the URLconf has them, the admin's included."""
    for each in resolver.url_patterns:
        route = before + str(each.pattern).removeprefix("^").removesuffix("$")
        route = re.sub(r"\(\?P(<\w+>)[^)]*\)", r"\1", route)
        if hasattr(each, "url_patterns"):
            yield from routes(each, route)
        else:
            yield route


def make_things() -> dict[str, list[str]]:
    """Make an order in each state, a basket, a flash sale …; return values for addresses."""
    from django.contrib import admin
    from django.contrib.auth.models import User

    from inventory import reservations, stock
    from inventory.experiments.models import FlashSale
    from inventory.models import Product, StockAlert
    from shop import orders
    from shop.models import DemoBankCharge, DemoBankRefund, Order, OutboxMail
    from shop.payments import demo_dashboard
    from shop.payments.demo import Choice
    from tests.shop.orders.steps import at_bank, go_to_bank, place

    User.objects.get_or_create(username="somebody")
    made = [
        Product.objects.create(sku=sku, slug=sku.lower(), name=sku.title(), price=price)
        for sku, price in (("MUG", 9), ("LAMP", 120))
    ]
    for product in made:
        stock.receive(product, 10_000)
    place((made[0], 1), buyer="P")
    go_to_bank(place((made[0], 2), (made[1], 1), buyer="W"))
    for number in range(3):
        order = place((made[0], 3), buyer=f"B{number}")
        charge = at_bank(order, Choice.APPROVE)
        orders.settle(order.pk)
    demo_dashboard.give_back(charge.pk, Decimal(1), uuid4())
    orders.ship(order.pk, "TRACK-1")
    orders.refund(order.pk, units={order.lines.get().pk: 1}, restock=True)
    hold = reservations.reserve(made[0], 1, buyer=buyer_key())
    mail = OutboxMail.objects.create(order=order, subject="It is on its way", text="Soon.")
    FlashSale.objects.create(
        stock=1, buyers=1, quantity_min=1, quantity_max=1, processes=1, threads=1, payment_ms=0
    )
    StockAlert.objects.create(
        product=made[0], kind="LOW_STOCK", received=1, available=1, held=0, sold=0, recorded=1
    )
    objects = {
        f"admin/{model._meta.app_label}/{model._meta.model_name}": [
            str(pk) for pk in model._base_manager.values_list("pk", flat=True)[:5]
        ]
        for model in admin.site._registry
    }
    return {
        **objects,
        "slug": ["mug", "lamp"],
        "product": ["mug", "1"],
        "hold_id": [str(hold.pk)],
        "hold": [str(hold.pk)],
        "token": list(Order.objects.values_list("token", flat=True)),
        "reference": list(DemoBankCharge.objects.values_list("reference", flat=True)),
        "provider": ["demo"],
        "pk": [str(mail.pk), str(charge.pk)],
        "network": ["127.0.0.1", "unknown"],
        "app_label": ["shop", "inventory", "auth", "admin"],
        "model_name": ["order", "reservation", "user", "logentry"],
        "field_name": ["product", "user", "order"],
        "content_type_id": ["1", "7"],
        "quantity": ["1"],
        "choice": ["approve", "decline"],
        "step": ["give-back", "let-fail", "dispute", "decide-for-shop", "decline-refunds"],
        "refund": [str(pk) for pk in DemoBankRefund.objects.values_list("pk", flat=True)],
        "amount": ["0.01"],
        "confirmed": ["yes"],
        "action": ["release_ticked", "switch_off_ticked", "delete_or_refuse", "delete_selected"],
        "_selected_action": ["1", str(hold.pk)],
        "_to_field": ["id"],
        "_popup": ["1"],
        "all": ["1"],
        "s": ["order"],
        "term": ["m"],
        "page": ["1"],
    }


def names_in_queries() -> dict[str, list[str]]:
    """The names in queries of the admin's lists, for filters and sorting, and others to try."""
    from django.contrib import admin

    lookups = ["", "__in", "__gt", "__isnull", "__regex", "__year", "__range", "__nonsense"]
    filters = ["__exact", "__id__exact", "__isnull", "_from_0", "_from_1", "_to_0", "_to_1"]
    lists = {
        f"/admin/{model._meta.app_label}/{model._meta.model_name}/": [
            *LIST,
            *(
                field.name + lookup
                for field in model._meta.get_fields()
                for lookup in lookups + 3 * filters
            ),
        ]
        for model in admin.site._registry
    }
    return {
        **lists,
        "/admin/search/": ["s", "page", "extended"],
        "/admin/autocomplete/": ["app_label", "model_name", "field_name", "term", "page"],
    }


def buyer_key() -> str:
    return "b" * 32


def make_sessions(world: World) -> None:
    """Make a session for each kind of staff; restore users who were changed or deleted."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import Group, User
    from django.contrib.sessions.backends.db import SessionStore

    from shop.middleware import buyer
    from tests.shop.orders.pages import signed_cookie

    csrf = f"csrftoken={CSRF}"
    key = signed_cookie(buyer_key())
    world.cookies = {"visitor": csrf, "buyer": f"{csrf}; {buyer.cookie_name()}={key}"}
    for role in ("auditor", "merchant", "superuser"):
        user, _ = User.objects.update_or_create(
            username=f"fuzz-{role}",
            defaults={"is_staff": True, "is_active": True, "is_superuser": role == "superuser"},
        )
        user.groups.set(Group.objects.filter(name=role))
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        world.cookies[role] = f"{csrf}; {settings.SESSION_COOKIE_NAME}={session.session_key}"


def read_forms(world: World) -> Iterator[Form]:
    """The forms of all pages, as the buyer and as a superuser see them."""
    import html5lib

    chance = random.Random(0)
    for role in ("buyer", "superuser"):
        for route in world.routes:
            names = re.findall(r"<(?:\w+:)?(\w+)>", route)
            if names and names != ["object_id"] and not world.real.get(names[0]):
                continue
            path = f"/{route}"
            for name in names:
                key = "/".join(route.split("/")[:3]) if name == "object_id" else name
                values = world.real.get(key) or ["1"]
                path = re.sub(r"<(?:\w+:)?\w+>", chance.choice(values), path, count=1)
            headers = {"Host": "localhost", "Cookie": world.cookies[role]}
            status, page = ask_in_process(Request("GET", path, headers=headers))
            if status != 200:
                continue
            document = html5lib.parse(page, namespaceHTMLElements=False)
            for form in document.iter("form"):
                if form.get("method", "").lower() == "post":
                    yield _form(form, path)


def _form(form: Any, page: str) -> Form:
    fields = []
    for element in form.iter():
        name, kind = element.get("name"), element.get("type", "")
        if not name or name == "csrfmiddlewaretoken":
            continue
        chosen = [each.get("value", "") for each in element.iter("option")][:1]
        text = element.text if element.tag == "textarea" else ""
        value = element.get("value") or (chosen[0] if chosen else text) or ""
        if kind != "file" and name != "_selected_action":
            fields.append((name, value.encode()))
        else:
            fields.append((name, b"1"))
    address = (form.get("action") or page).split("?")[0]
    has_file = any(element.get("type") == "file" for element in form.iter())
    return Form(address if address.startswith("/") else page, fields, has_file)


# Sending


def ask_in_process(request: Request) -> tuple[int, bytes]:
    """Call Django in this process as a web server does; return the status and the page."""
    from shop.wsgi import application

    names = {"Content-Type": "CONTENT_TYPE", "Content-Length": "CONTENT_LENGTH"}
    headers = {
        names.get(name, "HTTP_" + name.upper().replace("-", "_")): value
        for name, value in request.headers.items()
    }
    environment: dict[str, Any] = {
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": request.method,
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "wsgi.input": io.BytesIO(request.body),
    }
    environment |= headers
    setup_testing_defaults(environment)
    started: list[int] = []

    def start(status: str, headers: object, error: object = None) -> None:
        started.append(int(status.split()[0]))

    try:
        answer: Any = application(environment, start)
        with contextlib.closing(answer):
            page = b"".join(answer)
    except Exception as error:  # a web server would answer 500 to it
        return 500, repr(error).encode()
    return started[-1], page


class OverTheWire:
    """Send requests to the web server at this address, each on a connection of its own."""

    def __init__(self, host: str, port: int) -> None:
        self.address = host, port

    def __call__(self, request: Request) -> tuple[int, bytes]:
        with socket.create_connection(self.address, timeout=SECONDS) as connection:
            with contextlib.suppress(OSError):  # rejected before all of it was sent
                connection.sendall(request.as_bytes())
            answer = HTTPResponse(connection, method=request.method)
            try:
                answer.begin()
                return answer.status, answer.read()
            except TimeoutError:
                return 599, b"no answer in time"
            except (OSError, HTTPException) as error:
                return 0, repr(error).encode()  # the connection was closed: no answer


def run(
    world: World, ask: Callable[[Request], tuple[int, bytes]], numbers: Iterable[int], seed: int
) -> tuple[Counter[str], list[str]]:
    """Send requests; return the number of answers by status, and each 5xx with its request."""
    kinds: Counter[str] = Counter()
    broken = []
    for asked, number in enumerate(numbers):
        if asked % AGAIN == 0:
            make_sessions(world)
        request = world.odd_request(random.Random(f"{seed}-{number}"))
        status, page = ask(request)
        kinds[f"{status // 100}xx" if status else "closed"] += 1
        if status >= 500:
            broken.append(f"{status} to request {number}: {request.as_bytes()!r}\n{page[:300]!r}")
    return kinds, broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send the request of that number alone")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    media = os.environ["MEDIA_ROOT"] = tempfile.mkdtemp(prefix="fuzz-media-")
    os.environ["DEMO"] = "true"
    os.environ["ALLOWED_HOSTS"] = "localhost,127.0.0.1"
    os.environ["PAGES_PER_ADDRESS"] = os.environ["POSTS_PER_ADDRESS"] = "off"
    django.setup()
    from inventory import monitor
    from inventory.races.scratch import scratch_database
    from shop.load_tests.serving import ServedShop

    with scratch_database(), tempfile.TemporaryFile() as log:
        world = make_world()
        print(f"{len(world.routes)} routes, {len(world.forms)} forms, seed {options.seed}")
        shop = ServedShop({"WEB_CONCURRENCY": "1", "MEDIA_ROOT": media}, log=log)
        try:
            shop.start_web()
            numbers = range(options.requests) if options.only is None else [options.only]
            kinds, broken = run(world, OverTheWire(shop.host, shop.port), numbers, options.seed)
        finally:
            shop.stop()
        print("\n\n".join(broken))
        if broken:
            log.seek(0)
            print(log.read().decode(errors="replace")[-200_000:])
        print(", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
        print(f"{len(broken)} of {sum(kinds.values())} requests ended in 5xx.")
        print(f"Products whose units are not all accounted for: {len(monitor.check())}")
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
