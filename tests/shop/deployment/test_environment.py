"""Casts of settings: what a variable's text may be, and what is said of one that is wrong."""

from __future__ import annotations

from decimal import Decimal
from email.header import decode_header, make_header
from email.utils import parseaddr
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from shop.deployment import environment


@pytest.mark.parametrize("value", ["1.5", "", "ten", "0", "11", "9" * 5000])
def test_a_whole_number_is_within_its_bounds(value: str) -> None:
    assert environment.whole_number(1, 10)("10") == 10
    with pytest.raises(ValueError, match=r"^it must be a whole number from 1 to 10\.$"):
        environment.whole_number(1, 10)(value)


@pytest.mark.parametrize("value", ["Nowhere", "../etc/passwd", "/etc/passwd", "Europe", "a\nb"])
def test_a_time_zone_must_exist(value: str) -> None:
    assert environment.time_zone("Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(ValueError, match="name of a time zone"):
        environment.time_zone(value)


@pytest.mark.parametrize("url", ["https://shop.example.org", "https://shop.example.org/"])
def test_the_setting_is_taken_with_and_without_a_slash(url: str) -> None:
    assert environment.base_url(url) == "https://shop.example.org"


@pytest.mark.parametrize(
    "url",
    [
        *("shop.example.org", "ftp://x", "https://", "https://x/shop", "https://me:pw@x"),
        *("https://x:port", "https://x:65536", "https://x:0", "https://[::1"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^it must .* https://shop\.example\.org\.$"):
        environment.base_url(url)


def test_an_address_of_the_web_may_have_a_path_and_a_password() -> None:
    address = "https://me:pw@hooks.example.org:8443/services/1?a=b"
    assert environment.web_address(address) == address
    with pytest.raises(ValueError, match="it must be an address"):
        environment.web_address("hooks.example.org/services/1")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("off", None),
        ("[::1]:65535", ("::1", 65535)),
        ("[0:0::1]:9100", ("::1", 9100)),
    ],
)
def test_an_address_to_listen_at(value: str, read: tuple[str, int] | None) -> None:
    assert environment.listening_address_or_off(value) == read


@pytest.mark.parametrize(
    "value",
    [
        *("9100", ":9100", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536"),
        *("localhost:9100", "127.0.0.1:9100/metrics", "http://127.0.0.1:9100", "::1:9100"),
        *("me@127.0.0.1:9100", "127.0.0.1:9100?a", "127.0.0.1:x", "[::1:9100", "127.0.0.1:-1"),
    ],
)
def test_other_addresses_to_listen_at_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9100 or \[::1\]:9100, or off\.$"):
        environment.listening_address_or_off(value)


@pytest.mark.parametrize(
    "value", ["fifteen-letters", "with a blank in it", "with-an-ümlaut-inside"]
)
def test_a_bad_token_is_not_repeated(tmp_path: Path, value: str) -> None:
    env = environment.Environment(tmp_path / ".env")
    env.ENVIRON = {"METRICS_TOKEN": value}
    with pytest.raises(ImproperlyConfigured) as raised:
        env("METRICS_TOKEN", cast=environment.token)
    assert str(raised.value) == (
        "METRICS_TOKEN can't be used: it must be at least 16 ASCII letters, digits or signs, "
        "without blanks."
    )
    assert environment.token("sixteen-letters!") == "sixteen-letters!"


def test_a_currency_is_one_with_two_decimal_places() -> None:
    assert environment.currency("chf") == "CHF"
    for wrong in ("EURO", "€", "JPY", "KWD"):
        with pytest.raises(ValueError, match="it must be"):
            environment.currency(wrong)


def test_an_amount_of_a_setting_is_zero_or_more_with_two_decimal_places() -> None:
    assert environment.shipping_cost("0") == Decimal("0.00")
    assert str(environment.shipping_cost("4.9")) == "4.90"
    for wrong in ("-1", "4,90", "1.999", "NaN", "Infinity", "1e30", "free"):
        with pytest.raises(ValueError, match="such as"):
            environment.shipping_cost(wrong)


def test_countries_are_named_by_their_codes() -> None:
    assert environment.country_codes("de, AT,,de") == ["DE", "AT"]


@pytest.mark.parametrize("value", ["Germany", "DE,XX", "EU", "D", ",", "DE\0"])
def test_what_is_no_country_is_named(value: str) -> None:
    with pytest.raises(ValueError, match=r"^it must be ISO codes of countries, such as DE,AT"):
        environment.country_codes(value)


def test_a_rate_is_a_number_per_time() -> None:
    assert environment.rate("60/m") == "60/m"
    assert environment.rate("off") is None
    for wrong in ("60", "0/m", "-1/m", "60/y", "x/m", "60/m\n"):
        with pytest.raises(ValueError, match="such as 60/m"):
            environment.rate(wrong)


@pytest.mark.parametrize(
    "value",
    [
        *("127.0.0.1:8000", "127.0.0.1:0", ":8000", "localhost:8000", "[::1]:8000", "fd://3"),
        *("unix:/tmp/shop.sock", "127.0.0.1:8000,[::1]:8000"),
    ],
)
def test_addresses_of_the_web_server(value: str) -> None:
    assert environment.listening_addresses(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http"),
        *("http://127.0.0.1:8000", "[::1:8000", "[x]:8000", "::1:8000", "a host:8000", "fd://x"),
        *("unix:/no/such/directory/shop.sock", "127.0.0.1:8000,x", ","),
    ],
)
def test_no_addresses_of_a_web_server(value: str) -> None:
    with pytest.raises(ValueError, match=r"^it must be an address and a port from 0 to 65535"):
        environment.listening_addresses(value)


def test_host_names_have_no_scheme_and_no_port() -> None:
    hosts = "shop.example.org, .example.org, *, 127.0.0.1, [::1]"
    assert environment.host_names(hosts) == hosts.split(", ")
    for wrong in ("http://shop.example.org", "shop.example.org:80", "a b", "shop/", ",", "a..b"):
        with pytest.raises(ValueError, match=r"^it must be names without http:// and port"):
            environment.host_names(wrong)


def test_origins_have_a_scheme_and_end_after_the_host() -> None:
    origins = "https://shop.example.org, http://*.example.org:8080"
    assert environment.web_origins(origins) == origins.split(", ")
    for wrong in ("shop.example.org", "https://", "https://h/path", "ftp://h", "https://h:0"):
        with pytest.raises(ValueError, match=f"wrong: {wrong}$"):
            environment.web_origins(wrong)


def test_a_name_is_one_line() -> None:
    assert environment.one_line("Käse & Söhne") == "Käse & Söhne"
    for wrong in ("a\nb", "a\x01b", "a\x7fb"):
        with pytest.raises(ValueError, match="without control characters"):
            environment.one_line(wrong)


def test_a_directory_has_an_absolute_path(tmp_path: Path) -> None:
    assert environment.directory(f"{tmp_path}/new") == tmp_path / "new"
    (tmp_path / "file").touch()
    for wrong in ("media", f"{tmp_path}/file"):
        with pytest.raises(ValueError, match="the absolute path of a directory"):
            environment.directory(wrong)


@pytest.fixture
def all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    "value",
    [
        *("redis://", "redis:///", "redis://host:x/0", "redis://host:0/0", "redis://host:65536"),
        *("redis://host/name", "rediss://a,b:x/0", "dbcache://", "dbcache://a;b"),
        *("dbcache://table/more", "filecache://", "filecache://relative", "memcache://host:11211"),
    ],
)
def test_half_a_cache(value: str, all_packages: None) -> None:
    with pytest.raises(ValueError, match=r"^it must name a cache"):
        environment.cache(value)


def test_a_cache_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install redis"):
        environment.cache("redis://host:6379/0")


def test_the_cache_of_the_counters_is_named_by_a_url(all_packages: None) -> None:
    shared = environment.cache("dbcache://shop_cache")
    assert shared["BACKEND"].endswith("DatabaseCache")
    assert shared["LOCATION"] == "shop_cache"
    assert environment.cache("redis://host:6379/0")["BACKEND"].endswith("RedisCache")
    for wrong in ("garbage", "postgres://host/name"):
        with pytest.raises(ValueError, match="it must name a cache"):
            environment.cache(wrong)


def test_how_emails_are_sent_is_named_by_a_url() -> None:
    sent = environment.email("smtp+tls://me%40shop:p%2Fw@mail.example.org:587")
    assert (sent["EMAIL_HOST"], sent["EMAIL_PORT"]) == ("mail.example.org", 587)
    assert (sent["EMAIL_HOST_USER"], sent["EMAIL_HOST_PASSWORD"]) == ("me@shop", "p/w")
    assert environment.email("outbox://")["EMAIL_BACKEND"].startswith("shop.")
    wrong_ones = ("garbage", "smtp+tsl://h:587", "smtp://h:port", "smtp://h:0", "smtp://[::1")
    for wrong in (*wrong_ones, "smtp://"):
        with pytest.raises(ValueError, match=r"as in smtp\+tls://user:password@host:587\.$"):
            environment.email(wrong)
    with pytest.raises(ValueError, match="must name a directory"):
        environment.email("filemail://")


@pytest.mark.parametrize(
    "value", ["smtp+tsl://me:pa55word@host:587", "smtp+tsl://me:pa55/word@host", "me:pa55word@h"]
)
def test_a_password_is_not_repeated(tmp_path: Path, value: str) -> None:
    env = environment.Environment(tmp_path / ".env")
    env.ENVIRON = {"EMAIL_URL": value}
    with pytest.raises(ImproperlyConfigured) as raised:
        env("EMAIL_URL", cast=environment.email)
    shown = value.replace("me:pa55word", "…").replace("me:pa55/word", "…")
    assert str(raised.value).startswith(f"EMAIL_URL is {shown!r}: it must")
    assert "pa55" not in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        "orders@shop.example.org",
        "Shop <orders@shop.example.org>",
        '"Miller, Sons" <orders@shop.example.org>',
        "Käse <orders@shop.example.org>",
        "shop@localhost",
    ],
)
def test_a_sender_is_an_address_with_or_without_a_name(value: str) -> None:
    assert environment.sender(value) == value
    EmailMessage("Hello", "Hello", value, ["me@example.org"]).message()


@pytest.mark.parametrize(
    "value",
    [
        "Shop",
        "orders@",
        "@shop.example.org",
        "Shop orders@shop.example.org",
        "Miller, Sons <orders@shop.example.org>",
        "orders@shop.example.org, me@shop.example.org",
        "orders@shop.example.org>",
        "orders@shop..example.org",
    ],
)
def test_a_sender_that_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^it must be an e-mail address, such as orders@"):
        environment.sender(value)


@pytest.mark.parametrize("name", ["Stockwell", "Käse & Co", "Miller, Sons", 'The "Shop"', "A <b>"])
def test_a_shop_of_any_name_can_send_e_mails(name: str) -> None:
    sent = EmailMessage(
        "Hello", "Hello", environment.sender_on_this_machine(name), ["me@example.org"]
    )
    decoded = str(make_header(decode_header(sent.message()["From"])))
    assert parseaddr(decoded) == (name, "shop@localhost")


def test_managers_are_addresses_and_the_wrong_ones_are_named() -> None:
    right = ["me@example.org", "you@example.org"]
    assert environment.email_addresses(" me@example.org, you@example.org,") == right
    with pytest.raises(ValueError, match=r"you@example\.org; wrong: boss, me@\.$"):
        environment.email_addresses("boss,me@example.org,me@")
    with pytest.raises(ValueError, match="it must be e-mail addresses"):
        environment.email_addresses(",")


def test_a_level_is_one_of_five() -> None:
    assert environment.log_level("debug") == "DEBUG"
    for wrong in ("WARN", "20", "NOTSET", "verbose"):
        with pytest.raises(
            ValueError, match=r"^it must be DEBUG, INFO, WARNING, ERROR or CRITICAL\.$"
        ):
            environment.log_level(wrong)


def test_log_lines_have_one_of_two_forms() -> None:
    assert environment.log_format("JSON") == "json"
    with pytest.raises(ValueError, match=r"^it must be text or json\.$"):
        environment.log_format("xml")


def test_a_wrong_webhook_is_not_repeated(tmp_path: Path) -> None:
    env = environment.Environment(tmp_path / ".env")
    env.ENVIRON = {"ALERT_WEBHOOK_URL": "hooks.example.org/services/T0/B0/secret"}
    with pytest.raises(ImproperlyConfigured) as raised:
        env("ALERT_WEBHOOK_URL", cast=environment.webhook)
    assert str(raised.value).startswith("ALERT_WEBHOOK_URL can't be used: it must be an address")
    assert "secret" not in str(raised.value)
