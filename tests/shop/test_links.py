"""Links in e-mails lead to the shop, whatever port or name a request claims."""

from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.core.exceptions import DisallowedHost
from django.test import RequestFactory

from shop import links
from shop.models import Payment
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper

PAGE = "/orders/x/"


@pytest.fixture(autouse=True)
def hosts(settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "[::1]", "shop.example.org"]
    settings.BASE_URL = ""


@pytest.mark.parametrize(
    ("host", "link"),
    [
        ("localhost:8000", f"http://localhost:8000{PAGE}"),
        ("localhost:9999", f"http://localhost:8000{PAGE}"),
        ("localhost", f"http://localhost:8000{PAGE}"),
        ("[::1]:9999", f"http://[::1]:8000{PAGE}"),
        ("shop.example.org", f"http://shop.example.org{PAGE}"),
        ("shop.example.org:9999", f"http://shop.example.org{PAGE}"),
    ],
)
def test_a_port_that_a_request_claims_is_not_believed(
    rf: RequestFactory, host: str, link: str
) -> None:
    request = rf.get("/", HTTP_HOST=host, SERVER_PORT="8000")
    assert links.absolute_url(request, PAGE) == link


def test_a_name_that_is_not_ours_is_rejected(rf: RequestFactory) -> None:
    with pytest.raises(DisallowedHost):
        links.absolute_url(rf.get("/", HTTP_HOST="evil.example"), PAGE)


def test_the_setting_overrides_the_request(rf: RequestFactory, settings: LazySettings) -> None:
    settings.BASE_URL = "https://shop.example.org"
    request = rf.get("/", HTTP_HOST="localhost:9999")
    assert links.absolute_url(request, PAGE) == f"https://shop.example.org{PAGE}"


@pytest.mark.django_db(transaction=True)
def test_an_order_leads_back_to_the_shop(make_product: MakeProduct, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.BASE_URL = "https://shop.example.org"
    order, bank = Shopper().order(make_product(1))
    assert Payment.objects.get().return_url == f"https://shop.example.org/orders/{order.token}/"
    assert bank.startswith("https://shop.example.org/demo-bank/")
