"""Naive code under PostgreSQL's watch, which rolls back dangerous patterns of reads and writes."""

from django.db import OperationalError

from inventory.database import atomic, connection
from inventory.models import Product, Reservation
from inventory.postgres_errors import DEADLOCK_DETECTED, SERIALIZATION_FAILURE, sqlstate
from inventory.snapshots import check_buyer_limit
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal
from inventory.strategies.retry import attempts


class Serializable(Strategy):
    slug = "serializable"
    label = "SERIALIZABLE transaction"
    is_safe = True
    joins_transaction = False  # the isolation level is the whole transaction's
    how = (
        "The naive reads and writes in a transaction at isolation level SERIALIZABLE. Where two "
        "would not have come out as one after the other, PostgreSQL refuses one; it is retried."
    )
    when = "When the rule spans many rows and no lock covers it; every transaction must join in."

    def _attempt(self, request: Request, pay: Pay) -> Reservation:
        for _ in attempts(request.sku):
            try:
                return self._take(request, pay)
            except OperationalError as error:
                if sqlstate(error) not in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
                    raise
        raise AssertionError("attempts() ends by raising")

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with atomic():
            with connection().cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            check_buyer_limit(request)
            product = Product.objects.get(pk=request.product_id)
            if product.is_active and product.stock >= request.quantity:
                product.stock -= request.quantity
                product.version += 1
                product.save(update_fields=["stock", "version"])
                return record_hold(request)
        raise refusal(request)
