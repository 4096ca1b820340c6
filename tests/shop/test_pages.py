"""The list, the product's page, and the pages beside them."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.test import Client
from django.utils.html import escape

from inventory import conf, reservations, strategies
from inventory.models import Product
from shop.demo import catalogue
from shop.forms import SearchForm
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve, both_ways
from tests.shop.orders.pages import html_of

pytestmark = pytest.mark.django_db


def names(response: Any) -> list[str]:
    """The products on a list page, in order."""
    return re.findall(r'card__name"><a href="[^"]*">([^<]*)<', html_of(response))


def stock_of(client: Client, product: Product) -> str:
    """The words of the product's live part."""
    content = html_of(client.get(f"/products/{product.slug}/stock/"))
    [words] = re.findall(r"<p[^>]*>([^<]*)</p>", content)
    return str(words)


# List


def test_the_list_shows_all_products_for_sale_and_no_others(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(name="Lamp")
    make_product(name="Hidden", is_active=False)
    make_product(name="Exhibit", is_exhibit=True)
    assert names(client.get("/")) == ["Lamp"]


def test_search_looks_for_every_word_in_name_description_and_sku(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(name="Brass lamp", description="Warm light")
    make_product(name="Candle", description="Warm, too", sku="WAX-9")
    assert names(client.get("/", {"q": "warm"})) == ["Brass lamp", "Candle"]
    assert names(client.get("/", {"q": "BRASS warm"})) == ["Brass lamp"]
    assert names(client.get("/", {"q": "wax-9"})) == ["Candle"]
    assert names(client.get("/", {"q": "100%"})) == []


@pytest.mark.parametrize("q", ["%", "<script>alert(1)</script>", "x" * 5000, "' OR 1=1 --"])
def test_odd_searches_are_answered(client: Client, make_product: MakeProduct, q: str) -> None:
    make_product()
    response = client.get("/", {"q": q, "page": "x", "sort": "nonsense", "in_stock": "?"})
    assert response.status_code == 200
    assert b"<script>alert" not in response.content


def test_in_stock_leaves_out_products_without_available_units(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(name="Here")
    make_product(0, name="Gone")
    held = make_product(1, name="In a basket")
    reservations.reserve(held, 1, buyer="somebody")
    lapsed = make_product(1, name="Lapsed")
    lapse(reservations.reserve(lapsed, 1, buyer="somebody"))
    assert names(client.get("/", {"in_stock": "on"})) == ["Here", "Lapsed"]


def test_sorting(client: Client, make_product: MakeProduct) -> None:
    for name, price in (("B", 1), ("C", 3), ("A", 2)):
        make_product(name=name, price=price)
    assert names(client.get("/")) == ["A", "B", "C"]
    assert names(client.get("/", {"sort": "price"})) == ["B", "A", "C"]
    assert names(client.get("/", {"sort": "-price"})) == ["C", "A", "B"]
    assert names(client.get("/", {"sort": "new"})) == ["A", "C", "B"]
    assert set(SearchForm.SORTS) == {"name", "price", "-price", "new"}


def test_pages_of_a_list_keep_the_search(client: Client, make_product: MakeProduct) -> None:
    for number in range(14):
        make_product(name=f"Cup {number:02}")
    first = client.get("/", {"q": "cup", "sort": "-price"})
    assert len(names(first)) == 12
    [following] = re.findall(r'rel="next" href="([^"]*)"', html_of(first))
    assert names(client.get("/" + following.replace("&amp;", "&"))) == ["Cup 12", "Cup 13"]
    assert names(client.get("/", {"page": "99"})) == ["Cup 12", "Cup 13"]


def test_a_long_list_links_to_its_first_last_and_neighbouring_pages(
    client: Client, make_product: MakeProduct
) -> None:
    for number in range(9 * 12):
        make_product(name=f"Cup {number:03}")
    content = html_of(client.get("/?page=5&sort=-price"))
    [numbers] = re.findall(r'<ol class="pages__numbers">(.*?)</ol>', content, re.DOTALL)
    assert re.findall(r"(\d+|…)</(?:a|span)>", numbers) == ["1", "…", "4", "5", "6", "…", "9"]
    leads_to = [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]*)"', numbers)]
    assert leads_to == [f"?sort=-price&page={page}" for page in (1, 4, 6, 9)]
    assert re.search(r'aria-current="page"><span class="hidden">Page </span>5<', numbers)
    assert names(client.get("/" + leads_to[-1]))[-1] == "Cup 107"


def test_the_merchant_chooses_the_headline(client: Client, settings: Any) -> None:
    assert "<h1>Good things, some of them few</h1>" in html_of(client.get("/"))
    settings.SHOP_HEADLINE = "Lamps & more"
    assert "<h1>Lamps &amp; more</h1>" in html_of(client.get("/"))


def test_an_empty_result_and_an_empty_shop_say_what_to_do(client: Client) -> None:
    assert b"shelves are empty" in client.get("/").content
    assert b"Nothing found" in client.get("/", {"q": "unicorn"}).content


def test_a_list_of_any_length_takes_a_few_queries(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    catalogue.load()
    with django_assert_max_num_queries(3):
        client.get("/")


# Product


@pytest.mark.parametrize(
    ("units", "words"),
    [(12, "12 left"), (4, "4 left"), (3, "Last 3"), (1, "Last one"), (0, "Sold out")],
)
def test_stock_is_shown_in_the_words_of_people(
    client: Client, make_product: MakeProduct, units: int, words: str
) -> None:
    product = make_product(units)
    assert stock_of(client, product) == words
    assert words.encode() in client.get(f"/products/{product.slug}/").content


def test_all_in_baskets_is_not_sold_out_and_a_lapsed_hold_is_available(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(2)
    first = reservations.reserve(product, 1, buyer="somebody")
    second = reservations.reserve(product, 1, buyer="somebody else")
    assert stock_of(client, product) == "All in baskets, try again in a few minutes"
    lapse(first)
    assert stock_of(client, product) == "Last one"
    lapse(second)
    assert stock_of(client, product) == "Last 2"


def test_all_sold_is_sold_out(client: Client, make_product: MakeProduct) -> None:
    product = make_product(1)
    reservations.confirm(reservations.reserve(product, 1, buyer="somebody").pk)
    assert stock_of(client, product) == "Sold out"


@pytest.mark.breaks_law
@pytest.mark.parametrize(
    ("held", "words"),
    [
        (0, "Sold out"),
        (3, "Sold out"),  # three units that come back make up for three that never existed
        (4, "Sold out"),
        (5, "All in baskets, try again in a few minutes"),
    ],
)
def test_a_number_below_zero_is_never_shown(
    client: Client, make_product: MakeProduct, held: int, words: str
) -> None:
    product = make_product(5, backstop=False)
    if held:
        reservations.reserve(product, held, buyer="somebody")
    Product.objects.filter(pk=product.pk).update(stock=-4)
    assert stock_of(client, product) == words
    for address in ("/", f"/products/{product.slug}/", f"/products/{product.slug}/stock/"):
        page = html_of(client.get(address))
        assert 'data-available="0"' in page
        assert words in page
        assert not re.search(r"[>\" ]-4\b", page)


def test_a_buyers_own_units_are_not_worth_waiting_for(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(3)
    reserve(product, 2)
    assert stock_of(client, product) == "Last one"
    others = reservations.reserve(product, 1, buyer="somebody")
    assert stock_of(client, product) == "All in baskets, try again in a few minutes"
    reservations.confirm(others.pk)
    for address in ("/", f"/products/{product.slug}/"):
        assert "You hold all that are left" in html_of(client.get(address))
    assert stock_of(client, product) == "You hold all that are left"
    assert stock_of(Client(), product) == "All in baskets, try again in a few minutes"


@pytest.mark.usefixtures("way")
@both_ways
def test_the_page_says_what_you_hold_and_the_limit(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(max_per_buyer=3)
    assert b"At most 3" in client.get(f"/products/{product.slug}/").content
    reserve(product, 2)
    assert b"You hold 2 of these" in client.get(f"/products/{product.slug}/").content


@pytest.mark.usefixtures("way")
@both_ways
def test_a_product_switched_off_is_shown_to_staff_and_to_its_holders(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product()
    address = f"/products/{product.slug}/"
    reserve(product)
    Product.objects.filter(pk=product.pk).update(is_active=False)
    page = client.get(address)
    assert b"Not for sale at the moment" in page.content
    assert b">Reserve<" not in page.content
    assert b"you can still buy what you hold" in client.get("/basket/").content
    assert Client().get(address).status_code == 404
    staff = Client()
    staff.force_login(get_user_model().objects.create_superuser("staff"))
    assert staff.get(address).status_code == 200


@pytest.mark.usefixtures("way")
@both_ways
def test_an_open_page_learns_that_a_product_is_not_for_sale_any_more(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product()
    address = f"/products/{product.slug}/stock/"
    Product.objects.filter(pk=product.pk).update(is_active=False)
    assert client.get(address).status_code == 404
    open_page = {"HX-Request": "true"}
    heard = client.get(address, headers=open_page)
    assert b"Not for sale at the moment" in heard.content
    assert b'data-available="0"' in heard.content
    nothing = client.get("/products/nothing/stock/", headers=open_page)
    assert (nothing.status_code, nothing.content) == (heard.status_code, heard.content)


@pytest.mark.usefixtures("way")
@both_ways
def test_exhibits_of_flash_sales_have_no_page(client: Client, make_product: MakeProduct) -> None:
    product = make_product(is_exhibit=True)
    assert client.get(f"/products/{product.slug}/").status_code == 404


@pytest.mark.usefixtures("way")
@both_ways
def test_only_staff_see_that_the_strategy_is_unsafe(
    client: Client, make_product: MakeProduct
) -> None:
    address = f"/products/{make_product(strategy='naive').slug}/"
    assert b"oversells" not in client.get(address).content
    client.force_login(get_user_model().objects.create_superuser("staff"))
    assert b"which oversells" in client.get(address).content


@pytest.mark.usefixtures("way")
@both_ways
def test_texts_of_staff_are_text_not_html(client: Client, make_product: MakeProduct) -> None:
    evil = "<img src=x onerror=alert(1)>"
    product = make_product(name=evil, description=evil)
    for address in ("/", f"/products/{product.slug}/"):
        content = html_of(client.get(address))
        assert evil not in content
        assert escape(evil) in content


def test_an_uploaded_picture_is_served(
    client: Client, make_product: MakeProduct, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    product = make_product()
    product.picture.save("cup.png", ContentFile(b"\x89PNG picture"))
    assert f'src="{product.picture.url}"' in html_of(client.get("/"))


# Beside


def test_the_help_page_explains_the_strategies_in_use(
    client: Client, make_product: MakeProduct
) -> None:
    make_product(strategy="select_for_update")
    content = html_of(client.get("/help/stock/"))
    assert strategies.get(conf.default_strategy()).label in content
    assert strategies.get("select_for_update").label in content
    assert "received = available + held + sold" in content
    assert "can be oversold" not in content
    make_product(strategy="naive")
    content = html_of(client.get("/help/stock/"))
    assert "can be oversold" in content
    assert "received = available + held + sold" not in content


def test_the_help_page_speaks_to_shoppers_first(
    client: Client, make_product: MakeProduct, settings: Any
) -> None:
    settings.INVENTORY_HOLD_FOR = timedelta(minutes=7)
    settings.PAYMENT_TIME = timedelta(minutes=13)
    make_product()
    shown, curious = html_of(client.get("/help/stock/")).split("<details", 1)
    assert "they are yours for 7 minutes" in shown
    assert "you get 13 minutes to pay" in shown
    for word in ("lock", "commit", "transaction", "database", "row", "received ="):
        assert not re.search(rf"\b{word}", shown.split("<main", 1)[1]), word
    assert strategies.get(conf.default_strategy()).how in unescape(curious)


@pytest.mark.parametrize("address", ["/", "/basket/", "/help/stock/", "/nope"])
def test_pages_may_load_nothing_from_elsewhere_and_run_nothing_inline(
    client: Client, address: str
) -> None:
    policy = client.get(address)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_an_unknown_address_has_a_friendly_page(client: Client) -> None:
    response = client.get("/nope")
    assert response.status_code == 404
    assert b"There is nothing here" in response.content


def test_a_form_without_its_csrf_token_has_a_friendly_page(make_product: MakeProduct) -> None:
    product = make_product()
    client = Client(enforce_csrf_checks=True)
    response = client.post("/basket/holds/", {"product": product.slug, "quantity": 1})
    assert response.status_code == 403
    assert b"Nothing was changed" in response.content
    assert not product.reservations.exists()


def test_a_host_that_is_not_ours_has_a_friendly_page(client: Client) -> None:
    response = client.get("/", headers={"host": "evil.example.org"})
    assert response.status_code == 400
    assert b"could not read that" in response.content


def test_the_page_for_our_own_mistakes_needs_no_database(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("shop.views.catalogue.search", broken)
    monkeypatch.setattr("shop.basket.units_in_basket", broken)
    client.raise_request_exception = False
    response = client.get("/")
    assert response.status_code == 500
    assert b"on our side" in response.content
    assert b"broken" not in response.content


def test_no_page_is_heavy(client: Client, make_product: MakeProduct, reserve: Reserve) -> None:
    catalogue.load()
    for product in Product.objects.filter(stock__gt=0):
        reserve(product)
    for address in ("/", "/basket/", "/help/stock/", "/products/brass-desk-lamp/"):
        assert len(client.get(address).content) < 100_000
