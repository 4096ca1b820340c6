from django.db import models
from simple_history.models import HistoricalRecords


class Poll(models.Model):
    """Each save() adds a row to the history, with its date."""

    question = models.CharField(max_length=200)
    history = HistoricalRecords(table_name="poll_history")

    class Meta:
        db_table = "poll"
