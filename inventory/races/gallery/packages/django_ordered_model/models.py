from django.db import models
from ordered_model.models import OrderedModel


class Item(OrderedModel):
    """As the package's documentation shows it."""

    name = models.CharField(max_length=20)

    class Meta(OrderedModel.Meta):
        db_table = "item"
