"""Settings from the environment: strict, empty is unset, and .env.example lists all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environ import Env

from tests.shop.programs import PACKAGES, ROOT, copy_checkout, keepers, manage

# Any server: none of these tests connects to it.
ELSEWHERE = {"DATABASE_URL": "postgres://shop.invalid/shop", "SECRET_KEY": "x" * 50}
PRODUCTION = {
    **ELSEWHERE,
    "SECRET_KEY": "$oh=w3lk2jq9v!4mz8r7x0c5n1b6t(y#u@i&p_f-d*s)g+h^a%",
    "HTTPS": "true",
    "ALLOWED_HOSTS": "shop.example.org, www.shop.example.org",
    "BASE_URL": "https://shop.example.org/",
    "HSTS_SECONDS": "31536000",
    "CACHE_URL": "dbcache://shop_cache",
    "DEMO": "true",  # test_checks has a shop with a real payment provider
}
# The way mypy's plugin reads the settings.
TYPE_CHECKER = (
    "from mypy_django_plugin.django import context; context.initialize_django('shop.settings')"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separate checkout, so that no developer's .env takes part."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def settings(checkout: Path, variables: dict[str, str]) -> dict[str, Any]:
    """All settings that follow from these variables alone."""
    script = (
        "import json; from shop import settings\n"
        "print(json.dumps({name: value for name, value in vars(settings).items()"
        # UNFOLD has addresses of pages, which only a running shop knows.
        " if name.isupper() and name != 'UNFOLD'}, default=str))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=checkout,
        env={**variables, "PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        ["-c", "import shop.settings, shop.gunicorn_conf"],
        ["-c", "import shop.asgi"],
        ["-c", TYPE_CHECKER],
        ["manage.py", "--help"],
        ["manage.py", "check"],
        ["manage.py", "collectstatic", "--dry-run", "--no-input"],
        *(
            pytest.param(program, marks=pytest.mark.thorough)
            for program in (
                ["-c", "import shop.wsgi"],
                ["manage.py", "flash_sale", "--help"],
                ["manage.py", "runserver", "--help"],
                ["manage.py", "diffsettings"],
            )
        ),
    ],
    ids=lambda program: " ".join(program),
)
def test_a_program_without_a_database_leaves_nothing_behind(
    checkout: Path, program: list[str]
) -> None:
    """Neither a server nor a file: editors, type checkers and --help import settings, too."""
    before = sorted(checkout.iterdir())
    run = subprocess.run(
        [sys.executable, *program],
        cwd=checkout,
        env={"PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert sorted(checkout.iterdir()) == before
    assert not keepers(checkout / ".postgres")


@pytest.mark.slow
def test_a_shop_without_stripe_does_not_load_its_library(checkout: Path) -> None:
    program = (
        "import django, sys; django.setup(); from shop import payments;"
        "payments.origins(); sys.exit('stripe' in sys.modules)"
    )
    for provider, is_loaded in (("demo", 0), ("stripe", 1)):
        run = subprocess.run(
            [sys.executable, "-c", program],
            cwd=checkout,
            env={
                **ELSEWHERE,
                "PAYMENT_PROVIDER": provider,
                "DJANGO_SETTINGS_MODULE": "shop.settings",
                "PYTHONPATH": PACKAGES,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        assert run.returncode == is_loaded


@pytest.mark.slow
def test_a_shop_in_production_passes_djangos_checks(checkout: Path) -> None:
    run = manage("check", "--deploy", "--fail-level=INFO", checkout=checkout, env=PRODUCTION)
    assert run.stdout == "System check identified no issues (0 silenced).\n"
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.slow
def test_values_are_read_as_they_are_meant(checkout: Path) -> None:
    found = settings(checkout, {**PRODUCTION, "HOLD_MINUTES": "7", "TIME_ZONE": "Europe/Berlin"})
    assert found["ALLOWED_HOSTS"] == ["shop.example.org", "www.shop.example.org"]
    assert found["SECRET_KEY"] == PRODUCTION["SECRET_KEY"]  # $ and all
    assert found["SECURE_HSTS_SECONDS"] == 31536000
    assert found["INVENTORY_HOLD_FOR"] == "0:07:00"
    assert found["TIME_ZONE"] == "Europe/Berlin"
    assert found["DEBUG"] is False


@pytest.mark.slow
def test_managers_get_their_e_mails_from_the_shops_own_address(checkout: Path) -> None:
    sender = "Shop <orders@shop.example.org>"
    found = settings(checkout, {**ELSEWHERE, "DEFAULT_FROM_EMAIL": sender, "MANAGERS": "a@b.org"})
    assert found["DEFAULT_FROM_EMAIL"] == found["SERVER_EMAIL"] == sender
    assert found["MANAGERS"] == [["", "a@b.org"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HOLD_MINUTES", "abc", "it must be a whole number from 1 to 10080."),
        ("HOLD_MINUTES", "0", "it must be a whole number from 1 to 10080."),
        ("HOLD_MINUTES", "-5", "it must be a whole number from 1 to 10080."),
        ("SHOP_CURRENCY", "JPY", "it must be a currency with two decimal places"),
        ("SHIPPING_COST", "4,90", "it must be an amount such as 4.90."),
        ("POSTS_PER_ADDRESS", "60", "it must be a number per s, m, h or d, such as 60/m, or off."),
        ("MOST_UNITS_PER_ADDRESS", "0", "it must be a whole number from 1 to 1000000, or off."),
        ("MOST_UNITS_PER_ADDRESS", "none", "it must be a whole number from 1 to 1000000, or off."),
        ("CACHE_URL", "memcache://127.0.0.1:11211", "it must name a cache"),
        ("CACHE_URL", "redis://host:x/0", "it must name a cache"),
        ("ALLOWED_HOSTS", "http://shop.example.org", "it must be names without http:// and port"),
        ("CSRF_TRUSTED_ORIGINS", "shop.example.org", "it must be addresses such as https://"),
        ("SHOP_NAME", "a\u2028b", "it must be one line"),
        ("MEDIA_ROOT", "media", "it must be the absolute path of a directory"),
        ("EMAIL_URL", "garbage", "it must say how e-mails are sent"),
        ("LOG_LEVEL", "loud", "it must be DEBUG, INFO, WARNING, ERROR or CRITICAL."),
        ("LOG_FORMAT", "xml", "it must be text or json."),
        ("SENTRY_DSN", "garbage", "it must be a DSN of Sentry"),
        ("PROXIES", "-1", "it must be a whole number from 0 to 10."),
        ("HSTS_SECONDS", "-1", "it must be a whole number from 0 to 1000000000."),
        ("DEBUG", "ture", "it must be true or false."),
        ("SHIP_TO_COUNTRIES", "DE,Austria", "it must be ISO codes of countries"),
        ("STRIPE_API_BASE", "api.stripe.com", "it must be an address"),
        ("DEFAULT_FROM_EMAIL", "Shop", "it must be an e-mail address"),
        ("MANAGERS", "boss", "it must be e-mail addresses"),
        ("TIME_ZONE", "Mars/Olympus", "it must be the name of a time zone"),
        ("METRICS_ADDRESS", "9100", "it must be an IP address and a port"),
    ],
)
def test_a_bad_value_is_named(checkout: Path, name: str, value: str, complaint: str) -> None:
    run = manage("check", checkout=checkout, env={**ELSEWHERE, name: value})
    assert f"{name} is {value!r}: {complaint}" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        # Before gunicorn has begun
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN can't be used: it must be at least 16"),
        ({"BIND": "127.0.0.1:http"}, "BIND is '127.0.0.1:http': it must be an address and a port"),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY is '0': it must be a whole number from 1"),
        ({"GUNICORN_CMD_ARGS": "--preload"}, "--preload (preload_app) can't be used"),
        # In the process that loads the shop
        ({"STRATEGY": "single_statment"}, "did you mean single_statement"),
        ({"PAYMENT_PROVIDER": "paypal"}, "PAYMENT_PROVIDER: there is no “paypal”"),
        ({"PAYMENT_PROVIDER": "stripe"}, "in Stripe's dashboard"),  # where its key is
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_gunicorn_names_a_bad_value_too(
    checkout: Path, variables: dict[str, str], complaint: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "python:shop.gunicorn_conf", "shop.asgi"],
        cwd=checkout,
        env={**ELSEWHERE, "BIND": "127.0.0.1:0", "PYTHONPATH": PACKAGES, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert complaint in run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


@pytest.mark.slow
def test_a_worker_names_a_bad_value_too(checkout: Path) -> None:
    wrong = {"PAYMENT_PROVIDER": "paypal"}
    run = manage("procrastinate", "worker", checkout=checkout, env={**ELSEWHERE, **wrong})
    assert "PAYMENT_PROVIDER: there is no “paypal”" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


@pytest.mark.slow
def test_a_strategy_that_does_not_exist_is_named(checkout: Path) -> None:
    run = manage("check", checkout=checkout, env={**ELSEWHERE, "STRATEGY": "single_statment"})
    assert "did you mean single_statement" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


def test_the_example_lists_the_variables_that_settings_read() -> None:
    code = "".join(
        (ROOT / "shop" / name).read_text() for name in ("settings.py", "gunicorn_conf.py")
    )
    read = re.findall(r'\benv(?:\.\w+)?\(\s*"(\w+)"', code)
    listed = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(read) >= 12
    assert sorted(listed) == sorted(set(read))


def test_each_variable_of_the_example_is_explained() -> None:
    for paragraph in (ROOT / ".env.example").read_text().strip().split("\n\n")[1:]:
        explanation, variable = paragraph.rsplit("\n", 1)
        assert all(line.startswith("# ") for line in explanation.splitlines()), paragraph
        assert re.match(r"(# )?[A-Z_]+=", variable), paragraph


@pytest.mark.slow
def test_the_example_shows_the_defaults(checkout: Path) -> None:
    class Example(Env):  # type: ignore[misc]
        ENVIRON: dict[str, str] = {}

    Example.read_env(ROOT / ".env.example")
    example = {name: value for name, value in Example.ENVIRON.items() if name not in ELSEWHERE}
    assert settings(checkout, {**example, **ELSEWHERE}) == settings(checkout, ELSEWHERE)


@pytest.mark.slow
def test_an_empty_variable_counts_as_unset(checkout: Path) -> None:
    listed = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    for nothing in ("", " "):
        empty = dict.fromkeys(listed, nothing) | ELSEWHERE
        assert settings(checkout, empty) == settings(checkout, ELSEWHERE)


@pytest.mark.slow
def test_the_file_counts_for_variables_that_the_environment_lacks(checkout: Path) -> None:
    file = checkout / ".env"
    file.write_text("HOLD_MINUTES=21\nALLOWED_HOSTS=from-file\nHSTS_SECONDS=\n# COMMENT=1\n")
    try:
        found = settings(checkout, {**ELSEWHERE, "ALLOWED_HOSTS": "from-env", "HOLD_MINUTES": ""})
        assert found["INVENTORY_HOLD_FOR"] == "0:21:00"
        assert found["ALLOWED_HOSTS"] == ["from-env"]
        assert found["HSTS_SECONDS"] == 3600
    finally:
        file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["a directory", "not text"])
def test_a_file_that_cannot_be_read_is_named(checkout: Path, broken: str) -> None:
    file = checkout / ".env"
    file.mkdir() if broken == "a directory" else file.write_bytes(b"DEBUG=\xff\xfe")
    try:
        run = manage("check", checkout=checkout, env=ELSEWHERE)
        assert f"{file} can't be read" in run.stderr
        assert "Traceback" not in run.stderr
        assert run.returncode == 1
    finally:
        file.rmdir() if broken == "a directory" else file.unlink()
