from django.db import models


class Guitar(models.Model):
    """What this shop calls a product, with all that it wants to know of one."""

    wood = models.CharField(max_length=50)
    stock_item = models.OneToOneField("inventory.Product", on_delete=models.PROTECT)

    def __str__(self) -> str:
        return self.wood
