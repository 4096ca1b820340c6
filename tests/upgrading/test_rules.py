"""Each migration can run while the release before sells. Earlier ones are listed."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
)
from django.db import models
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tests.upgrading.rules import problems

OURS = ("inventory", "experiments", "shop")

# Migrations that break a rule, each with the reason why it may.
OLDER = "It is older than the rules. To go up from before it, close the shop."
ALLOWED = {
    "inventory.0002_forgetting": OLDER,
    "inventory.0003_alerts": OLDER,
    "inventory.0004_movements_once": OLDER,
    "inventory.0005_written_off": OLDER,
    "inventory.0009_flash_sales_once": OLDER,
    "inventory.0010_experiments_apart": OLDER,
    "experiments.0001_initial": OLDER,
    "shop.0005_units_and_money": OLDER,
    "shop.0008_address_in_parts": OLDER,
    "shop.0009_to_ship_and_mailed_state": OLDER,
    "shop.0013_given_permissions": OLDER,
    "shop.0016_money_that_goes": OLDER,
    "shop.0017_demo_bank_steps": OLDER,
    "shop.0020_no_messages": OLDER,
}


def test_every_migration_leaves_the_release_before_at_work() -> None:
    found = problems_of_all()
    new = {name: of_it for name, of_it in found.items() if name not in ALLOWED}
    assert new == {}
    assert found.keys() == ALLOWED.keys(), "ALLOWED names migrations that break no rule."


def problems_of_all() -> dict[str, list[str]]:
    """By the name of each of our migrations that has any."""
    loader = MigrationLoader(None)
    state = ProjectState()
    state.real_apps = loader.unmigrated_apps
    found = {}
    plans = map(loader.graph.forwards_plan, loader.graph.leaf_nodes())
    for key in dict.fromkeys(chain.from_iterable(plans)):
        migration = loader.graph.nodes[key]
        if migration.app_label in OURS:
            found[str(migration)] = list(problems(migration, state))
        else:
            state = migration.mutate_state(state, preserve=False)
    return {name: of_it for name, of_it in found.items() if of_it}


# The rules


OLD = models.CharField(max_length=20, null=True, db_default="")
SAME = models.CharField(max_length=20, null=True, db_default="", help_text="new")
CHECK = models.CheckConstraint(condition=models.Q(note="a"), name="check")
INDEX = models.Index(fields=["note"], name="index")


def add(field: Any) -> Operation:
    return operations.AddField("thing", "later", field)


def alter(field: Any) -> Operation:
    return operations.AlterField("thing", "note", field)


@pytest.mark.parametrize(
    ("operation", "advice"),
    [
        (operations.RemoveField("thing", "note"), "Drop it in the next release"),
        (operations.RenameField("thing", "note", "text"), "write both"),
        (operations.DeleteModel("Thing"), "Drop it in the next release"),
        (operations.RenameModel("Thing", "Gadget"), "Drop it in the next release"),
        (operations.AlterModelTable("Thing", "gadget"), "Drop it in the next release"),
        (add(models.IntegerField()), "Give it a db_default"),
        (add(models.IntegerField(default=1)), "Give it a db_default"),
        (add(models.IntegerField(null=True, unique=True)), "db_index=False"),
        (add(models.ForeignKey("app.Thing", models.CASCADE, null=True)), "db_index=False"),
        (alter(models.CharField(max_length=20, db_default="")), "forbid NULL in the next one"),
        (alter(models.CharField(max_length=20, null=True)), "Keep it in this release"),
        (alter(models.CharField(max_length=9, null=True, db_default="")), "a column of the new"),
        (alter(models.IntegerField(null=True, db_default=1)), "a column of the new type"),
        (alter(models.CharField(max_length=20, null=True, db_default="", unique=True)), "twice"),
        (
            alter(models.CharField(max_length=20, null=True, db_default="", db_index=True)),
            "AddIndexConcurrently",
        ),
        (
            alter(models.CharField(max_length=20, null=True, db_default="", db_column="text")),
            "write both",
        ),
        (operations.AddIndex("thing", INDEX), "AddIndexConcurrently"),
        (AddIndexConcurrently("thing", INDEX), "atomic = False"),
        (operations.AddConstraint("thing", CHECK), "AddConstraintNotValid"),
        (operations.AlterUniqueTogether("thing", {("note", "id")}), "list it with the reason"),
        (operations.RunSQL("SELECT 1"), "list it with the reason"),
        (operations.RunPython(lambda apps, editor: None), "list it with the reason"),
        (
            operations.SeparateDatabaseAndState([operations.RunSQL("SELECT 1")], []),
            "list it with the reason",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Operation) else value,
)
def test_a_problem_is_named_with_the_way_out(operation: Operation, advice: str) -> None:
    (problem,) = problems_of(operation)
    assert advice in problem


@pytest.mark.parametrize(
    "operation",
    [
        add(models.IntegerField(null=True)),
        add(models.IntegerField(db_default=1)),
        add(models.ManyToManyField("app.Thing")),
        add(models.ForeignKey("app.Thing", models.CASCADE, null=True, db_index=False)),
        alter(SAME),
        alter(models.CharField(max_length=30, null=True, db_default="")),
        alter(models.TextField(null=True, db_default="")),
        AddConstraintNotValid("thing", CHECK),
        operations.SeparateDatabaseAndState([], [operations.RemoveField("thing", "note")]),
    ],
)
def test_the_way_out_is_no_problem(operation: Operation) -> None:
    assert problems_of(operation) == []


def test_an_index_that_is_made_concurrently_needs_no_transaction() -> None:
    assert problems_of(AddIndexConcurrently("thing", INDEX), atomic=False) == []


def test_a_new_table_may_get_all_at_once() -> None:
    gadget = operations.CreateModel("Gadget", [("id", models.AutoField(primary_key=True))])
    field = operations.AddField("gadget", "note", models.TextField(unique=True))
    assert problems_of(gadget, field) == []


def problems_of(*given: Operation, atomic: bool = True) -> list[str]:
    """The problems of a migration of an app with one table."""
    state = ProjectState()
    thing = operations.CreateModel(
        "Thing", [("id", models.AutoField(primary_key=True)), ("note", OLD)]
    )
    thing.state_forwards("app", state)
    content = {"operations": list(given), "atomic": atomic}
    return list(problems(type("Migration", (Migration,), content)("0002", "app"), state))
