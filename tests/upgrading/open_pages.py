"""Open each page of the shop and of its admin, and print the answer's status and address."""

from __future__ import annotations

from collections.abc import Iterator

import django

django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402

from inventory.models import Product  # noqa: E402
from shop.models import Order  # noqa: E402


def main() -> None:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.filter(is_superuser=True).earliest("pk"))
    for url in [*pages_of_shop(), *pages_of_admin()]:
        print(client.get(url).status_code, url)


def pages_of_shop() -> Iterator[str]:
    yield from ("/", "/basket/", "/help/stock/", "/healthz")
    for product in Product.objects.for_sale():
        yield reverse("product", args=[product.slug])
    for order in Order.objects.all():
        yield reverse("order", args=[order.token])


def pages_of_admin() -> Iterator[str]:
    """The dashboard, each list, and in each list the first and the last row."""
    yield "/admin/"
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"{name}_changelist")
        keys = list(model._default_manager.order_by("pk").values_list("pk", flat=True))
        for key in {*keys[:1], *keys[-1:]}:
            yield reverse(f"{name}_change", args=[key])


if __name__ == "__main__":
    main()
