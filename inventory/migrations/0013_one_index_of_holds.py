"""Remove the index of all products' holds by their end, without stopping buyers meanwhile."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False  # as CONCURRENTLY demands

    dependencies = [("inventory", "0012_outcome_of_imports")]

    operations = [RemoveIndexConcurrently(model_name="reservation", name="reservation_lapse")]
