"""Stock alerts are sent once each, by e-mail and webhook, and never for exhibits."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.error import HTTPError

import pytest
from django.conf import LazySettings
from django.core import mail
from django.db import connection
from django.test import Client
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory.models import Product, StockAlert
from inventory.reservations import release, reserve
from shop import shop_alerts, tasks
from shop.notifications import alert_delivery
from tests.concurrency import at_once
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.breaks_law]


@pytest.fixture(autouse=True)
def managers(settings: LazySettings, transactional_db: None) -> Iterator[None]:
    settings.MANAGERS = [("", "boss@example.org")]
    yield
    with connection.cursor() as cursor:  # Django doesn't know that table
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def webhook(settings: LazySettings) -> Iterator[Any]:
    """A server that keeps what is posted to it, and answers with ``webhook.answer``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.posted.append(json.loads(body))  # type: ignore[attr-defined]
            self.send_response(server.answer)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.posted, server.answer = [], 204  # type: ignore[attr-defined]
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def below_zero(product: Product, stock: int = -2) -> Product:
    Product.objects.filter(pk=product.pk).update(stock=stock)
    return product


def do_jobs() -> list[str]:
    done = []
    for job in ProcrastinateJob.objects.filter(status="todo").order_by("id"):
        app.tasks[job.task_name](**job.args)
        done.append(job.task_name.removeprefix("shop.tasks."))
    return done


def test_the_check_raises_alerts_and_sends_them(make_product: MakeProduct, webhook: Any) -> None:
    below_zero(make_product(1, sku="LAMP", name="Lamp", backstop=False))
    tasks.check_law(0)
    assert do_jobs() == ["mail_alerts", "post_alert", "post_alert"]
    [letter] = mail.outbox
    assert letter.to == ["boss@example.org"]
    assert letter.subject == "[Stockwell] 2 stock alerts"
    assert "Lamp (LAMP): stock below zero" in letter.body
    assert "available -2" in letter.body
    assert [(alert["kind"], alert["drift"]) for alert in webhook.posted] == [
        ("NEGATIVE_STOCK", -3),
        ("DRIFT", -3),
    ]


def test_each_alert_in_the_e_mail_has_the_address_of_its_page(
    make_product: MakeProduct, settings: LazySettings, admin_client: Client
) -> None:
    settings.BASE_URL = "https://shop.example.org"
    below_zero(make_product(1, sku="LAMP", name="Lamp", backstop=False))
    shop_alerts.raise_alert(shop_alerts.NO_WORKER)
    tasks.check_law(0)
    do_jobs()
    [letter] = mail.outbox
    links = re.findall(r"^https://shop\.example\.org(/\S+)$", str(letter.body), re.MULTILINE)
    pages = [admin_client.get(link).content.decode() for link in links]
    for page, words in zip(pages, ["stock below zero", "drift", "no worker runs"], strict=True):
        assert words in page


def test_without_an_address_of_the_shop_the_e_mail_has_no_links(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.BASE_URL = ""
    below_zero(make_product(1, backstop=False))
    tasks.check_law(0)
    do_jobs()
    assert "/admin/" not in str(mail.outbox[0].body)


def test_two_workers_send_an_alert_once(make_product: MakeProduct) -> None:
    below_zero(make_product(0, backstop=False))
    assert sorted(at_once([alert_delivery.queue_new_alerts] * 4)) == [0, 0, 0, 1]
    assert ProcrastinateJob.objects.filter(task_name="shop.tasks.mail_alerts").count() == 1


def test_exhibits_are_never_sent(make_product: MakeProduct, webhook: Any) -> None:
    below_zero(make_product(0, is_exhibit=True, backstop=False))
    tasks.check_law(0)
    assert StockAlert.objects.count() == 2
    assert do_jobs() == []


def test_a_basket_that_comes_and_goes_is_mailed_once(make_product: MakeProduct) -> None:
    product = make_product(6, low_stock_threshold=3)
    for _ in range(3):
        hold = reserve(product, 5, buyer="A")
        tasks.check_law(0)
        release(hold.pk)
        tasks.check_law(0)
    assert do_jobs() == ["mail_alerts"]
    assert len(mail.outbox) == 1


def test_a_webhook_that_fails_is_tried_again(make_product: MakeProduct, webhook: Any) -> None:
    below_zero(make_product(0, backstop=False))
    webhook.answer = 503
    with pytest.raises(HTTPError):
        tasks.post_alert(StockAlert.objects.get().pk)
    assert tasks.post_alert.retry_strategy is tasks.patiently
