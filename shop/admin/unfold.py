"""Parts of Unfold on every admin page; the setting UNFOLD names them by dotted paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from unfold.settings import CONFIG_DEFAULTS

from shop.notifications import outbox


def shop_name(request: HttpRequest) -> str:
    """The name that stands over each page, and in the title of the window."""
    name: str = settings.SHOP_NAME
    return name


def icon(request: HttpRequest) -> str:
    """The address of the shop's icon."""
    return static("shop/icon.svg")


def styles_of_inventory(request: HttpRequest) -> str:
    """The address of the styles that pages of the inventory add to Unfold's."""
    return static("inventory/admin.css")


def styles_of_shop(request: HttpRequest) -> str:
    """The address of the styles that the shop's pages add."""
    return static("shop/admin.css")


def colors(request: HttpRequest) -> dict[str, dict[str, str]]:
    """The storefront's green; all else, such as the background, as Unfold has it."""
    return {
        **CONFIG_DEFAULTS["COLORS"],
        "primary": {
            "50": "oklch(97% .02 165)",
            "100": "oklch(94% .045 165)",
            "200": "oklch(88% .08 165)",
            "300": "oklch(80% .11 165)",
            "400": "oklch(70% .125 165)",
            "500": "oklch(58% .115 165)",
            "600": "oklch(47% .095 165)",
            "700": "oklch(41% .08 165)",
            "800": "oklch(35% .065 165)",
            "900": "oklch(30% .05 165)",
            "950": "oklch(21% .035 165)",
        },
    }


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar. Unfold leaves out what the user has no permission for."""
    return [
        {
            "items": [
                {
                    "title": "Dashboard",
                    "icon": "dashboard",
                    "link": reverse_lazy("admin:index"),
                }
            ]
        },
        {
            "title": "Stock",
            "separator": True,
            "items": [
                _item("Products", "inventory_2", "inventory.product"),
                _item("Stock alerts", "notifications", "inventory.stockalert"),
                _item("Reservations", "hourglass_top", "inventory.reservation"),
                _item("Stock movements", "swap_vert", "inventory.stockmovement"),
                *_of_experiments(),
            ],
        },
        {
            "title": "Orders",
            "separator": True,
            "items": [
                _item("Orders", "receipt_long", "shop.order"),
                _item("Payments", "payments", "shop.payment"),
                _item("Refunds", "undo", "shop.refund"),
                _item("Disputes", "gavel", "shop.dispute"),
                _item("Alerts of orders and jobs", "notification_important", "shop.shopalert"),
                _item("Refusals", "production_quantity_limits", "shop.refusal"),
                {
                    "title": "E-mails of this demo",
                    "icon": "mail",
                    "link": reverse_lazy("outbox"),
                    "permission": _sees_outbox,
                },
            ],
        },
        {
            "title": "People",
            "separator": True,
            "items": [
                _item("Users", "person", "auth.user"),
                _item("Groups", "group", "auth.group"),
                _item("Log of changes", "history", "admin.logentry"),
            ],
        },
    ]


def _of_experiments() -> list[dict[str, Any]]:
    """The items of experiments, if the project has them."""
    if not apps.is_installed("inventory.experiments"):
        return []
    return [_item("Flash sales", "bolt", "experiments.flashsale")]


def _item(title: str, icon: str, model: str) -> dict[str, Any]:
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": _may(f"{app}.view_{name}"),
    }


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _sees_outbox(request: HttpRequest) -> bool:
    return outbox.is_shown() and outbox.may_see_all(request.user)
