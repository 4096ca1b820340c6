"""PostgreSQL chooses between rows that are equal by ORDER BY, and not always alike."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from inventory.races import Unrepeatable, explore
from tests.inventory.races.models import Mug, Sale

pytestmark = pytest.mark.django_db(transaction=True)


def laid_otherwise_each_time() -> Callable[[], None]:
    """A setup of equal rows, that lie now in this order on the disk, now in the other."""
    ways = itertools.cycle([("red", "blue"), ("blue", "red")])

    def setup() -> None:
        Mug.objects.all().delete()
        Sale.objects.all().delete()
        for sku in next(ways):
            Mug.objects.create(pk=len(sku), sku=sku, stock=1)

    return setup


def test_a_read_that_leaves_open_which_row_comes_is_named() -> None:
    def look() -> None:
        Mug.objects.order_by("stock").first()
        Sale.objects.create(sku="any")

    result = explore([look, look], setup=laid_otherwise_each_time())
    [note] = result.notes
    assert note.startswith("A could have got other rows (after A) by “SELECT")
    assert not result.broken


def test_so_is_one_that_differs_by_keys_alone() -> None:
    def look() -> None:
        Mug.objects.order_by("stock").values_list("pk", flat=True).first()
        Sale.objects.create(sku="any")

    result = explore([look, look], setup=laid_otherwise_each_time())
    assert "could have got other rows" in " ".join(result.notes)


def test_an_error_says_so_where_the_end_depends_on_it() -> None:
    def sell() -> None:
        mug = Mug.objects.order_by("stock").first()
        assert mug is not None
        if mug.sku == "red":
            mug.save()

    def look() -> None:
        Sale.objects.create(sku="any")

    with pytest.raises(Unrepeatable) as raised:
        explore({"A": sell, "B": look}, setup=laid_otherwise_each_time(), serial=False)
    assert "could have got other rows" in " ".join(raised.value.__notes__)


def test_nothing_is_read_from_outside_that_a_session_alone_can_see() -> None:
    """To the others the rows are still equal."""

    @transaction.atomic
    def look() -> None:
        Mug.objects.filter(sku="red").update(stock=0)
        Mug.objects.order_by("stock").first()

    assert explore([look, look], setup=laid_otherwise_each_time()).notes == []


def test_nothing_is_read_from_outside_where_a_session_set_something() -> None:
    """Its names may mean other tables, and its snapshot may be an older one."""

    @transaction.atomic
    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL search_path = public")
        Mug.objects.order_by("stock").first()
        Sale.objects.create(sku="any")

    assert explore([look, look], setup=laid_otherwise_each_time()).notes == []


@pytest.mark.parametrize("order", [("stock", "sku"), ("sku",)])
def test_nothing_is_noted_where_the_order_is_whole(order: tuple[str, ...]) -> None:
    def look() -> None:
        Mug.objects.order_by(*order).first()
        Mug.objects.get(sku="red")
        Sale.objects.create(sku="any")

    assert explore([look, look], setup=laid_otherwise_each_time()).notes == []


def test_nothing_is_noted_where_setup_makes_other_values_each_time() -> None:
    def setup() -> None:
        Mug.objects.all().delete()
        Sale.objects.all().delete()
        Mug.objects.create(sku=uuid.uuid4().hex[:20], stock=1)

    def look() -> None:
        Mug.objects.order_by("stock").first()
        Sale.objects.create(sku="any")

    assert explore([look, look], setup=setup).notes == []


def test_nothing_is_noted_where_the_other_session_changed_the_rows() -> None:
    def setup() -> None:
        Mug.objects.all().delete()
        Mug.objects.create(pk=1, sku="red", stock=1)
        Mug.objects.create(pk=2, sku="blue", stock=2)

    def sell() -> None:
        mug = Mug.objects.order_by("stock").first()
        assert mug is not None
        Mug.objects.filter(pk=mug.pk).update(stock=3)

    assert explore([sell, sell], setup=setup).notes == []
