"""The later pages: those on which comes out what requests have left in the database."""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Model

from shop.models import Order, OutboxMail
from tests.tools.fuzz.generator import CSRF
from tests.tools.fuzz.markers import has_mark
from tests.tools.fuzz.wire import Request
from tests.tools.fuzz.world import World

MOST = 25  # marked objects of a model
LOOKED_THROUGH = 3000  # newest objects of a model
PAGES = ("change", "history", "delete")


def requests(world: World) -> Iterator[Request]:
    """Requests for pages that may show a marker: lists, marked objects, exports and e-mails."""
    cookies = {role: world.targets.cookies[role] for role in ("superuser", "buyer")}

    def get(path: str, sender: str = "superuser") -> Request:
        headers = {"Host": "localhost", "Cookie": cookies[sender]}
        return Request("GET", path, headers=headers, sender=sender)

    yield get("/admin/")
    for model in admin.site._registry:
        start = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        yield get(start)
        for pk in marked(model):
            yield from (get(f"{start}{quote(pk)}/{page}/") for page in PAGES)
        if model._meta.label == "shop.Order":
            yield from (get(f"{start}{quote(pk)}/packing-slip/") for pk in marked(model))
    yield from (export(cookies["superuser"], name) for name in ("product", "stockmovement"))
    for mail in marked(OutboxMail):
        yield get(f"/demo/outbox/{mail}/")
        yield get(f"/demo/outbox/{mail}/html/")
    for order in Order.objects.filter(pk__in=marked(Order)):
        yield get(f"/orders/{order.token}/", "buyer")
    for path in ("/", "/basket/", "/checkout/", "/orders/", "/demo/outbox/", "/products/mug/"):
        yield get(path, "buyer")


def marked(model: type[Model]) -> list[str]:
    """The primary keys of objects with a marker in one of their columns, the newest first."""
    found = []
    for obj in model._base_manager.order_by("-pk")[:LOOKED_THROUGH]:
        if any(isinstance(value, str) and has_mark(value) for value in vars(obj).values()):
            found.append(str(obj.pk))
    return found[:MOST]


def export(cookies: str, name: str) -> Request:
    """The form that exports all objects as CSV."""
    body = f"format=0&export_items=&csrfmiddlewaretoken={CSRF}".encode()
    headers = {
        "Host": "localhost",
        "Cookie": cookies,
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
    }
    path = f"/admin/inventory/{name}/export/"
    return Request("POST", path, headers=headers, body=body, sender="superuser")
