"""Kill web servers while thousands of forms to reserve are sent to them, and count.

    python -m tests.tools.kill_lane [--forms N] [--kills N] [--seed N]

On a scratch database, three machines serve the same products: two with the fast lane, with two
workers and with one, and one without the lane. Each buyer sends a form, and after a broken
connection or a 503 sends the same form again, perhaps to another machine. At random moments a
worker, or a whole machine, is killed (SIGKILL), or the database's connections are ended. At every
moment received = available + held + sold. In the end each buyer who was told “reserved” has one
hold, and no other buyer has any.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psutil

from shop.load_tests.serving import ServedShop
from tests.tools.drills import (
    Crowd,
    Disagreement,
    ErrorsFirstParser,
    in_words,
    make_product,
    run_on_scratch_database,
    whole_number,
)

BUYERS_AT_ONCE = 24
PRODUCTS = 3
LONGEST_PAUSE = 1.0  # seconds between two kills
SECONDS_TO_TRY = 90.0  # for a buyer, until there is an answer
MACHINES = (
    {"WEB_CONCURRENCY": "2"},
    {"WEB_CONCURRENCY": "1"},
    {"WEB_CONCURRENCY": "1", "FAST_LANE": "off"},
)
WAYS_TO_DIE = ("a worker", "a worker", "a machine", "all connections")


@dataclass
class Figures:
    """Everything that was counted."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    """Of answers that were the last word for a buyer."""
    tried_again: int = 0
    """Broken connections and answers 503, after which a buyer sent the same form again."""
    held: int = 0
    looks: int = 0
    """How often the law was looked at meanwhile."""
    seconds: float = 0.0

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        return (
            f"seed {self.seed}, {self.seconds:.0f} s\n"
            f"killed: {in_words(self.kills)}\n"
            f"answers: {statuses}; sent again {self.tried_again} ×\n"
            f"holds {self.held}; the law was looked at {self.looks} ×"
        )


def main() -> None:
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.kill_lane", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--forms", type=whole_number, default=3000)
    parser.add_argument("--kills", type=whole_number, default=40)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    run_on_scratch_database(lambda: drill(options.forms, options.kills, options.seed), options.seed)


def drill(forms: int, kills: int, seed: int) -> Figures:
    """Let buyers send so many forms while processes are killed; return figures.

    Raises Disagreement.
    """
    began = time.monotonic()
    figures, chance = Figures(seed), random.Random(seed)
    with machines() as served:
        products = make_products(forms // 2 // PRODUCTS)
        crowd = Senders(served, products, forms)
        for kill in range(kills):
            crowd.let_in(forms * (kill + 1) // kills - forms * kill // kills)
            time.sleep(chance.uniform(0, LONGEST_PAUSE))
            served.kill(chance, figures.kills)
            look_at_the_law(figures)
        crowd.let_in_rest()
        while not crowd.is_done():
            look_at_the_law(figures)
            time.sleep(0.05)
        crowd.wait()
        figures.statuses, figures.tried_again = crowd.statuses, crowd.tried_again
        check(crowd, figures)
    figures.seconds = time.monotonic() - began
    return figures


# The machines


class Machines:
    """Web servers on one database."""

    def __init__(self, shops: list[ServedShop]) -> None:
        self.shops = shops
        self._web = [shop.start_web() for shop in shops]

    def kill(self, chance: random.Random, kills: Counter[str]) -> None:
        """Kill something, and start again what doesn't start by itself."""
        way = chance.choice(WAYS_TO_DIE)
        place = chance.randrange(len(self.shops))
        if way == "a worker":
            kill_worker(self._web[place], chance)
        elif way == "a machine":
            os.killpg(self._web[place].pid, signal.SIGKILL)
            self._web[place].wait()
            self._web[place] = self.shops[place].start_web()
        else:
            end_connections()
        kills[way] += 1


def kill_worker(web: subprocess.Popen[bytes], chance: random.Random) -> None:
    with suppress(psutil.NoSuchProcess, IndexError):
        chance.choice(psutil.Process(web.pid).children()).kill()


def end_connections() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def machines() -> Iterator[Machines]:
    """Serve the shop on the database of our connection, and end all programs."""
    with ExitStack() as ends:
        log = ends.enter_context(open(os.devnull, "wb"))
        shops = []
        for variables in MACHINES:
            shop = ServedShop(
                {
                    **variables,
                    "WEB_THREADS": "4",
                    "HTTPS": "false",
                    "ALLOWED_HOSTS": "127.0.0.1",
                    "HOLD_MINUTES": "60",
                    "EMAIL_URL": "dummymail://",
                },
                log=log,
            )
            ends.callback(shop.stop)
            shops.append(shop)
        yield Machines(shops)


def make_products(units: int) -> list[str]:
    """Make products of so many units each; return their slugs."""
    slugs = [f"killed-{number}" for number in range(PRODUCTS)]
    for slug in slugs:
        make_product(slug, units, strategy="combined")
    return slugs


# The buyers


class Senders(Crowd):
    """The buyers, each of whom sends one form until there is an answer."""

    def __init__(self, served: Machines, slugs: list[str], number: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.tried_again = 0
        self.told: dict[str, int] = {}
        """The last status that each buyer read."""
        self._ports = [shop.port for shop in served.shops]
        self._slugs = slugs
        self._counting = threading.Lock()
        super().__init__(self._reserve, number, BUYERS_AT_ONCE)

    def _reserve(self, number: int) -> None:
        """Send the form until there is an answer, each time to another machine."""
        buyer, body, headers = form_of(self._slugs[number % len(self._slugs)])
        deadline = time.monotonic() + SECONDS_TO_TRY
        tries = number
        while (status := post(self._ports[tries % len(self._ports)], body, headers)) in (0, 503):
            if time.monotonic() > deadline:
                raise TimeoutError(f"buyer {number} got no answer")
            tries += 1
            time.sleep(0.1)
        with self._counting:
            self.told[buyer] = status
            self.statuses[status] += 1
            self.tried_again += tries - number


def form_of(slug: str) -> tuple[str, bytes, dict[str, str]]:
    """A new buyer's key, the body of the form, and its headers."""
    from django.middleware.csrf import _get_new_csrf_string
    from django.utils.crypto import get_random_string

    from shop.middleware.buyer import signed_key

    buyer, token = get_random_string(32), _get_new_csrf_string()
    fields = {
        "csrfmiddlewaretoken": token,
        "product": slug,
        "seen_price": "7.35",
        "key": uuid4(),
        "quantity": 1,
    }
    headers = {
        "Cookie": f"csrftoken={token}; buyer={signed_key(buyer)}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return buyer, urlencode(fields).encode(), headers


def post(port: int, body: bytes, headers: dict[str, str]) -> int:
    """The answer's status; 0 if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/basket/holds/", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


# The books


def look_at_the_law(figures: Figures) -> None:
    """Look at all products on one snapshot. Raises Disagreement."""
    from inventory import monitor

    figures.looks += 1
    if problems := [str(broken) for broken in monitor.check()]:
        raise Disagreement("\n".join(problems))


def check(crowd: Senders, figures: Figures) -> None:
    """Compare the holds with what buyers were told. Raises Disagreement."""
    from inventory.models import Product, Reservation

    wait_until_web_is_quiet()
    look_at_the_law(figures)
    holds: Counter[Any] = Counter(Reservation.objects.held().values_list("buyer", flat=True))
    figures.held = holds.total()
    problems = []
    if strange := set(crowd.statuses) - {302, 409}:
        problems.append(f"statuses {sorted(strange)}")
    for buyer, status in crowd.told.items():
        if holds.pop(buyer, 0) != (1 if status == 302 else 0):
            problems.append(f"a buyer who was told {status} has another number of holds")
    if holds:
        problems.append(f"{len(holds)} buyers have holds, and got no answer")
    if figures.statuses[409] and sum(Product.objects.values_list("stock", flat=True)):
        problems.append("buyers were refused with units left")
    if problems:
        raise Disagreement("\n".join(problems[:20]))


def wait_until_web_is_quiet() -> None:
    """A killed process's last statement may still run."""
    time.sleep(2)


if __name__ == "__main__":
    main()
