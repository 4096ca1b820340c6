"""Tables of the tests' own, made once for a test database."""

from __future__ import annotations

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.inventory.races import models
from tests.inventory.races.office import django_here, each_of, office, races_in_office, start_here

__all__ = ["django_here", "each_of", "office", "races_in_office", "start_here"]


@pytest.fixture(autouse=True, scope="session")
def tables(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        existing = connection.introspection.table_names()
        with connection.schema_editor() as editor:
            for model in models.ALL:
                if model._meta.db_table not in existing:
                    editor.create_model(model)


@pytest.fixture(autouse=True)
def empty(transactional_db: None) -> None:
    """Django's flush doesn't know these tables."""
    for model in reversed(models.ALL):
        model._base_manager.all()._raw_delete(connection.alias)
