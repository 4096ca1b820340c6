"""Every test begins with the rows that migrations make, even after a test that commits."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection

from shop import tasks
from tests import emptying
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)


def rows() -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    with connection.cursor() as cursor:
        found = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found[table] = sorted(cursor.fetchall(), key=repr)
        return found


def test_what_was_committed_is_gone_and_what_migrations_made_is_back(
    make_product: MakeProduct,
) -> None:
    before = rows()
    user = User.objects.create_user("staff")
    user.groups.add(Group.objects.create(name="of the test"))
    user.user_permissions.set(Permission.objects.all()[:3])
    Group.objects.exclude(name="of the test").delete()
    make_product(3)
    tasks.send_order_paid.defer(order_id=1)  # a job, in a table that Django's flush doesn't know
    assert rows() != before

    emptying.empty_tables()
    assert rows() == before
    assert before["auth_permission"]
    assert not before["inventory_product"]
