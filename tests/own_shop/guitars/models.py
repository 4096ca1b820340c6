from django.db import models


class Guitar(models.Model):
    """A product of this shop, with all that the shop wants to know of it."""

    wood = models.CharField(max_length=50)
    stock_item = models.OneToOneField("inventory.Product", on_delete=models.PROTECT)

    def __str__(self) -> str:
        return self.wood
