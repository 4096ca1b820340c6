"""A customer who comes by HTTP, with cookies, and fills in forms as a browser without scripts."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin

ADDRESS = {
    "address": "1 Market Street",
    "postcode": "10115",
    "town": "Springfield",
    "country": "DE",
}
CONNECTION_PROBLEMS = (urllib.error.URLError, http.client.HTTPException, ConnectionError)


@dataclass
class Form:
    """A form of a page, with the values that it would send."""

    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    def filled_in(self, values: dict[str, str]) -> bytes:
        kept = [(name, value) for name, value in self.fields if name not in values]
        return urlencode([*kept, *values.items()]).encode()


@dataclass
class Page:
    """A page with which the shop answered."""

    url: str
    status: int
    html: str
    location: str = ""
    """Where a redirect leads that wasn't followed."""

    def form(self, action: str) -> Form:
        """The form that posts to an address with ``action`` in it. Raises LookupError."""
        for form in _Forms(self.url, self.html).forms:
            if action in form.action:
                return form
        raise LookupError(f"{self.url} ({self.status}) has no form to {action}:\n{self.html}")


class _Forms(HTMLParser):
    def __init__(self, url: str, html: str) -> None:
        super().__init__()
        self.url = url
        self.forms: list[Form] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(urljoin(self.url, given.get("action", ""))))
        elif tag in ("input", "textarea") and self.forms and "name" in given:
            self.forms[-1].fields.append((given["name"], given.get("value", "")))


class Shopper:
    """One customer, with a browser of their own."""

    def __init__(self, shop: str, number: int) -> None:
        self.shop = shop
        self.number = number
        self.statuses: list[int] = []
        self.cookies = CookieJar()
        cookies = urllib.request.HTTPCookieProcessor(self.cookies)
        self._opener = urllib.request.build_opener(cookies, *self.handlers())

    def handlers(self) -> list[urllib.request.BaseHandler]:
        """More handlers of this customer's browser."""
        return []

    def get(self, path: str) -> Page:
        return self._open(urllib.request.Request(urljoin(self.shop, path)))

    def send(self, form: Form, **values: str) -> Page:
        """Post the form with these values, and follow the redirects."""
        data = form.filled_in(values)
        return self._open(urllib.request.Request(form.action, data, {"Referer": self.shop}))

    def _open(self, request: urllib.request.Request) -> Page:
        """Ask until there is an answer: after a broken connection the customer tries once more."""
        deadline = time.monotonic() + 60
        while True:
            try:
                page = self._ask(request)
            except CONNECTION_PROBLEMS:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                continue
            self.statuses.append(page.status)
            return page

    def _ask(self, request: urllib.request.Request) -> Page:
        try:
            with self._opener.open(request, timeout=60) as answer:
                return Page(answer.url, answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                url, location = error.url or "", error.headers.get("Location", "")
                return Page(url, error.code, error.read().decode(), location)

    # A purchase

    def buy(self, slug: str) -> Page:
        """Take all steps from the product's page to the paid order; return the last page."""
        page = self.reserve(slug)
        return page if page.status != 200 else self.pay(self.check_out())

    def reserve(self, slug: str, quantity: int = 1) -> Page:
        page = self.get(f"/products/{slug}/")
        return self.send(page.form("/basket/holds/"), quantity=str(quantity))

    def check_out(self) -> Page:
        """Fill in the checkout; return the bank's page."""
        page = self.get("/checkout/")
        return self.send(
            page.form("/checkout/"),
            name=f"Buyer {self.number}",
            email=f"buyer-{self.number}@example.org",
            **ADDRESS,
        )

    def pay(self, bank: Page, choice: str = "approve") -> Page:
        return self.send(bank.form("/demo-bank/"), choice=choice)
