"""The parts of the fuzz drill: what it sends, and what it takes for a fault.

``tests/http/test_fuzz.py`` runs the drill.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import get_resolver, path, register_converter, resolve
from django.urls.converters import get_converters

from inventory.models import Product
from tests.tools.fuzz import addresses, changes, sending
from tests.tools.fuzz.changes import Change
from tests.tools.fuzz.checks import NO_ANSWER, faults_of_status, find_faults
from tests.tools.fuzz.forms import forms_of_page
from tests.tools.fuzz.generator import Targets, odd_request
from tests.tools.fuzz.markers import MARK, make_marker
from tests.tools.fuzz.matching import text_matching
from tests.tools.fuzz.owners import OrderWords, Owners
from tests.tools.fuzz.pages import forbidden_content
from tests.tools.fuzz.people import ADA, BOB
from tests.tools.fuzz.reflections import unescaped
from tests.tools.fuzz.rights import Rights
from tests.tools.fuzz.senders import PASSWORD, Sender
from tests.tools.fuzz.sending import WebServer
from tests.tools.fuzz.wire import Answer, Request

COOKIES = {"visitor": "csrftoken=a", "superuser": "csrftoken=a; sessionid=b"}
HTML = [("Content-Type", "text/html"), ("X-Content-Type-Options", "nosniff")]
TOKEN = "t" * 32
VISITOR = Sender("visitor", "")
BUYER = Sender("buyer", "", buyer=BOB.key)
STAFF = {
    role: Sender(role, "", session=f"{role}-session", user=number)
    for number, role in enumerate(("clerk", "auditor", "merchant", "superuser"), 1)
}


# Addresses


class Roman:
    regex = "[MDCLXVI]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


def show(request: HttpRequest, **parts: object) -> HttpResponse:
    return HttpResponse()


if "roman" not in get_converters():
    register_converter(Roman, "roman")
urlpatterns = [path("years/<roman:year>/<int:day>/", show, name="year")]


def test_a_new_address_is_asked_with_values_that_its_converters_take() -> None:
    targets = Targets(list(addresses.walk(get_resolver(__name__))), cookies=COOKIES)
    paths = [odd_request(targets, 1, number).decoded_path for number in range(300)]
    reached = [each for each in paths if re.fullmatch("/years/[MDCLXVI]+/[0-9]+/", each)]
    assert len(reached) > 20
    assert resolve(reached[0], __name__).url_name == "year"


def test_the_names_that_a_view_reads_from_a_query_are_tried() -> None:
    read = {address.route: address.queried for address in addresses.walk(get_resolver())}
    assert {"page", "q", "sort"} <= set(read[""])
    assert {"seen"} <= set(read["basket/"])


def test_every_address_of_the_shop_is_walked() -> None:
    routes = {address.route for address in addresses.walk(get_resolver())}
    assert {"basket/holds/<uuid:hold_id>/", "healthz", "admin/login/"} <= routes
    assert "admin/shop/order/<path:object_id>/refund-units/" in routes


@pytest.mark.parametrize(
    "expression",
    ["[0-9]+", "[-a-zA-Z0-9_]+", "[0-9a-f]{8}-[0-9a-f]{4}", r"(?:a|bc)\d?x*", r"[^/]+", r"\w{2,}."],
)
def test_texts_match_their_expression(expression: str) -> None:
    chance = random.Random(1)
    for _ in range(50):
        text = text_matching(expression, chance)
        assert re.fullmatch(expression, text), text


# Requests


def make_targets() -> Targets:
    page = b'<form method="post" action="/basket/holds/"><input name="quantity" value="1"></form>'
    forms = list(forms_of_page(page, "/"))
    return Targets(list(addresses.walk(get_resolver())), forms, cookies=COOKIES)


def test_a_request_depends_on_the_seed_and_its_number_alone() -> None:
    one, other = make_targets(), make_targets()
    sent = [odd_request(one, 3, number).as_bytes() for number in range(200)]
    assert [odd_request(other, 3, number).as_bytes() for number in range(100, 200)] == sent[100:]
    assert [odd_request(one, 4, number).as_bytes() for number in range(200)] != sent


def test_each_request_has_its_marker() -> None:
    targets = make_targets()
    for number in range(300):
        request = odd_request(targets, 1, number)
        if request.raw is None:
            assert request.contains(f"zq{number}")


def test_markers_are_dangerous_everywhere() -> None:
    chance = random.Random(1)
    markers = b"".join(make_marker(1, chance) for _ in range(200)).decode()
    assert {"<", ">", '"', "'", "&", "\r\n"} <= {
        each for each in (*markers, "\r\n") if each in markers
    }
    assert "javascript:zq1" in markers
    assert MARK.search(markers)


# Reflections


@pytest.mark.parametrize(
    "page",
    [
        "<p><zq1>",
        '<p title=""zq1=1>',
        '<a href="javascript:zq1">',
        '<a href="JAVA\tSCRIPT:zq1">',
        '<a href="//zq1.example/">',
        '<a href="/\\zq1.example/">',
        '<form action="https://zq1.example/">',
        '<button formaction="data:text/html,zq1">',
        "<p onclick=\"f('zq1')\">",
        "<p x-data=\"{q: 'zq1'}\">",
        '<p style="color: zq1">',
        "<script>q = 'zq1'</script>",
        '<script type="application/json">{"q": "zq1"x"}</script>',
        "<style>zq1 {}</style>",
        "<p><!-- zq1 -->",
        '<meta http-equiv="refresh" content="0; url=zq1">',
        "<svg><a xlink:href='javascript:zq1'>",
    ],
)
def test_a_marker_that_is_code_is_found(page: str) -> None:
    assert list(unescaped(Answer(200, HTML, page.encode())))


@pytest.mark.parametrize(
    "page",
    [
        "<p>zq1&quot;&lt;zq1&gt;",
        '<input value="zq1&quot;&gt;&lt;zq1&gt;javascript:zq1">',
        '<a href="?q=javascript%3Azq1">',
        '<a href="/admin/?next=//zq1.example/">',
        '<a href="mailto:zq1@example.org">',
        '<script type="application/json">{"q": "\\u003Czq1\\u003E"}</script>',
        "<textarea>zq1&lt;/textarea&gt;</textarea>",
    ],
)
def test_a_marker_that_is_text_is_no_fault(page: str) -> None:
    assert list(unescaped(Answer(200, HTML, page.encode()))) == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Type", "text/plain")], b"zq1"),
        ([("Content-Type", "text/javascript"), HTML[1]], b"zq1"),
        ([HTML[1]], b"<zq1>"),
        ([("Content-Type", "application/json"), HTML[1]], b'{"a": "zq1""}'),
        ([("Content-Type", "text/csv"), HTML[1]], b"a,b\r\n1,=zq1+1\r\n"),
        ([("X-zq1", "yes")], b""),
        ([("X-Odd", "yes")], b""),
        ([("Location", "//zq1.example/")], b""),
        ([("Location", "https://example.org/")], b""),
        ([("Location", "/\\example.org/")], b""),
        ([("Location", "javascript:alert(1)")], b""),
        ([("HX-Redirect", "https://zq1.example/")], b""),
        ([("Set-Cookie", "zq1=1")], b""),
        ([("Content-Disposition", 'attachment; filename="a"zq1"')], b""),
    ],
)
def test_a_marker_in_other_answers_is_found(headers: list[tuple[str, str]], body: bytes) -> None:
    assert list(unescaped(Answer(200, headers, body)))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Type", "text/plain"), HTML[1]], b"<zq1>"),
        ([("Content-Type", "application/json"), HTML[1]], b'{"a": "<zq1>\\""}'),
        ([("Content-Type", "text/csv"), HTML[1]], b"a,b\r\n1,'=zq1+1\r\n"),
        ([("Location", "/orders/?q=%22zq1")], b""),
        ([("Location", "http://localhost/?next=//zq1.example")], b""),
        ([("Content-Disposition", 'attachment; filename="a\\"zq1"')], b""),
    ],
)
def test_a_marker_in_its_place_is_no_fault(headers: list[tuple[str, str]], body: bytes) -> None:
    assert list(unescaped(Answer(200, headers, body))) == []


# Statuses


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(500), "5xx"),
        (Answer(503), "5xx"),
        (Answer(501), "5xx"),
        (Answer(NO_ANSWER), "hang"),
        (Answer(400, count=2), "smuggled"),
    ],
)
def test_statuses_that_are_faults(answer: Answer, kind: str) -> None:
    assert [fault.kind for fault in faults_of_status(Request("GET", "/"), answer)] == [kind]


@pytest.mark.parametrize("answer", [Answer(200), Answer(0), Answer(503, [("Retry-After", "5")])])
def test_statuses_that_are_no_faults(answer: Answer) -> None:
    assert list(faults_of_status(Request("GET", "/"), answer)) == []


def test_a_web_server_may_not_know_what_bytes_mean() -> None:
    assert list(faults_of_status(Request("RAW", "", raw=b"GET / HTTP/9.9"), Answer(505))) == []


def test_slow_is_an_answer_that_stays_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PAUSE", 0)

    def ask(*seconds: float) -> Answer:
        times = iter(seconds)
        monkeypatch.setattr(WebServer, "_ask_once", lambda *args: Answer(200, seconds=next(times)))
        return WebServer("127.0.0.1", 0, os.getpid()).ask(Request("GET", "/"))

    def faults(answer: Answer) -> list[str]:
        request = Request("GET", "/")
        return [fault.kind for fault in find_faults(request, answer, [], VISITOR, Owners())]

    assert faults(ask(0.1)) == []
    assert faults(ask(5.0, 3.0, 0.9)) == []
    assert faults(ask(*[1.5] * (1 + sending.TRIES))) == ["slow"]


@contextlib.contextmanager
def web_server(answers: bytes, *, closes: bool) -> Iterator[WebServer]:
    """A web server that sends these bytes to the first client, and then closes or is silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as clients:

        def serve() -> None:
            client, _ = listener.accept()
            client.sendall(answers)
            clients.enter_context(client)
            if closes:
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = listener.getsockname()
        yield WebServer(host, port, os.getpid())
        thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.3)
    monkeypatch.setattr(sending, "SECONDS_OF_SILENCE", 0.1)


RAW = Request("RAW", "", raw=b"GET / HTTP/1.1\r\n\r\n")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("request_", [Request("GET", "/"), RAW])
def test_silence_is_a_hang(impatient: None, request_: Request) -> None:
    with web_server(b"", closes=False) as server:
        assert server.ask(request_).status == NO_ANSWER


@pytest.mark.parametrize("answers", [b"", OK, OK + OK, b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
def test_answers_to_bytes_are_counted(impatient: None, answers: bytes) -> None:
    with web_server(answers, closes=True) as server:
        assert server.ask(RAW).count == answers.count(b" 200 ")


def test_a_server_that_keeps_a_connection_whose_client_has_ended_hangs(impatient: None) -> None:
    with web_server(OK, closes=False) as server:
        assert server.ask(RAW).status == NO_ANSWER


# Changes


def post(address: str) -> Request:
    return Request("POST", address)


def make_owners() -> Owners:
    """Order 1 is Ada's, with payment 5 and charge 7; order 2 is Bob's."""
    owners = Owners(buyers={ADA.key: None, BOB.key: None})
    owners.orders = {
        1: OrderWords(ADA.key, {TOKEN, "reference-1"}, {"Ada Alfa", "AAAA-2222"}),
        2: OrderWords(BOB.key, {"b" * 32}, {"Bob Bravo"}),
    }
    owners.order_of_payment = {5: 1}
    owners.payment_of_key = {"key-5": 5}
    owners.key_of_charge = {7: "key-5"}
    owners.order_of_hold = {"hold-in-order": 1}
    owners.holds = {"hold-in-order": ADA.key, "hold-of-ada": ADA.key, "hold-of-bob": BOB.key}
    return owners


def hold(name: str, buyer: str, status: str = "HELD", **more: Any) -> dict[str, Any]:
    row = {"id": name, "buyer": buyer, "status": status, "quantity": 1, "returned": 0}
    return {**row, "product_id": 1, "expires_at": "2100-01-01T00:00:00+00:00", **more}


def stock(before: int, after: int) -> Change:
    return Change(
        "inventory_product", "UPDATE", {"id": 1, "stock": before}, {"id": 1, "stock": after}
    )


def released(name: str, buyer: str) -> list[Change]:
    row = hold(name, buyer)
    changed = Change("inventory_reservation", "UPDATE", row, {**row, "status": "RELEASED"})
    return [stock(1, 2), changed]


def reserved(buyer: str) -> list[Change]:
    return [stock(2, 1), Change("inventory_reservation", "INSERT", {}, hold("new", buyer))]


def update(table: str, column: str, **row: Any) -> list[Change]:
    return [Change(table, "UPDATE", {**row, column: 1}, {**row, column: 2})]


LAPSED = hold("hold-of-ada", ADA.key, expires_at="2020-01-01T00:00:00+00:00")
TAKEN_BACK = Change("inventory_reservation", "UPDATE", LAPSED, {**LAPSED, "status": "EXPIRED"})
NAME = update("shop_order", "name", id=1, buyer=ADA.key)
STATE = update("shop_order", "state", id=1, buyer=ADA.key)
CHARGE = update("shop_demobankcharge", "state", id=7, key="key-5", charge_id=7)
LOG = [Change("django_admin_log", "INSERT", {}, {"id": 1, "user_id": 3})]
CHECKED = [Change("inventory_stockcheck", "INSERT", {}, {"id": 1})]
JOB = Change("procrastinate_jobs", "INSERT", {}, {"id": 1, "args": {"order_id": 1}})
CREDENTIALS = f"username=fuzz-merchant&password={PASSWORD}".encode()
LOGGED_IN = [
    *update("auth_user", "last_login", id=3, username="fuzz-merchant"),
    Change("django_session", "INSERT", {}, {"session_key": "new"}),
    *update("django_session", "user", session_key="new", session_data="e30:x"),
]
TYPED = {"id": 1, "buyer": ADA.key, "token": TOKEN, "name": "Bob Bravo"}
ORDER_PAGE = f"/orders/{TOKEN}/"


@pytest.mark.parametrize(
    ("sender", "request_", "made"),
    [
        (VISITOR, post("/basket/holds/"), reserved(ADA.key)),
        (BUYER, post("/basket/holds/"), reserved(ADA.key)),
        (BUYER, Request("GET", "/basket/holds/"), reserved(BOB.key)),
        (BUYER, post("/basket/holds/hold-of-ada/"), released("hold-of-ada", ADA.key)),
        (BUYER, post("/orders/x/cancellation/"), released("hold-in-order", ADA.key)),
        (BUYER, post("/orders/x/cancellation/"), STATE),
        (BUYER, post(f"{ORDER_PAGE}contact/"), NAME),
        (VISITOR, post(f"{ORDER_PAGE}contact/"), NAME),
        (VISITOR, Request("HEAD", f"{ORDER_PAGE}contact/"), STATE),
        (BUYER, post("/demo-bank/reference-2/"), CHARGE),
        (BUYER, post("/admin/shop/order/1/ship/"), STATE),
        (STAFF["clerk"], post("/admin/shop/order/1/ship/"), STATE),
        (STAFF["auditor"], post("/admin/shop/order/1/ship/"), STATE),
        (STAFF["auditor"], post("/admin/"), LOG),
        (STAFF["auditor"], post("/admin/check-stock/"), CHECKED),
        (STAFF["merchant"], Request("GET", "/admin/shop/order/1/ship/"), STATE),
        (STAFF["merchant"], post("/admin/shop/order/1/change/"), NAME),
        (STAFF["merchant"], post("/admin/auth/user/1/change/"), update("auth_user", "email", id=3)),
        (STAFF["clerk"], post("/admin/"), LOG),
        (VISITOR, post("/admin/login/"), LOGGED_IN),
        (VISITOR, Request("POST", "/admin/", body=CREDENTIALS), LOGGED_IN),
        (
            VISITOR,
            Request("POST", "/admin/login/", body=CREDENTIALS),
            update("django_session", "user", session_key="other", session_data=".eJx:x"),
        ),
        (VISITOR, Request("POST", "/admin/login/", body=PASSWORD.encode()), LOGGED_IN),
        (STAFF["auditor"], post("/admin/password_change/"), update("auth_user", "password", id=3)),
        (BUYER, post("/orders/x/cancellation/"), [JOB]),
        (STAFF["superuser"], post("/admin/"), update("django_admin_log", "id", user_id=4)),
        (STAFF["superuser"], post("/admin/"), update("inventory_stockmovement", "units", id=1)),
        (STAFF["superuser"], post("/admin/"), update("shop_order", "token", id=1, buyer=ADA.key)),
        (STAFF["superuser"], post("/admin/"), [Change("shop_order", "DELETE", {"id": 1}, {})]),
        (VISITOR, post("/basket/holds/"), [stock(2, 1)]),
        (
            VISITOR,
            Request("GET", "/"),
            [Change("django_session", "DELETE", {"session_key": "another"}, {})],
        ),
        (VISITOR, Request("GET", "/"), released("hold-of-ada", ADA.key)),
    ],
)
def test_a_change_of_what_is_not_ones_own_is_found(
    sender: Sender, request_: Request, made: list[Change]
) -> None:
    assert Rights(sender, request_, make_owners(), set()).forbidden(made)


@pytest.mark.parametrize(
    ("sender", "request_", "made"),
    [
        (VISITOR, post("/basket/holds/"), reserved("new-key")),
        (BUYER, post("/basket/holds/"), reserved(BOB.key)),
        (BUYER, post("/basket/holds/hold-of-bob/"), released("hold-of-bob", BOB.key)),
        (VISITOR, post(f"{ORDER_PAGE}cancellation/"), [*STATE, JOB]),
        (VISITOR, Request("POST", "/admin/login/", body=CREDENTIALS), LOGGED_IN),
        (STAFF["auditor"], post("/admin/password_change/"), update("auth_user", "password", id=2)),
        (VISITOR, Request("GET", ORDER_PAGE), STATE),
        (VISITOR, post("/demo-bank/reference-1/"), CHARGE),
        (STAFF["merchant"], post("/admin/shop/order/1/ship/"), [*STATE, *LOG]),
        (STAFF["superuser"], post("/admin/"), update("auth_user", "email", id=1)),
        (VISITOR, Request("GET", "/"), [TAKEN_BACK, stock(1, 2)]),
        (
            STAFF["auditor"],
            Request("GET", "/admin/", headers={"Cookie": "sessionid=own"}),
            [Change("django_session", "DELETE", {"session_key": "own"}, {})],
        ),
    ],
)
def test_a_change_of_ones_own_is_no_fault(
    sender: Sender, request_: Request, made: list[Change]
) -> None:
    assert Rights(sender, request_, make_owners(), {"new-key"}).forbidden(made) == []


def test_a_forged_form_changes_nothing() -> None:
    request = Request("POST", "/basket/holds/", is_forged=True)
    assert Rights(BUYER, request, make_owners(), set()).forbidden(reserved(BOB.key))


# Pages


def words_read(sender: Sender, address: str, page: str) -> list[str]:
    answer = Answer(200, HTML, page.encode())
    request = Request("GET", address)
    return [fault.kind for fault in find_faults(request, answer, [], sender, make_owners())]


@pytest.mark.parametrize(
    ("sender", "address", "page"),
    [
        (VISITOR, "/orders/", "Ada Alfa"),
        (BUYER, "/orders/", "AAAA-2222"),
        (BUYER, "/basket/", "hold-of-ada"),
        (BUYER, f"/orders/{'b' * 32}/", TOKEN),
        (STAFF["auditor"], "/orders/", "Ada Alfa"),
        (STAFF["auditor"], "/admin/shop/order/", TOKEN),
        (STAFF["superuser"], "/admin/shop/order/", ADA.key),
        (STAFF["auditor"], "/demo/outbox/1/", TOKEN),
        (VISITOR, "/metrics", "shop_stock_units 1"),
        (VISITOR, "/admin/", "Welcome"),
        (BUYER, "/admin/shop/order/", "Orders"),
        (STAFF["clerk"], "/admin/shop/order/", "Orders"),
        (STAFF["merchant"], "/admin/auth/user/", "Users"),
        (STAFF["auditor"], "/admin/shop/order/1/ship/", "Ship"),
        (STAFF["clerk"], "/demo-bank/charges/1/", "Charge"),
    ],
)
def test_a_page_for_others_is_found(sender: Sender, address: str, page: str) -> None:
    assert words_read(sender, address, page) == ["read"]


@pytest.mark.parametrize(
    ("sender", "address", "page"),
    [
        (BUYER, "/orders/", "Bob Bravo"),
        (BUYER, "/basket/", "hold-of-bob"),
        (VISITOR, ORDER_PAGE, f"Ada Alfa, AAAA-2222 {TOKEN}"),
        (VISITOR, "/demo-bank/reference-1/", "AAAA-2222"),
        (STAFF["auditor"], "/admin/shop/order/", "Ada Alfa"),
        (STAFF["merchant"], "/demo/outbox/1/", TOKEN),
        (STAFF["clerk"], "/admin/", "Welcome"),
        (STAFF["merchant"], "/admin/shop/order/1/ship/", "Ship"),
        (STAFF["superuser"], "/admin/auth/user/", "Users"),
        (VISITOR, "/admin/login/", "Log in"),
    ],
)
def test_a_page_for_the_sender_is_no_fault(sender: Sender, address: str, page: str) -> None:
    assert words_read(sender, address, page) == []


def test_a_name_may_be_that_of_another_order_too() -> None:
    owners = make_owners()
    owners.learn(
        [
            Change(
                "shop_order", "UPDATE", {}, dict.fromkeys(("number", "email", "street"), "") | TYPED
            )
        ]
    )
    request = Request("GET", ORDER_PAGE)
    answer = Answer(200, HTML, b"Bob Bravo")
    assert list(find_faults(request, answer, [], VISITOR, owners)) == []


def test_a_refusal_is_no_content() -> None:
    for status in (302, 403, 404):
        assert forbidden_content(Answer(status), Request("GET", "/admin/"), VISITOR) == ""


# The database's notes


@pytest.mark.django_db(transaction=True)
def test_the_database_notes_each_changed_row_once(make_product: Any) -> None:
    product = make_product(3)
    with changes.noted():
        Product.objects.filter(pk=product.pk).update(name="Other")
        Product.objects.filter(pk=product.pk).update(name="Other")  # as before
        Product.objects.filter(pk=product.pk).update(name="Third")
        made = changes.take()
        assert changes.take() == []
    assert [each.columns for each in made] == [{"name"}, {"name"}]
    assert made[1].before["name"] == "Other"
    Product.objects.filter(pk=product.pk).update(name="No trigger is left")
