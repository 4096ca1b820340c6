"""Rules by which a migration leaves the release before at work, and keeps nobody waiting.

``migrate`` runs while the old code sells. A change that the old code can't live with takes two
releases: the first one stops using what the second one takes away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.postgres import operations as postgres
from django.db import connection
from django.db.migrations import Migration, operations
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import ForeignKey, ManyToManyField

AnyField = Any  # Django's types don't know all that a field has

HARMLESS = (
    operations.CreateModel,
    operations.AlterModelOptions,
    operations.AlterModelManagers,
    operations.AlterModelTableComment,
    operations.RemoveConstraint,
    operations.RemoveIndex,
    operations.RenameIndex,
    postgres.AddConstraintNotValid,
    postgres.ValidateConstraint,
    postgres.AddIndexConcurrently,
    postgres.RemoveIndexConcurrently,
)
TAKEN_AWAY = (
    operations.RemoveField,
    operations.DeleteModel,
    operations.RenameField,
    operations.RenameModel,
    operations.AlterModelTable,
)
TRIGGERS = ("AddTrigger", "RemoveTrigger")  # of pgtrigger: the database runs them for any code

IN_TWO_RELEASES = (
    "The old code still uses it. In this release give the column null=True or a db_default, let "
    "the code do without it, and take it out of the models only (SeparateDatabaseAndState with "
    "state_operations). Drop it in the next release. For another name: add the new column, write "
    "both, and drop the old one in the next release."
)
NO_DEFAULT = (
    "The old code inserts rows without it. Give it a db_default, or null=True; if it needs neither "
    "in the end, take that away in the next release."
)
INDEXED = (
    "Its index is made while nobody can write to the table. Add the field with db_index=False and "
    "without unique, and the index by AddIndexConcurrently in a migration with atomic = False."
)
NOT_CONCURRENT = (
    "Nobody can write to the table while the index is made. Use AddIndexConcurrently in a "
    "migration with atomic = False."
)
CONSTRAINT = (
    "The old code may break it, and nobody can use the table while all rows are checked. Let the "
    "code keep to it in this release. In the next one use AddConstraintNotValid, and "
    "ValidateConstraint in a migration of its own."
)
NOT_NULL = (
    "The old code may write NULL. In this release let the code always write a value; forbid NULL "
    "in the next one."
)
OTHER_TYPE = (
    "PostgreSQL may write the whole table anew while nobody can use it, and the old code may write "
    "values that no longer fit. Add a column of the new type, write both, and drop the old one in "
    "the next release."
)
DEFAULT_GONE = (
    "The old code may count on the database's default. Keep it in this release, let the code "
    "always write a value, and take the default away in the next one."
)
UNIQUE = (
    "The old code may write a value twice, and nobody can write while the index is made. Let the "
    "code keep to it in this release, and add the constraint in the next one."
)
UNKNOWN = (
    "Nobody can tell from outside what it does. See that the old code goes on with the outcome, "
    "and that it keeps no table locked for long; then list it with the reason."
)


def problems(migration: Migration, state: ProjectState) -> Iterator[str]:
    """Yield why the migration can't run while the shop is open, and how it could.

    ``state`` is that of the models before it. It gets the migration's changes.
    """
    new_tables: set[str] = set()
    for operation in migration.operations:
        before = state.clone()
        operation.state_forwards(migration.app_label, state)
        if isinstance(operation, operations.CreateModel):
            new_tables.add(operation.name_lower)
        for each in run_in_database(operation):
            if model_of(each) not in new_tables:
                problem = find_problem(each, migration, before, state)
                if problem:
                    yield f"{each.describe()}: {problem}"


def run_in_database(operation: Operation) -> list[Operation]:
    if isinstance(operation, operations.SeparateDatabaseAndState):
        return list(operation.database_operations)
    return [operation]


def model_of(operation: Operation) -> str | None:
    name = getattr(operation, "model_name", None)
    return name.lower() if name else None


def find_problem(
    operation: Operation, migration: Migration, before: ProjectState, after: ProjectState
) -> str | None:
    if isinstance(operation, postgres.AddIndexConcurrently) and migration.atomic:
        return NOT_CONCURRENT
    if isinstance(operation, HARMLESS) or type(operation).__name__ in TRIGGERS:
        return None
    if isinstance(operation, TAKEN_AWAY):
        return IN_TWO_RELEASES
    if isinstance(operation, operations.AddField):
        return problem_of_new(operation.field)
    if isinstance(operation, operations.AlterField):
        key = (migration.app_label, operation.model_name_lower, operation.name)
        return problem_of_change(field_in(before, *key), field_in(after, *key))
    if isinstance(operation, operations.AddIndex):
        return NOT_CONCURRENT
    if isinstance(operation, operations.AddConstraint):
        return CONSTRAINT
    return UNKNOWN


def field_in(state: ProjectState, app_label: str, model: str, name: str) -> AnyField:
    return state.apps.get_model(app_label, model)._meta.get_field(name)


def problem_of_new(field: AnyField) -> str | None:
    if isinstance(field, ManyToManyField):  # a table of its own
        return None
    if not field.null and not field.has_db_default():
        return NO_DEFAULT
    if field.unique or field.db_index:
        return INDEXED
    return None


def problem_of_change(old: AnyField, new: AnyField) -> str | None:
    if old.column != new.column:
        return IN_TWO_RELEASES
    if old.null and not new.null:
        return NOT_NULL
    if old.has_db_default() and not new.has_db_default():
        return DEFAULT_GONE
    if new.unique and not old.unique:
        return UNIQUE
    if new.db_index and not old.db_index:
        return NOT_CONCURRENT
    if not holds_all_values_of(old, new):
        return OTHER_TYPE
    if isinstance(new, ForeignKey) and not isinstance(old, ForeignKey):
        return CONSTRAINT
    return None


def holds_all_values_of(old: AnyField, new: AnyField) -> bool:
    """Whether PostgreSQL changes the type without a look at the rows."""
    old_type, new_type = old.db_type(connection), new.db_type(connection)
    if old_type == new_type:
        return True
    is_text = str(old_type).startswith("varchar")
    if is_text and new_type == "text":
        return True
    is_longer = (new.max_length or 0) >= (old.max_length or 0)
    return is_text and str(new_type).startswith("varchar") and is_longer
