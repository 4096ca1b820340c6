"""A real worker whose mail server goes away: all e-mails arrive within a minute of its return."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

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
        order = place((product, 1), buyer=f"buyer{number}")
        at_bank(order, APPROVE)
        orders.settle(order.pk)
    delete_jobs("send_demo_bank_event")
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
