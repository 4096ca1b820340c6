"""An index of refunded orders, without stopping buyers meanwhile."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # as CONCURRENTLY demands

    dependencies = [("shop", "0020_no_messages")]

    operations = [
        AddIndexConcurrently(
            "order",
            models.Index(
                name="order_refunded",
                fields=["placed_at"],
                condition=models.Q(state="REFUNDED"),
            ),
        ),
    ]
