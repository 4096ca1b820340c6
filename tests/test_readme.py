"""What the README says is what the code says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from django.core.management import get_commands, load_command_class
from django.utils.module_loading import import_string

from inventory import conf

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def test_the_table_of_strategies_is_made_from_their_declarations() -> None:
    rows = ["| strategy | safe | how it works | when to use it |", "|---|---|---|---|"]
    for path in conf.STRATEGIES:
        each = import_string(path)
        safe = "yes" if each.is_safe else "**no**"
        rows.append(f"| `{each.slug}` | {safe} | {each.how} | {each.when} |")
    table = "\n".join(rows)
    assert table in README, f"The README needs this table:\n{table}"


def test_each_command_shown_can_be_parsed() -> None:
    shown = re.findall(
        r"manage\.py (flash_sale|http_flash_sale|check_stock|demo|races)((?: --?[\w-]+(?: \w+)?)*)",
        README,
    )
    assert len(shown) > 4
    for command, arguments in shown:
        found = load_command_class(get_commands()[command], command)
        parser = found.create_parser("manage.py", command)
        if "--help" not in arguments:
            parser.parse_args(shlex.split(arguments))
