"""Flash sales in the background, where the project's queue of jobs is procrastinate.

procrastinate finds this module by itself. No other part of the app needs it (see
``flash_sale.queueing``).
"""

from __future__ import annotations

from procrastinate.contrib.django import app

from inventory.experiments.flash_sale import sale
from inventory.experiments.models import FlashSale

# One sale at a time, since each one uses the whole machine. The alias is the name in older jobs.
one_at_a_time = app.task(lock="flash_sale", aliases=["shop.tasks.run_flash_sale"])


@one_at_a_time
def run_flash_sale(flash_sale_id: int) -> None:
    sale.run_planned(FlashSale.objects.get(pk=flash_sale_id))
