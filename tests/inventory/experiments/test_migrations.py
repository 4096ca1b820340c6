"""Flash sales moved here from the core, with their rows, permissions and history."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from inventory.experiments.models import FlashSale
from inventory.races.scratch import scratch_database

BEFORE = "0009_flash_sales_once"
TABLES = {"inventory_flashsale", "inventory_flashsaleresult"}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(autouse=True)
def database_of_its_own(transactional_db: None) -> Iterator[None]:
    with scratch_database():
        ContentType.objects.clear_cache()
        yield
    ContentType.objects.clear_cache()


def migrate(app: str, to: str) -> None:
    call_command("migrate", app, to, verbosity=0, interactive=False)
    ContentType.objects.clear_cache()


def tables() -> set[str]:
    return TABLES & set(connection.introspection.table_names())


def put_a_sale() -> int:
    """Insert a sale as that version of the core stored it, started by a user in the admin."""
    loader = MigrationExecutor(connection).loader
    nodes = [("inventory", BEFORE), *loader.graph.leaf_nodes("auth")]
    nodes += loader.graph.leaf_nodes("contenttypes")
    old = loader.project_state(nodes).apps
    config = old.get_app_config("inventory")
    config.models_module = True  # type: ignore[assignment]  # or Django thinks it has no models
    create_permissions(config, apps=old, verbosity=0)
    sale: int = (
        old.get_model("inventory", "FlashSale")
        .objects.create(
            stock=10, buyers=15, quantity_min=1, quantity_max=1, processes=2, threads=8,
            payment_ms=50,
        )
        .pk
    )  # fmt: skip
    return sale


def test_rows_permissions_and_history_move_along() -> None:
    migrate("inventory", BEFORE)
    sale = put_a_sale()
    may_run = Permission.objects.get(content_type__app_label="inventory", codename="run_flashsale")
    group = Group.objects.create(name="runners")
    group.permissions.add(may_run)
    user = User.objects.create_user("runner")
    user.groups.add(group)
    entry = LogEntry.objects.create(
        user=user, content_type=may_run.content_type, object_id=str(sale), action_flag=ADDITION
    )

    call_command("migrate", verbosity=0, interactive=False)
    ContentType.objects.clear_cache()

    assert FlashSale.objects.get().pk == sale
    assert User.objects.get().has_perm("experiments.run_flashsale")
    entry.refresh_from_db()
    assert entry.get_edited_object() == FlashSale.objects.get()
    labels = ContentType.objects.filter(model__startswith="flashsale").values_list(
        "app_label", flat=True
    )
    assert set(labels) == {"experiments"}
    assert Permission.objects.filter(codename="run_flashsale").count() == 1


def test_the_tables_are_there_only_where_the_experiments_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrate("inventory", BEFORE)
    assert tables() == TABLES
    with monkeypatch.context() as without:
        without.setattr(apps, "is_installed", lambda name: name != "inventory.experiments")
        migrate("inventory", "0010_experiments_apart")
    assert tables() == set()
    migrate("experiments", "0001_initial")
    assert tables() == TABLES


def test_rows_stay_also_where_the_experiments_are_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrate("inventory", BEFORE)
    put_a_sale()
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "inventory.experiments")
    migrate("inventory", "0010_experiments_apart")
    assert tables() == TABLES
