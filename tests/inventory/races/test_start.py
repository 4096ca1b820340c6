"""Every schedule begins with the same rows, or the exploration ends with a word on setup()."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session

from inventory.races import Misuse, explore, replay
from tests.inventory.races.models import Mug, Sale, Voucher
from tests.inventory.races.test_counts import one_mug

pytestmark = pytest.mark.django_db(transaction=True)


def mug_alone() -> None:
    Mug.objects.all().delete()
    Mug.objects.create(sku="MUG", stock=1)


def sell() -> None:
    """Sells one unless one was sold: if sales stay, all later schedules sell none."""
    if not Sale.objects.exists():
        Sale.objects.create(sku="MUG")


def test_rows_that_stay() -> None:
    with pytest.raises(
        Misuse, match=r"table race_models_sale had 0 rows when .* and 1 when a later"
    ):
        explore([sell, sell], setup=mug_alone, invariant=lambda run: Sale.objects.count() == 1)
    with pytest.raises(Misuse, match=r"race_models_sale had 1 row when"):
        replay("A B", [lambda: Sale.objects.create(sku="X"), sell], setup=mug_alone)


@pytest.mark.parametrize("options", [{"serial": False}, {"state": lambda: 0}, {}])
def test_a_value_that_stays(options: dict[str, Any]) -> None:
    """It is set by the very first performance, and is the same ever after."""

    def setup() -> None:
        Mug.objects.get_or_create(sku="MUG", defaults={"stock": 1})

    with pytest.raises(
        Misuse, match=r"column race_models_mug.stock was 1 when .* and 0 when a later"
    ):
        explore([lambda: Mug.objects.update(stock=0)] * 2, setup=setup, **options)


def test_a_row_that_is_gone() -> None:
    def setup() -> None:
        if not Voucher.objects.exists():
            Mug.objects.get_or_create(sku="MUG", defaults={"stock": 1})
        Voucher.objects.get_or_create(code="X", defaults={"may_be_used": 1})

    with pytest.raises(Misuse, match=r"table race_models_mug had 1 row when .* and 0 when"):
        explore([lambda: Mug.objects.all().delete(), sell], setup=setup)


def test_values_that_change_places() -> None:
    def setup() -> None:
        for sku, stock in (("X", 1), ("Y", 2)):
            Mug.objects.get_or_create(sku=sku, defaults={"stock": stock})

    def swap() -> None:
        Mug.objects.filter(sku="X").update(stock=2)
        Mug.objects.filter(sku="Y").update(stock=1)

    with pytest.raises(Misuse, match=r"table race_models_mug had other rows when"):
        explore([swap, swap], setup=setup)


def test_a_table_that_is_written_in_some_schedules_only() -> None:
    def writes_twice() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=1)

    def sees() -> None:
        if Mug.objects.get().stock == 7:
            Sale.objects.get_or_create(sku="SEEN")

    with pytest.raises(Misuse, match=r"table race_models_sale had 0 rows when"):
        explore([writes_twice, sees], setup=mug_alone, serial=False)


# Values that setup() makes anew


def random_token() -> str:
    return secrets.token_hex(4)


def toss_of_a_coin() -> str:
    return secrets.choice("XY")


def second() -> str:
    return str(int(time.time()))


@pytest.mark.parametrize("made", [random_token, toss_of_a_coin, second])
def test_chance_and_clock_in_setup(made: Callable[[], str]) -> None:
    def setup() -> None:
        one_mug()
        Mug.objects.update(sku=made())

    result = explore([lambda: Mug.objects.update(stock=0)] * 2, setup=setup)
    result.assert_serializable()
    assert result.exhaustive


def test_chance_that_python_draws_in_setup_is_the_same_each_time() -> None:
    """``random`` is seeded before setup(), too: so that what sessions read is the same."""
    import random

    def setup() -> None:
        one_mug()
        Mug.objects.update(stock=random.randrange(10**6))

    result = explore([lambda: Mug.objects.get().stock] * 2, setup=setup)
    assert len({run.results["A"] for run in result.runs}) == 1


def test_rows_that_setup_adds_each_time() -> None:
    def setup() -> None:
        one_mug()
        Voucher.objects.create(code=secrets.token_hex(4), may_be_used=1)

    with pytest.raises(Misuse, match=r"table race_models_voucher had 1 row when .* and 2 when"):
        explore([lambda: Voucher.objects.update(may_be_used=0)] * 2, setup=setup)


# Tables that are let be


def test_rows_that_nobody_touches_may_stay() -> None:
    def setup() -> None:
        one_mug()
        Voucher.objects.create(code=secrets.token_hex(4), may_be_used=1)

    assert explore([lambda: Mug.objects.update(stock=0)] * 2, setup=setup).exhaustive


def test_rows_of_a_log_may_stay() -> None:
    """Sessions only add to it, so that no schedule sees the rows of an earlier one."""
    Voucher.objects.create(code="OLD", may_be_used=0)

    def logs() -> None:
        mug = Mug.objects.get()
        mug.stock += 1
        mug.save()
        Voucher.objects.create(code=secrets.token_hex(4), may_be_used=mug.stock)

    result = explore([logs, logs], setup=one_mug)
    assert (result.schedules, len(result.not_serializable)) == (
        20,
        12,
    )  # both read before one writes
    once = explore([logs, lambda: Mug.objects.get().stock], setup=one_mug)
    once.assert_serializable()


def test_a_log_that_becomes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.races.start.FEW_ROWS", 12)

    def logs() -> None:
        Mug.objects.update(stock=0)
        Voucher.objects.create(code=secrets.token_hex(4), may_be_used=0)

    result = explore([logs, logs], setup=one_mug)
    result.assert_serializable()
    assert Voucher.objects.count() > 12
    assert result.notes == [
        "Not compared, since setup() leaves more and more rows there: race_models_voucher.",
        "Not compared, since two performances of one schedule differ there: "
        "race_models_voucher.code.",
    ]


def test_rows_of_a_log_that_is_read_may_not_stay() -> None:
    def logs() -> None:
        Voucher.objects.create(code=secrets.token_hex(4), may_be_used=0)

    def reads_in_between() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=1)

    def looks() -> None:
        if Mug.objects.get().stock == 7:
            Voucher.objects.count()
        logs()

    with pytest.raises(Misuse, match=r"race_models_voucher had 0 rows when .* when a later one"):
        explore([reads_in_between, looks], setup=one_mug)


def test_browser_sessions_may_stay() -> None:
    """Nobody has their random keys any more."""

    def visit() -> None:
        Mug.objects.update(stock=0)
        store = SessionStore()
        store["basket"] = 1
        store.save()

    result = explore([visit, visit], setup=one_mug, max_preemptions=1)
    result.assert_serializable()
    assert Session.objects.count() > 2
    assert result.notes == [
        "Not compared, since its rows are random keys and signed times: django_session."
    ]


def test_a_large_table_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared with the serial orders as ever; or not at all, if it is larger still."""
    for most in ("start.FEW_ROWS", "serial.MOST_ROWS"):
        monkeypatch.setattr(f"inventory.races.{most}", 2)
        Voucher.objects.bulk_create([Voucher(code=f"{n} {most}", may_be_used=n) for n in range(3)])

        def use() -> int:
            voucher = Voucher.objects.get(code=f"1 {most}")
            voucher.may_be_used -= 1
            voucher.save()
            return voucher.may_be_used

        def setup() -> None:
            Voucher.objects.filter(code=f"1 {most}").update(may_be_used=7)

        if most == "start.FEW_ROWS":
            assert len(explore([use, use], setup=setup).not_serializable) == 4
        else:
            with pytest.raises(Misuse, match="voucher, or one that it refers to, has more than 2"):
                explore([use, use], setup=setup)
            result = explore([use, use], setup=setup, state=lambda: 0)
            assert len(result.not_serializable) == 4  # by what they return
