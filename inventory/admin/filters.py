"""Filters that several lists use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import RadioFilter, RangeDateTimeFilter
from unfold.utils import parse_datetime_str


class ShelfFilter(RadioFilter):
    """Shows the shop's own products, unless the user asks for exhibits or searches by name."""

    title = "shelf"
    parameter_name = "shelf"
    all_option = ("", "The shop’s own")
    is_exhibit = "product__is_exhibit"  # a lookup from the list's model

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self.is_search = bool(request.GET.get("q") or request.GET.get("product__id__exact"))
        return [("exhibits", "Exhibits of flash sales"), ("all", "Both")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen == "exhibits":
            return queryset.filter(**{self.is_exhibit: True})
        if chosen == "all" or self.is_search:
            return queryset
        return queryset.filter(**{self.is_exhibit: False})


class ProductShelfFilter(ShelfFilter):
    is_exhibit = "is_exhibit"


class PeriodFilter(RangeDateTimeFilter):
    """From one instant to another, in the shop's time zone. Each end may be left out."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since, until = self._instant("from", "00:00:00"), self._instant("to", "23:59:59")
        if since is not None:
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": since})
        if until is not None:
            queryset = queryset.filter(**{f"{self.parameter_name}__lte": until})
        return queryset

    def _instant(self, end: str, default_time: str) -> datetime | None:
        date = self.used_parameters.get(f"{self.parameter_name}_{end}_0")
        time = self.used_parameters.get(f"{self.parameter_name}_{end}_1") or default_time
        naive = parse_datetime_str(f"{date} {time}") if date else None
        return timezone.make_aware(naive) if isinstance(naive, datetime) else None
