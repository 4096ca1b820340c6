"""The records of experiments: flash sales, and the results of each strategy in them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from inventory.models import Product
from inventory.words import counted


class FlashSale(models.Model):
    """One run of ``flash_sale``: many buyers at once on little stock, once per strategy."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "waiting for a worker"
        RUNNING = "RUNNING", "running"
        FINISHED = "FINISHED", "finished"
        BROKEN_OFF = "BROKEN_OFF", "broken off"

    strategies = models.JSONField(default=list, help_text="Slugs, in the order of their turns.")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    problem = models.CharField(max_length=300, blank=True, help_text="Why it was broken off.")
    stock = models.PositiveIntegerField(help_text="Units on sale.")
    buyers = models.PositiveIntegerField()
    quantity_min = models.PositiveIntegerField(help_text="The fewest units that a buyer asks for.")
    quantity_max = models.PositiveIntegerField(help_text="The most units that a buyer asks for.")
    processes = models.PositiveIntegerField()
    threads = models.PositiveIntegerField(help_text="In each process.")
    payment_ms = models.PositiveIntegerField(help_text="Milliseconds that a payment takes.")
    rounds = models.PositiveIntegerField(default=1)
    backstop = models.BooleanField(default=False)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=100, null=True, blank=True, unique=True)

    is_repeated = False  # set on the sale that a repeated request gets

    class Meta:
        db_table = "inventory_flashsale"  # the name from when the model belonged to the core
        ordering = ["-started_at", "-pk"]
        permissions = [("run_flashsale", "Can run a flash sale")]

    def __str__(self) -> str:
        return f"{counted(self.buyers, 'buyer')}, {counted(self.stock, 'unit')}"

    @property
    def number_of_turns(self) -> int:
        """The number of results when the sale is finished."""
        return len(self.strategies) * self.rounds

    @property
    def is_over(self) -> bool:
        return self.state in (self.State.FINISHED, self.State.BROKEN_OFF)

    @property
    def is_broken_off(self) -> bool:
        return self.state == self.State.BROKEN_OFF


class FlashSaleResult(models.Model):
    """The result of one strategy in one round of a flash sale."""

    flash_sale = models.ForeignKey(FlashSale, on_delete=models.CASCADE, related_name="results")
    product = models.ForeignKey(
        Product, on_delete=models.PROTECT, related_name="+", help_text="The exhibit."
    )
    strategy = models.CharField(max_length=32)
    safe = models.BooleanField(help_text="Whether the strategy calls itself safe.")
    round = models.PositiveIntegerField(default=1)
    sold = models.IntegerField(help_text="Units.")
    refused = models.PositiveIntegerField(help_text="Buyers.")
    falsely_refused = models.PositiveIntegerField(
        default=0, help_text="Buyers refused though enough units were always available."
    )
    failed = models.PositiveIntegerField(help_text="Buyers who got no answer.")
    first_error = models.CharField(max_length=300, blank=True)
    unrecorded = models.PositiveIntegerField(
        default=0,
        help_text="Units that buyers believe they have bought, but that aren't on record.",
    )
    stock_left = models.IntegerField(help_text="Units.")
    oversold = models.PositiveIntegerField(help_text="Units.")
    drift = models.IntegerField(help_text="Units.")
    per_second = models.FloatField(help_text="Purchases.")
    p50_ms = models.FloatField(null=True, help_text="Latency of reserving, in milliseconds.")
    p95_ms = models.FloatField(null=True)
    p99_ms = models.FloatField(null=True)
    verdict = models.CharField(max_length=300)

    class Meta:
        db_table = "inventory_flashsaleresult"
        ordering = ["flash_sale", "pk"]
        constraints = [
            models.UniqueConstraint(
                name="flash_sale_result_once", fields=["flash_sale", "strategy", "round"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.strategy}: {self.verdict}"
