"""Rows that come back without setup(): each schedule must find what setup() had made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction
from django.db.models import F

from inventory.races import Misuse, explore
from tests.inventory.races.models import Engraving, Mug, Sale
from tests.inventory.races.test_counts import in_a_transaction, one_mug, sells_at_most_one

pytestmark = pytest.mark.django_db(transaction=True)


class Once:
    """A setup that counts its calls."""

    def __init__(self, setup: Callable[[], None]) -> None:
        self.calls = 0
        self._setup = setup

    def __call__(self) -> None:
        self.calls += 1
        self._setup()


def test_setup_is_called_once_and_the_schedules_are_the_same() -> None:
    setup = Once(one_mug)
    result = explore([in_a_transaction] * 2, setup=setup, invariant=sells_at_most_one, image=True)
    assert setup.calls == 1
    assert (result.schedules, len(result.broken), result.exhaustive) == (24, 22, True)


def test_keys_and_sequences_begin_where_they_began() -> None:
    keys = set()

    def sell() -> None:
        keys.add(Sale.objects.create(sku="MUG").pk)

    explore([sell, sell], setup=one_mug, image=True)
    assert len(keys) == 2


def test_rows_come_back_whatever_was_done_to_them() -> None:
    """Changed, deleted with what refers to them, added, and rolled back."""

    def two_mugs() -> None:
        for model in (Engraving, Sale, Mug):
            model.objects.all().delete()
        for sku in ("X", "Y"):
            Engraving.objects.create(mug=Mug.objects.create(sku=sku, stock=1))

    def discard() -> None:
        with transaction.atomic():
            Engraving.objects.all().delete()
            Mug.objects.filter(sku="X").delete()

    def count() -> None:
        with transaction.atomic():
            Mug.objects.update(stock=F("stock") + 1)
            transaction.set_rollback(True)

    def describe() -> str:
        return f"{sorted(Mug.objects.values_list())} {sorted(Engraving.objects.values_list())}"

    result = explore([discard, count], setup=two_mugs, image=True, describe=describe)
    before = {run.before for run in result.runs}
    assert len(before) == 1
    assert "'X', 1" in before.pop()


def test_rows_that_the_invariant_writes_come_back_too() -> None:
    def count_and_note(run: object) -> bool:
        Sale.objects.create(sku="NOTE")
        return Sale.objects.filter(sku="NOTE").count() == 1

    result = explore(
        [in_a_transaction] * 2, setup=one_mug, invariant=count_and_note, image=True, serial=False
    )
    assert not result.broken


def test_nothing_is_left_behind() -> None:
    explore([in_a_transaction] * 2, setup=one_mug, image=True, max_preemptions=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'races_image'")
        assert cursor.fetchone() == (0,)
    assert not connection.execute_wrappers


@pytest.fixture
def plain_role() -> Iterator[None]:
    """The connection's role for a while: no superuser, with all rights to the tables."""
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS races_plain")
        cursor.execute("CREATE ROLE races_plain LOGIN PASSWORD 'plain'")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO races_plain")
        cursor.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO races_plain")
        cursor.execute(f'GRANT CREATE ON DATABASE "{name}" TO races_plain')
        cursor.execute("SET ROLE races_plain")
    before = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = {**before, "assume_role": "races_plain"}
    connection.close()
    yield
    connection.settings_dict["OPTIONS"] = before
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP OWNED BY races_plain")
        cursor.execute("DROP ROLE races_plain")


def test_a_role_that_may_not_switch_off_triggers(plain_role: None) -> None:
    with pytest.raises(Misuse, match="GRANT SET ON PARAMETER session_replication_role"):
        explore([in_a_transaction] * 2, setup=one_mug, image=True)
