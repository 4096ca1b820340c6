"""The drill's shop: its products, its customers with their orders, and the targets of requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import get_resolver

from inventory import stock
from inventory.experiments.models import FlashSale
from inventory.models import Product, StockAlert
from shop.models import DemoBankCharge, DemoBankRefund, OutboxMail, ShopAlert
from tests.tools.fuzz import addresses, people
from tests.tools.fuzz.forms import Form, forms_of_page
from tests.tools.fuzz.generator import Targets
from tests.tools.fuzz.senders import PASSWORD, Sender, make_senders
from tests.tools.fuzz.values import LIST
from tests.tools.fuzz.wire import Answer, Request

PRODUCTS = (("MUG", 9), ("LAMP", 120))
FOR_STAFF = ("admin/", "demo-bank/charges/")
MOST_OF_A_MODEL = 5  # objects whose pages are asked for


LOGIN = Form(
    "/admin/login/",
    [("username", b"fuzz-merchant"), ("password", PASSWORD.encode()), ("next", b"/admin/")],
    has_file=False,
)


@dataclass
class World:
    """All that requests are sent to, and those who send them."""

    products: list[Product]
    ada: people.Belongings
    bob: people.Belongings
    targets: Targets
    senders: dict[str, Sender] = field(default_factory=dict)

    def renew(self) -> None:
        """Restore what requests have changed or ended, so that later ones find it."""
        restore_products()
        AccessAttempt.objects.all().delete()  # or nobody could log in soon
        self.senders = make_senders()
        self.targets.cookies = {role: sender.cookies for role, sender in self.senders.items()}
        changed = people.renew(self.ada, self.products) | people.renew(self.bob, self.products)
        for old, new in changed.items():
            for form in self.targets.forms:
                form.replace(old, new)
        self.targets.real = real_values(self)


def make_world(ask: Callable[[Request], Answer]) -> World:
    """Fill the database, and read the forms of all pages by ``ask``."""
    User.objects.get_or_create(username="somebody")
    products = [
        Product.objects.create(sku=sku, slug=sku.lower(), name=sku.title(), price=price)
        for sku, price in PRODUCTS
    ]
    for product in products:
        stock.receive(product, 1_000_000)
    FlashSale.objects.create(
        stock=1, buyers=1, quantity_min=1, quantity_max=1, processes=1, threads=1, payment_ms=0
    )
    StockAlert.objects.create(
        product=products[0], kind="LOW_STOCK", received=1, available=1, held=0, sold=0, recorded=1
    )
    ada, bob = people.give(people.ADA, products), people.give(people.BOB, products)
    order = ada.orders["paid"]
    ShopAlert.objects.create(kind="REFUND_LATE", subject="1", order=order, text="It is late.")
    targets = Targets(list(addresses.walk(get_resolver())), names=names_in_queries())
    world = World(products, ada, bob, targets)
    world.renew()
    targets.forms = [LOGIN, *read_forms(world, ask)]
    return world


def restore_products() -> None:
    for sku, price in PRODUCTS:
        Product.objects.filter(slug=sku.lower()).update(
            is_active=True, price=price, strategy="", max_per_buyer=None
        )


def real_values(world: World) -> dict[str, list[str]]:
    """Values of existing things, by the name of the part of an address or of a form's field."""
    theirs = [*world.bob.orders.values(), *world.ada.orders.values()]
    holds = [str(world.bob.hold.pk), str(world.ada.hold.pk)]
    keys = [payment.key for order in theirs for payment in order.payments.all()]
    charges = {charge.key: charge for charge in DemoBankCharge.objects.filter(key__in=keys)}
    found = [charges[key] for key in keys if key in charges]
    mails = OutboxMail.objects.filter(order__in=theirs).order_by("pk")
    return {
        **objects_of_models(),
        "admin/shop/order": [str(order.pk) for order in theirs],
        "slug": ["mug", "lamp"],
        "product": ["mug", "1"],
        "hold_id": holds,
        "hold": holds,
        "token": [order.token for order in theirs],
        "reference": [charge.reference for charge in found],
        "provider": ["demo"],
        "pk": [str(each.pk) for each in (*mails[:2], *found[-2:])],
        "network": ["127.0.0.1", "unknown"],
        "app_label": ["shop", "inventory", "auth", "admin"],
        "model_name": ["order", "reservation", "user", "logentry"],
        "field_name": ["product", "user", "order"],
        "content_type_id": ["1", "7"],
        "quantity": ["1"],
        "choice": ["approve", "decline", "lose", "late"],
        "step": ["give-back", "let-fail", "dispute", "decide-for-shop", "decline-refunds"],
        "refund": [str(pk) for pk in DemoBankRefund.objects.values_list("pk", flat=True)[:5]],
        "amount": ["0.01"],
        "confirmed": ["yes"],
        "action": ["release_ticked", "switch_off_ticked", "delete_or_refuse", "delete_selected"],
        "_selected_action": ["1", holds[0]],
        "_to_field": ["id"],
        "_popup": ["1"],
        "all": ["1"],
        "s": ["order"],
        "term": ["m"],
        "page": ["1"],
        "next": ["/admin/"],
        "username": ["fuzz-merchant", "fuzz-auditor"],
        "password": [PASSWORD],
        "old_password": [PASSWORD],
    }


def objects_of_models() -> dict[str, list[str]]:
    """The primary keys of some objects of each model that the admin has."""
    return {
        f"admin/{model._meta.app_label}/{model._meta.model_name}": [
            str(pk)
            for pk in model._base_manager.order_by("pk").values_list("pk", flat=True)[
                :MOST_OF_A_MODEL
            ]
        ]
        for model in admin.site._registry
    }


def names_in_queries() -> dict[str, list[str]]:
    """The names in queries of the admin's lists, for filters and sorting, and others to try."""
    lookups = ["", "__in", "__gt", "__isnull", "__regex", "__year", "__range", "__nonsense"]
    filters = ["__exact", "__id__exact", "__isnull", "_from_0", "_from_1", "_to_0", "_to_1"]
    lists = {
        f"/admin/{model._meta.app_label}/{model._meta.model_name}/": [
            *LIST,
            *(
                field.name + lookup
                for field in model._meta.get_fields()
                for lookup in lookups + 3 * filters
            ),
        ]
        for model in admin.site._registry
    }
    return {
        **lists,
        "/admin/search/": ["s", "page", "extended"],
        "/admin/login/": ["next"],
        "/admin/autocomplete/": ["app_label", "model_name", "field_name", "term", "page"],
    }


def read_forms(world: World, ask: Callable[[Request], Answer]) -> list[Form]:
    """The forms of all pages, as Bob and a superuser see them."""
    forms: dict[tuple[str, ...], Form] = {}
    for role in ("buyer", "superuser"):
        for request in pages(world, role):
            answer = ask(request)
            if answer.status != 200 or answer.kind != "text/html":
                continue
            for form in forms_of_page(answer.body, request.path):
                forms.setdefault(form.shape, form)
    return list(forms.values())


def pages(world: World, role: str) -> Iterator[Request]:
    """A request for each page, by each kind of order where it is about one."""
    chance = random.Random(0)
    headers = {"Host": "localhost", "Cookie": world.targets.cookies[role]}
    for address in world.targets.addresses:
        names, is_for_staff = address.names, address.route.startswith(FOR_STAFF)
        if "url" in names or is_for_staff != (role != "buyer"):
            continue
        known = [world.targets.real.get(key_of(address.route, name)) for name in names]
        values = [each or ["1"] for each in known]
        is_of_order = "token" in names or (names and "admin/shop/order/" in address.route)
        kinds = range(len(people.KINDS) if is_of_order else 1)
        for kind in kinds:
            chosen = {
                name: each[kind] if kind < len(each) else chance.choice(each)
                for name, each in zip(names, values, strict=True)
            }
            yield Request("GET", address.path(chosen), headers=headers, sender=role)


def key_of(route: str, name: str) -> str:
    """The key in ``Targets.real`` of a part of a route."""
    return "/".join(route.split("/")[:3]) if name in ("object_id", "id") else name
