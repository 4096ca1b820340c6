"""No log line has personal data, keys, tokens or cookies; and it still says what went wrong."""

from __future__ import annotations

import json
import logging
import secrets
import string

import pytest
from django.conf import LazySettings
from django.db import DataError, IntegrityError, connection, transaction
from django.utils.crypto import get_random_string

from shop import logs
from shop.logs.context import private_texts
from shop.logs.formats import FORMATTERS
from shop.logs.scrubbing import scrub, scrub_target
from shop.models import Order
from shop.orders.lifecycle import lock_order
from tests.conftest import MakeProduct
from tests.shop.logs.conftest import Written
from tests.shop.orders.steps import place

log = logging.getLogger("shop.tests")

HIDDEN = "Quillfeather"
TEXTS = [
    # E-mail addresses
    "to zed@Quillfeather.example",
    "to 'zed.Quillfeather+x@localhost'",
    "to Zed Quillfeather <zed@example.org>",
    'to "Quillfeather, Zed" <zed@example.org>',
    "{'zed@Quillfeather.example': (550, b'unknown')}",
    "/products/zed%40Quillfeather.example/",
    "GET /Quillfeather@example.org",
    # A database's further lines
    "duplicate key\nDETAIL:  Key (name)=(Quillfeather) already exists.",
    "not null\nDETAIL:  Failing row contains (1,\nQuillfeather,\n\nStreet).\nHINT:  None.",
    "duplicate key DETAIL: Key (name)=(Quillfeather) already exists.",
    repr(Exception("duplicate key\nDETAIL:  Key (name)=(Quillfeather).")),
    "error\nLINE 1: SELECT 'Quillfeather'\n               ^",
    'error\nCONTEXT:  SQL statement "INSERT Quillfeather"',
    'invalid input syntax for type integer: "Quillfeather"',
    'invalid input value for enum x: "Zed "Quillfeather""',
    'value "Quillfeather" is out of range for type integer',
    "syntax error at or near \"'Zed Quillfeather'\"",
    "ungültige Eingabesyntax für Typ integer: »Quillfeather«",
    # Errors that repeat a value
    "Field 'id' expected a number but got 'Zed Quillfeather'.",
    "invalid literal for int() with base 10: 'Quillfeather'",
    "could not convert string to float: 'Quillfeather'",
    "time data 'Quillfeather' does not match format '%Y'",
    "Invalid isoformat string: 'Quillfeather'",
    "['“Quillfeather” is not a valid UUID.']",
    # Addresses
    "postgres://shop:Quillfeather@db/shop",
    "postgres://shop:Quill@feather/Quillfeather@db/shop",
    "postgres://shop:Quillfeather,9@db/shop",
    "redis://:Quillfeather@cache:6379/0",
    "https://Quillfeather@errors.example.org/1",
    "http://localhost/admin/?q=Quillfeather&o=1",
    "/admin/shop/order/?o=1&q=Zed+Quillfeather",
    "/orders/Quillfeather/payment/",
    "/orders//Quillfeather",
    "/demo-bank/Quillfeather/dispute/",
    "/demo/outbox/Quillfeather/html/",
    # Names before values
    "password=Quillfeather",
    "host=db password='Zed Quillfeather' user=shop",
    "{'password1': 'Zed Quillfeather'}",
    '{"csrfmiddlewaretoken": "Quillfeather"}',
    "csrftoken=Quillfeather; sessionid=Quillfeather; __Host-buyer=Quillfeather:1",
    "Cookie: a=b; c=Quillfeather",
    "'HTTP_COOKIE': 'a=b; c=Quillfeather'",
    "Set-Cookie: c=Quillfeather; Path=/",
    "Authorization: Bearer Quillfeather",
    "Authorization: Basic Quillfeather==",
    "STRIPE_SECRET_KEY=Quillfeather",
    "METRICS_TOKEN: Quillfeather",
    'username: "Zed Quillfeather", path_info: "/admin/"',
    "street='1 Quillfeather Street'",
    # Stripe's keys
    "sk_live_Quillfeather",
    "rk_test_Quillfeather",
    "whsec_Quillfeather",
    "No such key: sk_test_********Quillfeather",
    "https://checkout.stripe.com/c/pay/cs_test_Quillfeather",
]


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_hidden(text: str) -> None:
    assert HIDDEN not in scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "Order ABCD-2345 is paid, but can't be delivered: Only 2 of Canvas rucksack are left.",
        "The fast lane leaves /products/a-very-long-name-of-a-product-with-many-words/ to Django.",
        "shop.0014_leave_nul_to_the_middleware, shop/middleware/request_ids.py, line 33",
        "tests.test_charges_are_paid_orders_and_refunds_are_owed_whoever_was_killed",
        "django.core.exceptions.ReservationEndedWhileTheBuyerWaitedException",
        "canceling statement due to lock timeout",
        'duplicate key value violates unique constraint "shop_order_token_key"',
        "KeyError: 'order_id'",
        "Message evt_1PgafmB7WZ01zgkWYLgBr8Lp is of Stripe's other mode, live or test.",
        "/basket/holds/, /orders/, /admin/shop/order/7/change/, /demo-bank/charges/4/",
        "127.0.0.1 and 2001:db8::1",
        "SKU-1: received 1, available 3, held 0, sold 0",
    ],
)
def test_it_is_left(text: str) -> None:
    assert scrub(text) == text


def test_what_follows_a_hidden_part_is_left() -> None:
    text = "x\nDETAIL:  Key (a)=(b).\n\nThe above exception was the direct cause of the following"
    assert scrub(text).endswith(
        ": […]\n\nThe above exception was the direct cause of the following"
    )
    assert scrub("x\nDETAIL:  Key (a)=(b).\nHINT:  Look.").endswith("\nHINT:  Look.")
    assert scrub("a@b.example, order 7") == "[e-mail], order 7"


def test_random_keys_of_each_kind_are_hidden_wherever_they_stand() -> None:
    for _ in range(2000):
        for token in (
            get_random_string(32),  # an order's token, a buyer's key
            get_random_string(64),  # of a form
            get_random_string(32, string.ascii_lowercase + string.digits),  # a session's key
            secrets.token_urlsafe(32),
            secrets.token_hex(16),
        ):
            assert token not in scrub(f"Not Found: /order{token}/x")
            assert token not in scrub(f"there is no {token}.")


def test_keys_of_payments_are_hidden() -> None:
    assert scrub("3fa85f64-5717-4562-b3fc-2c963f66afa6!") == "[key]!"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("SECRET_KEY", "a'b\\c d\"e=fgh", "a'b\\c d\"e=fgh"),
        ("METRICS_TOKEN", "short-word-of-16", "short-word-of-16"),
        ("STRIPE_WEBHOOK_SECRET", "odd secret!", "odd secret!"),
        ("EMAIL_HOST_PASSWORD", "pass/word", "pass/word"),
        ("ALERT_WEBHOOK_URL", "https://hooks.example.org/services/T0/B0/x1", "services/T0/B0/x1"),
        ("DATABASE_URL", "postgres://u:p%24ssw0rd1@db/x", "p$ssw0rd1"),
        ("DATABASE_URL", "postgres://u:p%24ssw0rd1@db/x", "p%24ssw0rd1"),
        ("SENTRY_DSN", "https://keykeykey@errors.example.org/1", "keykeykey"),
    ],
)
def test_the_shops_own_secrets_are_hidden(
    settings: LazySettings, name: str, value: str, found: str
) -> None:
    for form in (found, repr(found)[1:-1], json.dumps(found)[1:-1]):
        assert form in scrub(f"It is {form} here")
    setattr(settings, name, value)
    for form in (found, repr(found)[1:-1], json.dumps(found)[1:-1]):
        assert form not in scrub(f"It is {form} here")


def test_the_password_of_the_database_is_hidden(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "open sesame")
    assert scrub("said open sesame") == "said [secret]"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/", "/"),
        ("/products/canvas-rucksack/", "/products/canvas-rucksack/"),
        ("/static/shop/shop.3f2a1b4c5d6e.css", "/static/shop/shop.3f2a1b4c5d6e.css"),
        ("/orders/aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB/", "/orders/[…]/"),
        ("/ORDERS/aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB", "/ORDERS/[token]"),
        ("/orders%2FaB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB/", "/[…]/"),
        ("/no/Zed%20Quillfeather/x", "/no/[…]/x"),
        ("/\xff/", "/[…]/"),
        ("/orders/short/", "/orders/[…]/"),
        ("/demo/outbox/12/", "/demo/outbox/[…]/"),
        ("/admin/?q=Zed+Quillfeather&e", "/admin/?q=[…]&[…]"),
        ("/?", "/?"),
        ("/a/zed@example.org/", "/a/[e-mail]/"),
        ("/sk_live_abcdefgh", "/sk_[…]"),
        ("http://me:pass@localhost/", "http://[…]@localhost/"),
    ],
)
def test_the_target_of_a_request_has_no_secret_part_and_no_values(target: str, shown: str) -> None:
    assert scrub_target(target) == shown


def test_long_texts_take_a_time_that_grows_with_their_length_alone() -> None:
    """No test measures time: were it by the square, these would take minutes."""
    for piece in ("a", "A", "A ", "“", "://", "a.", "got '", "%", '"', "x@", "?a=", " DETAIL:"):
        scrub(piece * 200_000)


# In lines


@pytest.mark.django_db
def test_a_traceback_says_what_the_database_refused_and_no_row(
    make_product: MakeProduct, written: Written
) -> None:
    order = place((make_product(), 1))
    order.name, order.street = "Zed Quillfeather", "1 Quillfeather Street"
    try:
        with transaction.atomic():
            order.pk = None
            order.save()
    except IntegrityError:
        log.exception("It can't be saved.")
    text = written()
    assert "duplicate key value violates unique constraint" in text
    assert "Traceback (most recent call last)" in text
    for secret in ("Quillfeather", order.token, order.email):
        assert secret not in text


@pytest.mark.django_db
def test_a_statement_with_values_is_not_shown(written: Written) -> None:
    value = "Quill" + "feather"
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT %s::integer", [value])
    except DataError as error:
        log.warning("It failed: %s", error)
        log.exception("It failed.")
    assert "invalid input syntax for type integer" in written()
    assert "Quillfeather" not in written()


@pytest.mark.django_db
def test_what_an_order_says_of_its_buyer_is_hidden_once_it_was_read(
    make_product: MakeProduct, written: Written
) -> None:
    placed = place((make_product(), 1))
    placed.name, placed.street = "Zed Quillfeather", "1 Plum Lane\nBack door"
    placed.save()
    logs.begin("req-1")
    order = Order.objects.get()
    log.error("%s, Back door, %s: no parcel goes there.", order.name, order.town)
    assert "[private], [private], [private]: no parcel goes there" in written()


@pytest.mark.django_db
def test_an_order_that_is_locked_is_named(make_product: MakeProduct, written: Written) -> None:
    order = place((make_product(), 1))
    logs.begin("req-1")
    with transaction.atomic():
        lock_order(order.pk)
    log.error("It failed.")
    assert order.number in written()


def test_the_last_texts_are_hidden_however_many_there_are(written: Written) -> None:
    logs.hide(f"buyer-{number}" for number in range(10_000))
    log.error("buyer-9999")
    assert "buyer-9999" not in written()
    assert len(private_texts()) == 400


def test_what_a_visitor_has_sent_is_hidden(written: Written) -> None:
    logs.begin("1", sent=lambda: ["Zed Quillfeather", "DE", "  1 Plum Lane "])
    log.error("DE: %s", "Zed Quillfeather in 1 Plum Lane")
    assert "DE: [private] in [private]" in written()


@pytest.mark.parametrize("form", FORMATTERS)
def test_arguments_that_do_not_fit_are_not_shown(form: str) -> None:
    odd = logging.makeLogRecord({"msg": "%d is wrong", "args": ("Zed Quillfeather",)})
    line = FORMATTERS[form]().format(odd)
    assert "%d is wrong" in line
    assert "Quillfeather" not in line


def test_a_line_break_of_a_visitor_makes_no_line_that_looks_like_ours(written: Written) -> None:
    log.warning("Not Found: %s", "/x\n[2026-01-01 00:00:00 +0000] [1] [INFO] shop: all is well")
    assert "\n[2026-01-01" not in written()
    log.warning("Not Found: %s", "/x\x1b[2J")
    assert "\x1b" not in written()
