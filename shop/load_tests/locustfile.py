"""The buyers of a flash sale over HTTP: ``locust -f shop/load_tests/locustfile.py --host http://localhost:8000``.

``manage.py http_flash_sale`` sends them, too. Each buyer looks at a product's page, reserves one,
checks out and pays at the demo bank, with forms and cookies, as a browser without scripts does.

Locust runs this in processes of its own, on one machine or several. Nothing of Django is imported.
"""

from __future__ import annotations

import html
import json
import logging
import random
import re
import sys
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlencode

import gevent
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import Runner, WorkerRunner

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # Locust may be started anywhere

from shop.load_tests.http_flash_sale.target import WrongTarget, check  # noqa: E402

log = logging.getLogger(__name__)

USAGE_ERROR = 2
THINK = 0.3  # seconds
MOST_THINK = 60.0
PATIENCE = 300.0  # seconds that a buyer waits for a page: a slow shop has not failed
FOR_EVER = 1_000_000.0  # seconds
FORM = r'<form\b[^>]*\baction="{}"[^>]*>(.*?)</form>'
BANK_FORM = r'<form method="post">(.*?)</form>'
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
REQUIRED = re.compile(r'<(?:input|textarea)\b[^>]*\bname="([^"]+)"[^>]*\brequired\b')
PRODUCT_LINK = re.compile(r'href="/products/([-\w]+)/"')
PROBLEM = re.compile(r'<p class="(?:error|message)\b[^>]*>\s*(.*?)\s*</p>', re.DOTALL)
SOLD_OUT = (
    "is sold out",
    "are in baskets at the moment",
    "has just let some of",
    "You hold all of",
)
TOO_MANY = "the shop limits how often one address may ask (PAGES_PER_ADDRESS, POSTS_PER_ADDRESS)"


class Refused(Exception):
    """The shop refused the units: too few are left."""


class Failed(Exception):
    """The shop gave a wrong answer; the message says which."""


class Buyer(FastHttpUser):
    """One customer after another, each with new cookies; with ``--once``, a single one."""

    network_timeout = connection_timeout = PATIENCE

    @task
    def come(self) -> None:
        """Buy as a new customer, and count the outcome."""
        self.client.cookiejar.clear()
        self.latency: float | None = None
        try:
            self.buy(self.options.product or self.first_in_stock())
            tally.count("bought", self.latency)
        except Refused:
            tally.count("refused", self.latency)
        except Failed as failure:
            tally.count("failed", self.latency, str(failure))
        except (
            Exception
        ) as failure:  # any other error: this buyer got no answer, and counts as failed
            tally.count("failed", self.latency, f"{type(failure).__name__}: {failure}")

    def wait_time(self) -> float:
        """Seconds until the next customer comes; never 0, even if customers don't think.

        With ``--once`` no next customer comes. The user stays, since Locust would replace it.
        """
        return FOR_EVER if self.options.once else max(0.1, self.pause())

    @property
    def options(self) -> Any:
        return self.environment.parsed_options

    def first_in_stock(self) -> str:
        """The slug of the first product in the list of products in stock. Raises Refused."""
        found = PRODUCT_LINK.search(self.see("/?in_stock=on", "list"))
        if found is None:
            raise Refused
        self.think()
        return found[1]

    def buy(self, product: str) -> None:
        """Take all steps to a paid order. Raises Refused, Failed."""
        page = self.see(f"/products/{product}/", "product")
        self.think()
        self.see(self.reserve(page), "basket")
        self.think()
        page = self.see("/checkout/", "checkout")
        self.think()
        bank = self.order(page)
        page = self.see(bank, "bank")
        self.think()
        page = self.see(self.pay(bank, page), "order")
        if "standing--paid" not in page:
            raise Failed(f"order: its page says that it isn't paid: {problem_on(page)}")

    def reserve(self, page: str) -> str:
        """Send the form of the product's page; return the next address. Raises Refused, Failed."""
        fields = hidden_fields(page, FORM.format("/basket/holds/"), "product")
        with self.ask("POST", "/basket/holds/", "reserve", {**fields, "quantity": "1"}) as answer:
            self.latency = answer.request_meta["response_time"] / 1000
            if answer.status_code == HTTPStatus.CONFLICT and any(
                words in text_of(answer) for words in SOLD_OUT
            ):
                answer.success()
                raise Refused
            return redirect_address(answer, "reserve")

    def order(self, page: str) -> str:
        """Send the checkout's form; return the next address: the bank's page. Raises Failed."""
        fields = hidden_fields(page, FORM.format("/checkout/"), "checkout")
        typed = typed_at_checkout(page, random.randrange(10**9))
        with self.ask("POST", "/checkout/", "check out", {**fields, **typed}) as answer:
            return redirect_address(answer, "check out")

    def pay(self, bank: str, page: str) -> str:
        """Approve on the bank's page; return the next address: the order's page. Raises Failed."""
        fields = hidden_fields(page, BANK_FORM, "bank")
        with self.ask("POST", bank, "pay", {**fields, "choice": "approve"}) as answer:
            return redirect_address(answer, "pay")

    def see(self, address: str, name: str) -> str:
        """Get a page, and return its text. Raises Failed."""
        with self.ask("GET", address, name) as answer:
            if answer.status_code != HTTPStatus.OK:
                fail(answer, name)
            return text_of(answer)

    def ask(
        self, method: str, address: str, name: str, form: dict[str, str] | None = None
    ) -> ResponseContextManager:
        """Send a request. The caller follows redirects, so that each request is timed by itself."""
        headers = {"Referer": f"{self.host}/"}  # with HTTPS, a form without it is refused
        data = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(form)
        return self.client.request(
            method,
            address,
            name=name,
            data=data,
            headers=headers,
            allow_redirects=False,
            catch_response=True,
        )

    def think(self) -> None:
        gevent.sleep(self.pause())

    def pause(self) -> float:
        seconds: float = self.options.think * random.uniform(0.5, 1.5)
        return seconds


# Pages


def hidden_fields(page: str, form: str, name: str) -> dict[str, str]:
    """The hidden fields of a form on the page, with its CSRF token. Raises Failed."""
    found = re.search(form, page, re.DOTALL)
    if found is None:
        raise Failed(f"{name}: the page has no form to go on with: {problem_on(page)}")
    return {key: html.unescape(value) for key, value in HIDDEN.findall(found[1])}


def typed_at_checkout(page: str, number: int) -> dict[str, str]:
    """The entries of the buyer with this number, with a text for any other required field."""
    return {
        **dict.fromkeys(REQUIRED.findall(page), "1"),
        "name": f"Buyer {number}",
        "email": f"buyer-{number}@example.org",
        "address": "1 Market Street",
        "postcode": "10115",
        "town": "Springfield",
        "country": preselected(page),
    }


def preselected(page: str) -> str:
    """The country that the checkout has selected."""
    found = re.search(r'<option value="([A-Z]{2})" selected>', page)
    return found[1] if found else ""


def text_of(answer: ResponseContextManager) -> str:
    return answer.text or ""


def redirect_address(answer: ResponseContextManager, name: str) -> str:
    """The address of a redirect. Raises Failed if the answer is none."""
    address = answer.headers.get("location") if answer.headers else None
    if answer.status_code != HTTPStatus.FOUND or not address:
        fail(answer, name)
    return str(address)


def fail(answer: ResponseContextManager, name: str) -> None:
    """Count the request as a failure, and raise Failed with the shop's answer."""
    if not answer.status_code:
        reason = f"no answer ({getattr(answer, 'error', None)!r})"
    elif answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        reason = f"429: {TOO_MANY}"
    else:
        reason = f"{answer.status_code}: {problem_on(text_of(answer))}"
    answer.failure(reason)
    raise Failed(f"{name}: {reason}")


def problem_on(page: str) -> str:
    """The error message on the page, or else its title."""
    found = PROBLEM.search(page) or re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found[1])).split()) if found else "?"


# Counting outcomes


class Tally:
    """The outcomes of the buyers of this process, or of all workers if it is their master.

    They are counted, and written into the file of ``--outcomes``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.by_worker: dict[str, dict[str, int]] = {}
        self.file: TextIO | None = None

    def write_to(self, file: str) -> None:
        """Write each outcome into this file. Raises OSError."""
        self.file = open(file, "a", buffering=1)  # noqa: SIM115  (open until the process ends)

    def begin(self, environment: Environment) -> None:
        self.environment = environment
        self.counts.clear()
        self.by_worker.clear()
        self.started = time.monotonic()

    def count(self, ending: str, latency: float | None, error: str = "") -> None:
        self.counts[ending] += 1
        if self.file is None:
            return
        finished = time.monotonic() - self.started
        outcome = {"ending": ending, "latency": latency, "finished": finished, "error": error}
        try:
            self.file.write(json.dumps(outcome) + "\n")
        except OSError:  # the reader has ended
            assert self.environment.runner is not None
            gevent.spawn(self.environment.runner.quit)

    def take_report(self, worker: str, counts: dict[str, int]) -> None:
        self.by_worker[worker] = counts
        self.counts.clear()
        for each in self.by_worker.values():
            self.counts.update(each)

    def log(self) -> None:
        endings = ("bought", "refused", "failed")
        log.info("Buyers: %s", ", ".join(f"{each} {self.counts[each]}" for each in endings))


tally = Tally()


# Locust's events


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--product",
        metavar="SLUG",
        default="",
        env_var="SHOP_PRODUCT",
        help="the product that all want, as in its page's address (the first one in stock)",
    )
    parser.add_argument(
        "--think",
        type=seconds,
        metavar="SECONDS",
        default=THINK,
        env_var="SHOP_THINK",
        help="how long a buyer thinks before each click, on average (%(default)s)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end with the last buyer; without this, a new buyer replaces each who is done",
    )
    parser.add_argument(
        "--outcomes",
        metavar="FILE",
        include_in_web_ui=False,
        help="write the outcome of each buyer into this file, as a line of JSON",
    )
    parser.add_argument(
        "--i-own-this-shop",
        action="store_true",
        include_in_web_ui=False,
        help="accept a shop that doesn't say it is a demo (DEMO=true)",
    )


def seconds(text: str) -> float:
    """Read a time to think. Raises ValueError, which Locust shows as a usage error."""
    if not 0 <= (value := float(text)) <= MOST_THINK:
        raise ValueError(text)
    return value


@events.init.add_listener
def prepare(environment: Environment, runner: Runner, **kwargs: object) -> None:
    """End with a usage error before the start if an option is wrong, above all the target."""
    options: Any = environment.parsed_options
    gevent.get_hub().NOT_ERROR += (StopTest,)  # Locust logs this one: no traceback, too
    try:
        if options.outcomes:
            tally.write_to(options.outcomes)
        if isinstance(runner, WorkerRunner):
            return  # its master checks the target
        if options.host or options.headless:
            check_target(environment)
    except (WrongTarget, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(USAGE_ERROR)
    environment.events.spawning_complete.add_listener(
        lambda **kwargs: gevent.spawn(end_with_the_last_buyer, runner)
    )


def check_target(environment: Environment) -> None:
    """Raise WrongTarget unless the host may be bought empty."""
    options: Any = environment.parsed_options
    environment.host = (environment.host or "").rstrip("/")
    check(environment.host, own=options.i_own_this_shop)


def end_with_the_last_buyer(runner: Runner) -> None:
    options: Any = runner.environment.parsed_options
    if not options.once:
        return
    while tally.counts.total() < runner.target_user_count:
        gevent.sleep(0.1)
    if options.headless:
        runner.quit()
    else:
        runner.stop()


@events.test_start.add_listener
def begin(environment: Environment, **kwargs: object) -> None:
    """Check the target again: the host may have been typed into Locust's page."""
    if not isinstance(environment.runner, WorkerRunner):
        try:
            check_target(environment)
        except WrongTarget as error:
            raise StopTest(str(error)) from error
    tally.begin(environment)


@events.report_to_master.add_listener
def report(data: dict[str, Any], **kwargs: object) -> None:
    data["buyers"] = dict(tally.counts)


@events.worker_report.add_listener
def take_report(client_id: str, data: dict[str, Any], **kwargs: object) -> None:
    tally.take_report(client_id, data.get("buyers", {}))


@events.test_stop.add_listener
def end(**kwargs: object) -> None:
    tally.log()
