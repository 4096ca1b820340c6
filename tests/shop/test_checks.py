"""The warnings of ``check --deploy`` for a shop that must not go live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import Client

from shop import checks, payments
from shop.deployment.secret_key import of_checkout
from shop.models import Payment
from shop.payments import Outcome, Provider, Started
from shop.payments.demo import DemoBank

LIVE: dict[str, Any] = {
    "ALLOWED_HOSTS": ["shop.example.org"],
    "BASE_URL": "https://shop.example.org",
    "DATABASE_URL": "postgres://shop@db.example.org/shop",
    "PAYMENT_PROVIDER": "tests.shop.test_checks.RealBank",
    "INVENTORY_STRATEGY": "single_statement",
    "CACHES": {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"}},
    "SECRET_KEY": "x7" * 30 + "abcdefghij",
    "SECURE_SSL_REDIRECT": True,
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "SECURE_HSTS_SECONDS": 31_536_000,
    "SECURE_HSTS_INCLUDE_SUBDOMAINS": True,
    "SECURE_HSTS_PRELOAD": True,
}


REAL_MAIL = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend"}
FORWARDED = ("HTTP_X_FORWARDED_PROTO", "https")


HERE = __name__


class RealBank(DemoBank):
    slug = "real"


class WithoutRefunds(Provider):
    """A provider that lacks four of the six methods."""

    slug = "without-refunds"
    label = "Without refunds"

    def start(self, payment: Payment) -> Started:
        raise NotImplementedError

    def status(self, payment: Payment) -> Outcome:
        raise NotImplementedError


class Unlabelled(RealBank):
    label = ""


class Slashed(RealBank):
    slug = "acme/bench"


class SecondDemo(DemoBank):
    label = "Another bank"


class Demanding(RealBank):
    def __init__(self, secret: str) -> None:
        self.secret = secret


def check(settings: LazySettings, **changes: Any) -> None:
    for name, value in {**LIVE, **changes}.items():
        setattr(settings, name, value)
    call_command("check", deploy=True, fail_level="WARNING")


def test_a_shop_with_all_settings_may_go_live(settings: LazySettings) -> None:
    check(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PAYMENT_PROVIDER": "demo"}, "PAYMENT_PROVIDER is demo"),
        ({"PAYMENT_PROVIDER": "dmeo"}, "there is no “dmeo”"),
        ({"PAYMENT_PROVIDER": "no.such.Bank"}, "there is no “no.such.Bank”"),
        ({"INVENTORY_STRATEGY": "naive"}, "INVENTORY_STRATEGY is naive, which oversells"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"SECRET_KEY": of_checkout(Path("/nowhere"))}, "none can be kept in /nowhere"),
        ({"ALLOWED_HOSTS": ["localhost", "127.0.0.1", "[::1]"]}, "names only this machine"),
        ({"ALLOWED_HOSTS": []}, "ALLOWED_HOSTS"),
        ({"BASE_URL": ""}, "BASE_URL is not set"),
        ({"ALLOWED_HOSTS": ["*"]}, "ALLOWED_HOSTS has *"),
        ({"SECURE_PROXY_SSL_HEADER": FORWARDED, "PROXIES": 0}, "PROXIES is 0"),
        (
            {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"},
            "E-mails are printed, not sent",
        ),
        ({**REAL_MAIL, "DEFAULT_FROM_EMAIL": "Shop <shop@localhost>"}, "come from shop@localhost"),
    ],
)
def test_each_setting_that_must_not_go_live_is_named(
    settings: LazySettings, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SystemCheckError) as refused:
        check(settings, **changes)
    assert message in str(refused.value)


def test_a_shop_that_sends_its_merchant_nothing_gets_a_warning(
    settings: LazySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    check(settings, MANAGERS=[], SHOP_ADDRESS=[])
    said = capsys.readouterr().err
    assert "MANAGERS is empty" in said
    assert "SHOP_ADDRESS is empty" in said
    check(settings, MANAGERS=[("", "boss@example.org")], SHOP_ADDRESS=["1 Main Street"])
    assert "empty" not in capsys.readouterr().err


def test_a_shop_that_sends_real_e_mails_has_an_address_of_its_own(settings: LazySettings) -> None:
    check(settings, **REAL_MAIL, DEFAULT_FROM_EMAIL="Shop <orders@shop.example.org>")


def test_a_shop_to_be_tried_out_may_have_the_demo_bank(settings: LazySettings) -> None:
    check(settings, PAYMENT_PROVIDER="demo", DEMO=True)


def test_a_proxy_that_is_counted_is_fine(settings: LazySettings) -> None:
    check(settings, SECURE_PROXY_SSL_HEADER=FORWARDED, PROXIES=1)


WITH_STRIPE: dict[str, Any] = {
    "PAYMENT_PROVIDER": "stripe",
    "STRIPE_SECRET_KEY": "sk_live_Ab12",
    "STRIPE_WEBHOOK_SECRET": "whsec_Ab12",
    "STRIPE_API_BASE": "https://api.stripe.com",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"STRIPE_SECRET_KEY": "rk_live_Ab12"},
        {"STRIPE_SECRET_KEY": "sk_test_Ab12", "DEMO": True},
        {"STRIPE_SECRET_KEY": "rk_test_Ab12", "DEMO": True},
        {"PAYMENT_PROVIDER": f"{HERE}.RealBank", "FORMER_PAYMENT_PROVIDERS": ["stripe"]},
    ],
)
def test_a_shop_with_stripe_may_go_live(settings: LazySettings, changes: dict[str, Any]) -> None:
    check(settings, **{**WITH_STRIPE, **changes})


FORMERLY_STRIPE = {"PAYMENT_PROVIDER": "demo", "FORMER_PAYMENT_PROVIDERS": ["stripe"]}


@pytest.mark.parametrize("used", [{}, FORMERLY_STRIPE], ids=["current", "former"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("STRIPE_SECRET_KEY", "", "is missing"),
        ("STRIPE_SECRET_KEY", "sk_live_Ab 12", "has spaces"),
        ("STRIPE_SECRET_KEY", "sk_live_Ab12\n", "has spaces"),
        ("STRIPE_SECRET_KEY", "“sk_live_Ab12”", "other characters"),
        ("STRIPE_SECRET_KEY", "pk_live_Ab12", "is a publishable key"),
        ("STRIPE_SECRET_KEY", "whsec_Ab12", "belongs elsewhere"),
        ("STRIPE_SECRET_KEY", "Ab12", "must begin with sk_ or rk_"),
        ("STRIPE_WEBHOOK_SECRET", "", "is missing"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_Ab 12", "has spaces"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_", "must begin with whsec_"),
        ("STRIPE_WEBHOOK_SECRET", "sk_live_Ab12", "must begin with whsec_"),
    ],
)
def test_each_check_names_a_wrong_key_of_stripe_and_where_the_right_one_is(
    settings: LazySettings, used: dict[str, Any], name: str, value: str, message: str
) -> None:
    for changed, to in {**WITH_STRIPE, **used, name: value}.items():
        setattr(settings, changed, to)
    with pytest.raises(SystemCheckError) as refused:
        call_command("check")
    assert f"{name} " in str(refused.value)
    assert message in str(refused.value)
    assert "in Stripe's dashboard" in str(refused.value)
    assert "Ab12" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"STRIPE_SECRET_KEY": "sk_test_Ab12"}, "STRIPE_SECRET_KEY is a test key"),
        ({"STRIPE_SECRET_KEY": "rk_test_Ab12"}, "STRIPE_SECRET_KEY is a test key"),
        ({"DEMO": True}, "STRIPE_SECRET_KEY is a live key"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:12111"}, "STRIPE_API_BASE isn't Stripe's"),
    ],
)
def test_a_shop_takes_real_money_at_stripe_and_a_demo_does_not(
    settings: LazySettings, changes: dict[str, Any], message: str
) -> None:
    for used in (
        {},
        {"PAYMENT_PROVIDER": f"{HERE}.RealBank", "FORMER_PAYMENT_PROVIDERS": ["stripe"]},
    ):
        with pytest.raises(SystemCheckError) as refused:
            check(settings, **{**WITH_STRIPE, **used, **changes})
        assert message in str(refused.value)
        assert "Ab12" not in str(refused.value)


def test_a_shop_without_stripe_needs_no_key(settings: LazySettings, client: Client) -> None:
    settings.STRIPE_SECRET_KEY = settings.STRIPE_WEBHOOK_SECRET = ""
    assert client.get("/nowhere/").status_code == 404
    check(settings)


WRONG_PROVIDERS = [
    ("gone.Bank", "there is no “gone.Bank”"),
    ("shop.payments.base.Outcome", "is no subclass of shop.payments.Provider."),
    ("shop.payments.check_settings", "is no subclass of shop.payments.Provider."),
    (
        "shop.payments.Provider",
        "is abstract. It must define list_since, read_event, refund, start, statement, status.",
    ),
    (
        f"{HERE}.WithoutRefunds",
        "is abstract. It must define list_since, read_event, refund, statement.",
    ),
    (f"{HERE}.Unlabelled", "must declare label, a text."),
    (f"{HERE}.Slashed", "has the slug “acme/bench”. It must be up to 200 ASCII letters"),
    (f"{HERE}.Demanding", "Its __init__ must need no arguments."),
    ("bank_that_raises.Bank", "can't be imported (RuntimeError: No licence.)."),
]


@pytest.fixture
def bank_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a provider, which can't be imported."""
    (tmp_path / "bank_that_raises.py").write_text('raise RuntimeError("No licence.")\n')
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("bank_that_raises")
@pytest.mark.parametrize("setting", ["PAYMENT_PROVIDER", "FORMER_PAYMENT_PROVIDERS"])
@pytest.mark.parametrize(("path", "message"), WRONG_PROVIDERS)
def test_the_check_names_the_fault_of_a_wrong_provider(
    settings: LazySettings, setting: str, path: str, message: str
) -> None:
    with pytest.raises(SystemCheckError) as refused:
        check(settings, **{setting: path if setting == "PAYMENT_PROVIDER" else [path]})
    assert f"(shop.E001) {setting}: " in str(refused.value)
    assert f"“{path}”" in str(refused.value)
    assert message in str(refused.value)


def test_two_providers_have_two_slugs(settings: LazySettings) -> None:
    """Payments are known by the slug of their provider."""
    with pytest.raises(SystemCheckError) as refused:
        check(settings, PAYMENT_PROVIDER="demo", FORMER_PAYMENT_PROVIDERS=[f"{HERE}.SecondDemo"])
    assert "FORMER_PAYMENT_PROVIDERS: shop.payments.demo.DemoBank and " in str(refused.value)
    assert f"{HERE}.SecondDemo have the same slug, “demo”." in str(refused.value)


def test_a_provider_that_is_named_twice_counts_once(settings: LazySettings) -> None:
    former = [f"{HERE}.RealBank", "demo", f"{HERE}.RealBank"]
    check(settings, PAYMENT_PROVIDER=f"{HERE}.RealBank", FORMER_PAYMENT_PROVIDERS=former)
    assert payments.known_slugs() == ["real", "demo"]


@pytest.mark.usefixtures("bank_that_raises")
@pytest.mark.parametrize("path", [path for path, _ in WRONG_PROVIDERS])
def test_a_wrong_former_provider_stops_no_page(
    settings: LazySettings, client: Client, path: str
) -> None:
    settings.FORMER_PAYMENT_PROVIDERS = [path]
    assert client.get("/nowhere/").status_code == 404
    assert payments.known_slugs() == ["demo"]


def test_the_check_says_which_setting_switches_the_fast_lane_off(settings: LazySettings) -> None:
    assert checks.fast_lane_knows_the_settings() == []
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "guitars.middleware.Closed"]
    settings.USE_X_FORWARDED_HOST = True
    found = checks.fast_lane_knows_the_settings()
    assert [each.id for each in found] == ["shop.W012"] * 2
    assert "MIDDLEWARE" in found[0].msg
    assert "USE_X_FORWARDED_HOST" in found[1].msg
    settings.FAST_LANE = False
    assert checks.fast_lane_knows_the_settings() == []
