"""A shop is run in all its parts; then nothing private may stand in what its programs wrote.

Buyers pay, are declined and cancel, at the demo bank and at the stand-in for Stripe; staff log in,
search and refund; requests and jobs fail. One shop logs as JSON, the other as text, both with
LOG_LEVEL=DEBUG. Sentry is a server of the test's own.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from django.contrib.auth.models import User
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from shop import jobs, orders
from shop.load_tests.serving import ServedShop
from shop.models import Order, Payment, Refund
from tests.conftest import MakeProduct
from tests.http.listeners import MailServer, Sentry
from tests.http.shopper import Page, Shopper
from tests.shop.programs import ROOT, wait_until
from tests.stripe_standin.remote import StandinProcess

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.longest,
]

STAFF = "zelda.plumtree"
PASSWORD, WRONG_PASSWORD = "right-Horse-47-battery", "wrong-Horse-48-stapler"
SETTINGS = {
    "SECRET_KEY": "a-Key'of the shop\"with $igns-and-50-letters-0123456789",
    "METRICS_TOKEN": "metrics-are-for-me",
    "DATABASE_PASSWORD": "db-Password-49",
}
DSN_KEY = "0123456789abcdef0123456789abcdef"
FORBIDDEN_NAME = "Ignatz Quillfeather"
REFUSED = "refused.quillfeather@example.org"
FIELDS = {"name": "Zed Quillfeather", "address": "14 Plumtree Lane", "town": "Featherham"}


@pytest.mark.breaks_law  # it isn't: but looking at it would be one more process that logs
def test_nothing_private_is_written(make_product: MakeProduct, tmp_path: Path) -> None:
    slug = make_product(50, strategy="combined").slug
    User.objects.create_superuser(STAFF, password=PASSWORD)
    with running(tmp_path) as (at_demo_bank, at_stripe, sentry, mail):
        shoppers = [
            *visit_demo_shop(at_demo_bank, slug),
            *visit_stripe_shop(at_stripe, slug),
            look_for_customers(at_demo_bank),
        ]
        send_odd_requests(at_stripe)
        break_a_checkout(at_demo_bank, slug)
        jobs.queue("send_order_paid", order_id=0)
        wait_until(lambda: is_worker_done(mail), "the worker has done its jobs")
    secrets = private_texts(shoppers)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    texts["sentry"] = "\n".join(sentry.sent)
    assert_that_lines_tell(texts)
    found = {
        (name, text, line)
        for name, written in texts.items()
        for text in secrets
        for line in lines_with(text, written)
    }
    assert found == set()


@contextmanager
def running(logs: Path) -> Iterator[tuple[ServedShop, ServedShop, Sentry, MailServer]]:
    """Two shops on the test's database, a worker, and those that they talk to."""
    with ExitStack() as stack:
        sentry, mail = stack.enter_context(Sentry()), stack.enter_context(MailServer())
        standin = stack.enter_context(StandinProcess())
        postgres = ROOT / ".postgres" / "log"
        begin = postgres.stat().st_size if postgres.exists() else 0
        stack.callback(lambda: copy_end(postgres, begin, logs / "postgres"))
        shops = []
        for form, provider in (("json", "demo"), ("text", "stripe")):
            variables = {
                **SETTINGS,
                "LOG_LEVEL": "DEBUG",
                "LOG_FORMAT": form,
                "PAYMENT_PROVIDER": provider,
                "FORMER_PAYMENT_PROVIDERS": "demo",
                "STRIPE_SECRET_KEY": standin.secret_key,
                "STRIPE_WEBHOOK_SECRET": standin.webhook_secret,
                "STRIPE_API_BASE": standin.url,
                "EMAIL_URL": f"smtp://127.0.0.1:{mail.port}",
                "SENTRY_DSN": sentry.dsn(DSN_KEY),
                "WEB_CONCURRENCY": "1",
                "MANAGERS": "boss.quillfeather@example.org",
            }
            log = stack.enter_context((logs / f"web-{form}").open("wb"))
            shop = ServedShop(variables, log=log, access_log=log)
            shop._environment["DATABASE_URL"] += f"&password={SETTINGS['DATABASE_PASSWORD']}"
            stack.callback(shop.stop)
            shop.start_web()
            shops.append(shop)
        standin.webhooks.set_url(f"{shops[1].url}/payments/stripe/events/")
        standin.webhooks.start_courier(0.2)
        for form, shop in zip(("json", "text"), shops, strict=True):
            shop._log = stack.enter_context((logs / f"worker-{form}").open("wb"))
            shop.start_worker()
        yield shops[0], shops[1], sentry, mail


def copy_end(log: Path, begin: int, to: Path) -> None:
    with log.open("rb") as file:
        file.seek(begin)
        to.write_bytes(file.read())


# The deeds


def visit_demo_shop(shop: ServedShop, slug: str) -> list[Shopper]:
    """One pays, one is declined, one pays and cancels."""
    buyers = [Shopper(shop.url, number) for number in range(3)]
    for buyer, choice in zip(buyers, ("approve", "decline", "approve"), strict=True):
        order = buyer.pay(check_out(buyer, slug, f"zed{buyer.number}@quillfeather.example"), choice)
    buyers[2].send(buyers[2].get(f"{order.url}cancellation/").form("/cancellation/"))
    return buyers


def visit_stripe_shop(shop: ServedShop, slug: str) -> list[Shopper]:
    """One pays and gets a refund, one is declined, one gets no e-mail."""
    buyers = [Shopper(shop.url, 10 + number) for number in range(3)]
    for buyer, choice in zip(buyers, ("pay", "decline", "pay"), strict=True):
        email = REFUSED if buyer.number == 12 else f"zed{buyer.number}@quillfeather.example"
        page = check_out(buyer, slug, email)
        buyer.send(page.form("/c/pay/"), choice=choice)
    paid = Order.objects.filter(state=Order.State.PAID, email="zed10@quillfeather.example")
    wait_until(paid.exists, "the order is paid")
    order = paid.get()
    orders.refund(order.pk, restock=True, seen=order.total - order.total)
    return buyers


def check_out(buyer: Shopper, slug: str, email: str, **fields: str) -> Page:
    """Reserve one, and fill in the checkout; return the next page."""
    buyer.reserve(slug)
    form = buyer.get("/checkout/").form("/checkout/")
    place = {"postcode": "10115", "country": "DE"}
    return buyer.send(form, **{**FIELDS, **place, "email": email, **fields})


def look_for_customers(shop: ServedShop) -> Shopper:
    """Staff log in, with a wrong password first, and search for a customer."""
    staff = Shopper(shop.url, 20)
    for password in (WRONG_PASSWORD, PASSWORD):
        form = staff.get("/admin/login/?next=/admin/").form("/admin/login/")
        page = staff.send(form, username=STAFF, password=password)
    assert "Log out" in page.html
    for words in (FIELDS["name"], "zed10@quillfeather.example", FIELDS["address"]):
        for path in ("/admin/shop/order/?q=", "/admin/search/?q=", f"/no/{quote(words)}/?"):
            staff.get(path + quote_plus(words))
    return staff


def send_odd_requests(shop: ServedShop) -> None:
    """A message with a wrong signature, and orders' tokens at addresses that don't exist."""
    signature = {"Stripe-Signature": "t=1,v1=0123456789abcdef0123456789abcdef0123456789abcdef"}
    request = urllib.request.Request(f"{shop.url}/payments/stripe/events/", b"{}", signature)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    refused.value.close()
    assert refused.value.code == 400
    token = Order.objects.latest("pk").token
    visitor = Shopper(shop.url, 30)
    for path in (
        f"/order/{token}/",
        f"/orders/{token}x/",
        f"/x?next=/orders/{token}/",
        f"/{token}",
    ):
        assert visitor.get(path).status == 404


def break_a_checkout(shop: ServedShop, slug: str) -> None:
    """The database refuses an order, and shows all of it in its error."""
    limit = "ALTER TABLE shop_order ADD CONSTRAINT no_ignatz CHECK (name <> %s) NOT VALID"
    with connection.cursor() as cursor:
        cursor.execute(limit, [FORBIDDEN_NAME])
    try:
        page = check_out(
            Shopper(shop.url, 40), slug, "ignatz@quillfeather.example", name=FORBIDDEN_NAME
        )
        assert page.status == 500
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE shop_order DROP CONSTRAINT no_ignatz")


def is_worker_done(mail: MailServer) -> bool:
    refund_is_done = Refund.objects.filter(state=Refund.State.DONE).count() == 2
    tried = ProcrastinateJob.objects.filter(task_name="shop.tasks.send_order_paid", attempts__gt=0)
    asked = {each.args["order_id"] for each in tried}
    refused = Order.objects.get(email=REFUSED)
    return refund_is_done and {0, refused.pk} <= asked and len(mail.sent) >= 5


# The search


def private_texts(shoppers: list[Shopper]) -> set[str]:
    """All that nobody may read in a log."""
    texts = {*SETTINGS.values(), STAFF, PASSWORD, WRONG_PASSWORD, *FIELDS.values(), FORBIDDEN_NAME}
    texts |= {StandinProcess.secret_key, StandinProcess.webhook_secret}
    texts |= {"uillfeather", "quillfeather.example", "Plumtree", "@example.org"}
    for order in Order.objects.all():
        texts |= {order.token, order.buyer, order.email, order.name, order.street, order.town}
    for payment in Payment.objects.all():
        texts |= {str(payment.key), payment.reference}
    for shopper in shoppers:
        texts |= {cookie.value or "" for cookie in shopper.cookies if len(cookie.value or "") > 8}
    texts -= {""}
    return {form for text in texts for form in (text, quote(text), quote_plus(text))}


def lines_with(text: str, written: str) -> list[str]:
    small = text.lower()
    return [line[:500] for line in written.splitlines() if small in line.lower()]


def assert_that_lines_tell(texts: dict[str, str]) -> None:
    """Else nothing private would be found in lines that aren't there."""
    records = [json.loads(line) for line in texts["web-json"].splitlines()]
    targets = [each["target"] for each in records if each["logger"] == "gunicorn.access"]
    assert {"/orders/[…]/", "/demo-bank/[…]/", "/admin/search/?q=[…]"} <= set(targets)
    failed = [each for each in records if "traceback" in each]
    assert any("violates check constraint" in each["traceback"] for each in failed)
    assert any("DETAIL: […]" in each["traceback"] for each in failed)
    ids = {each["request_id"] for each in failed}
    assert ids <= {each["request_id"] for each in records if "target" in each}
    workers = texts["worker-json"] + texts["worker-text"]
    assert "SMTPRecipientsRefused" in workers
    assert f"order={Order.objects.get(email=REFUSED).number}" in workers or (
        f'"order": "{Order.objects.get(email=REFUSED).number}"' in workers
    )
    assert "There is no" in workers or "does not exist" in workers
    assert "A message of stripe was refused" in texts["web-text"]
    assert "Not Found: /order/[token]/" in texts["web-text"]
    events = [each for each in map(read_event, texts["sentry"].split("\n")) if each]
    kinds = {each["exception"]["values"][-1]["type"] for each in events if "exception" in each}
    assert {"IntegrityError", "Order.DoesNotExist"} <= kinds
    assert ids & {each["tags"].get("request_id") for each in events}
    assert not any("request" in each or "user" in each for each in events)
    assert '"vars"' not in texts["sentry"]


def read_event(line: str) -> dict[str, Any] | None:
    """The event, if this line of an envelope is one."""
    found = json.loads(line) if line.startswith("{") else {}
    return found if "level" in found else None
