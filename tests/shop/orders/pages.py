"""The steps of people on the shop's pages, in one call each."""

from __future__ import annotations

import json
import re
import uuid
from html import unescape
from typing import Any

from django.test import Client
from django.urls import reverse

from inventory.models import Product
from shop.middleware import buyer
from shop.models import Order
from shop.payments import demo
from shop.payments.demo import Choice

SPACE = re.compile(r'("[^"<>]*")|[ \t\r\n]+')  # text in a field keeps its own space
KEEPS_ITS_LINES = re.compile(r"(<(?:pre|textarea)\b.*?</(?:pre|textarea)>)", re.DOTALL)
AROUND_BLOCKS = re.compile(
    r" ?(</?(?:button|dd|div|dl|dt|form|h1|h2|h3|label|li|ol|p|section|td|th|tr|ul)\b[^>]*>) ?"
)


class Shopper:
    """A person with a browser; ``tab`` is another one of the same browser."""

    def __init__(self, name: str = "Ada", email: str = "") -> None:
        self.name = name
        self.email = email or f"{name.lower()}@example.org"
        self.client = Client()

    def tab(self) -> Shopper:
        other = Shopper(self.name, self.email)
        other.client.cookies.update(self.client.cookies)
        return other

    def get(self, address: str) -> str:
        """The source of a page; it must exist."""
        response: Any = self.client.get(address)
        assert response.status_code == 200, response.status_code
        return text_of(response)

    def reserve(self, product: Product, units: object = 1) -> Any:
        form = {"product": product.slug, "quantity": units, "key": uuid.uuid4()}
        return self.client.post("/basket/holds/", form)

    def checkout_form(self, **changes: object) -> dict[str, Any]:
        """The checkout's form, with the values that the page put into it, filled in."""
        page = self.get("/checkout/")
        return {
            "key": hidden(page, "key")[0],
            "seen_total": hidden(page, "seen_total")[0],
            "hold": hidden(page, "hold"),
            "name": self.name,
            "email": self.email,
            "address": "1 Main Street",
            "postcode": "10115",
            "town": "Springfield",
            "country": "DE",
            **changes,
        }

    def check_out(self, form: dict[str, Any] | None = None, /, **changes: object) -> Any:
        return self.client.post("/checkout/", form or self.checkout_form(**changes))

    def order(self, product: Product, units: int = 1) -> tuple[Order, str]:
        """Reserve, check out, and go to the bank; return the order and the bank's address."""
        self.reserve(product, units)
        answer = self.check_out()
        assert answer.status_code == 302, text_of(answer)
        return Order.objects.latest("pk"), answer["Location"]

    def choose(self, bank: str, choice: Choice = Choice.APPROVE) -> Any:
        return self.client.post(bank, {"choice": choice.value})

    def look(self, order: Order) -> str:
        """The order's page."""
        return self.get(page_of(order))

    def pay(self, order: Order) -> Any:
        """Press the button of the order's page."""
        return self.client.post(f"{page_of(order)}payment/")

    def cancel(self, order: Order) -> Any:
        return self.client.post(f"{page_of(order)}cancellation/")


def signed_cookie(key: str) -> str:
    """The value of the cookie of the buyer with this key."""
    return buyer.signed_key(key)


def page_of(order: Order) -> str:
    return reverse("order", args=[order.token])


def text_of(response: Any) -> str:
    return unescape(html_of(response))


def html_of(response: Any) -> str:
    """A page as a browser shows it: line breaks of the template make no difference."""
    html = response.content.decode()
    parts = KEEPS_ITS_LINES.split(html)
    parts[::2] = [AROUND_BLOCKS.sub(r"\1", SPACE.sub(_space, part)) for part in parts[::2]]
    return "".join(parts)


def _space(found: re.Match[str]) -> str:
    return found[1] or " "


def hidden(page: str, name: str) -> list[str]:
    return re.findall(rf'<input type="hidden" name="{name}" value="([^"]*)"', page)


def heading(page: str) -> str:
    """The heading of an order's page."""
    [words] = re.findall(r'<h2 id="standing-title">([^<]*)</h2>', page)
    return str(words)


def alerts(response: Any) -> list[str]:
    """The warnings on a page, without their links."""
    found = re.findall(r'<p class="message[^"]*" role="alert">(.*?)</p>', text_of(response))
    return [re.sub(r"\s*<a .*", "", words).strip() for words in found]


def offers_to_pay(page: str) -> bool:
    return "/payment/" in page


def tell(order: Order, event: str = "event-1", *, at: int | None = None) -> int:
    """Deliver the bank's message about the order's first payment; return the answer's status.

    The bank signed it ``at`` that time (seconds since 1970; now).
    """
    body = json.dumps({"id": event, "payment": str(order.payments.all()[0].key)}).encode()
    response = Client(enforce_csrf_checks=True).post(
        reverse("payment-events", args=["demo"]),
        body,
        content_type="application/json",
        headers={demo.SIGNATURE: demo.sign(body, at)},
    )
    return response.status_code
