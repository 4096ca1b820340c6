"""Nobody can look up a secret in the admin, or read one on its pages.

An auditor reads everything and changes nothing. But an order's token lets its holder cancel the
order, and the demo bank's reference lets its holder pay or decline: these are the buyer's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.db.models import Field, Model
from django.test import Client
from django.urls import get_resolver, reverse

from inventory.admin.base import GuardedAdmin
from inventory.models import Reservation
from shop import orders
from shop.models import DemoBankCharge, Order, Payment, Refund
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff
from tests.shop.orders.pages import Shopper, tell
from tests.shop.orders.steps import APPROVE, at_bank, place
from tests.tools.fuzz import addresses

# The names of secret fields. They cover fields of new models, too.
SECRET = re.compile(
    r"(^|_)(token|key|password|reference|secret|data|args|return_url|event_id)$|^buyer$"
)
ROLES = ["auditor", "merchant", ""]  # the last is a superuser
WAYS = ("", "__startswith", "__regex", "__gt", "__in", "__isnull")  # of looking a value up
# A list rejects all that it doesn't offer, whatever the way. Filters offer these two.
OFFERED = ("", "__isnull")
OTHER_WAYS = tuple(way for way in WAYS if way not in OFFERED)
MODELS = sorted(django_admin.site._registry, key=lambda model: model._meta.label)


def is_secret(field: Any) -> bool:
    return isinstance(field, Field) and not field.is_relation and bool(SECRET.search(field.name))


def secret_lookups(model: type[Model], relations: int = 3) -> Iterator[str]:
    """The secret fields of a model and of those that it is related to, as Django names them.

    ``relations`` is the greatest number of relations between a list and a secret.
    """
    for field in model._meta.get_fields():
        if is_secret(field):
            yield field.name
        elif field.is_relation and relations and isinstance(field.related_model, type):
            for lookup in secret_lookups(field.related_model, relations - 1):
                yield f"{field.name}__{lookup}"


def secrets_in_the_database() -> set[str]:
    """The values of all secret fields of all models, even models without a page."""
    found = {
        str(value)
        for model in apps.get_models()
        if model._meta.managed
        for field in model._meta.get_fields()
        if is_secret(field)
        for value in model._base_manager.values_list(field.name, flat=True)
        if value
    }
    parts = {part for value in found for part in value.split("$")}  # of a password's hash
    return {part for part in parts if len(part) > 8 and part != "pbkdf2_sha256"}


def changelist(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    """A paid order, partly refunded, of a buyer with a basket; each secret has a value."""
    product = make_product(9)
    shopper = Shopper("Ada", "Ada@Example.org")
    order, bank = shopper.order(product, 2)
    shopper.choose(bank, APPROVE)
    assert tell(order) == 200
    orders.refund(order.pk, units={order.lines.get().pk: 1})
    shopper.reserve(product)
    editor = User.objects.create_superuser("editor")
    User.objects.filter(pk=editor.pk).update(
        password="pbkdf2_sha256$1000000$saltsaltsalt$hash+hash/hash="
    )
    LogEntry.objects.log_actions(
        editor.pk, [order], 2, change_message="looked at", single_object=True
    )
    order.refresh_from_db()
    return order


def test_the_names_find_the_secrets_that_there_are() -> None:
    assert {"token", "buyer", "email_key", "idempotency_key", "payments__key"} <= set(
        secret_lookups(Order)
    )
    assert "order_line__order__token" in set(secret_lookups(Reservation))
    assert "user__password" in set(secret_lookups(LogEntry))
    assert "charge__reference" in set(secret_lookups(apps.get_model("shop.DemoBankRefund")))


def test_every_page_of_the_admin_is_guarded() -> None:
    for model, model_admin in django_admin.site._registry.items():
        assert isinstance(model_admin, GuardedAdmin), model


in_each_way = pytest.mark.parametrize(
    "ways",
    [
        pytest.param(OFFERED, id="as filters do"),
        pytest.param(OTHER_WAYS, id="in other ways", marks=pytest.mark.thorough),
    ],
)


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
@in_each_way
def test_no_answer_depends_on_a_secret(
    staff: Staff, order: Order, role: str, ways: tuple[str, ...]
) -> None:
    client = staff(role)
    for model in MODELS:
        guess_secrets(client, model, relations=1, ways=ways)


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
@in_each_way
def test_no_answer_depends_on_a_secret_far_away(
    admin: Client, order: Order, model: type[Model], ways: tuple[str, ...]
) -> None:
    guess_secrets(admin, model, relations=3, ways=ways)


def guess_secrets(
    client: Client, model: type[Model], *, relations: int, ways: tuple[str, ...]
) -> None:
    """Ask a list for its rows by each secret, with right guesses and wrong ones."""
    addresses = [changelist(model)]
    if "import_export_change_list_template" in dir(django_admin.site._registry[model]):
        addresses.append(f"{changelist(model)}export/")
    for lookup in sorted(set(secret_lookups(model, relations))):
        values = model._base_manager.exclude(**{lookup: None}).values_list(lookup, flat=True)
        value = str(values.first() or "abc")
        guesses = {
            "": (value, f"{value[:-1]}~"),
            "__startswith": (value[:2], "~"),
            "__regex": (".", "^~"),
            "__gt": ("", "~"),
            "__in": (f"{value},~", "~"),
            "__isnull": ("0", "1"),
        }
        for address in addresses:
            for way in ways:
                name = f"{lookup}{way}"
                answers = [client.get(address, {name: guess}) for guess in guesses[way]]
                statuses = {answer.status_code for answer in answers}
                assert statuses in ({400}, {403}), (address, name, statuses)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "role", ["auditor", "", pytest.param("merchant", marks=pytest.mark.thorough)]
)
def test_no_page_shows_a_secret(staff: Staff, order: Order, role: str) -> None:
    client = staff(role)
    hidden = secrets_in_the_database()
    assert {order.token, order.buyer, str(order.payments.get().key)} <= hidden
    assert {order.payments.get().reference, order.payments.get().return_url} <= hidden
    read = 0
    for address in pages_of_the_admin():
        response = client.get(address, follow=True)
        read += response.status_code == 200
        page = response.content.decode()
        shown = {secret for secret in hidden if secret in page}
        assert not shown, (address, shown)
    assert read > 20


def pages_of_the_admin() -> Iterator[str]:
    """The address of each page, of each object that it can be about."""
    for route in (address.route for address in addresses.walk(get_resolver())):
        if not route.startswith("admin/") or "logout" in route:
            continue
        if "<" not in route:
            yield f"/{route}"
        for model in MODELS:
            start = f"admin/{model._meta.app_label}/{model._meta.model_name}/<path:object_id>/"
            if route.startswith(start):
                for obj in model._base_manager.all():
                    yield f"/{route.replace('<path:object_id>', quote(str(obj.pk)))}"


@pytest.mark.django_db
def test_no_list_is_sorted_by_a_secret(admin: Client, order: Order) -> None:
    for model in MODELS:
        columns = len(admin.get(changelist(model)).context["cl"].list_display)
        for column in range(columns):
            response = admin.get(changelist(model), {"o": str(column)})
            for name in response.context["cl"].queryset.query.order_by:
                assert not SECRET.search(str(name).lstrip("-").split("__")[-1]), (model, name)


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_named_by_a_secret(staff: Staff, order: Order, role: str) -> None:
    client = staff(role)
    for model in MODELS:
        obj = model._base_manager.first()
        assert obj is not None or model not in (Order, Payment, User)
        for field in filter(is_secret, model._meta.get_fields()):
            named = {"_to_field": field.name}
            assert client.get(changelist(model), named).status_code in (400, 403)
            value = (obj and getattr(obj, field.name)) or "x"
            page = changelist(model) + f"{quote(str(value))}/change/"
            assert client.get(page, named).status_code in (400, 403), page


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["change", "delete", "history"])
def test_no_object_is_named_by_nothing(staff: Staff, page: str) -> None:
    client = staff("auditor")
    for model in MODELS:
        answer = client.get(f"{changelist(model)}1/{page}/?_to_field=")
        assert answer.status_code in (200, 302, 403, 404), model


@pytest.mark.django_db
def test_a_search_finds_no_part_of_a_secret(staff: Staff, order: Order) -> None:
    client = staff("auditor")
    payment = order.payments.get()
    for model in (Order, Payment, Refund, Reservation):
        nothing = client.get(changelist(model), {"q": "~ nothing ~"})
        assert list(nothing.context["cl"].result_list) == []
        for secret in (order.token, order.buyer, payment.reference, str(payment.key)):
            answer = client.get(changelist(model), {"q": secret[:20]})
            assert list(answer.context["cl"].result_list) == [], (model, secret)
    long = [secret for secret in secrets_in_the_database() if len(secret) > 20]
    for relation in relations():
        for secret in long:
            answer = client.get("/admin/autocomplete/", {**relation, "term": secret[:20]})
            assert answer.status_code in (403, 404) or answer.json()["results"] == [], relation


def relations() -> Iterator[dict[str, str]]:
    """Each foreign key, as the admin's fields that complete what is typed name it."""
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if field.is_relation and field.concrete:
                yield {
                    "app_label": model._meta.app_label,
                    "model_name": str(model._meta.model_name),
                    "field_name": field.name,
                }


@pytest.mark.django_db
def test_an_auditor_does_not_come_to_the_buyers_pages(
    staff: Staff, make_product: MakeProduct
) -> None:
    """By the link "view on site", or by a page that knows where an order is."""
    auditor = staff("auditor")
    order = place((make_product(3), 1))
    at_bank(order, APPROVE)
    for model in apps.get_models():
        assert not hasattr(model, "get_absolute_url"), model
    for obj in (order, order.payments.get(), DemoBankCharge.objects.get()):
        label = obj._meta
        page = f"/admin/{label.app_label}/{label.model_name}/{obj.pk}/change/"
        assert order.token not in auditor.get(page, follow=True).content.decode()


@pytest.mark.django_db
def test_lists_still_filter_by_what_they_offer(admin: Client, order: Order) -> None:
    product = order.lines.get().reservation.product
    nobody = Group.objects.create(name="nobody")
    for address, found in {
        f"{changelist(Order)}?state__exact=PAID": 1,
        f"{changelist(Order)}?state__exact=PENDING": 0,
        f"{changelist(Reservation)}?product__id__exact={product.pk}": 2,
        f"{changelist(User)}?is_superuser__exact=0": 0,
        f"{changelist(User)}?groups__id__exact={nobody.pk}": 0,
    }.items():
        response = admin.get(address)
        assert response.status_code == 200, address
        assert len(response.context["cl"].result_list) == found, address
