"""Oscar's own checkout, and its basket at log-in: whole requests, through the middleware."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.test import Client, override_settings

from ....web import Request, request
from ...race import Ended, Race
from .shop import (
    Basket,
    BasketLine,
    Order,
    StockRecord,
    ann_has_logged_in,
    browsers,
    two_want_the_mug,
)

# One mug sold twice


def place_order_at(path: str, name: str) -> Request:
    return request(path, data={"action": "place_order"}, client=browsers[name])


def one_mug_is_sold(ended: Ended) -> bool:
    return StockRecord.objects.get().num_allocated == 1 == Order.objects.count()


def stock_in_words() -> str:
    mug = StockRecord.objects.get()
    return f"{mug.num_in_stock} in stock, {mug.num_allocated} sold; orders: {Order.objects.count()}"


# A basket emptied at log-in


def checkout(basket_middleware: str) -> Callable[[], object]:
    """Ann's click on “Checkout”."""
    with override_settings(MIDDLEWARE=[*settings.BEFORE_THE_BASKET, basket_middleware]):
        tab = Client()
        tab.handler.load_middleware()

    def get() -> int:
        tab.cookies.clear()
        tab.cookies.update(browsers["Ann"].cookies)
        return tab.get("/checkout/").status_code

    return get


def mug_is_in_a_basket(ended: Ended) -> bool:
    return BasketLine.objects.filter(basket__status=Basket.OPEN).count() == 1


def baskets_in_words() -> str:
    return "; ".join(
        f"basket {basket.pk} ({basket.status}): {basket.lines.count() or 'no'} mug"
        for basket in Basket.objects.order_by("pk")
    )


PUBLISHED = "oscar.apps.basket.middleware.BasketMiddleware"
MENDED = f"{__package__}.mend.MergeInTurn"

RACES = [
    Race(
        name="checkout",
        title="One mug is sold to two customers.",
        setup=two_want_the_mug,
        sessions={
            "Ann": place_order_at("/checkout/preview/", "Ann"),
            "Bob": place_order_at("/checkout/preview/", "Bob"),
        },
        invariant=one_mug_is_sold,
        describe=stock_in_words,
        mended={
            "Ann": place_order_at("/place-order-in-turn/", "Ann"),
            "Bob": place_order_at("/place-order-in-turn/", "Bob"),
        },
        mend=(
            "Lock the stock records before the order is placed, and look at the stock again. Each "
            "shop writes a view for its payment anyway: there, in place_order(). A shop that takes "
            "the payment before that must give it back. The package could count up in allocate() "
            "by an UPDATE that does nothing where too little is left, and refuse the order then."
        ),
        known=(
            "Issue 4524 of the package, from 2025 and closed: it wants the stock to be checked "
            "once more, and at best under a lock. There is none in 4.2.1."
        ),
        options={"budget": 100, "samples": 0, "image": True},
        mended_options={"image": True},
    ),
    Race(
        name="basket",
        title="A customer's basket is empty after the log-in.",
        setup=ann_has_logged_in,
        sessions={"Tab1": checkout(PUBLISHED), "Tab2": checkout(PUBLISHED)},
        invariant=mug_is_in_a_basket,
        describe=baskets_in_words,
        mended={"Tab1": checkout(MENDED), "Tab2": checkout(MENDED)},
        mend=(
            "Lock the basket that is merged, and leave it alone if it isn't open any more. Else "
            "the second request finds the line where the first has moved it, takes it for one of "
            "the same product, and deletes it. The package could do so in merge(), in atomic()."
        ),
        options={"budget": 100, "samples": 0, "image": True},
        mended_options={"image": True},
    ),
]
