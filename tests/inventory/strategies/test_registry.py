"""A strategy needs its file and a line in INVENTORY_STRATEGIES; then every part knows it."""

from __future__ import annotations

import inspect
import json
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command, load_command_class
from django.core.management.base import SystemCheckError
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils.module_loading import import_string

from inventory import conf, strategies, timeline
from inventory.admin.product_forms import ProductForm, strategies_explained
from inventory.checks import strategies_of_products_exist
from inventory.exceptions import InsufficientStock, UnknownStrategy
from inventory.experiments.admin.flash_sales import RunForm
from inventory.experiments.benchmark import rows
from inventory.experiments.flash_sale.sale import Parameters, run
from inventory.experiments.strategy_races import race
from inventory.models import Product
from inventory.reservations import reserve, reserve_together
from inventory.strategies import Strategy
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import fields_of

pytestmark = pytest.mark.django_db(transaction=True)

HERE = "tests.inventory.strategies.own_strategies"
OWN = f"{HERE}.Own"


@pytest.fixture
def with_own(settings: LazySettings) -> None:
    settings.INVENTORY_STRATEGIES = [*conf.STRATEGIES, OWN]


def test_each_file_of_ours_is_in_the_list(settings: LazySettings) -> None:
    settings.INVENTORY_STRATEGIES = conf.STRATEGIES  # the project may have set more
    assert {f"{cls.__module__}.{cls.__name__}" for cls in concrete_strategies()} == set(
        conf.STRATEGIES
    )
    assert [type(each) for each in strategies.all_strategies()] == [
        import_string(path) for path in conf.STRATEGIES
    ]


def concrete_strategies() -> set[type[Strategy]]:
    package = import_module("inventory.strategies")
    modules = [
        import_module(f"{package.__name__}.{each.name}")
        for each in pkgutil.iter_modules(package.__path__)
    ]
    classes = {
        each for module in modules for each in vars(module).values() if inspect.isclass(each)
    }
    return {each for each in classes if issubclass(each, Strategy) and not inspect.isabstract(each)}


def test_a_lifter_can_import_all_parts_of_a_strategy_from_one_place() -> None:
    assert {"Strategy", "Request", "Pay", "record_hold", "refusal"} <= set(strategies.__all__)
    assert all(hasattr(strategies, name) for name in strategies.__all__)


# A project's own strategy, in every part


@pytest.mark.usefixtures("with_own")
class TestAnotherOne:
    def test_all_strategies_include_it(self) -> None:
        assert len(strategies.all_strategies()) == len(conf.STRATEGIES) + 1
        assert strategies.get("own") is strategies.get("own")
        assert strategies.create("own") is not strategies.create("own")
        with pytest.raises(UnknownStrategy, match=r"there are .*, own\."):
            strategies.get("xyzzy")

    def test_it_reserves(self, make_product: MakeProduct) -> None:
        product = make_product(2, strategy="own")
        assert reserve(product, 2, buyer="A").strategy == "own"
        with pytest.raises(InsufficientStock):
            reserve(product, 1, buyer="B")
        [entry, _] = timeline.entries_of(product.pk)
        assert entry.reason_text == "A strategy of our own"

    def test_it_sells_in_other_processes(self) -> None:
        sale = run(Parameters(strategies=["own"], stock=5, buyers=8, payment_ms=0))
        result = sale.results.get()
        assert (result.strategy, result.sold, result.refused, result.failed) == ("own", 5, 3, 0)

    def test_it_is_explored(self) -> None:
        race("own").result.assert_holds()

    def test_it_is_measured(self) -> None:
        assert "own" in rows.candidates()

    def test_forms_and_help_offer_it(self, make_product: MakeProduct) -> None:
        product = make_product(strategy="own")
        assert ("own", "A strategy of our own") in flat(choices(ProductForm(instance=product)))
        assert ("own", "A strategy of our own") in choices(RunForm(), "strategies")
        assert "Nobody else wrote it." in strategies_explained()

    @pytest.mark.parametrize("app", ["inventory.experiments", "shop.load_tests"])
    def test_commands_list_it(self, app: str) -> None:
        name = {"inventory.experiments": "flash_sale", "shop.load_tests": "http_flash_sale"}[app]
        command = load_command_class(app, name)
        slugs = [import_string(path).slug for path in conf.STRATEGIES]
        assert ", ".join([*slugs, "own"]) in " ".join(
            command.create_parser("manage.py", name).format_help().split()
        )

    def test_the_product_form_saves_it(
        self, admin_client: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(strategy="single_statement")
        page = reverse("admin:inventory_product_change", args=[product.pk])
        form = fields_of(admin_client.get(page).content.decode(), "sku")
        assert admin_client.post(page, {**form, "strategy": "own"}).status_code == 302
        product.refresh_from_db()
        assert product.strategy == "own"

    def test_customers_read_how_it_works(self, client: Client, make_product: MakeProduct) -> None:
        make_product(strategy="own")
        assert "Nobody else wrote it." in client.get(reverse("help-stock")).content.decode()

    def test_the_checks_pass(self) -> None:
        call_command("check")


def test_it_may_be_the_default_and_the_only_one(
    settings: LazySettings, make_product: MakeProduct
) -> None:
    settings.INVENTORY_STRATEGIES = [OWN]
    settings.INVENTORY_STRATEGY = "own"
    call_command("check")
    mug, cup = make_product(3), make_product(3)
    assert reserve(mug, 1, buyer="A").strategy == "own"
    assert len(reserve_together([(mug, 1), (cup, 1)], buyer="A")) == 2


def test_a_default_that_joins_no_transaction_gives_way(
    settings: LazySettings, make_product: MakeProduct
) -> None:
    settings.INVENTORY_STRATEGIES = ["inventory.strategies.serializable.Serializable"]
    settings.INVENTORY_STRATEGY = "serializable"
    [hold] = reserve_together([(make_product(3), 1)], buyer="A")
    assert hold.strategy == "single_statement"


# Wrongly declared strategies


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nonsense", "“nonsense” can't be imported"),
        ("", "“” can't be imported"),
        ("no.such.module.Own", "“no.such.module.Own” can't be imported (ModuleNotFoundError"),
        (f"{HERE}.Missing", f"“{HERE}.Missing” can't be imported (ImportError"),
        (f"{HERE}.NoStrategy", f"“{HERE}.NoStrategy” is no subclass of"),
        (f"{HERE}.function", f"“{HERE}.function” is no subclass of"),
        (HERE, f"“{HERE}” is no subclass of"),
        ("inventory.strategies.Strategy", "is abstract. It must define _take."),
        (f"{HERE}.Abstract", "is abstract. It must define _take."),
        (f"{HERE}.Unlabelled", "must declare label, a text."),
        (f"{HERE}.Undecided", "must declare is_safe, True or False."),
        (f"{HERE}.Spaced", "has the slug “two words”. It must be"),
        (f"{HERE}.LongNamed", "It must be 1 to 32 letters"),
        (f"{HERE}.Demanding", "Its __init__ must need no arguments."),
        (f"{HERE}.SameSlug", f"“{OWN}” and “{HERE}.SameSlug” have the same slug, “own”."),
        (OWN, f"“{OWN}” is there twice."),
        (7, "7 is no dotted path."),
        (None, "None is no dotted path."),
        (["own"], "['own'] is no dotted path."),
        (Product, "is no dotted path."),
    ],
)
def test_a_check_names_the_fault(settings: LazySettings, wrong: object, said: str) -> None:
    settings.INVENTORY_STRATEGIES = [*conf.STRATEGIES, OWN, wrong]
    with pytest.raises(SystemCheckError) as refused:
        call_command("check")
    assert said in str(refused.value)
    assert "(inventory.E003) INVENTORY_STRATEGIES: " in str(refused.value)
    with pytest.raises(ImproperlyConfigured, match="INVENTORY_STRATEGIES"):
        strategies.get("combined")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--strategy", "combined"]])
def test_a_command_that_lists_them_ends_in_words(
    settings: LazySettings, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    settings.INVENTORY_STRATEGIES = ["nonsense"]
    with pytest.raises(SystemExit) as ended:
        load_command_class("inventory.experiments", "flash_sale").run_from_argv(
            ["manage.py", "flash_sale", *arguments]
        )
    assert ended.value.code == 2
    assert "INVENTORY_STRATEGIES: “nonsense” can't be imported" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [OWN, None, 7, [], (), {}, {OWN: "own"}, iter([OWN])])
def test_a_setting_that_is_no_list(settings: LazySettings, wrong: object) -> None:
    settings.INVENTORY_STRATEGIES = wrong
    with pytest.raises(SystemCheckError, match="It must be a list of dotted paths such as"):
        call_command("check")


def test_all_faults_are_named_at_once(settings: LazySettings) -> None:
    settings.INVENTORY_STRATEGIES = [OWN, "nonsense", f"{HERE}.Abstract"]
    with pytest.raises(SystemCheckError) as refused:
        call_command("check")
    assert str(refused.value).count("(inventory.E003)") == 2


def test_a_module_that_fails_is_named_and_can_be_mended(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "half_written.py"
    file.write_text("1 / 0")
    settings.INVENTORY_STRATEGIES = [*conf.STRATEGIES, "half_written.Own"]
    with pytest.raises(ImproperlyConfigured, match=r"half_written\.Own.*ZeroDivisionError"):
        strategies.all_strategies()
    file.write_text("from tests.inventory.strategies.own_strategies import Own")
    assert strategies.get("own").is_safe


def test_the_default_must_be_one_of_them(settings: LazySettings) -> None:
    settings.INVENTORY_STRATEGIES = [OWN]
    settings.INVENTORY_STRATEGY = "combined"
    with pytest.raises(SystemCheckError, match="no strategy “combined”: there are own"):
        call_command("check")


# Products with a strategy that the setting no longer names


def test_a_strategy_that_is_gone_is_reported_and_breaks_no_page(
    admin_client: Client, client: Client, make_product: MakeProduct
) -> None:
    product = make_product(3, strategy="of_last_year", name="Lamp", slug="lamp")
    [warning] = strategies_of_products_exist(databases=["default"])
    assert "“of_last_year”" in warning.msg
    assert strategies_of_products_exist(databases=None) == []

    assert client.get("/products/lamp/").status_code == 200
    answer = client.post(
        reverse("basket-holds"), {"product": "lamp", "quantity": "1", "key": str(uuid4())}
    )
    assert "Lamp can’t be reserved at the moment." in answer.content.decode()
    with pytest.raises(UnknownStrategy):
        reserve(product, 1, buyer="A")

    page = reverse("admin:inventory_product_changelist")
    assert "of_last_year" in admin_client.get(page).content.decode()
    page = reverse("admin:inventory_product_change", args=[product.pk])
    html = admin_client.get(page).content.decode()
    assert "of_last_year (no longer exists" in html
    form = fields_of(html, "sku")
    assert admin_client.post(page, {**form, "name": "Old lamp"}).status_code == 302
    product.refresh_from_db()
    assert (product.name, product.strategy) == ("Old lamp", "of_last_year")
    form = fields_of(admin_client.get(page).content.decode(), "sku")
    admin_client.post(page, {**form, "strategy": "combined"})
    reserve(Product.objects.get(), 1, buyer="A")


def test_before_the_tables_are_there_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Product._meta, "db_table", "no_such_table")
    assert connection.introspection.table_names()
    assert strategies_of_products_exist(databases=["default"]) == []


def choices(form: Any, name: str = "strategy") -> list[tuple[str, Any]]:
    return list(form.fields[name].choices)


def flat(choices: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """The choices without their groups."""
    return [
        each
        for value, label in choices
        for each in (label if isinstance(label, list | tuple) else [(value, label)])
    ]


def test_the_flash_sale_command_holds_it(settings: LazySettings, tmp_path: Path) -> None:
    settings.INVENTORY_STRATEGIES = [OWN]
    settings.INVENTORY_STRATEGY = "own"
    file = tmp_path / "results.json"
    call_command("flash_sale", "--quiet", "--payment-ms", "0", "--json", str(file))
    [result] = json.loads(file.read_text())["results"]
    assert (result["strategy"], result["sold"], result["oversold"]) == ("own", 10, 0)
