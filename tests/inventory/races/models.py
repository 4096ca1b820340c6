"""A shop in a few lines, that has nothing to do with ours."""

import time
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar, Self

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class Mug(models.Model):
    sku = models.CharField(max_length=20, unique=True)
    stock = models.IntegerField()

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return self.sku


class Sale(models.Model):
    """Names its mug by SKU: no foreign key."""

    sku = models.CharField(max_length=20)

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return self.sku


class Engraving(models.Model):
    """Refers to its mug, as Django does it: the foreign key is checked at COMMIT."""

    mug = models.ForeignKey(Mug, on_delete=models.DO_NOTHING)

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return f"engraving of {self.mug}"


class Voucher(models.Model):
    code = models.CharField(max_length=20, unique=True)
    may_be_used = models.IntegerField()

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return self.code


class Redemption(models.Model):
    voucher = models.ForeignKey(Voucher, on_delete=models.CASCADE)
    customer = models.CharField(max_length=20)

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return f"{self.voucher} by {self.customer}"


class MugHistory(models.Model):
    """A row for each change of a mug, as packages for histories write it."""

    stock = models.IntegerField()
    at = models.DateTimeField()

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return f"{self.stock} since {self.at}"


class TouchedByItself(models.Model):
    """Its field reads the clock whenever it is saved."""

    changed = models.DateTimeField(auto_now=True)

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return f"changed at {self.changed}"


class Made(models.Model):
    """Its fields read the clock for their defaults, each in another way."""

    aware = models.DateTimeField(default=timezone.now)
    seconds = models.FloatField(default=time.time)
    bound = models.DateTimeField(default=partial(datetime.now, UTC))
    by_the_database = models.DateTimeField(db_default=Now())

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        app_label = "race_models"

    def __str__(self) -> str:
        return f"made at {self.aware}"


ALL = (Mug, Sale, Engraving, Voucher, Redemption, MugHistory, TouchedByItself, Made)
