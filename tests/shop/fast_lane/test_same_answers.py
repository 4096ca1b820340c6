"""The lane answers as Django does: generated requests are sent to both, each on equal tables.

There are few of them by default, and a thousand if LANE_THOROUGH is set.
"""

from __future__ import annotations

import difflib
import itertools
import os
import pprint
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode
from uuid import UUID, uuid5

import pytest
from django.contrib.messages.storage.base import Message
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import _mask_cipher_secret  # type: ignore[attr-defined]
from hypothesis import HealthCheck, Phase, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inventory import reservations, stock
from inventory.models import Product
from shop import basket, orders
from shop.middleware import buyer
from shop.middleware.buyer import signed_key
from shop.models import HoldAddress, Order
from shop.notice_storage import NoticeStorage
from shop.payments.demo import Choice
from tests import emptying
from tests.concurrency import lapse
from tests.shop.fast_lane.served import MakeShop, Response, Shop, comparable, tables
from tests.shop.orders.steps import at_bank, place

THOROUGH = bool(os.environ.get("LANE_THOROUGH"))
EXAMPLES = 1000 if THOROUGH else 30

BUYER, NEIGHBOUR, STRANGER = "b" * 32, "n" * 32, "s" * 32
SECRET = "c" * 32  # of the CSRF cookie
KEY, USED_KEY, KEY_OF_OTHER = (str(uuid5(UUID(int=0), name)) for name in ("new", "used", "other"))
NAMES = {
    BUYER: "the buyer",
    NEIGHBOUR: "a neighbour",
    SECRET: "the secret sent",
    KEY: "the key",
    USED_KEY: "the used key",
    KEY_OF_OTHER: "the key of the other product",
}
FORM = "application/x-www-form-urlencoded"
LIMIT_OF_ADDRESS = 60
PRICE = Decimal("19.90")


# The state of the product and of the buyer


def make_product(slug: str, units: int, **fields: Any) -> Product:
    product = Product.objects.create(
        **{"sku": slug.upper(), "slug": slug, "name": slug.title(), "price": PRICE, **fields}
    )
    if units:
        stock.receive(product, units)
    product.refresh_from_db()
    return product


def with_holds(units: int, *, are_lapsed: bool) -> Product:
    product = make_product("lamp", units)
    hold = reservations.reserve(product, units, buyer=STRANGER)
    if are_lapsed:
        lapse(hold)
    return product


def oversold() -> Product:
    product = make_product("lamp", 3)
    reservations.reserve(product, 3, buyer=STRANGER)
    Product.objects.filter(pk=product.pk).update(backstop=False, stock=-2)
    return product


PRODUCTS: dict[str, Callable[[], Product]] = {
    "plenty": lambda: make_product("lamp", 1000),
    "few": lambda: make_product("lamp", 2),
    "sold out": lambda: make_product("lamp", 0),
    "all held": lambda: with_holds(3, are_lapsed=False),
    "all lapsed": lambda: with_holds(3, are_lapsed=True),
    "oversold": oversold,
    "switched off": lambda: make_product("lamp", 9, is_active=False),
    "switched off and sold out": lambda: make_product("lamp", 0, is_active=False),
    "exhibit": lambda: make_product("lamp", 9, is_exhibit=True),
    "limit per buyer": lambda: make_product("lamp", 9, max_per_buyer=2),
    "limit per buyer, sold out": lambda: make_product("lamp", 0, max_per_buyer=2),
    "other strategy": lambda: make_product("lamp", 9, strategy="single_statement"),
    "other strategy, sold out": lambda: make_product("lamp", 0, strategy="conditional_update"),
    "unsafe strategy": lambda: make_product("lamp", 9, strategy="naive"),
    "unknown strategy": lambda: make_product("lamp", 9, strategy="nonsense"),
    "dear": lambda: make_product("lamp", 90, price=Decimal("99999999.00")),
    "odd words": lambda: make_product(
        "lamp", 9, name='<Lamp> & "Co" é', description='name="key" value="00000000"\n\n{{ x }}'
    ),
}


def hold(product: Product, units: int, key: str = "", by: str = BUYER) -> Any:
    once = basket.idempotency_key(by, UUID(key)) if key else None
    return reservations.reserve(product, units, buyer=by, idempotency_key=once)


def come_from_address(*holds: Any, units: int = 0) -> None:
    for each in holds:
        HoldAddress.objects.create(
            reservation_id=each.pk, network="127.0.0.1", quantity=units or each.quantity
        )


def fill_address(units: int, other: Product) -> None:
    come_from_address(hold(other, units, by=NEIGHBOUR))


def fill_address_with_lapsed(other: Product) -> None:
    hold_of_neighbour = hold(other, LIMIT_OF_ADDRESS, by=NEIGHBOUR)
    come_from_address(hold_of_neighbour)
    lapse(hold_of_neighbour)


def place_order(product: Product) -> Order:
    """An order of the buyer, with the same number and address each time."""
    order = place((product, 1), buyer=BUYER)
    order.token, order.number = "t" * 32, "AAAA-BBBB"
    order.save()
    return order


def pay_order(other: Product) -> None:
    order = place_order(other)
    at_bank(order, Choice.APPROVE)
    orders.settle(order.pk)


# Each gets the product and another one. Where the product can't be held, the other is.
BUYERS: dict[str, Callable[[Product, Product], object]] = {
    "nothing": lambda lamp, other: None,
    "a hold": lambda lamp, other: hold(can_be_held(lamp, other), 1, USED_KEY),
    "a hold of the other": lambda lamp, other: hold(other, 2, KEY_OF_OTHER),
    "a lapsed hold": lambda lamp, other: lapse(hold(can_be_held(lamp, other), 1, USED_KEY)),
    "a lapsed hold of the other": lambda lamp, other: lapse(hold(other, 1, KEY_OF_OTHER)),
    "a removed hold": lambda lamp, other: reservations.release(
        hold(can_be_held(lamp, other), 1, USED_KEY).pk
    ),
    "an open order": lambda lamp, other: place_order(can_be_held(lamp, other)),
    "a paid order": lambda lamp, other: pay_order(other),
    "nearly too many units": lambda lamp, other: hold(other, 19),
    "the most units": lambda lamp, other: hold(other, 20),
    "the most holds": lambda lamp, other: [hold(other, 1) for _ in range(20)],
    "nearly full address": lambda lamp, other: fill_address(LIMIT_OF_ADDRESS - 1, other),
    "full address": lambda lamp, other: fill_address(LIMIT_OF_ADDRESS, other),
    "address full of lapsed": lambda lamp, other: fill_address_with_lapsed(other),
}


def can_be_held(lamp: Product, other: Product) -> Product:
    lamp.refresh_from_db()
    is_fine = lamp.stock > 0 and lamp.is_active and not lamp.is_exhibit and lamp.price == PRICE
    return lamp if is_fine and lamp.strategy != "nonsense" else other


def make_state(product: str, of_buyer: str) -> None:
    emptying.empty_tables()
    lamp = PRODUCTS[product]()
    other = make_product("other", 1000)
    BUYERS[of_buyer](lamp, other)


# Requests


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    cookies: dict[str, str]
    body: bytes = b""

    def scope(self) -> dict[str, Any]:
        raw_path, _, query = self.target.partition("?")
        headers = list(self.headers)
        if self.cookies:
            text = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            headers.append(("cookie", text))
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40000),
        }


def mostly(good: Any, *odd: Any, times: int = 12) -> st.SearchStrategy[Any]:
    """The first so many times as often as any other: a request with many odd parts is rejected."""
    return st.sampled_from([good] * (times * len(odd)) + list(odd))


def messages_cookie() -> str:
    storage: Any = NoticeStorage(HttpRequest())
    text: str = storage._encode([Message(20, "Hello")])
    return text


def cookies_of_buyer() -> st.SearchStrategy[str | None]:
    """The cookie of the buyer mostly; else none, another's, or one that is signed otherwise."""
    good = signed_key(BUYER)
    return mostly(
        good,
        None,
        "",
        BUYER,
        good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        signing.Signer(salt=buyer.SALT).sign(BUYER),
        signed_by_django(BUYER),
        signing.get_cookie_signer(salt="other").sign(BUYER),
        signed_key(NEIGHBOUR),
        signed_key("short"),
        "x" * 3000,
    )


def signed_by_django(key: str) -> str:
    response = HttpResponse()
    response.set_signed_cookie(buyer.cookie_name(), key, salt=buyer.SALT)
    return response.cookies[buyer.cookie_name()].value


def csrf_cookies() -> st.SearchStrategy[str | None]:
    masked = _mask_cipher_secret(SECRET)
    return mostly(SECRET, masked, masked, None, "broken", "!" * 32, "")


@st.composite
def jars(draw: st.DrawFn) -> dict[str, str]:
    found = {
        "csrftoken": draw(csrf_cookies()),
        buyer.cookie_name(): draw(cookies_of_buyer()),
        "sessionid": draw(mostly(None, "x" * 32)),
        "messages": draw(mostly(None, messages_cookie(), "forged", "")),
        "other": draw(mostly(None, "1", "\xe9", "a\0b")),
    }
    return {name: value for name, value in found.items() if value is not None}


GOOD_HEADERS = [("host", "localhost")]
ODD_HEADERS = [
    ("host", "example.org"),
    ("host", "127.0.0.1:8000"),
    ("host", "LOCALHOST"),
    ("host", "a b"),
    ("host", ""),
    ("origin", "http://localhost"),
    ("origin", "https://localhost"),
    ("origin", "http://example.org"),
    ("origin", "null"),
    ("referer", "http://localhost/products/lamp/"),
    ("referer", "https://example.org/"),
    ("referer", "http://["),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-proto", "https,http"),
    ("x-forwarded-host", "example.org"),
    ("x-forwarded-for", "192.0.2.1"),
    ("hx-request", "true"),
    ("hx-target", "stock"),
    ("hx-boosted", "true"),
    ("hx-current-url", "http://["),
    ("content-type", "text/plain"),
    ("content-type", f"{FORM}; charset=utf-8"),
    ("content-type", f"{FORM}; charset=utf-16"),
    ("content-type", f"{FORM}; charset=nonsense"),
    ("content-type", f"{FORM};charset=latin-1"),
    ("content-type", f"{FORM}; charset=\xe9"),
    ("content-type", "multipart/form-data; boundary=x"),
    ("content-type", FORM.upper()),
    ("content-length", "5"),
    ("content-length", "-1"),
    ("content-length", "+5"),
    ("content-length", "x"),
    ("content-length", "99999999"),
    ("content-length", ""),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "gzip, Chunked"),
    ("expect", "100-continue"),
    ("if-none-match", "*"),
    ("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ("range", "bytes=0-9"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip"),
    ("accept-language", "de"),
    ("user-agent", ""),
    ("authorization", "Basic eDp4"),
    ("x-http-method-override", "DELETE"),
    ("x-requested-with", "XMLHttpRequest"),
    ("x-csrftoken", _mask_cipher_secret(SECRET)),
    ("x-csrftoken", "x" * 64),
    ("cookie", f"buyer={signed_key(STRANGER)}"),
    ("cookie", "csrftoken=" + "d" * 32),
    ("cookie", "sessionid="),
]


@st.composite
def headers(draw: st.DrawFn, given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """These headers, perhaps with odd ones in place of them or besides."""
    result = list(given)
    for name, value in draw(mostly((), *((odd,) for odd in ODD_HEADERS))):
        if draw(st.booleans()):
            result = [each for each in result if each[0] != name]
        result.append((name, value))
    if draw(mostly(False, True)):
        result += [draw(st.sampled_from(ODD_HEADERS)), draw(st.sampled_from(ODD_HEADERS))]
    return result


TARGETS = ["/products/lamp/", "/products/lamp/stock/"]
ODD_TARGETS = [
    "/products/nothing/",
    "/products/nothing/stock/",
    "/products/LAMP/",
    "/products/lamp",
    "/products/l%61mp/",
    "/products/l%E9mp/",
    "/products/lamp%2F",
    "/products/lamp%0A",
    "//products/lamp/",
    "/products/lamp/?q=1",
    "/products/lamp/?",
    "/products/lamp/stock/?q=%FF",
    "/products/other/",
    "/basket/holds/",
    "/",
]


@st.composite
def page_requests(draw: st.DrawFn) -> Request:
    target = draw(st.one_of(*[st.sampled_from(TARGETS)] * 4, st.sampled_from(ODD_TARGETS)))
    method = draw(mostly("GET", "HEAD", "POST", "OPTIONS", "PUT", "get"))
    body = draw(mostly(b"", b"", b"hello"))
    given = [*GOOD_HEADERS, *([("content-length", str(len(body)))] if body else [])]
    return Request(method, target, draw(headers(given)), draw(jars()), body)


QUANTITIES = ["0", "01", "1.0", "+1", " 1", "-1", "1_0", "\u0661", "99999", "10000", "9" * 200, ""]
KEYS = [
    USED_KEY,
    KEY_OF_OTHER,
    KEY.upper(),
    KEY.replace("-", ""),
    f"{{{KEY}}}",
    f"urn:uuid:{KEY}",
    f" {KEY}",
    f"{KEY}\n",
    KEY[:-1],
    "",
]
ODD_BODIES: list[Callable[[bytes], bytes]] = [
    lambda body: b"",
    lambda body: body + b"&quantity=2",
    lambda body: body + b"&product=other",
    lambda body: body + b"&remove=",
    lambda body: body + b"&odd=%00",
    lambda body: body + b"&odd=%FF",
    lambda body: body + b"&odd=\xff",
    lambda body: body + b"&%",
    lambda body: body.replace(b"&", b";"),
    lambda body: body[:40],
    lambda body: body + b"&x" * 1100,
    lambda body: body + b"&x=" + b"y" * 4096,
    lambda body: body + b"&x=" + b"y" * 70_000,
]


@st.composite
def forms(draw: st.DrawFn) -> Request:
    fields = {
        "csrfmiddlewaretoken": draw(mostly(_mask_cipher_secret(SECRET), SECRET, "x" * 64, None)),
        "product": draw(mostly("lamp", "lamp", "other", "nothing", "LAMP", "", "l\xe4mp", None)),
        "seen_price": draw(mostly(str(PRICE), "1", "018.50", "1e3", "", "-1", "9" * 20, None)),
        "quantity": draw(
            st.one_of(
                *[st.sampled_from(["1", "1", "2", "3", "5", "20", "21", "60", "61"])] * 4,
                st.sampled_from([*QUANTITIES, None]),
            )
        ),
        "key": draw(mostly(KEY, *KEYS, None)),
    }
    body = urlencode({name: value for name, value in fields.items() if value is not None}).encode()
    body = draw(mostly(lambda body: body, *ODD_BODIES))(body)
    given = [*GOOD_HEADERS, ("content-type", FORM), ("content-length", str(len(body)))]
    target = draw(mostly("/basket/holds/", "/basket/holds", "/basket/holds/?x=1", "/basket/"))
    method = draw(mostly("POST", "PUT", "PATCH"))
    return Request(method, target, draw(headers(given)), draw(jars()), body)


requests = st.one_of(forms(), forms(), page_requests())
next_requests = st.sampled_from(["none", "the same", *TARGETS, "/basket/"])


# Comparing


def as_browser(cookies: dict[str, str], response: Response) -> dict[str, str]:
    """The cookies that a browser has after this response."""
    kept = dict(cookies)
    for name, cookie in response.cookies.items():
        kept[name] = cookie.value
        if cookie["max-age"] == 0:
            del kept[name]
    return kept


def live(shop: Shop, state: tuple[str, str], request: Request, then: str) -> dict[str, Any]:
    """Send the requests to a shop in this state; return the answers and the tables."""
    make_state(*state)
    if shop.lane:
        shop.lane.drop_pages()  # they are of the example before
    names = dict(NAMES)
    first = shop.ask(request.scope(), request.body)
    found: dict[str, Any] = {"first": comparable(first, names)}
    if then != "none":
        after = replace(request, cookies=as_browser(request.cookies, first))
        if "csrftoken" in first.cookies:
            names.setdefault(first.cookies["csrftoken"].value, "the secret of the first answer")
        if then != "the same":
            after = replace(after, method="GET", target=then, headers=GOOD_HEADERS, body=b"")
        found["second"] = comparable(shop.ask(after.scope(), after.body), names)
    return {**found, "tables": tables(set(NAMES))}


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The text lines that differ."""
    lane, django = (
        pprint.pformat(each, width=100).replace("\\n", "\n").splitlines() for each in (ours, theirs)
    )
    return "\n".join(difflib.unified_diff(lane, django, "lane", "django", n=0, lineterm=""))


@pytest.mark.slow
@pytest.mark.breaks_law
@pytest.mark.django_db(transaction=True)
def test_generated_requests_get_the_same_answers(make_shop: MakeShop, settings: Any) -> None:
    settings.MOST_UNITS_PER_ADDRESS = LIMIT_OF_ADDRESS
    django, lane = make_shop(lane=False), make_shop(lane=True)
    asked = itertools.count()
    kinds: Counter[str] = Counter()

    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=not THOROUGH,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        product=st.one_of(
            st.sampled_from(["plenty", "few", "sold out"]), st.sampled_from([*PRODUCTS])
        ),
        of_buyer=st.one_of(st.just("nothing"), st.sampled_from([*BUYERS])),
        request=requests,
        then=next_requests,
    )
    def ask_both(product: str, of_buyer: str, request: Request, then: str) -> None:
        next(asked)
        before = lane.answered
        ours = live(lane, (product, of_buyer), request, then)
        note(f"answered by the lane: {lane.answered - before}")
        if lane.answered > before:
            kinds[f"{request.method} {ours['first']['status']}"] += 1
        theirs = live(django, (product, of_buyer), request, then)
        assert ours == theirs, difference(ours, theirs)

    ask_both()
    share = lane.answered / next(asked)
    print(f"The lane answered {share:.0%}: {dict(kinds)}")
    assert share > 0.2
    assert {"GET 200", "POST 302", "POST 409"} <= kinds.keys()


# Each odd part alone, in a request that the lane would answer without it


def good_form(**fields: str) -> Request:
    sent = {
        "csrfmiddlewaretoken": _mask_cipher_secret(SECRET),
        "product": "lamp",
        "seen_price": str(PRICE),
        "quantity": "1",
        "key": KEY,
        **fields,
    }
    return with_body(Request("POST", "/basket/holds/", [], good_jar()), urlencode(sent).encode())


def good_page() -> Request:
    return Request("GET", TARGETS[0], GOOD_HEADERS, good_jar())


def good_jar() -> dict[str, str]:
    return {"csrftoken": SECRET, buyer.cookie_name(): signed_key(BUYER)}


def with_body(request: Request, body: bytes) -> Request:
    size = ("content-length", str(len(body)))
    return replace(request, headers=[*GOOD_HEADERS, ("content-type", FORM), size], body=body)


def with_header(request: Request, name: str, value: str) -> Request:
    kept = [each for each in request.headers if each[0] != name]
    return replace(request, headers=[*kept, (name, value)])


def odd_cases() -> dict[str, tuple[str, str, Request]]:
    """A product, a buyer's state, and a request, by the odd part."""
    form, page = good_form(), good_page()
    requests: dict[str, Request] = {}
    for name, value in ODD_HEADERS:
        requests[f"form, {name}: {value}"] = with_header(form, name, value)
        requests[f"page, {name}: {value}"] = with_header(page, name, value)
    for number, change in enumerate(ODD_BODIES):
        requests[f"body {number}"] = with_body(form, change(form.body))
    requests |= {f"key {key}": good_form(key=key) for key in KEYS}
    requests |= {f"quantity {each}": good_form(quantity=each) for each in QUANTITIES}
    requests |= {f"at {each}": replace(page, target=each) for each in ODD_TARGETS}
    requests["PUT"] = replace(form, method="PUT")
    requests["no buyer"] = replace(form, cookies={"csrftoken": SECRET})
    requests["NUL"] = replace(form, cookies={**good_jar(), "other": '"\\000"'})
    requests["broken secret"] = replace(page, cookies={**good_jar(), "csrftoken": "x"})
    requests["wrong token"] = good_form(csrfmiddlewaretoken="x" * 64)
    cases = {name: ("plenty", "nothing", request) for name, request in requests.items()}
    for of_buyer in BUYERS:
        for product in ("plenty", "sold out"):
            cases[f"form, {product}, {of_buyer}"] = (product, of_buyer, form)
        cases[f"page, {of_buyer}"] = ("plenty", of_buyer, page)
        cases[f"used key, {of_buyer}"] = ("plenty", of_buyer, good_form(key=USED_KEY))
    for product in PRODUCTS:
        cases[f"form, {product}"] = (product, "nothing", form)
        cases[f"page, {product}"] = (product, "nothing", page)
    return cases


@pytest.mark.slow
@pytest.mark.breaks_law
@pytest.mark.django_db(transaction=True)
def test_each_odd_part_alone_gets_the_same_answers(make_shop: MakeShop, settings: Any) -> None:
    settings.MOST_UNITS_PER_ADDRESS = LIMIT_OF_ADDRESS
    django, lane = make_shop(lane=False), make_shop(lane=True)
    different = {}
    for name, (product, of_buyer, request) in odd_cases().items():
        ours = live(lane, (product, of_buyer), request, "none")
        theirs = live(django, (product, of_buyer), request, "none")
        if ours != theirs:
            different[name] = difference(ours, theirs)
    assert different == {}
    assert lane.answered > len(odd_cases()) / 4
