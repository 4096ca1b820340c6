"""The READMEs say what the code does, and name only things that exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.db import models
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

import shop.forms
import shop.models
from inventory import conf, database
from inventory.races import Result
from shop.models import Order, Payment, Refund
from shop.payments import stripe_api
from tests.readmes import (
    OF_INVENTORY,
    OF_PAYMENTS,
    OF_SHOP,
    README,
    READMES,
    ROOT,
    block_with,
    blocks,
    prose,
)

MOST_LINES = 200  # of the first one: five minutes
# What the reader is going to write.
OF_AN_EXAMPLE = ("guitars", "acme", "ACME", "phone", "conftest.py")

each_readme = pytest.mark.parametrize(
    "readme", READMES, ids=lambda path: str(path.relative_to(ROOT))
)


def in_backticks(readme: Path) -> list[str]:
    found = re.findall(r"`([^`]+)`", prose(readme))
    return [each for each in found if not any(name in each for name in OF_AN_EXAMPLE)]


def test_a_newcomer_reads_the_first_one_in_five_minutes() -> None:
    assert len(README.read_text().splitlines()) <= MOST_LINES


def test_the_table_of_strategies_is_made_from_their_declarations() -> None:
    rows = ["| strategy | safe | how it works | when to use it |", "|---|---|---|---|"]
    for path in conf.STRATEGIES:
        each = import_string(path)
        safe = "yes" if each.is_safe else "**no**"
        rows.append(f"| `{each.slug}` | {safe} | {each.how} | {each.when} |")
    table = "\n".join(rows)
    assert table in README.read_text(), f"The README needs this table:\n{table}"


@each_readme
def test_links_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", prose(readme))
    assert links
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (readme.parent / path).resolve() if path else readme
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(readme: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(readme))
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


@each_readme
def test_paths_exist(readme: Path) -> None:
    """Files, directories and the shop's addresses in backticks exist."""
    for each in in_backticks(readme):
        if re.fullmatch(r"/[\w/-]*", each):
            assert is_address(each), each
        elif re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", each) and ("/" in each or is_file_name(each)):
            made = each in (".env", ".postgres/")  # and ignored by git
            assert made or (ROOT / each).exists() or (readme.parent / each).exists(), each


def is_file_name(name: str) -> bool:
    return Path(name).suffix in {".py", ".md", ".txt", ".toml", ".html", ".ini"}


def is_address(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


@each_readme
def test_commands_exist_and_can_be_parsed(readme: Path) -> None:
    text = re.sub(r"\s+", " ", readme.read_text())
    shown = re.findall(r"manage\.py ([a-z_]+)((?: --?[\w-]+(?: \w[\w:+.-]*)?)*)", text)
    assert shown or "manage.py" not in text
    for name, arguments in shown:
        command = load_command_class(get_commands()[name], name)
        if "--help" not in arguments and name != "procrastinate":
            command.create_parser("manage.py", name).parse_args(shlex.split(arguments))


@each_readme
def test_modules_that_are_run_exist(readme: Path) -> None:
    for name in re.findall(r"python -m ([\w.]+)", readme.read_text()):
        assert importlib.util.find_spec(name), name


@each_readme
def test_dotted_names_can_be_imported(readme: Path) -> None:
    """Names in the table of functions, too, where ``inventory`` is left out."""
    for each in in_backticks(readme):
        name = re.match(r"(?:[a-z_]\w*\.)+\w+", each.removesuffix(".md"))
        if name is None or "/" in each or is_file_name(each):
            continue
        package = name[0].split(".")[0]
        if package in ("inventory", "shop", "tests"):
            assert can_be_imported(name[0]), each
        elif package in ("reservations", "stock", "monitor", "django"):
            assert can_be_imported(name[0] if package == "django" else f"inventory.{name[0]}"), each


@each_readme
def test_attributes_of_classes_exist(readme: Path) -> None:
    modules = [importlib.import_module(name) for name in ("shop.models", "shop.forms")]
    for each in in_backticks(readme):
        if found := re.fullmatch(r"([A-Z]\w+)\.(\w+)", each):
            classes = [getattr(module, found[1], None) for module in modules]
            assert any(hasattr(cls, found[2]) for cls in classes), each


def can_be_imported(name: str) -> bool:
    """Whether this is a module, a name in a module, or an attribute of that."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@each_readme
def test_settings_exist(readme: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    for each in in_backticks(readme):
        for name in re.findall(r"^[A-Z]+(?:_[A-Z]+)+|^[A-Z]{4,}(?=$|=)", each):
            assert (
                re.search(rf"(?m)^(# )?{name}=", example)
                or hasattr(settings, name)
                or any(name in code for code in code_that_reads_settings())
            ), name


def code_that_reads_settings() -> Iterator[str]:
    for package in ("inventory", "shop"):
        for file in (ROOT / package).rglob("*.py"):
            yield file.read_text()


@each_readme
def test_code_that_is_shown_is_python(readme: Path) -> None:
    for code in blocks(readme, "python"):
        compile(code, str(readme), "exec")


def test_the_strategy_that_is_shown_is_one() -> None:
    """It doesn't oversell, and has all declarations of a strategy."""
    names: dict[str, Any] = {}
    exec(block_with(OF_INVENTORY, "class Patient"), names)
    assert not names["Patient"].__abstractmethods__
    names["Patient"]()
    assert names["atomic"] is database.atomic  # in the database of the stock


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_the_race_that_is_shown_holds(races: Callable[..., Result]) -> None:
    found: list[Result] = []

    def explored(*sessions: Any, **options: Any) -> Result:
        found.append(races(*sessions, **options))
        return found[0]

    names: dict[str, Any] = {}
    exec(block_with(OF_INVENTORY, "def test_two_buyers"), names)
    names["test_two_buyers_of_the_last_guitar"](explored)
    assert found[0].exhaustive
    assert found[0].schedules > 1
    assert all(len(run.returned) == len(run.raised) == 1 for run in found[0].runs)


@pytest.mark.parametrize("model", [Payment, Refund])
def test_the_fields_that_a_provider_needs_are_named(model: type[models.Model]) -> None:
    name = model.__name__.lower()
    _, _, table = prose(OF_PAYMENTS).partition(f"| Field of a {name} | is |\n")
    names = {
        field
        for row in table.partition("\n\n")[0].splitlines()[1:]
        for field in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert names <= {field.name for field in model._meta.get_fields()}
    used = re.findall(rf"\b{name}\.(\w+)", block_with(OF_PAYMENTS, "class Acme"))
    assert names >= {*used, "key", "amount", "copy"}


def test_the_checkouts_new_field_is_one() -> None:
    """Its code belongs to the class Order, and to the class Meta of the form."""
    order: dict[str, Any] = dict(vars(Order))
    exec(block_with(OF_SHOP, "CHECKOUT_FIELDS"), vars(shop.models) | order, order)
    meta: dict[str, Any] = {}
    exec(block_with(OF_SHOP, "help_texts = "), dict(vars(shop.forms)), meta)
    (added,) = set(order["CHECKOUT_FIELDS"]) - set(Order.CHECKOUT_FIELDS)
    assert isinstance(order[added], models.Field)
    assert set(meta["help_texts"]) == set(meta["widgets"]) == {added}


def test_the_version_of_stripes_api_is_named() -> None:
    assert f"`{stripe_api.API_VERSION}`" in prose(OF_PAYMENTS)


@each_readme
def test_no_sentence_begins_with_who_or_what(readme: Path) -> None:
    """Its subject comes first."""
    pattern = r"(?m)(?:^|[.:;?!|] |\*\*)((?:Who|Whom|Whoever|What|Whatever)\b.*)"
    assert re.findall(pattern, re.sub(r"(?<!\n)\n(?!\n)", " ", prose(readme))) == []
