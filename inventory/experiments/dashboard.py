"""The experiments' card on a project's dashboard (AppConfig.dashboard_card)."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.urls import reverse

from inventory.admin.charts import Card
from inventory.experiments.flash_sale.charts import charts_of
from inventory.experiments.flash_sale.report import is_broken
from inventory.experiments.models import FlashSale, FlashSaleResult


def last_flash_sale(user: User) -> Card | None:
    """A card with the last finished sale, or None if ``user`` may not see flash sales."""
    if not user.has_perm("experiments.view_flashsale"):
        return None
    last = FlashSale.objects.filter(state=FlashSale.State.FINISHED).order_by("-pk").values("pk")[:1]
    results = list(FlashSaleResult.objects.filter(flash_sale__in=last).select_related("flash_sale"))
    card = Card("The last flash sale", "admin/experiments/dashboard_card.html")
    if results:
        sale = results[0].flash_sale
        card.context = {
            "sale": sale,
            "url": reverse("admin:experiments_flashsale_change", args=[sale.pk]),
            "chart": charts_of(results)[0],
            "broken": sorted({each.strategy for each in results if is_broken(each)}),
        }
    else:
        card.context = {"url": reverse("admin:experiments_flashsale_changelist")}
    return card
