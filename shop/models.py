"""Orders and their payments, and the shop's other tables. The rules are in ``shop.orders``."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Now
from django.utils.crypto import get_random_string
from django.utils.functional import cached_property
from django.utils.text import capfirst

from inventory.models import Alert, AlertQuerySet, Product, Reservation
from inventory.words import counted
from shop import logs, money
from shop.address import Address
from shop.grouped_lines import GroupedLine, grouped_order_lines

TRY_AGAIN_AFTER = timedelta(seconds=50)
NUMBER_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # none that is mistaken for another


def new_token() -> str:
    """A key that can't be guessed."""
    return get_random_string(32)


def new_number() -> str:
    """An order's number for people; it doesn't tell how many orders there are."""
    letters = get_random_string(8, NUMBER_LETTERS)
    return f"{letters[:4]}-{letters[4:]}"


class OrderQuerySet(models.QuerySet["Order"]):
    def pending(self) -> OrderQuerySet:
        return self.filter(state=Order.State.PENDING)

    def of_buyer(self, buyer: str) -> OrderQuerySet:
        return self.filter(buyer=buyer)

    def with_product(self, product_id: int | F) -> OrderQuerySet:
        """Orders with a line of this product, among the few that another condition finds.

        No index on products serves it, as with ``ReservationQuerySet.only_of``.
        """
        with_lines = self.alias(product_number=F("lines__reservation__product_id") + 0)
        return with_lines.filter(product_number=product_id)


class Order(models.Model):
    """The units that a buyer ordered at the prices of the holds, and the state of the order."""

    class State(models.TextChoices):
        PENDING = "PENDING", "waiting for payment"
        PAID = "PAID", "paid"
        SHIPPED = "SHIPPED", "shipped"
        CANCELLED = "CANCELLED", "cancelled"
        REFUNDED = "REFUNDED", "refunded"

    ADDRESS_FIELDS = ("street", "postcode", "town", "country")
    # The buyer's entries at the checkout, in the order of its form. They are saved, compared,
    # corrected and shown to staff by this list alone.
    CHECKOUT_FIELDS = ("name", "email", *ADDRESS_FIELDS)
    PRIVATE_FIELDS = ("name", "email", "street", "town")  # which no log line shows

    token = models.CharField(max_length=43, unique=True, default=new_token, editable=False)
    number = models.CharField(max_length=9, unique=True, default=new_number, editable=False)
    idempotency_key = models.CharField(max_length=100, unique=True)
    buyer = models.CharField(max_length=64, help_text="An opaque key.")
    name = models.CharField(max_length=200)
    email = models.EmailField("e-mail", max_length=254)
    email_key = models.CharField(
        max_length=254,
        editable=False,
        help_text="The e-mail address as limits per customer compare it.",
    )
    # In orders older than the parts of the address, ``street`` has the whole address.
    street = models.TextField("street address", max_length=1000)
    postcode = models.CharField(max_length=20, blank=True)
    town = models.CharField(max_length=100, blank=True)
    country = models.CharField(max_length=2, blank=True, help_text="ISO code.")
    currency = models.CharField(max_length=3)
    shipping_cost = models.DecimalField(max_digits=10, decimal_places=2)
    total = models.DecimalField(
        max_digits=12, decimal_places=2, help_text="Goods and shipping, tax included."
    )
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    tracking = models.CharField("tracking reference", max_length=100, blank=True)
    placed_at = models.DateTimeField(db_default=Now())
    paid_at = models.DateTimeField(null=True, blank=True)
    shipped_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was cancelled, or refunded in whole."
    )

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-placed_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                name="order_amounts_add_up",
                condition=Q(shipping_cost__gte=0) & Q(total__gte=F("shipping_cost")),
            ),
            models.CheckConstraint(
                name="order_paid_at_if_paid",
                condition=~Q(state__in=["PAID", "SHIPPED"]) | Q(paid_at__isnull=False),
            ),
            models.CheckConstraint(
                name="order_closed_at_if_closed",
                condition=Q(state__in=["CANCELLED", "REFUNDED"], closed_at__isnull=False)
                | Q(state__in=["PENDING", "PAID", "SHIPPED"], closed_at__isnull=True),
            ),
        ]
        indexes = [
            # The admin's list, newest first.
            models.Index(name="order_by_date", fields=["-placed_at"]),
            # The worker: the orders that still wait (orders.close_abandoned).
            models.Index(name="order_pending", fields=["placed_at"], condition=Q(state="PENDING")),
            # The orders that wait to be shipped, the oldest first (the dashboard and its list).
            models.Index(name="order_to_ship", fields=["placed_at"], condition=Q(state="PAID")),
            # The few in a state that the admin's list would look for among all orders.
            models.Index(
                name="order_refunded", fields=["placed_at"], condition=Q(state="REFUNDED")
            ),
            # A buyer's own orders.
            models.Index(name="order_of_buyer", fields=["buyer", "placed_at"]),
            # The orders that count against max_per_buyer, across browsers (customer_limits).
            models.Index(name="order_of_email", fields=["email_key"]),
        ]

    def __str__(self) -> str:
        return f"{self.number}, {self.get_state_display()}"

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the order of a row. An error about it must not put its buyer into the log."""
        order = super().from_db(*args, **kwargs)
        known = vars(order)
        logs.hide(known[name] for name in cls.PRIVATE_FIELDS if name in known)
        return order

    @property
    def address(self) -> str:
        """The postal address in text lines, with the country's name."""
        return str(Address(self.street, self.postcode, self.town, self.country))

    @property
    def typed(self) -> dict[str, Any]:
        """The buyer's entries at the checkout, by field."""
        return {name: getattr(self, name) for name in self.CHECKOUT_FIELDS}

    @classmethod
    def further_fields(cls) -> list[str]:
        """The checkout's fields other than name, e-mail and address."""
        known = {"name", "email", *cls.ADDRESS_FIELDS}
        return [name for name in cls.CHECKOUT_FIELDS if name not in known]

    @property
    def further_details(self) -> list[tuple[str, Any]]:
        """The further fields that aren't empty: the label and the text of each."""
        names = self.further_fields()
        return [
            (str(capfirst(field.verbose_name)), _displayed(self, field.name))
            for field in self._meta.fields
            if field.name in names and getattr(self, field.name)
        ]

    @property
    def is_open(self) -> bool:
        """Whether it waits for its payment."""
        return self.state == self.State.PENDING

    @property
    def is_closed(self) -> bool:
        """Whether neither the buyer nor the shop has anything left to do for it."""
        return self.state in (self.State.CANCELLED, self.State.REFUNDED)

    def state_for_buyer(self) -> str:
        """The state in a word that is true for its buyer: a refund may still be owed."""
        return "closed" if self.state == self.State.REFUNDED else self.get_state_display()

    @property
    def can_be_cancelled(self) -> bool:
        return self.state in (self.State.PENDING, self.State.PAID)

    @cached_property
    def hold_ids(self) -> list[uuid.UUID]:
        """The reservations of its lines, which never change. ``lock_order`` reads them along."""
        return list(self.lines.values_list("reservation_id", flat=True))

    @property
    def goods(self) -> Decimal:
        """Price of the goods, without shipping."""
        return self.total - self.shipping_cost

    def grouped_lines(self) -> list[GroupedLine]:
        """The order's lines as the buyer reads them: one for each product and price."""
        return grouped_order_lines(self.lines.all())

    def paid(self) -> Decimal:
        """The sum that was charged for it, in its currency."""
        return _total(Payment.objects.filter(order=self, state=Payment.State.PAID))

    def refunded(self) -> Decimal:
        """The sum that was given back or is due to be."""
        return _total(Refund.objects.counted().filter(payment__order=self))

    def given_back(self) -> Decimal:
        """The part of it that the provider, or staff by hand, has given back."""
        return _total(Refund.objects.filter(payment__order=self, state=Refund.State.DONE))

    def owed(self) -> Decimal:
        """The part of it that the buyer has not got yet: due, or declined by the provider."""
        return _total(Refund.objects.owed().filter(payment__order=self))

    def refunded_at_provider(self) -> Decimal:
        """The part of it that was given back at the provider, not by this shop."""
        at_provider = Refund.objects.counted().filter(reason=Refund.Reason.AT_PROVIDER)
        return _total(at_provider.filter(payment__order=self))

    def disputed(self) -> Decimal:
        """The sum that buyers' banks have taken back from us, for the time being or for good."""
        return _total(Dispute.objects.taken().filter(payment__order=self))

    def kept(self) -> Decimal:
        """The sum that was charged, and neither given back nor taken back."""
        return sum((payment.kept() for payment in self.payments.all()), Decimal(0))

    def worth(self) -> Decimal:
        """The price of the units that the buyer has or will get, less goodwill."""
        if self.state not in (self.State.PAID, self.State.SHIPPED):
            return Decimal(0)
        left = [line for line in self.lines.all() if line.left]
        price = sum((line.unit_price * line.left for line in left), Decimal(0))
        if left:
            price += self.shipping_cost
        goodwill = Refund.objects.counted().filter(
            payment__order=self, reason=Refund.Reason.GOODWILL
        )
        return max(price - _total(goodwill), Decimal(0))

    def worth_to_keep(self) -> Decimal:
        """The price of what the buyer has or will get, less what was given back for no units."""
        return max(self.worth() - self.refunded_at_provider(), Decimal(0))

    def back_if_won(self) -> Decimal:
        """The sum that goes back if open disputes are won, and the buyer gets none of the units."""
        return sum((payment.back_if_won() for payment in self.payments.all()), Decimal(0))

    def missing(self) -> Decimal:
        """The sum by which less is kept than the units are worth: the money went elsewhere."""
        return max(self.worth() - self.kept(), Decimal(0))

    def refunded_units(self) -> int:
        """The number of its units that were refunded, on sale again or not."""
        return sum(line.refunded for line in self.lines.all())

    def returned_units(self) -> int:
        """The number of its units that are on sale again."""
        returned: int | None = self.lines.aggregate(units=Sum("reservation__returned"))["units"]
        return returned or 0


class OrderLine(models.Model):
    """A reservation as it was ordered. Its price never changes."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="lines")
    reservation = models.OneToOneField(
        Reservation, on_delete=models.PROTECT, related_name="order_line"
    )
    sku = models.CharField("SKU", max_length=64)
    name = models.CharField(max_length=200)
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)
    quantity = models.PositiveIntegerField(help_text="Units.")
    refunded = models.PositiveIntegerField(
        default=0, help_text="Units refunded; their price was given back as far as it was kept."
    )

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                name="order_line_quantity_positive", condition=Q(quantity__gt=0)
            ),
            models.CheckConstraint(
                name="order_line_refunded_within_quantity",
                condition=Q(refunded__gte=0) & Q(refunded__lte=F("quantity")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.name}"

    @property
    def total(self) -> Decimal:
        return self.unit_price * self.quantity

    @property
    def left(self) -> int:
        """Units not refunded."""
        return self.quantity - self.refunded

    @property
    def off_sale(self) -> int:
        """Units that the buyer no longer has, and that can be put back on sale."""
        if self.order.is_closed:
            return self.reservation.still_sold
        return self.reservation.written_off


class PaymentQuerySet(models.QuerySet["Payment"]):
    def unanswered(self) -> PaymentQuerySet:
        """Payments whose end we don't know yet."""
        return self.filter(state=Payment.State.STARTED)

    def under_way(self) -> PaymentQuerySet:
        """Payments that their buyers may be making now (``Payment.is_under_way``)."""
        return self.unanswered().exclude(reference="")


class Payment(models.Model):
    """An attempt to pay for an order. The provider decides how it ends; we record its answer."""

    class State(models.TextChoices):
        STARTED = "STARTED", "started"
        PAID = "PAID", "paid"
        DECLINED = "DECLINED", "declined"

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="payments")
    provider = models.CharField(max_length=200)
    reference = models.CharField(
        max_length=200, blank=True, help_text="The provider's. Empty: it hasn't answered yet."
    )
    key = models.UUIDField(
        unique=True,
        default=uuid.uuid4,
        editable=False,
        help_text="Makes a repeated start return the same payment.",
    )
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=8, choices=State, default=State.STARTED)
    return_url = models.URLField(
        max_length=500, help_text="The order's page, where the provider sends the buyer back to."
    )
    started_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(help_text="The provider charges nothing after this.")
    decided_at = models.DateTimeField(null=True, blank=True)
    copy = models.TextField(
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="The order as it was then. The provider keeps it, too, for reconcile.",
    )
    fee = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="The provider's. Empty: unknown.",
    )
    fee_currency = models.CharField(max_length=3, blank=True, default="", db_default="")
    provider_page = models.URLField(
        max_length=500,
        blank=True,
        default="",
        db_default="",
        help_text="The payment in the provider's dashboard. Empty: unknown.",
    )
    statement_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When we asked for the statement on record.",
    )

    objects = PaymentQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(name="payment_amount_positive", condition=Q(amount__gt=0)),
            # Two at once could both charge.
            models.UniqueConstraint(
                name="payment_one_started_per_order",
                fields=["order"],
                condition=Q(state="STARTED"),
            ),
            models.UniqueConstraint(
                name="payment_reference_once",
                fields=["provider", "reference"],
                condition=~Q(reference=""),
            ),
        ]
        indexes = [
            # The worker: the payments to ask about (orders.unsettled_orders).
            models.Index(
                name="payment_started", fields=["started_at"], condition=Q(state="STARTED")
            ),
            # The worker: payments since the provider's last message (shop_alerts).
            models.Index(name="payment_paid", fields=["decided_at"], condition=Q(state="PAID")),
        ]

    def __str__(self) -> str:
        return f"{money.format_amount(self.amount, self.currency)}, {self.get_state_display()}"

    def disputed(self) -> Decimal:
        """The sum that the buyer's bank has taken back, for the time being or for good."""
        return _total(self.disputes.taken())

    @property
    def is_under_way(self) -> bool:
        """Whether the buyer may be paying now.

        Without a reference the provider has never answered, so the buyer was never sent there.
        """
        return self.state == self.State.STARTED and bool(self.reference)

    @property
    def was_in_vain(self) -> bool:
        """Whether its time went by, and nobody paid."""
        is_declined = self.state == self.State.DECLINED
        return is_declined and self.decided_at is not None and self.decided_at >= self.expires_at

    @property
    def was_not_accepted(self) -> bool:
        """Whether the provider did not even open it, though its time was not over."""
        is_declined = self.state == self.State.DECLINED and not self.reference
        return is_declined and self.decided_at is not None and self.decided_at < self.expires_at

    def kept(self) -> Decimal:
        """The sum that was charged, and neither given back nor taken back.

        It is never below zero, though a dispute may take what was given back already.
        """
        return self._kept_without(self.disputed())

    def back_if_won(self) -> Decimal:
        """The sum that we keep once more if the open disputes are decided for us."""
        lost = _total(self.disputes.filter(state=Dispute.State.LOST))
        return self._kept_without(lost) - self.kept()

    def _kept_without(self, taken: Decimal) -> Decimal:
        charged = self.amount if self.state == self.State.PAID else Decimal(0)
        return max(charged - _total(self.refunds.counted()) - taken, Decimal(0))


class RefundQuerySet(models.QuerySet["Refund"]):
    def counted(self) -> RefundQuerySet:
        """Refunds that were given or are owed."""
        return self.exclude(state=Refund.State.UNDONE)

    def owed(self) -> RefundQuerySet:
        """Refunds that the buyer has not got yet."""
        return self.filter(state__in=[Refund.State.DUE, Refund.State.FAILED])


class Refund(models.Model):
    """Money to give back: decided in a transaction, carried out by a job afterwards."""

    class State(models.TextChoices):
        DUE = "DUE", "owed, not confirmed yet"
        DONE = "DONE", "done"
        FAILED = "FAILED", "declined by the provider"
        """Or it failed there later. It is owed."""
        UNDONE = "UNDONE", "came to nothing, not owed"
        """It was made at the provider and failed there, or the buyer got it by a dispute."""

    class Reason(models.TextChoices):
        GOODS_GONE = "GOODS_GONE", "paid too late: not enough left"
        NOT_FOR_SALE = "NOT_FOR_SALE", "paid too late: not for sale any more"
        OVER_LIMIT = "OVER_LIMIT", "paid too late: over the limit per customer"
        PAID_TWICE = "PAID_TWICE", "paid twice"
        PAID_AFTER_END = "PAID_AFTER_END", "paid after the order was closed"
        CANCELLED = "CANCELLED", "order cancelled"
        RETURNED = "RETURNED", "goods returned or not sent"
        OVERSOLD = "OVERSOLD", "more was sold than there was"
        GOODWILL = "GOODWILL", "part of the price given back"
        AT_PROVIDER = "AT_PROVIDER", "given back at the provider"

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    key = models.CharField(
        max_length=100, unique=True, help_text="Keeps a repeated refund from happening twice."
    )
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    reason = models.CharField(max_length=14, choices=Reason)
    note = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=6, choices=State, default=State.DUE)
    problem = models.CharField(
        max_length=300, blank=True, help_text="Why the provider declined it the last time."
    )
    mailed_state = models.CharField(
        max_length=6,
        choices=State,
        blank=True,
        default="",
        db_default="",
        help_text="The state in the last e-mail to the buyer. Empty: no e-mail yet.",
    )
    by_hand = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="How staff gave it back after the provider had declined it. Empty: they didn’t.",
    )
    decided_at = models.DateTimeField(db_default=Now())
    carried_out_at = models.DateTimeField(null=True, blank=True)
    reference = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="The provider's. Empty: it has given nothing back yet.",
    )
    attempt = models.PositiveIntegerField(
        default=1,
        db_default=1,
        editable=False,
        help_text="It counts up when the provider has declined the refund, or failed to do it.",
    )
    copy = models.TextField(
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="The decision as it was made. The provider keeps it, too, for reconcile.",
    )

    objects = RefundQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(name="refund_amount_positive", condition=Q(amount__gt=0)),
        ]
        indexes = [
            # The worker: the refunds that are still due (orders.refunds.due_refunds).
            models.Index(name="refund_due", fields=["decided_at"], condition=Q(state="DUE")),
        ]

    def __str__(self) -> str:
        amount = money.format_amount(self.amount, self.payment.currency)
        return f"{amount}, {self.get_state_display()}"


def notes_of_money() -> dict[str, Subquery]:
    """Annotations of a page's orders: not null where ``owed``, or ``missing``, is to be counted.

    An EXISTS in their place would be answered for all orders at once, whatever the page shows.
    """
    return {
        "owes_money": Subquery(_owed_refunds().values("pk")[:1]),
        "may_miss_money": Subquery(_payments_with_losses().values("pk")[:1]),
    }


def _owed_refunds() -> models.QuerySet[Refund]:
    """The refunds that an order's buyer has not got yet."""
    return Refund.objects.owed().filter(payment__order=OuterRef("pk")).order_by()


def _payments_with_losses() -> models.QuerySet[Payment]:
    """An order's payments of which a dispute, or a refund made at the provider, took money."""
    disputes = Dispute.objects.taken().filter(payment=OuterRef("pk"))
    at_provider = Refund.objects.filter(payment=OuterRef("pk"), reason=Refund.Reason.AT_PROVIDER)
    payments = Payment.objects.filter(order=OuterRef("pk")).order_by()
    return payments.filter(Exists(disputes) | Exists(at_provider))


class DisputeQuerySet(models.QuerySet["Dispute"]):
    def undecided(self) -> DisputeQuerySet:
        return self.filter(state__in=[Dispute.State.INQUIRY, Dispute.State.OPEN])

    def taken(self) -> DisputeQuerySet:
        """Disputes whose money the buyer's bank has."""
        return self.filter(state__in=[Dispute.State.OPEN, Dispute.State.LOST])


class Dispute(models.Model):
    """The buyer's bank takes a payment back (a chargeback), or asks about it."""

    class State(models.TextChoices):
        INQUIRY = "INQUIRY", "the buyer’s bank asks"
        OPEN = "OPEN", "money taken until it is decided"
        WON = "WON", "decided for the shop"
        LOST = "LOST", "decided for the buyer"

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="disputes")
    reference = models.CharField(max_length=200, help_text="The provider's.")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    state = models.CharField(max_length=7, choices=State)
    reason = models.CharField(max_length=200, blank=True, help_text="In the provider's words.")
    opened_at = models.DateTimeField()
    noticed_at = models.DateTimeField(db_default=Now())
    decided_at = models.DateTimeField(null=True, blank=True)

    objects = DisputeQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(name="dispute_amount_positive", condition=Q(amount__gt=0)),
            models.UniqueConstraint(name="dispute_once", fields=["payment", "reference"]),
        ]
        indexes = [
            # The worker: disputes that still need an answer (shop_alerts).
            models.Index(
                name="dispute_undecided",
                fields=["opened_at"],
                condition=Q(state__in=["INQUIRY", "OPEN"]),
            ),
        ]

    def __str__(self) -> str:
        amount = money.format_amount(self.amount, self.payment.currency)
        return f"{amount}, {self.get_state_display()}"


class PaymentEvent(models.Model):
    """A provider's message, recorded once however often it was delivered."""

    provider = models.CharField(max_length=200)
    event_id = models.CharField(max_length=200)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="events")
    received_at = models.DateTimeField(db_default=Now())
    kind = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="The provider's name for what has happened.",
    )
    outcome = models.CharField(
        max_length=300,
        blank=True,
        default="",
        db_default="",
        help_text="Our findings when we asked, at the last delivery.",
    )
    deliveries = models.PositiveIntegerField(default=1, db_default=1)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(name="payment_event_once", fields=["provider", "event_id"]),
        ]
        indexes = [
            # The worker: the last message of a provider (shop_alerts).
            models.Index(name="payment_event_by_date", fields=["provider", "received_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_id}"


class HoldAddress(models.Model):
    """The network address that a hold came from, kept while it is held (``network_limits``).

    It is written before the reservation, and has its id: so there is no foreign key. Until the
    reservation is made, it stands for the units asked for.
    """

    reservation_id = models.UUIDField(primary_key=True)
    network = models.CharField(max_length=43, help_text="An IPv4 address, or an IPv6 network.")
    quantity = models.PositiveIntegerField(help_text="Units asked for.")
    claimed_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()
        indexes = [
            # The units that an address holds (network_limits.py).
            models.Index(name="hold_address_network", fields=["network"]),
        ]

    def __str__(self) -> str:
        return f"{counted(self.quantity, 'unit')} from {self.network}"


class Refusal(models.Model):
    """A buyer was refused units, since there were too few of them (``shop.refusals``)."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="+", db_index=False)
    quantity = models.PositiveIntegerField(help_text="Units asked for.")
    refused_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            # The refusals of the last day (dashboard.py); the deletion of old ones.
            models.Index(name="refusal_by_date", fields=["refused_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × product {self.product_id}"


class ShopAlertQuerySet(AlertQuerySet):
    def unsent(self) -> Self:
        """Alerts that the managers still have to get, except those just being sent."""
        trying = Q(tried_at__gt=Now() - TRY_AGAIN_AFTER)
        return self.filter(notified_at=None).exclude(trying)


class ShopAlert(Alert):
    """An alert of a trouble other than stock; at most one is open per kind and subject."""

    class Kind(models.TextChoices):
        REFUND_REFUSED = "REFUND_REFUSED", "refund declined"
        REFUND_LATE = "REFUND_LATE", "refund not carried out"
        PAYMENT_UNSETTLED = "PAYMENT_UNSETTLED", "payment not settled"
        START_DECLINED = "START_DECLINED", "payment not accepted by the provider"
        PAYMENT_DISPUTED = "PAYMENT_DISPUTED", "payment disputed"
        PROVIDER_REFUND = "PROVIDER_REFUND", "refunded at the provider"
        NO_MESSAGES = "NO_MESSAGES", "no messages of the provider arrive"
        RESTORED = "RESTORED", "provider knows more than the shop"
        MAIL_FAILED = "MAIL_FAILED", "e-mail not sent"
        JOB_FAILED = "JOB_FAILED", "background job failed"
        WORKER_GONE = "WORKER_GONE", "no worker runs"

    kind = models.CharField(max_length=17, choices=Kind)
    subject = models.CharField(
        max_length=128, blank=True, help_text="The thing that it is about, as the program names it."
    )
    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, null=True, blank=True, related_name="alerts"
    )
    text = models.TextField(help_text="For people; brought up to date while it is open.")
    tried_at = models.DateTimeField(
        null=True, blank=True, help_text="When a web process began to send it, as no worker ran."
    )

    objects = ShopAlertQuerySet.as_manager()

    class Meta:
        ordering = ["-raised_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                name="shop_alert_one_open_per_kind_and_subject",
                fields=["kind", "subject"],
                condition=Q(resolved_at=None),
            ),
        ]
        indexes = [
            # The worker: the alerts still to be sent (shop.notifications.alert_delivery).
            models.Index(name="shop_alert_unsent", fields=["id"], condition=Q(notified_at=None)),
            # The same trouble again soon after (shop.shop_alerts).
            models.Index(name="shop_alert_of_subject", fields=["kind", "subject", "resolved_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.text}"


class OutboxMail(models.Model):
    """An e-mail of a demo: kept to be read, and not sent (``shop.notifications.outbox``)."""

    order = models.ForeignKey(
        Order, on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    sender = models.TextField()
    recipients = models.TextField(help_text="Addresses, comma-separated.")
    subject = models.TextField()
    text = models.TextField()
    html = models.TextField(blank=True)
    sent_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            # The outbox, newest first; the deletion of old e-mails.
            models.Index(name="outbox_mail_by_date", fields=["-sent_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.subject}, to {self.recipients}"


# The demo bank's database. It stands for another company's system: only shop.payments.demo and
# demo_dashboard beside it read and write it, in transactions of their own.


class DemoBankCharge(models.Model):
    """The bank's own record of a payment."""

    class State(models.TextChoices):
        OPEN = "OPEN", "waiting for the customer"
        APPROVED = "APPROVED", "approved"
        DECLINED = "DECLINED", "declined"

    key = models.UUIDField(unique=True, help_text="The shop's: one charge per payment.")
    reference = models.CharField(max_length=43, unique=True, default=new_token)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=3)
    description = models.CharField(max_length=200)
    return_url = models.URLField(max_length=500)
    expires_at = models.DateTimeField()
    started_at = models.DateTimeField(db_default=Now())
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    approve_at = models.DateTimeField(
        null=True, blank=True, help_text="When the money arrives, if the customer has approved."
    )
    copy = models.TextField(blank=True, default="", db_default="", help_text="The shop's.")
    declines_refunds = models.BooleanField(
        default=False, db_default=False, help_text="It refuses all further refunds of this charge."
    )
    changed_at = models.DateTimeField(
        db_default=Now(), help_text="When it, its refunds or its dispute changed the last time."
    )

    def __str__(self) -> str:
        return f"{money.format_amount(self.amount, self.currency)}, {self.get_state_display()}"

    def given_back(self) -> Decimal:
        """The sum that the customer has got back, without what a dispute has taken."""
        return _total(self.refunds.filter(state=DemoBankRefund.State.DONE))


class DemoBankRefund(models.Model):
    """Money that the bank has given back, or an attempt that failed."""

    class State(models.TextChoices):
        DONE = "DONE", "given back"
        FAILED = "FAILED", "failed"

    charge = models.ForeignKey(DemoBankCharge, on_delete=models.PROTECT, related_name="refunds")
    key = models.CharField(max_length=100, blank=True, help_text="The shop's. Empty: by the bank.")
    attempt = models.PositiveIntegerField(default=1, db_default=1, help_text="The shop's.")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    state = models.CharField(
        max_length=6, choices=State, default=State.DONE, db_default=State.DONE.value
    )
    made_at = models.DateTimeField(db_default=Now())
    copy = models.TextField(blank=True, default="", db_default="", help_text="The shop's.")
    problem = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="Why it failed."
    )
    form_key = models.UUIDField(
        null=True, blank=True, help_text="The bank's: a form that is sent twice counts once."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="demo_bank_refund_once", fields=["key", "attempt"], condition=~Q(key="")
            ),
            models.UniqueConstraint(name="demo_bank_form_once", fields=["charge", "form_key"]),
        ]

    def __str__(self) -> str:
        return money.format_amount(self.amount, self.charge.currency)


class DemoBankDispute(models.Model):
    """A customer's claim to get the money of a charge back."""

    class State(models.TextChoices):
        OPEN = "OPEN", "open"
        WON = "WON", "decided for the shop"
        LOST = "LOST", "decided for the customer"

    charge = models.OneToOneField(DemoBankCharge, on_delete=models.PROTECT, related_name="dispute")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    state = models.CharField(max_length=4, choices=State, default=State.OPEN)
    opened_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{money.format_amount(self.amount, self.charge.currency)}, {self.state}"


class GivenPermission(models.Model):
    """A permission that a group of staff was given, so that it isn't given again."""

    group = models.CharField(max_length=150, help_text="Its name when it was made.")
    permission = models.ForeignKey("auth.Permission", on_delete=models.CASCADE, related_name="+")

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                name="shop_permission_given_once", fields=["group", "permission"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group}: {self.permission}"


def _displayed(order: Order, name: str) -> Any:
    """The field's value as people read it."""
    display = getattr(order, f"get_{name}_display", None)  # of a field with choices
    return display() if display else getattr(order, name)


def _total(amounts: models.QuerySet[Any]) -> Decimal:
    total: Decimal | None = amounts.aggregate(total=Sum("amount"))["total"]
    return total or Decimal(0)
