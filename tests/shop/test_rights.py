"""The groups of staff: what migrations give them is what ``shop.rights`` says."""

from __future__ import annotations

from collections import defaultdict
from importlib import import_module
from pathlib import Path

from shop import rights

MIGRATIONS = Path(rights.__file__).parent / "migrations"


def test_migrations_give_the_groups_what_they_are_said_to_have() -> None:
    given = defaultdict(set)
    for file in sorted(MIGRATIONS.glob("[0-9]*.py")):
        migration = import_module(f"shop.migrations.{file.stem}")
        for name, permissions in getattr(migration, "GROUPS", {}).items():
            given[name].update(permissions)
    assert given == {name: set(names) for name, names in rights.GROUPS.items()}
    assert "shop.change_shopalert" in given["merchant"]
    assert not [name for name in given["auditor"] if ".view_" not in name]
