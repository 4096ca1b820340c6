"""The web server's process is killed (SIGKILL) at any statement of a batch, and at any await.

A buyer who has read “reserved” has the hold. A form that is sent once more gets that hold, or a
new one: never two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from inventory import monitor
from inventory.models import Product, Reservation
from inventory.reservations import reserve
from shop import network_limits
from shop.models import HoldAddress
from tests.command_line import ROOT, environment
from tests.conftest import MakeProduct
from tests.inventory.strategies.test_combined_races import wait_until_nobody_else_is_connected
from tests.shop.fast_lane.conftest import Browser, Request, ask_django

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MOST_STEPS = 80  # of the requests, by far

# Serves requests in a new process each time, which dies at a step. It prints each answer's status
# as soon as the server would have it sent.
SERVER = """
import asyncio, json, os, signal, sys
from shop import asgi
from shop.fast_lane import batches, pages
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

class Steps:
    dies_at = taken = 0

def step():
    if Steps.taken == Steps.dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
    Steps.taken += 1

def before_and_after(execute, *arguments):
    step()
    result = execute(*arguments)
    step()
    return result

def watched(function):
    async def steps_around(*arguments):
        step()
        result = await function(*arguments)
        step()
        return result
    return steps_around

def with_steps(self, work, *arguments):
    def work_with_steps(*arguments):
        with connection.execute_wrapper(before_and_after):
            return work(*arguments)
    return with_good_connection(self, work_with_steps, *arguments)

def commit_with_steps(wrapper):
    before_and_after(commit, wrapper)

with_good_connection = batches.Threads._with_good_connection
batches.Threads._with_good_connection = with_steps
commit = BaseDatabaseWrapper._commit
BaseDatabaseWrapper._commit = commit_with_steps
batches.Batches.join = watched(batches.Batches.join)
pages.Pages._make = watched(pages.Pages._make)

async def serve(requests):
    await asyncio.gather(*(answer(number, *each) for number, each in enumerate(requests)))

async def answer(number, scope, body):
    async def receive():
        return {"type": "http.request", "body": body}

    @watched
    async def send(message):
        if message["type"] == "http.response.start":
            os.write(1, f"{number} {message['status']}\\n".encode())

    await asgi.answer_request(scope, receive, send)

def read_request(scope, body):
    for name in ("raw_path", "query_string"):
        scope[name] = scope[name].encode()
    scope["headers"] = [(name.encode(), value.encode()) for name, value in scope["headers"]]
    return scope, body.encode()

for line in sys.stdin:
    Steps.dies_at, *requests = json.loads(line)
    if not (child := os.fork()):
        asyncio.run(serve([read_request(*each) for each in requests]))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"ended {code}\\n".encode())
"""


class MortalServer:
    """Serves requests by ``shop.asgi``, and dies at a step of its work."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={**environment(), "POSTS_PER_ADDRESS": "off"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def serve(self, requests: list[Request], dies_at: int) -> tuple[dict[int, int], bool]:
        """Return the statuses that clients have read, by request, and whether it was killed."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps([dies_at, *map(as_text, requests)]) + "\n")
        self._program.stdin.flush()
        read: dict[int, int] = {}
        for line in self._program.stdout:
            number, status = line.split()
            if number == "ended":
                assert status in ("0", "-9")
                return read, status == "-9"
            read[int(number)] = int(status)
        raise AssertionError("the server has ended")

    def close(self) -> None:
        self._program.kill()
        self._program.communicate()


def as_text(request: Request) -> tuple[dict[str, Any], str]:
    scope, body = request
    texts = {name: scope[name].decode() for name in ("raw_path", "query_string")}
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
    return {**scope, **texts, "headers": headers}, body.decode()


@pytest.fixture
def server(transactional_db: None) -> Iterator[MortalServer]:
    server = MortalServer()
    yield server
    server.close()


@pytest.mark.parametrize(
    "units",
    [
        2,
        pytest.param(9, marks=pytest.mark.thorough),
        pytest.param(0, marks=pytest.mark.thorough),
    ],
)
def test_a_process_is_killed_at_any_step(
    make_product: MakeProduct, server: MortalServer, units: int
) -> None:
    """Of three buyers, ``units`` are served."""
    product = make_product(units + 1, strategy="combined", backstop=False)
    told: set[int] = set()
    steps_with_claims_left = 0
    for dies_at in range(MOST_STEPS):
        Reservation.objects.all().delete()
        HoldAddress.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=units + 1)
        reserve(product, 1, buyer="other")
        browsers = [Browser() for _ in range(3)]
        forms = [browser.form(product) for browser in browsers]
        read, was_killed = server.serve(forms, dies_at)
        wait_until_nobody_else_is_connected()
        assert_told_the_truth(product, browsers, read)
        steps_with_claims_left += HoldAddress.objects.count() > held_units(browsers)
        again = [ask_django(form).status_code for form in forms]
        assert sorted(again) == sorted([302] * min(units, 3) + [409] * max(0, 3 - units))
        assert all(again[number] == 302 for number, status in read.items() if status == 302)
        assert monitor.state_of(product.pk).keeps_law
        assert held_units(browsers) == Reservation.objects.count() - 1 == again.count(302)
        told.update(read.values())
        if not was_killed:
            break
    else:
        raise AssertionError("there are too many steps")
    assert dies_at > 15
    assert told == {302 if units else 409, 409 if units < 3 else 302}
    assert steps_with_claims_left or units == 0


def held_units(browsers: list[Browser]) -> int:
    return Reservation.objects.held().filter(buyer__in=[b.buyer for b in browsers]).units()


def assert_told_the_truth(product: Product, browsers: list[Browser], read: dict[int, int]) -> None:
    assert monitor.state_of(product.pk).keeps_law
    for number, status in read.items():
        holds = Reservation.objects.held().filter(buyer=browsers[number].buyer)
        assert status in (302, 409)
        assert holds.count() == (1 if status == 302 else 0)


def test_a_claim_that_a_killed_process_has_left_ends_by_itself(
    make_product: MakeProduct, server: MortalServer, settings: Any
) -> None:
    settings.MOST_UNITS_PER_ADDRESS = 60
    product = make_product(100, strategy="combined", backstop=False)
    buyers = [Browser() for _ in range(3)]
    for dies_at in range(MOST_STEPS):
        server.serve([buyer.form(product, 20) for buyer in buyers], dies_at)
        wait_until_nobody_else_is_connected()
        if HoldAddress.objects.exists():
            break
    assert not Reservation.objects.exists()
    assert HoldAddress.objects.count() == 3
    form = Browser().form(product, 5)
    assert ask_django(form).status_code == 409  # the address seems to have 60 already
    claims = HoldAddress.objects.all()
    claims.update(claimed_at=F("claimed_at") - network_limits.CLAIM_LASTS - timedelta(seconds=1))
    assert ask_django(form).status_code == 302
    network_limits.delete_ended_addresses()
    assert HoldAddress.objects.get().quantity == 5
