"""A shop in a few lines, that has nothing to do with ours."""

from typing import ClassVar, Self

from django.db import models


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


ALL = (Mug, Sale, Engraving, Voucher, Redemption)
