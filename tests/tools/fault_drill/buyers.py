"""The buyers, who come over HTTP, and keep a list of all that the shop has told them.

An answer that doesn't come, or a 503, tells them nothing: they send the same form again, with the
same key, until they know. In a list is only what they have read.
"""

from __future__ import annotations

import random
import re
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from tests.http.shopper import ADDRESS, CONNECTION_PROBLEMS, Form, Page, Shopper
from tests.tools.drills import Disagreement
from tests.tools.fault_drill.catalogue import COMMON, LIMITED, choose_strategy

SECONDS_TO_TRY = 120.0  # until a buyer gives up
SECONDS_BETWEEN_TRIES = 0.3
FINGERPRINT = re.compile(r'name="seen" value="([a-zA-Z-]+)"')
SOLD_OUT = re.compile(r"is sold out|There (is|are) only|in baskets at the moment|You hold all of")
OVER_LIMIT = re.compile(r"Each customer can have")
TRY_AGAIN = re.compile(r"Please try once more")
GOODWILL = Decimal("1.23")

LEAVES, REMOVES, PAYS = "leaves", "removes", "pays"
CANCELS, CANCELS_EARLY = "cancels", "cancels before the return"
IS_REFUNDED, IS_PARTLY_REFUNDED = "is refunded", "is partly refunded"
PLANS = [LEAVES, REMOVES, PAYS, PAYS, CANCELS, CANCELS_EARLY, IS_REFUNDED, IS_PARTLY_REFUNDED]
PLANS_FOR_SCARCE = [LEAVES, PAYS, PAYS]  # its units never come back


@dataclass
class Asked:
    """Units that a buyer has asked for once."""

    slug: str
    quantity: int
    key: str
    held: bool | None = None
    """The answer: yes or no; None if there was none yet."""
    over_limit: bool = False
    """Whether the reason for a refusal was the limit per customer."""
    removed: bool = False
    """Whether the shop has told that they are released."""


@dataclass
class Told:
    """All that the shop has told a buyer."""

    asked: list[Asked] = field(default_factory=list)
    token: str = ""
    """Of the order, once it is placed."""
    paid: bool = False
    cancelled: bool = False
    refund_asked: bool = False
    refunded: bool = False
    """The order's page said that money was given back."""


class Answers:
    """Counts the answers of all buyers."""

    def __init__(self, statuses: Counter[int]) -> None:
        self.statuses = statuses
        self.lost = 0
        """Requests without an answer."""
        self._lock = threading.Lock()

    def count(self, status: int) -> None:
        with self._lock:
            self.statuses[status] += 1

    def count_lost(self) -> None:
        with self._lock:
            self.lost += 1


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A buyer reads each redirect: it is an answer."""

    def redirect_request(self, *args: Any) -> None:
        return None


class Buyer(Shopper):
    """One buyer with a plan."""

    def __init__(self, shop: str, number: int, answers: Answers, chance: random.Random) -> None:
        super().__init__(shop, number)
        self.told = Told()
        self.plan = LEAVES
        self.bank = ""
        """The address of the bank's page, once the shop has sent the buyer there."""
        self._answers = answers
        self._chance = chance

    @property
    def email(self) -> str:
        return f"buyer-{self.number}@example.org"

    @property
    def key(self) -> str:
        """The buyer's key, from the cookie; empty if there is none yet."""
        values = [cookie.value for cookie in self.cookies if cookie.name == "buyer"]
        return (values[0] or "").split(":")[0] if values else ""

    def handlers(self) -> list[urllib.request.BaseHandler]:
        return [NoRedirects()]

    # Requests

    def _open(self, request: urllib.request.Request) -> Page:
        """Send the request until there is an answer other than 503."""
        deadline = time.monotonic() + SECONDS_TO_TRY
        while True:
            page = None
            try:
                page = self._ask(request)
                self._answers.count(page.status)
            except (*CONNECTION_PROBLEMS, TimeoutError):
                self._answers.count_lost()
            if page is not None and page.status != HTTPStatus.SERVICE_UNAVAILABLE:
                self._check(page)
                return page
            if time.monotonic() > deadline:
                last = page.status if page else "nothing"
                raise Disagreement(
                    f"buyer {self.number} got no answer from {request.full_url} within "
                    f"{SECONDS_TO_TRY:.0f} s (the last was {last})"
                )
            time.sleep(SECONDS_BETWEEN_TRIES)

    def _check(self, page: Page) -> None:
        if page.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Disagreement(f"buyer {self.number} read {page.status} at {page.url}")

    def follow(self, page: Page) -> Page:
        """The page that a redirect leads to."""
        return self.get(urljoin(page.url, page.location)) if page.location else page

    # A purchase

    def shop_around(self, scarce: str, staff: Staff) -> None:
        """Ask for units, and go on by a random plan. Raises Disagreement."""
        slug = self._choose(scarce)
        self.plan = self._chance.choice(PLANS_FOR_SCARCE if slug == scarce else PLANS)
        has_some = self.ask_for(slug, self._chance.randint(1, 2))
        if slug.startswith(LIMITED):  # more than the limit, in all
            self.ask_for(slug, 2)
        if not has_some or self.plan == LEAVES:
            return
        if self.plan == REMOVES:
            self.remove()
            return
        self.place_order()
        self.pay_at_bank()
        if self.plan != CANCELS_EARLY:
            self.read_paid()
        if self.plan in (CANCELS, CANCELS_EARLY):
            self.cancel()
        elif self.plan in (IS_REFUNDED, IS_PARTLY_REFUNDED):
            self.told.refund_asked = True
            staff.refund(self.told.token, partly=self.plan == IS_PARTLY_REFUNDED)
        if self.plan != PAYS:
            self.read_refunded()

    def _choose(self, scarce: str) -> str:
        kind = self._chance.choice([scarce, COMMON, LIMITED])
        return kind if kind == scarce else f"{kind}-{choose_strategy(self._chance)}"

    def ask_for(self, slug: str, quantity: int) -> bool:
        """Ask for units until the shop says yes or no; return whether it was yes."""
        for _ in range(10):
            form = self.get(f"/products/{slug}/").form("/basket/holds/")
            asked = Asked(slug, quantity, dict(form.fields)["key"])
            self.told.asked.append(asked)
            page = self.send(form, quantity=str(quantity))
            if page.status == HTTPStatus.FOUND:
                asked.held = True
                return True
            if page.status != HTTPStatus.CONFLICT:
                raise Disagreement(f"{page.url} answered {page.status}:\n{page.html}")
            asked.held = False
            if not TRY_AGAIN.search(page.html):
                asked.over_limit = bool(OVER_LIMIT.search(page.html))
                if not (asked.over_limit or SOLD_OUT.search(page.html)):
                    raise Disagreement(f"buyer {self.number} was refused without a reason")
                return False
        raise Disagreement(f"buyer {self.number} was told ten times to try once more")

    def remove(self) -> None:
        """Take all lines out of the basket."""
        while form := find_form(self.get("/basket/"), "/basket/holds/"):
            self.send(form, remove="1")
        for asked in self.told.asked:
            asked.removed = bool(asked.held)

    def place_order(self) -> None:
        """Fill in the checkout, until the shop leads to the bank or to the order's page."""
        page = self.get("/checkout/")
        page = self.send(
            page.form("/checkout/"),
            name=f"Buyer {self.number}",
            email=self.email,
            **ADDRESS,
        )
        if page.status != HTTPStatus.FOUND:
            raise Disagreement(f"the checkout answered {page.status}:\n{page.html}")
        self._note_where(page)
        if not self.told.token:
            self.told.token = self._token_at_bank()

    def _note_where(self, page: Page) -> None:
        if "/c/pay/" in page.location:
            self.bank = page.location
        else:
            self.told.token = page.location.split("/orders/")[1].split("/")[0]

    def _token_at_bank(self) -> str:
        """The order's token, from the link on the bank's page that leads back."""
        page = self.get(self.bank)
        return page.html.split("/orders/")[1].split("/")[0]

    def pay_at_bank(self) -> None:
        """Pay on the bank's page; first ask the shop for its address until it knows it."""
        deadline = time.monotonic() + SECONDS_TO_TRY
        while not self.bank:
            form = find_form(self.get(f"/orders/{self.told.token}/"), "/payment/")
            if form is not None:
                self._note_where(self.send(form))
            if time.monotonic() > deadline:
                raise Disagreement(f"order {self.told.token} can't be paid")
            time.sleep(SECONDS_BETWEEN_TRIES)
        self.send(self.get(self.bank).form("/c/pay/"), choice="pay")

    def read_paid(self) -> None:
        """Look at the order until its page says that it is paid, as the page itself does."""
        self._look_until(lambda state: state.startswith("paid-"), "is paid")
        self.told.paid = True

    def cancel(self) -> None:
        """Cancel the order on its page; a repetition finds it cancelled."""
        form = find_form(self.get(f"/orders/{self.told.token}/cancellation/"), "/cancellation/")
        if form is not None:
            self.send(form)
        self._look_until(lambda state: state.startswith("cancelled-"), "is cancelled")
        self.told.cancelled = True

    def read_refunded(self) -> None:
        self._look_until(lambda state: state.endswith("-DONE"), "is refunded")
        self.told.refunded = True

    def _look_until(self, is_so: Any, what: str) -> None:
        deadline = time.monotonic() + SECONDS_TO_TRY
        while True:
            page = self.get(f"/orders/{self.told.token}/")
            found = FINGERPRINT.search(page.html)
            if found and is_so(found[1]):
                return
            if time.monotonic() > deadline:
                state = found[1] if found else page.status
                raise Disagreement(f"order {self.told.token} {what}, and its page says: {state}")
            time.sleep(SECONDS_BETWEEN_TRIES)


def find_form(page: Page, action: str) -> Form | None:
    """The page's form that posts to such an address, if there is one."""
    try:
        return page.form(action)
    except LookupError:
        return None


class Staff:
    """Staff give money back, in the drill's own process, and try again when the database fails."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def refund(self, token: str, *, partly: bool) -> None:
        """Give the order's money back, or a part of it as goodwill. Raises Disagreement."""
        deadline = time.monotonic() + SECONDS_TO_TRY
        while not self._try_to_refund(token, partly=partly):
            if time.monotonic() > deadline:
                raise Disagreement(f"staff can't refund order {token}")
            time.sleep(SECONDS_BETWEEN_TRIES)

    def _try_to_refund(self, token: str, *, partly: bool) -> bool:
        from django.db import Error, connection
        from procrastinate.exceptions import ConnectorException

        from shop import orders
        from shop.exceptions import OrderChanged
        from shop.models import Order

        with self._busy:  # the database has few connections left for us
            try:
                order = Order.objects.get(token=token)
                if partly:
                    orders.refund(order.pk, amount=GOODWILL, seen=Decimal(0))
                else:
                    orders.refund(order.pk, restock=True, seen=Decimal(0))
            except OrderChanged:  # the attempt before was carried out, and its answer was lost
                return True
            except (Error, ConnectorException):
                return False
            finally:
                connection.close()
        return True
