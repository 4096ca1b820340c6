"""Kill the shop while its orders are paid and refunded at the stand-in for Stripe, and count.

    python -m tests.tools.kill_payments [--orders N] [--kills N] [--seed N]

On a scratch database, gunicorn and a worker serve buyers who come by HTTP, pay on the stand-in's
page and come back. A third of the orders is cancelled or refunded. At random moments the web
server, the worker, or both are killed (SIGKILL, with all their processes) and started again.
When all is quiet, the shop's books and the stand-in's must agree to the cent.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal

from shop.load_tests.serving import ServedShop
from tests.http.shopper import Page, Shopper
from tests.stripe_standin.remote import StandinProcess
from tests.tools.drills import (
    Crowd,
    Disagreement,
    ErrorsFirstParser,
    in_words,
    make_product,
    run_on_scratch_database,
    whole_number,
)
from tests.tools.money_books import Money, compare_money, order_problems

BUYERS_AT_ONCE = 8
LONGEST_PAUSE = 2.0  # seconds between the start of a program and its death
SECONDS_UNTIL_QUIET = 300  # a killed worker's jobs are started again after a minute or two
CHANGES = ["cancelled", "cancelled before the return", "refunded", "partly refunded"]
BY_STAFF = ("refunded", "partly refunded")


@dataclass
class Figures:
    """Everything that was counted."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    money: Money = field(default_factory=Money)
    kept: Decimal = Decimal(0)
    """By the shop's books."""
    messages: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        money = self.money
        return (
            f"seed {self.seed}, {self.seconds:.0f} s\n"
            f"killed: {in_words(self.kills)}\n"
            f"orders: {in_words(self.orders)}\n"
            f"asked for: {in_words(self.changes)}\n"
            f"charges at the stand-in {money.charges}, {money.charged}; paid by our books "
            f"{money.paid}\n"
            f"refunds at the stand-in {money.refunds}, {money.given_back}; owed by our books "
            f"{money.owed}\n"
            f"kept at the stand-in {money.charged - money.given_back}; by our books {self.kept}\n"
            f"messages taken {self.messages}"
        )


def main() -> None:
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.kill_payments", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--orders", type=whole_number, default=200)
    parser.add_argument("--kills", type=whole_number, default=40)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    run_on_scratch_database(
        lambda: drill(options.orders, options.kills, options.seed), options.seed
    )


def drill(orders: int, kills: int, seed: int) -> Figures:
    """Let buyers come and programs be killed, on the database of our connection; return figures.

    Raises Disagreement.
    """
    began = time.monotonic()
    figures = Figures(seed)
    with programs() as served:
        crowd = Customers(served, orders)
        chance = random.Random(seed)
        for kill in range(kills):
            crowd.let_in(orders * (kill + 1) // kills - orders * kill // kills)
            refund_some(crowd, figures)
            time.sleep(chance.uniform(0, LONGEST_PAUSE))
            refund_some(crowd, figures)
            served.kill(chance.choice(["web", "worker", "web and worker"]), figures.kills)
        crowd.let_in_rest()
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


class Customers(Crowd):
    """The buyers, each of whom pays for an order; each third one changes something afterwards."""

    def __init__(self, served: Served, number: int) -> None:
        self.changes: Counter[str] = Counter()
        self.paid: list[str] = []
        """The tokens of orders whose buyers read that they are paid."""
        self.to_refund: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        """Tokens of orders that staff shall refund, and how."""
        self._served = served
        self._slugs = make_products(2 * number)
        super().__init__(self._buy, number, BUYERS_AT_ONCE)

    def _buy(self, number: int) -> None:
        """Buy something; each third buyer changes something afterwards."""
        buyer = Shopper(self._served.shop.url, number)
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
    slugs = [f"killed-{number}" for number in range(10)]
    for number, slug in enumerate(slugs):
        make_product(slug, units, price=Decimal("7.35") + number * Decimal("3.17"))
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


def refund_some(crowd: Customers, figures: Figures) -> None:
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


def check(standin: StandinProcess, crowd: Customers, figures: Figures) -> None:
    """Compare the shop's books with the stand-in's. Raises Disagreement."""
    from inventory import monitor
    from shop.models import Order

    figures.money = compare_money(standin)
    problems = [str(broken) for broken in monitor.check()] + figures.money.problems
    for order in Order.objects.all():
        figures.orders[order.state] += 1
        figures.kept += order.kept()
        problems += order_problems(order)
    if lost := set(crowd.paid) - {
        order.token for order in Order.objects.filter(paid_at__isnull=False)
    }:
        problems.append(f"buyers read that these are paid: {lost}")
    if problems:
        raise Disagreement("\n".join(problems))


if __name__ == "__main__":
    main()
