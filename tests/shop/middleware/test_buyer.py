"""The buyer's key: nobody else can know, forge or set it, and looking round leaves none."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core import signing
from django.http import HttpResponse
from django.test import Client, override_settings

from inventory import reservations
from shop.middleware import buyer
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve

pytestmark = pytest.mark.django_db


def test_looking_at_the_list_leaves_no_cookie_and_no_session(client: Client) -> None:
    response = client.get("/")
    assert not response.cookies
    assert not Session.objects.exists()


def test_the_cookie_is_kept_from_scripts_and_other_sites(
    client: Client, make_product: MakeProduct
) -> None:
    cookie = client.get(f"/products/{make_product().slug}/").cookies["buyer"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert not cookie["secure"]
    assert not Session.objects.exists()


def test_with_https_no_subdomain_can_set_the_cookie(
    client: Client, make_product: MakeProduct, settings: Any
) -> None:
    settings.HTTPS = True
    response = client.get(f"/products/{make_product().slug}/", secure=True)
    cookie = response.cookies["__Host-buyer"]
    assert cookie["secure"]
    assert cookie["path"] == "/"
    assert not cookie["domain"]


def test_the_key_stays_from_one_page_to_the_next(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product()
    client.get(f"/products/{product.slug}/")
    key = client.cookies["buyer"].value
    reserve(product)
    client.get("/basket/")
    assert client.cookies["buyer"].value == key


def test_the_key_stays_when_staff_signs_in(client: Client, make_product: MakeProduct) -> None:
    client.get(f"/products/{make_product().slug}/")
    key = client.cookies["buyer"].value
    client.force_login(get_user_model().objects.create_superuser("staff"))
    client.get("/basket/")
    assert client.cookies["buyer"].value == key


# Made with django.core.signing.Signer(salt="shop.buyer"), as this shop signed its cookies before it
# used Django's signed cookies. Browsers keep them for 400 days.
OLD_SECRET = "the key that this shop had when it signed this cookie"
OLD_KEY = "Zq3_vB7xK-0mN2pL9sT4wY6uE8rD1gHj"
OLD_COOKIE = f"{OLD_KEY}:0g-rzBy3rSA_wQn7mJgc15_dp6qLlI54vGF0qJWceAo"


@pytest.mark.parametrize("is_fallback", [False, True])
def test_a_cookie_signed_the_old_way_still_opens_its_basket_and_is_renewed(
    client: Client, make_product: MakeProduct, is_fallback: bool
) -> None:
    key, fallbacks = ("a newer key", [OLD_SECRET]) if is_fallback else (OLD_SECRET, [])
    with override_settings(SECRET_KEY=key, SECRET_KEY_FALLBACKS=fallbacks):
        reservations.reserve(make_product(name="Lamp"), 1, buyer=OLD_KEY)
        client.cookies["buyer"] = OLD_COOKIE
        response = client.get("/basket/")
        assert b"Lamp" in response.content
        renewed = response.cookies["buyer"].value
        assert renewed == client.cookies["buyer"].value != OLD_COOKIE
        again = client.get("/basket/")
        assert b"Lamp" in again.content
        assert "buyer" not in again.cookies
        assert buyer_of(client.post("/orders/none/payment/")) == OLD_KEY


def test_a_cookie_signed_by_django_still_opens_its_basket_and_is_renewed(
    client: Client, make_product: MakeProduct
) -> None:
    by_django = HttpResponse()
    by_django.set_signed_cookie("buyer", OLD_KEY, salt="shop.buyer")
    reservations.reserve(make_product(name="Lamp"), 1, buyer=OLD_KEY)
    client.cookies["buyer"] = by_django.cookies["buyer"].value
    assert b"Lamp" in client.get("/basket/").content
    again = client.get("/basket/")
    assert b"Lamp" in again.content
    assert "buyer" not in again.cookies


@pytest.mark.parametrize(
    "forged",
    [
        OLD_COOKIE[:-1],
        OLD_COOKIE.replace("Zq3", "Zq4"),
        f"{OLD_KEY[:-1]}:{OLD_COOKIE.partition(':')[2]}",
    ],
)
def test_a_forged_cookie_of_the_old_way_is_nobodys(client: Client, forged: str) -> None:
    with override_settings(SECRET_KEY=OLD_SECRET):
        client.cookies["buyer"] = forged
        response = client.get("/basket/")
        assert buyer_of(response) == ""
        assert not response.cookies


def test_a_text_signed_for_another_purpose_is_nobodys(client: Client) -> None:
    for salt in ("", "buyer", "shop.buyer", "basket" + buyer.SALT):
        client.cookies["buyer"] = signing.get_cookie_signer(salt=salt).sign("x" * 32)
        assert buyer_of(client.get("/basket/")) == ""


@pytest.mark.parametrize("change", ["truncated", "other key", "unsigned", "garbage"])
def test_a_forged_cookie_opens_no_basket(
    client: Client, make_product: MakeProduct, reserve: Reserve, change: str
) -> None:
    reserve(make_product(name="Lamp"))
    signed = client.cookies["buyer"].value
    key, _, signature = signed.partition(":")
    assert b"Lamp" in client.get("/basket/").content
    forged = {
        "truncated": signed[:-1],
        "other key": f"{'x' * 32}:{signature}",
        "unsigned": key,
        "garbage": "\x01é:",
    }[change]
    thief = Client(headers={"cookie": f"buyer={forged}"})
    response = thief.get("/basket/")
    assert response.status_code == 200
    assert b"Lamp" not in response.content


def test_keys_are_long_and_never_the_same() -> None:
    made = {buyer.ensure_key(_no_buyer()) for _ in range(100)}
    assert len(made) == 100
    assert all(buyer.KEY.fullmatch(key) for key in made)


def buyer_of(response: Any) -> str:
    """The buyer's key of the request behind the response."""
    key: str = response.wsgi_request.buyer
    return key


def _no_buyer() -> buyer.ShopRequest:
    request = buyer.ShopRequest()
    request.buyer = ""
    return request
