"""Kill the shop while its orders are paid and refunded at the stand-in for Stripe, and count.

    python -m tests.tools.kill_payments [--orders N] [--kills N] [--seed N]

On a scratch database, gunicorn and a worker serve buyers who come by HTTP, pay on the stand-in's
page and come back. A third of the orders is cancelled or refunded. At random moments the web
server, the worker, or both are killed (SIGKILL, with all their processes) and started again.
When all is quiet, the shop's books and the stand-in's must agree to the cent.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import django

from shop.load_tests.serving import ServedShop
from tests.http.shopper import Page, Shopper
from tests.stripe_standin.remote import StandinProcess

BUYERS_AT_ONCE = 8
LONGEST_PAUSE = 2.0  # seconds between the start of a program and its death
SECONDS_UNTIL_QUIET = 300  # a killed worker's jobs are started again after a minute or two
MINOR = Decimal("0.01")
CHANGES = ["cancelled", "cancelled before the return", "refunded", "partly refunded"]
BY_STAFF = ("refunded", "partly refunded")


class Disagreement(Exception):
    """The books don't agree; the message says where."""


@dataclass
class Figures:
    """Everything that was counted."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    charges: int = 0
    charged: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    """By the shop's books."""
    refunds: int = 0
    given_back: Decimal = Decimal(0)
    owed: Decimal = Decimal(0)
    """By the shop's books."""
    kept: Decimal = Decimal(0)
    messages: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {times} ×" for name, times in sorted(self.kills.items()))
        changes = ", ".join(f"{name} {times}" for name, times in sorted(self.changes.items()))
        orders = ", ".join(f"{state} {number}" for state, number in sorted(self.orders.items()))
        return (
            f"seed {self.seed}, {self.seconds:.0f} s\n"
            f"killed: {kills}\n"
            f"orders: {orders}\n"
            f"asked for: {changes}\n"
            f"charges at the stand-in {self.charges}, {self.charged}; paid by our books "
            f"{self.paid}\n"
            f"refunds at the stand-in {self.refunds}, {self.given_back}; owed by our books "
            f"{self.owed}\n"
            f"kept at the stand-in {self.charged - self.given_back}; by our books {self.kept}\n"
            f"messages taken {self.messages}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools.kill_payments", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--orders", type=whole_number, default=200)
    parser.add_argument("--kills", type=whole_number, default=40)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    django.setup()
    from inventory.races.scratch import scratch_database

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with scratch_database():
            print(drill(options.orders, options.kills, options.seed))
    except KeyboardInterrupt:
        sys.exit("Broken off. Everything that was started has ended.")
    except Disagreement as error:
        sys.exit(f"seed {options.seed}: {error}")


def whole_number(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError(f"must be from 1 to 10000, not {number}")
    return number


def drill(orders: int, kills: int, seed: int) -> Figures:
    """Let buyers come and programs be killed, on the database of our connection; return figures.

    Raises Disagreement.
    """
    began = time.monotonic()
    figures = Figures(seed)
    with programs() as served:
        crowd = Crowd(served, orders)
        crowd.start()
        chance = random.Random(seed)
        for kill in range(kills):
            crowd.let_in(orders * (kill + 1) // kills - orders * kill // kills)
            refund_some(crowd, figures)
            time.sleep(chance.uniform(0, LONGEST_PAUSE))
            refund_some(crowd, figures)
            served.kill(chance.choice(["web", "worker", "web and worker"]), figures.kills)
        crowd.wait()
        refund_some(crowd, figures)
        wait_until_quiet(served)
        figures.changes += crowd.changes
        figures.messages = len(served.standin.webhooks.messages())
        check(served.standin, crowd, figures)
    figures.seconds = time.monotonic() - began
    return figures


# The programs


@dataclass
class Served:
    """The shop's programs, and the stand-in in a process that nobody kills."""

    shop: ServedShop
    standin: StandinProcess
    web: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]

    def kill(self, name: str, kills: Counter[str]) -> None:
        """Kill a program with all its processes, or both programs, and start again."""
        for each in ("worker", "web"):
            if each in name:
                program = getattr(self, each)
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
        if "worker" in name:
            self.worker = self.shop.start_worker()
        if "web" in name:
            self.web = self.shop.start_web()
        kills[name] += 1


@contextmanager
def programs() -> Iterator[Served]:
    """Serve the shop on the database of our connection, and end all programs."""
    with ExitStack() as ends:
        log = ends.enter_context(open(os.devnull, "wb"))
        standin = ends.enter_context(StandinProcess())
        variables = {
            "PAYMENT_PROVIDER": "stripe",
            "STRIPE_SECRET_KEY": standin.secret_key,
            "STRIPE_WEBHOOK_SECRET": standin.webhook_secret,
            "STRIPE_API_BASE": standin.url,
            "WEB_CONCURRENCY": "2",
            "EMAIL_URL": "dummymail://",
        }
        shop = ServedShop(variables, log=log)
        ends.callback(shop.stop)
        standin.webhooks.set_url(f"{shop.url}/payments/stripe/events/")
        standin.webhooks.start_courier(0.2)
        yield Served(shop, standin, shop.start_web(), shop.start_worker())


# The buyers, and the staff


class Crowd:
    """The buyers: some at a time, each in a thread. They come as they are let in."""

    def __init__(self, served: Served, number: int) -> None:
        self.changes: Counter[str] = Counter()
        self.paid: list[str] = []
        """The tokens of orders whose buyers read that they are paid."""
        self.to_refund: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        """Tokens of orders that staff shall refund, and how."""
        self.errors: list[BaseException] = []
        self._served = served
        self._slugs = make_products(2 * number)
        self._buyers = iter(range(number))
        self._allowed = threading.Semaphore(0)
        self._left = number
        self._lock = threading.Lock()
        # If the drill is broken off, nobody waits for them.
        self._threads = [
            threading.Thread(target=self._come, daemon=True) for _ in range(BUYERS_AT_ONCE)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def let_in(self, number: int) -> None:
        """Let so many more buyers come."""
        self._allowed.release(number)

    def wait(self) -> None:
        """Wait until all have gone. Raises Disagreement if one of them couldn't."""
        self._allowed.release(BUYERS_AT_ONCE)
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise Disagreement(f"{len(self.errors)} buyers gave up") from self.errors[0]

    def _come(self) -> None:
        while True:
            self._allowed.acquire()
            with self._lock:
                number = next(self._buyers, None)
            if number is None:
                return
            try:
                self._buy(Shopper(self._served.shop.url, number), number)
            except Exception as error:
                self.errors.append(error)

    def _buy(self, buyer: Shopper, number: int) -> None:
        """Buy something; each third buyer changes something afterwards."""
        change = CHANGES[number // 3 % len(CHANGES)] if number % 3 == 0 else ""
        page = buyer.reserve(self._slugs[number % len(self._slugs)], quantity=1 + number % 2)
        page = go_to_stripe(buyer, buyer.check_out())
        token = self._token_of(page)
        pay(buyer, page)
        if change != "cancelled before the return":
            page = wait_until_paid(buyer, token)
            self.paid.append(token)
        if change in BY_STAFF:
            self.to_refund.put((token, change))
        elif change:
            cancel(buyer, token)
        if change:
            self.changes[change] += 1

    def _token_of(self, page: Page) -> str:
        """The order's token, from the address to which Stripe's page leads back."""
        session = page.url.rpartition("/")[2]
        url = self._served.standin.sessions.get(session)["success_url"]
        token: str = url.split("/orders/")[1].split("/")[0]
        return token


def make_products(units: int) -> list[str]:
    """Make ten products of so many units each; return their slugs."""
    from inventory import stock
    from inventory.models import Product

    slugs = [f"killed-{number}" for number in range(10)]
    for number, slug in enumerate(slugs):
        price = Decimal("7.35") + number * Decimal("3.17")
        product = Product.objects.create(sku=slug, slug=slug, name=slug, price=price)
        stock.receive(product, units)
    return slugs


def go_to_stripe(buyer: Shopper, page: Page) -> Page:
    """Go on until the page is Stripe's: the shop may have died on the way."""
    for _ in range(20):
        if "/c/pay/" in page.url:
            return page
        with suppress(LookupError):
            page = buyer.send(page.form("/payment/"))
            continue
        time.sleep(0.3)
        page = buyer.get(page.url)
    raise Disagreement(f"{page.url} doesn't lead to Stripe ({page.status}):\n{page.html}")


def pay(buyer: Shopper, page: Page) -> None:
    """Pay on Stripe's page, and be sent back. The shop may be dead: then nobody is there."""
    buyer.send(page.form("/c/pay/"), choice="pay")


def wait_until_paid(buyer: Shopper, token: str) -> Page:
    """Look at the order until its page says that it is paid, as the page itself does."""
    for _ in range(200):
        page = buyer.get(f"/orders/{token}/")
        if page.status == 200 and 'value="paid-' in page.html:
            return page
        time.sleep(0.3)
    raise Disagreement(f"Order {token} is paid, and its page says ({page.status}):\n{page.html}")


def cancel(buyer: Shopper, token: str) -> None:
    """Cancel the order on its page; a repetition finds it cancelled."""
    page = buyer.get(f"/orders/{token}/cancellation/")
    with suppress(LookupError):
        buyer.send(page.form("/cancellation/"))


def refund_some(crowd: Crowd, figures: Figures) -> None:
    """Refund the orders that wait for it, as staff do."""
    from shop import orders
    from shop.models import Order

    with suppress(queue.Empty):
        while True:
            token, how = crowd.to_refund.get_nowait()
            order = Order.objects.get(token=token)
            if how == "partly refunded":
                orders.refund(order.pk, amount=Decimal("1.23"), seen=Decimal(0))
            else:
                orders.refund(order.pk, restock=True, seen=Decimal(0))


# The end


def wait_until_quiet(served: Served) -> None:
    """Wait until the worker has nothing left to do. Raises Disagreement."""
    until = time.monotonic() + SECONDS_UNTIL_QUIET
    while unfinished := what_is_unfinished(served):
        if time.monotonic() > until:
            raise Disagreement(f"after {SECONDS_UNTIL_QUIET} s still unfinished: {unfinished}")
        time.sleep(1)


def what_is_unfinished(served: Served) -> str:
    from shop.models import Payment, Refund

    found = {
        "payments": Payment.objects.filter(state=Payment.State.STARTED).count(),
        "refunds": Refund.objects.filter(state=Refund.State.DUE).count(),
        "messages": len(served.standin.webhooks.queued()),
    }
    return ", ".join(f"{name} {number}" for name, number in found.items() if number)


def check(standin: StandinProcess, crowd: Crowd, figures: Figures) -> None:
    """Compare the shop's books with the stand-in's. Raises Disagreement."""
    from inventory import monitor
    from shop.models import Order, Payment, Refund

    balances = standin.books.balances()
    charged, given_back = by_payment(balances)
    figures.charges, figures.charged = len(balances), sum(charged.values(), Decimal(0))
    refunds = [each for each in standin.refunds.all() if each["status"] == "succeeded"]
    figures.refunds, figures.given_back = len(refunds), sum(given_back.values(), Decimal(0))

    problems = [str(broken) for broken in monitor.check()]
    keys = {each["metadata"]["refund"] for each in refunds}
    if len(keys) != len(refunds):
        problems.append("a refund was given twice")
    for payment in Payment.objects.select_related("order"):
        key = str(payment.key)
        was_charged = charged.pop(key, Decimal(0))
        went = given_back.pop(key, Decimal(0))
        paid = payment.amount if payment.state == Payment.State.PAID else Decimal(0)
        owed = sum((refund.amount for refund in payment.refunds.counted()), Decimal(0))
        figures.paid += paid
        figures.owed += owed
        if (was_charged, went) != (paid, owed):
            problems.append(f"{payment}: charged {was_charged}, given back {went}, owed {owed}")
    if charged:
        problems.append(f"charges for unknown payments: {charged}")
    problems += [f"{each} failed: {each.problem}" for each in Refund.objects.filter(state="FAILED")]
    for order in Order.objects.all():
        figures.orders[order.state] += 1
        figures.kept += order.kept()
        problems += problems_of(order)
    if lost := set(crowd.paid) - {
        order.token for order in Order.objects.filter(paid_at__isnull=False)
    }:
        problems.append(f"buyers read that these are paid: {lost}")
    if problems:
        raise Disagreement("\n".join(problems))


def by_payment(balances: list[dict[str, Any]]) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """The sums that were charged and given back, by the payment's key."""
    charged: Counter[str] = Counter()
    given_back: Counter[str] = Counter()
    for each in balances:
        charged[each["metadata"]["payment"]] += each["charged"]
        given_back[each["metadata"]["payment"]] += each["refunded"]
    return (
        {key: minor * MINOR for key, minor in charged.items()},
        {key: minor * MINOR for key, minor in given_back.items()},
    )


def problems_of(order: Any) -> Iterator[str]:
    """Where the order's money and goods don't agree."""
    kept = [payment for payment in order.payments.all() if payment.kept()]
    if len(kept) > 1:
        yield f"order {order.number} was paid twice, and both payments are kept"
    goodwill = sum(
        refund.amount for payment in kept for refund in payment.refunds.filter(reason="GOODWILL")
    )
    has_goods = order.state == "PAID"
    units = sum(
        line.reservation.kept for line in order.lines.all() if line.reservation.status == "SOLD"
    )
    if order.kept() != (order.total - goodwill if has_goods else 0) or bool(units) != has_goods:
        yield f"order {order.number} ({order.state}): {order.kept()} kept for {units} units"
    if order.state == "PENDING":
        yield f"order {order.number} is still open"


if __name__ == "__main__":
    main()
