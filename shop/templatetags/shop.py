"""Filters and tags of the shop's templates."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache

from django import template
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template.defaultfilters import stringfilter
from django.templatetags.static import static

from inventory.models import Product
from shop import catalogue
from shop import money as amounts

register = template.Library()


@register.simple_tag
def shop_name() -> str:
    """The shop's name, also on error pages, which have no request in their context."""
    name: str = settings.SHOP_NAME
    return name


@register.simple_tag
def shop_headline() -> str:
    """The headline above the list of products."""
    headline: str = settings.SHOP_HEADLINE
    return headline


@register.filter
def money(amount: Decimal, currency: str = "") -> str:
    """An amount such as €14.50, in its own currency or else the shop's."""
    return amounts.format_amount(amount, currency or settings.SHOP_CURRENCY)


@register.filter(name="availability")
def availability_of(product: Product) -> catalogue.Availability:
    """The availability of a product that was read through ``with_availability``."""
    return catalogue.availability_of(product)


@register.filter
def countdown(seconds: int) -> str:
    """Seconds as minutes and seconds: 9:41."""
    return f"{seconds // 60}:{seconds % 60:02}"


@register.filter(is_safe=True)
@stringfilter
def one_line(text: str) -> str:
    """Text on one line, whatever the lines of its template: a paragraph of a plain-text e-mail.

    Spaces that keep a number and its unit together stay.
    """
    return re.sub(r"[ \n]+", " ", text).strip(" ")


@register.filter
def picture(product: Product) -> str:
    """The address of the product's picture: an upload, the demo's drawing, or a parcel."""
    if product.picture:
        return product.picture.url
    return _drawing(product.slug)


@cache
def _drawing(slug: str) -> str:
    """The address of a picture from our static files, which don't change while the shop runs."""
    drawn = f"shop/catalogue/{slug}.svg"
    return static(drawn if finders.find(drawn) else "shop/unpictured.svg")
