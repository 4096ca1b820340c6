"""A small catalogue to try the shop with: good things, some of them scarce.

Each product has a drawing in ``shop/static/shop/catalogue/``, named by its slug.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pglock
from django.db import transaction
from django.db.models import Q

from inventory import stock
from inventory.models import Product


@dataclass(frozen=True)
class Item:
    """A product as it is first put on sale; ``price`` is that of one unit, tax included."""

    sku: str
    slug: str
    name: str
    price: str
    units: int
    description: str
    low_stock_threshold: int = 5
    max_per_buyer: int | None = None


ITEMS = [
    Item(
        sku="MUG-01",
        slug="enamel-camp-mug",
        name="Enamel camp mug",
        price="14.50",
        units=120,
        description=(
            "Steel under two coats of enamel, fired in Bohemia. It takes the fire, the dishwasher "
            "and the drop from the kitchen table, and looks better for each.\n\n"
            "Holds 350 ml. Not for the microwave."
        ),
    ),
    Item(
        sku="LAMP-07",
        slug="brass-desk-lamp",
        name="Brass desk lamp",
        price="129.00",
        units=12,
        description=(
            "Two joints, one switch, and a shade that stays where you leave it. The brass is "
            "unlacquered and will darken where you touch it.\n\n"
            "With a warm 6 W bulb and two metres of braided cable."
        ),
    ),
    Item(
        sku="NOTE-A5",
        slug="linen-notebook",
        name="Linen notebook",
        price="18.00",
        units=240,
        low_stock_threshold=20,
        description=(
            "192 pages that lie flat from the first to the last. Dotted on the left, plain on the "
            "right, and thick enough for a fountain pen.\n\n"
            "A5, thread-bound, with a ribbon. The pencil comes with it."
        ),
    ),
    Item(
        sku="CLOCK-30",
        slug="walnut-wall-clock",
        name="Walnut wall clock",
        price="184.00",
        units=3,
        description=(
            "Turned from one piece of walnut by a workshop of two, who make four a month. The "
            "movement sweeps: no tick, also not at three in the morning.\n\n"
            "30 cm across. Runs two years on one battery."
        ),
    ),
    Item(
        sku="POT-02",
        slug="stoneware-teapot",
        name="Stoneware teapot",
        price="62.00",
        units=24,
        description=(
            "Pours without a drip, which is harder than it sounds. Salt-glazed, so no two are "
            "quite the same green.\n\n"
            "Holds 900 ml: three mugs, or one long afternoon. With a steel sieve."
        ),
    ),
    Item(
        sku="WOOL-03",
        slug="merino-throw",
        name="Merino throw",
        price="149.00",
        units=8,
        description=(
            "Woven from the wool of one flock, in a mill that has run since 1871. Warm enough to "
            "sleep outside under, light enough to carry there.\n\n"
            "130 × 190 cm, with a leather strap. Three colours come as a set of one each."
        ),
    ),
    Item(
        sku="PACK-22",
        slug="canvas-rucksack",
        name="Canvas rucksack",
        price="118.00",
        units=15,
        description=(
            "Waxed canvas, two buckles, no zip that could break. There is a place for a laptop of "
            "14 inches, and a dry one for wet things.\n\n"
            "22 litres. We mend it for as long as you carry it."
        ),
    ),
    Item(
        sku="RAIN-60",
        slug="storm-umbrella",
        name="Storm umbrella",
        price="49.00",
        units=60,
        description=(
            "Eight ribs of fibreglass that bend where others break. Tested on the pier of a town "
            "that knows wind.\n\n"
            "Opens to 120 cm: you, a friend, and both your bags."
        ),
    ),
    Item(
        sku="WAX-12",
        slug="beeswax-candle",
        name="Beeswax candle",
        price="21.00",
        units=200,
        low_stock_threshold=20,
        description=(
            "Pure beeswax, poured by hand, which burns without smoke and smells of a warm attic "
            "in June.\n\n"
            "About forty hours of light. The pewter holder stays with you."
        ),
    ),
    Item(
        sku="CLAY-18",
        slug="terracotta-planter",
        name="Terracotta planter",
        price="34.00",
        units=45,
        description=(
            "Clay that breathes, so that roots do. The zigzag is drawn by hand while the pot is "
            "still soft.\n\n"
            "18 cm, with a saucer. The plant is yours to choose."
        ),
    ),
    Item(
        sku="RADIO-1",
        slug="pocket-radio",
        name="Pocket radio, restored",
        price="95.00",
        units=1,
        low_stock_threshold=0,
        description=(
            "Built in 1964, found on a flea market, opened, cleaned and tuned. It plays medium "
            "wave, FM, and the crackle in between.\n\n"
            "There is this one. When it is gone, it is gone."
        ),
    ),
    Item(
        sku="LAPTOP-14",
        slug="laptop-14",
        name="Laptop, 14 inch",
        price="1249.00",
        units=10,
        max_per_buyer=2,
        description=(
            "Ten of them, and far more people who want one: the thing that every flash sale "
            "story is about. Matt screen, quiet keys, parts that can be replaced.\n\n"
            "Two for each customer, so that it goes round."
        ),
    ),
    Item(
        sku="IRON-26",
        slug="cast-iron-pan",
        name="Cast-iron pan",
        price="58.00",
        units=30,
        description=(
            "Smooth as grandmother's, because the inside is turned after casting. Comes seasoned, "
            "and is better every year.\n\n"
            "26 cm, 2.4 kg. For any stove, the oven, and a fire."
        ),
    ),
    Item(
        sku="MOON-15",
        slug="moon-globe",
        name="Moon globe",
        price="76.00",
        units=0,
        description=(
            "Every crater above ten kilometres, in relief that you can read with a fingertip; the "
            "far side, too.\n\n"
            "15 cm across, on a stand of brass and oak."
        ),
    ),
]


def load() -> list[Product]:
    """Put the catalogue on sale, and return the products made: none if all exist already.

    A product whose SKU or slug exists stays as staff has changed it. If two processes call this at
    once, the second waits for the first, and finds everything there.
    """
    with transaction.atomic():
        pglock.advisory("shop catalogue", xact=True).acquire()
        return [_put_on_sale(item) for item in ITEMS if not _exists(item)]


def _exists(item: Item) -> bool:
    return Product.objects.filter(Q(sku=item.sku) | Q(slug=item.slug)).exists()


def _put_on_sale(item: Item) -> Product:
    product = Product.objects.create(
        sku=item.sku,
        slug=item.slug,
        name=item.name,
        description=item.description,
        price=Decimal(item.price),
        low_stock_threshold=item.low_stock_threshold,
        max_per_buyer=item.max_per_buyer,
    )
    if item.units:
        stock.receive(product, item.units, note="first delivery")
        product.refresh_from_db()
    return product
