"""Indexes for lists of products and a buyer's reservations, without stopping buyers meanwhile."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

FOR_SALE = Q(is_active=True, is_exhibit=False)
OF_PRODUCTS = [
    models.Index(name="product_by_name", fields=["name", "id"]),
    models.Index(name="product_sale_by_name", fields=["name", "id"], condition=FOR_SALE),
    models.Index(name="product_sale_by_price", fields=["price", "name", "id"], condition=FOR_SALE),
    models.Index(
        name="product_sale_by_price_down", fields=["-price", "name", "id"], condition=FOR_SALE
    ),
    models.Index(name="product_sale_newest", fields=["-created_at", "-id"], condition=FOR_SALE),
    models.Index(
        name="product_with_low_stock",
        fields=["name", "id"],
        condition=Q(low_stock_threshold__gt=0),
    ),
    models.Index(name="product_own_strategy", fields=["strategy"], condition=~Q(strategy="")),
    models.Index(name="product_exhibit", fields=["id"], condition=Q(is_exhibit=True)),
]
OF_RESERVATIONS = [
    models.Index(
        name="reservation_ended_of_buyer",
        fields=["buyer"],
        condition=Q(status__in=["RELEASED", "EXPIRED"]),
    ),
]


class Migration(migrations.Migration):
    atomic = False  # as CONCURRENTLY demands

    dependencies = [("inventory", "0014_sums_of_checks")]

    operations = [
        *(AddIndexConcurrently("product", index) for index in OF_PRODUCTS),
        *(AddIndexConcurrently("reservation", index) for index in OF_RESERVATIONS),
    ]
