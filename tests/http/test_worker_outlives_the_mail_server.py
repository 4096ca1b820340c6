"""A real worker whose mail server goes away, or that stands still: no e-mail is late or lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory.models import Product
from shop import orders
from tests.command_line import start
from tests.conftest import MakeProduct
from tests.shop.orders.steps import APPROVE, at_bank, delete_jobs, place
from tests.shop.programs import wait_until
from tests.tools.fault_drill.mail import MailServer, Manner

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.longest,
]

ORDERS = 5


def pay(product: Product, buyer: str) -> None:
    """Buy one, so that an e-mail is queued."""
    order = place((product, 1), buyer=buyer)
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    delete_jobs("send_demo_bank_event")


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


def test_all_e_mails_arrive_soon_after_the_mail_server_is_back(
    server: MailServer, make_product: MakeProduct
) -> None:
    server.behave(Manner.REFUSES)
    product = make_product(ORDERS)
    for number in range(ORDERS):
        pay(product, f"buyer{number}")
    failed = ProcrastinateJob.objects.filter(
        task_name="shop.tasks.send_order_paid", status="todo", attempts__gt=0
    )
    worker = start("procrastinate", "worker", more={"EMAIL_URL": server.url})
    try:
        wait_until(lambda: failed.count() == ORDERS, "each was tried")
        server.behave(Manner.TAKES)
        wait_until(lambda: len(server.mails) >= ORDERS, "all have arrived")
    finally:
        worker.kill()
        worker.communicate()
    assert len({each.message_id for each in server.mails}) == len(server.mails) == ORDERS


def test_a_worker_that_stood_still_leaves_the_job_to_another_and_goes_on(
    server: MailServer, make_product: MakeProduct
) -> None:
    product = make_product(2)
    server.behave(Manner.SILENT)
    pay(product, "first")
    sending = ProcrastinateJob.objects.filter(task_name="shop.tasks.send_order_paid")
    frozen = start("procrastinate", "worker", more={"EMAIL_URL": server.url})
    try:
        wait_until(server.is_asked.is_set, "it waits for the mail server")
        frozen.send_signal(signal.SIGSTOP)
        server.behave(Manner.TAKES)
        other = start("procrastinate", "worker", more={"EMAIL_URL": server.url})
        try:
            wait_until(lambda: server.mails, "the other one has sent the e-mail")
            wait_until(sending.filter(status="succeeded").exists, "it has done the job")
        finally:
            other.kill()
            other.communicate()
        frozen.send_signal(signal.SIGCONT)
        pay(product, "second")
        wait_until(lambda: len(server.mails) >= 2, "the first one has sent the next e-mail")
        assert frozen.poll() is None
    finally:
        frozen.kill()
        frozen.communicate()
    assert [each.to for each in server.mails] == ["first@example.org", "second@example.org"]
