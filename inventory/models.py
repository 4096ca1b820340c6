"""The tables of the law (``inventory.law``).

Stock changes only through ``inventory.reservations`` and ``inventory.stock``.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pgtrigger
from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.db.models.lookups import GreaterThan, LessThanOrEqual, Lookup

from inventory import conf
from inventory.law import NAMES, WITH_LAPSED_HOLDS, Figures, figures_in_sql
from inventory.pictures import PictureField

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

STOCK_BACKSTOP = "product_stock_not_negative_while_backstop"
KEY_ONCE = "reservation_idempotency_key_once"
FOR_SALE = Q(is_active=True, is_exhibit=False)
LONGEST_BUYER = 64  # characters
LONGEST_KEY = 100
LONGEST_NOTE = 200

# Every transaction that takes stock below zero, in whatever way, also raises the alert. The trigger
# runs at its end, so that its own reservations count. The product's row is locked until then, so
# no other transaction raises or resolves an alert of it meanwhile (alerts.refresh).
RAISE_NEGATIVE_STOCK = f"""
    INSERT INTO inventory_stockalert (product_id, kind, {", ".join(NAMES)}, raised_at)
    SELECT id, 'NEGATIVE_STOCK', {", ".join(NAMES)}, statement_timestamp()
    FROM ({figures_in_sql("= NEW.id")}) AS product WHERE available < 0
    ON CONFLICT (product_id, kind) WHERE resolved_at IS NULL DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in NAMES)};
    RETURN NULL;
"""


class ProductQuerySet(models.QuerySet["Product"]):
    def for_sale(self) -> ProductQuerySet:
        """Products that customers see."""
        return self.filter(FOR_SALE)

    def catalogue(self) -> ProductQuerySet:
        """The shop's own products, without the exhibits of flash sales."""
        return self.filter(is_exhibit=False)

    def with_lapsed_holds(self) -> ProductQuerySet:
        """Products that have a lapsed hold: a few looks into the index for each with holds."""
        return self.filter(pk__in=RawSQL(WITH_LAPSED_HOLDS, ()))


class Product(models.Model):
    """A product with a limited number of units."""

    sku = models.CharField("SKU", max_length=64, unique=True)
    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    price = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(0)],
        help_text="Of one unit, tax included, in the shop's currency.",
    )
    picture = PictureField(upload_to="products/", blank=True)
    stock = models.IntegerField(
        default=0, editable=False, help_text="Units that anybody may take now."
    )
    units_received = models.IntegerField(
        default=0, editable=False, help_text="Units ever put on sale, less those taken off again."
    )
    version = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Raised by every write of stock."
    )
    backstop = models.BooleanField(
        default=True,
        help_text="PostgreSQL itself refuses to take stock below zero.",
    )
    low_stock_threshold = models.PositiveIntegerField(
        default=0,
        help_text="Raise an alert when fewer units than this are available. Baskets that come and "
        "go raise it once a day at most, until units are received.",
    )
    max_per_buyer = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many units one buyer may hold and have bought. Units that came back or "
        "were refunded don’t count. Empty: no limit.",
    )
    strategy = models.CharField(
        max_length=32,
        blank=True,
        help_text="How stock is taken. Empty: the shop's default.",
    )
    is_active = models.BooleanField("for sale", default=True)
    is_exhibit = models.BooleanField(
        default=False, editable=False, help_text="Made by a flash sale, to be broken."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(
                name=STOCK_BACKSTOP, condition=Q(stock__gte=0) | Q(backstop=False)
            ),
            models.CheckConstraint(
                name="product_units_received_not_negative", condition=Q(units_received__gte=0)
            ),
            models.CheckConstraint(name="product_price_not_negative", condition=Q(price__gte=0)),
            models.CheckConstraint(
                name="product_max_per_buyer_positive",
                condition=Q(max_per_buyer=None) | Q(max_per_buyer__gte=1),
            ),
        ]
        # None has a column that a reservation changes: that would cost every buyer.
        indexes = [
            # The admin's list, and the lists of products for sale: one page is read, not all of it.
            models.Index(name="product_by_name", fields=["name", "id"]),
            models.Index(name="product_sale_by_name", fields=["name", "id"], condition=FOR_SALE),
            models.Index(
                name="product_sale_by_price", fields=["price", "name", "id"], condition=FOR_SALE
            ),
            models.Index(
                name="product_sale_by_price_down",
                fields=["-price", "name", "id"],
                condition=FOR_SALE,
            ),
            models.Index(
                name="product_sale_newest", fields=["-created_at", "-id"], condition=FOR_SALE
            ),
            # The few that may be low (the admin's list of them, the dashboard).
            models.Index(
                name="product_with_low_stock",
                fields=["name", "id"],
                condition=Q(low_stock_threshold__gt=0),
            ),
            # The few with a strategy of their own (the shop's help page).
            models.Index(
                name="product_own_strategy", fields=["strategy"], condition=~Q(strategy="")
            ),
            # The few that flash sales made (the admin's lists of them).
            models.Index(name="product_exhibit", fields=["id"], condition=Q(is_exhibit=True)),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="raise_negative_stock",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.UpdateOf("stock"),  # type: ignore[no-untyped-call]
                condition=pgtrigger.Condition("NEW.stock < 0"),
                timing=pgtrigger.Deferred,
                func=RAISE_NEGATIVE_STOCK,
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def strategy_slug(self) -> str:
        """The strategy in use: the product's own, or else the default."""
        return self.strategy or conf.default_strategy()


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def all_held(self) -> ReservationQuerySet:
        """Holds, for all holds of a product: by the index of holds."""
        return self.filter(status=Reservation.Status.HELD)

    def held(self) -> ReservationQuerySet:
        """Holds among a few reservations that another condition finds: of a buyer, by their ids.

        Written so that no index of holds serves it. When a rush begins, the planner's statistics
        know of no holds yet, and it would read all holds to find these few (measured: 5 ms among
        30,000, each time).
        """
        return self.filter(_is_status(Reservation.Status.HELD))

    def all_lapsed(self) -> ReservationQuerySet:
        """Holds whose time is over by the database's clock, not yet taken back.

        For all holds of a product; for a few holds, see ``lapsed``.
        """
        return self.all_held().filter(expires_at__lte=Now())

    def lapsed(self) -> ReservationQuerySet:
        """The same of a buyer: by the index on buyers, and by no other."""
        return self._with_time_left(LessThanOrEqual)

    def alive(self) -> ReservationQuerySet:
        """Holds of a buyer whose time is not over yet: by the index on buyers, and by no other."""
        return self._with_time_left(GreaterThan)

    def _with_time_left(self, comparison: type[Lookup[Any]]) -> ReservationQuerySet:
        """Holds whose time left compares with zero in this way."""
        time_left = Case(When(status=Reservation.Status.HELD, then=F("expires_at") - Now()))
        return self.counted().filter(comparison(time_left, timedelta(0)))

    def sold(self) -> ReservationQuerySet:
        """Sales among a few reservations, as ``held``."""
        return self.filter(_is_status(Reservation.Status.SOLD))

    def counted(self) -> ReservationQuerySet:
        """Held or sold, of a buyer: the index on buyers has these."""
        return self.filter(status__in=[Reservation.Status.HELD, Reservation.Status.SOLD])

    def of_buyer(self, buyer: str, product: Product | int | F | None = None) -> ReservationQuerySet:
        """Reservations of a buyer; of all products, or of one."""
        found = self.filter(buyer=buyer)
        return found if product is None else found.only_of(product)

    def only_of(self, product: Product | int | F) -> ReservationQuerySet:
        """Those of a product, among the few that another condition finds.

        Written so that no index on products serves it, as ``held`` is: PostgreSQL must not read
        all reservations of the product.
        """
        product_id = product.pk if isinstance(product, Product) else product
        return self.alias(number=F("product_id") + 0).filter(number=product_id)

    def units(self) -> int:
        """The units that buyers have: held, or sold and neither returned nor written off."""
        total: int | None = self.aggregate(
            units=models.Sum(
                F("quantity") - F("returned") - F("written_off"),
                filter=Q(status__in=[Reservation.Status.HELD, Reservation.Status.SOLD]),
            )
        )["units"]
        return total or 0


def _is_status(status: Reservation.Status) -> Case:
    """A condition that implies no partial index's condition, for the planner."""
    return Case(When(status=status, then=Value(True)), default=Value(False))


class Reservation(models.Model):
    """A hold on units of a product. It becomes a sale, is released, or expires."""

    class Status(models.TextChoices):
        HELD = "HELD", "held"
        SOLD = "SOLD", "sold"
        RELEASED = "RELEASED", "released"
        EXPIRED = "EXPIRED", "expired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    product = models.ForeignKey(
        Product, on_delete=models.PROTECT, related_name="reservations", db_index=False
    )
    quantity = models.PositiveIntegerField(help_text="Units.")
    returned = models.PositiveIntegerField(
        default=0, help_text="Units sold that came back, and are on sale again."
    )
    written_off = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="Units sold that the buyer has no more, and that are not on sale again.",
    )
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)
    status = models.CharField(max_length=8, choices=Status, default=Status.HELD)
    buyer = models.CharField(max_length=LONGEST_BUYER, help_text="An opaque key.")
    expires_at = models.DateTimeField()
    idempotency_key = models.CharField(max_length=LONGEST_KEY, null=True, blank=True)
    strategy = models.CharField(max_length=32)
    created_at = models.DateTimeField(db_default=Now())
    decided_at = models.DateTimeField(null=True, blank=True)

    objects = ReservationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                name=KEY_ONCE,
                fields=["idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
            ),
            models.CheckConstraint(
                name="reservation_quantity_positive", condition=Q(quantity__gt=0)
            ),
            models.CheckConstraint(
                name="reservation_returned_within_quantity",
                condition=Q(returned__gte=0) & Q(returned__lte=F("quantity")),
            ),
            models.CheckConstraint(
                name="reservation_returned_only_if_sold",
                condition=Q(returned=0) | Q(status="SOLD"),
            ),
            models.CheckConstraint(
                name="reservation_written_off_within_quantity",
                condition=Q(written_off__gte=0) & Q(written_off__lte=F("quantity") - F("returned")),
            ),
            models.CheckConstraint(
                name="reservation_written_off_only_if_sold",
                condition=Q(written_off=0) | Q(status="SOLD"),
            ),
        ]
        indexes = [
            # A product's history, and its held and sold sums (locking.py, stock.repair).
            models.Index(name="reservation_of_product", fields=["product", "created_at"]),
            # The admin's list, newest first.
            models.Index(name="reservation_newest", fields=["-created_at"]),
            # A product's holds, those first that lapse first or last: what is available, and what
            # to take back (law.units_in_holds_in_sql, holds.take_back_lapsed). There must be no
            # second index of holds by their end, whatever the product. When a rush begins, the
            # planner's statistics know of no holds, both seem equally good, and it would take
            # that one and read all products' holds (measured).
            models.Index(
                name="reservation_lapse_of_product",
                fields=["product", "expires_at"],
                condition=Q(status="HELD"),
            ),
            # Recent sales (the shop's dashboard).
            models.Index(
                name="reservation_sold_at", fields=["decided_at"], condition=Q(status="SOLD")
            ),
            # Reservations released or taken back long ago (reservations.delete_ended).
            models.Index(
                name="reservation_ended",
                fields=["decided_at"],
                condition=Q(status__in=["RELEASED", "EXPIRED"]),
            ),
            # A buyer's basket, and the units that count against max_per_buyer.
            models.Index(
                name="reservation_of_buyer",
                fields=["buyer", "product"],
                condition=Q(status__in=["HELD", "SOLD"]),
            ),
            # The others of a buyer (the admin's search).
            models.Index(
                name="reservation_ended_of_buyer",
                fields=["buyer"],
                condition=Q(status__in=["RELEASED", "EXPIRED"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product}, {self.get_status_display()}"

    @property
    def still_sold(self) -> int:
        """Units of a sale that are not back on sale; 0 if the reservation is not a sale."""
        return self.quantity - self.returned if self.status == self.Status.SOLD else 0

    @property
    def kept(self) -> int:
        """Units of a sale that the buyer still has: neither returned nor written off."""
        return self.quantity - self.returned - self.written_off

    @property
    def total(self) -> Any:
        """The price of the whole reservation, in the shop's currency."""
        return self.unit_price * self.quantity


class StockMovement(models.Model):
    """Units put on sale or taken off again. Append-only: correct a mistake by another movement."""

    class Reason(models.TextChoices):
        DELIVERY = "DELIVERY", "delivery"
        STOCKTAKE = "STOCKTAKE", "stocktake"
        DAMAGE = "DAMAGE", "damaged or lost"
        SENT_BACK = "SENT_BACK", "sent back to the supplier"
        IMPORT = "IMPORT", "import"
        REPAIR = "REPAIR", "repair of the count"
        OTHER = "OTHER", "other"

    product = models.ForeignKey(
        Product, on_delete=models.PROTECT, related_name="movements", db_index=False
    )
    units = models.IntegerField(help_text="More than zero: received; less: removed; zero: repair.")
    reason = models.CharField(max_length=10, choices=Reason)
    note = models.CharField(max_length=LONGEST_NOTE, blank=True)
    stock_before = models.IntegerField()
    stock_after = models.IntegerField()
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: a command or a job.",
    )
    made_at = models.DateTimeField(db_default=Now())
    idempotency_key = models.CharField(max_length=LONGEST_KEY, null=True, blank=True)

    is_repeated = False  # true of what a request gets that was made before

    class Meta:
        ordering = ["-made_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                name="movement_idempotency_key_once",
                fields=["idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
            ),
            models.CheckConstraint(
                name="movement_adds_up",
                condition=Q(stock_after=F("stock_before") + F("units")) | Q(reason="REPAIR"),
            ),
            models.CheckConstraint(
                name="movement_of_no_units_is_a_repair", condition=~Q(units=0) | Q(reason="REPAIR")
            ),
        ]
        indexes = [
            # A product's history.
            models.Index(name="movement_of_product", fields=["product", "made_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.units:+d} × {self.product}, {self.get_reason_display()}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            self._refuse()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("Stock movements are append-only: make another one that mends it.")


class AlertQuerySet(models.QuerySet["Any"]):
    def open(self) -> Self:
        return self.filter(resolved_at=None)

    def unacknowledged(self) -> Self:
        """Open alerts that nobody has acknowledged."""
        return self.open().filter(acknowledged_at=None)

    def acknowledge(self, by: AbstractBaseUser) -> int:
        """Note that ``by`` has seen these; return how many of them were new to everybody."""
        return self.unacknowledged().update(acknowledged_at=Now(), acknowledged_by_id=by.pk)


class Alert(models.Model):
    """Something that a person must know: sent once, and open until it is right again."""

    raised_at = models.DateTimeField(db_default=Now())
    notified_at = models.DateTimeField(
        null=True, blank=True, help_text="Empty: still to be sent by the worker."
    )
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
    )
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class StockAlertQuerySet(AlertQuerySet):
    def unsent(self) -> Self:
        """Alerts to be sent to the managers; alerts of exhibits are never sent."""
        return self.filter(notified_at=None, product__is_exhibit=False)


class StockAlert(Figures, Alert):
    """Something about a product's stock that a merchant must know; at most one open per kind."""

    class Kind(models.TextChoices):
        NEGATIVE_STOCK = "NEGATIVE_STOCK", "stock below zero"
        OVERSOLD = "OVERSOLD", "oversold"
        DRIFT = "DRIFT", "drift"
        LOW_STOCK = "LOW_STOCK", "low stock"

    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=14, choices=Kind)
    # The product's figures, in units, kept up to date while the alert is open.
    received = models.IntegerField()
    available = models.IntegerField()
    held = models.IntegerField()
    sold = models.IntegerField()
    recorded = models.IntegerField(help_text="The sum of the stock movements.")

    objects = StockAlertQuerySet.as_manager()

    class Meta:
        ordering = ["-raised_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                name="alert_one_open_per_product_and_kind",
                fields=["product", "kind"],
                condition=Q(resolved_at=None),
            ),
        ]
        indexes = [
            # The worker: alerts to be sent (shop.notifications.alert_delivery).
            models.Index(name="alert_unsent", fields=["id"], condition=Q(notified_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.product}"

    @property
    def figures(self) -> str:
        """The figures in words, for the merchant."""
        if self.kind == self.Kind.LOW_STOCK:
            return f"{self.available} left"
        return self.in_words()


class StockCheck(models.Model):
    """The time and the outcome of the last check of all products; at most one row.

    Everything in it leaves exhibits out. Its sums are there for whoever asks more often than all
    reservations can be added up. They are empty until the first check that has made them.
    """

    checked_at = models.DateTimeField()
    broken = models.PositiveIntegerField(help_text="Products that broke the law, no exhibits.")
    # Units of all products together, on one snapshot.
    available = models.BigIntegerField(null=True)
    held = models.BigIntegerField(null=True)
    sold = models.BigIntegerField(null=True)
    oversold = models.BigIntegerField(null=True)
    drift = models.BigIntegerField(
        null=True, help_text="The sum of the sizes: +1 and -1 are two units of drift."
    )

    def __str__(self) -> str:
        return f"{self.checked_at:%Y-%m-%d %H:%M:%S}: {self.broken} broken"


class ImportFile(models.Model):
    """A CSV file that was previewed in the admin, until it is confirmed (import_files)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.CharField(max_length=100, help_text="Of which rows are in it.")
    name = models.CharField(max_length=200, help_text="As the user calls it.")
    content = models.BinaryField()
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    uploaded_at = models.DateTimeField(db_default=Now())
    imported_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=200, blank=True, help_text="The outcome of the import.")

    def __str__(self) -> str:
        return self.name
