"""The list of products, and the page of each."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.datastructures import MultiValueDict
from django.views.decorators.http import require_safe

from inventory import strategies
from inventory.models import Product
from shop import catalogue
from shop.catalogue import search
from shop.delayed_pages import may_be_delayed
from shop.forms import ReserveForm, SearchForm
from shop.middleware import buyer
from shop.middleware.buyer import ShopRequest
from shop.orders import status_page

ON_A_PAGE = 12


@require_safe
@may_be_delayed
def product_list(request: ShopRequest) -> HttpResponse:
    """List all products, or the results of a search."""
    form = SearchForm(request.GET)
    form.is_valid()  # values that make no sense are left out
    products: Any = search(
        form.words, form.order, only_in_stock=form.only_in_stock, buyer=request.buyer
    )
    page: Page[Product] = Paginator(products, ON_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "page": page,
        "are_more": products.are_more,
        "page_numbers": page.paginator.get_elided_page_range(
            page.number, on_each_side=1, on_ends=1
        ),
        "query": query_without_page(request.GET),
        "search_text": " ".join(form.words),
    }
    return render(request, "shop/product_list.html", context)


def query_without_page(query: MultiValueDict[str, str]) -> str:
    """The search without its page number, for links to the other pages of its results."""
    kept: Any = query.copy()
    kept.pop("page", None)
    encoded: str = kept.urlencode()
    return encoded


@require_safe
@may_be_delayed
def product_detail(request: ShopRequest, slug: str) -> HttpResponse:
    """Show one product, with the form to reserve it."""
    product = find_product(request, slug)
    if product.is_active:
        buyer.ensure_key(request)
    return show_product(request, product)


def find_product(request: ShopRequest, slug: str) -> Any:
    """The product as ``catalogue.find_product`` reads it, if this visitor may see it; else a 404.

    Only staff, and buyers with units in their basket, see a product that is switched off.
    """
    product = catalogue.find_product(slug, request.buyer)
    if product and (product.is_active or request.user.is_staff or product.in_basket):
        return product
    raise Http404


def show_product(
    request: ShopRequest,
    product: Any,
    form: ReserveForm | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> HttpResponse:
    """Show the product's page; with the form as it was sent, if that had an error.

    The product comes from ``catalogue.find_product``.
    """
    strategy = strategies.find(product.strategy_slug)
    context = {
        "product": product,
        "form": form or ReserveForm(initial={"quantity": 1}),
        "held_by_you": product.in_basket,
        "units_in_basket": product.units_in_basket,
        "unfinished": status_page.unfinished_standings(request.buyer, product)
        if product.is_in_open_order
        else [],
        "unsafe_strategy": strategy if strategy and not strategy.is_safe else None,
    }
    return render(request, "shop/product_detail.html", context, status=status)


@require_safe
@may_be_delayed
def product_stock(request: ShopRequest, slug: str) -> HttpResponse:
    """Show a product's availability and the buyer's units, for a page that is open.

    A page that was opened while the product was for sale learns that it isn't any more. The
    answer is the same if the product never existed.
    """
    try:
        product = find_product(request, slug)
    except Http404:
        if not request.htmx:
            raise
        return render(request, "shop/partials/product_stock.html")
    context = {"product": product, "held_by_you": product.in_basket}
    return render(request, "shop/partials/product_stock.html", context)
