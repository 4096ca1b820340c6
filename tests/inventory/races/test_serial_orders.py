"""A schedule that ends like no serial order is flagged, without anybody writing an invariant."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from django.db import transaction
from django.db.models import F

from inventory.races import RaceFound, Result, explore, point
from tests.inventory.races.models import Engraving, Mug, Redemption, Sale, Voucher
from tests.inventory.races.test_counts import in_a_transaction, locked, one_mug

pytestmark = pytest.mark.django_db(transaction=True)


def test_without_an_invariant_a_lost_update_is_found() -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug)
    assert len(result.broken) == len(result.not_serializable) == 22
    with pytest.raises(RaceFound, match=r"wrote\s+stock = 0\s+over it"):
        result.assert_serializable()


MEMORY = {"stock": 2}


def two_in_memory() -> None:
    MEMORY["stock"] = 2


def sell_from_memory() -> int:
    """It reads before its first step, where all sessions begin at once."""
    stock = MEMORY["stock"]
    point("looked")
    MEMORY["stock"] = stock - 1
    return MEMORY["stock"]


def test_in_a_serial_order_no_session_begins_before_its_turn() -> None:
    result = explore([sell_from_memory] * 2, setup=two_in_memory)
    with pytest.raises(RaceFound):
        result.assert_serializable()


def test_python_that_races_before_the_first_step_is_a_race() -> None:
    result = explore(
        [sell_from_memory] * 2, setup=two_in_memory, invariant=lambda run: MEMORY["stock"] == 0
    )
    assert len(result.broken) == result.schedules
    assert not result.serial_broken
    assert "without any race" not in result.failure(result.broken)


def test_what_waits_and_is_right_is_like_a_serial_order() -> None:
    explore([locked] * 2, setup=one_mug).assert_serializable()


def test_keys_tokens_instants_and_foreign_keys_don_t_count_as_differences() -> None:
    """Rows made anew in each schedule, each with a random token, and one that refers to them."""

    def setup() -> None:
        Engraving.objects.all().delete()
        Mug.objects.all().delete()

    def makes_a_mug() -> str:
        token = secrets.token_hex(8)
        mug = Mug.objects.create(sku=token, stock=1)
        Engraving.objects.create(mug=mug)
        return token

    result = explore([makes_a_mug] * 2, setup=setup)
    assert result.schedules == 6
    result.assert_serializable()


def test_a_foreign_key_to_the_wrong_row_does_count() -> None:
    """Each engraves the mug with the most stock; together they may both engrave the same."""

    def setup() -> None:
        Engraving.objects.all().delete()
        Mug.objects.all().delete()
        Mug.objects.create(sku="X", stock=10)
        Mug.objects.create(sku="Y", stock=9)

    def engraves() -> None:
        with transaction.atomic():
            mug = Mug.objects.order_by("-stock")[0]
            Engraving.objects.create(mug=mug)
            Mug.objects.filter(pk=mug.pk).update(stock=F("stock") - 5)

    result = explore([engraves] * 2, setup=setup)
    assert result.not_serializable
    assert len(result.not_serializable) < result.schedules


def test_a_state_of_ones_own_to_compare() -> None:
    """A comparison of the number of sales alone finds nothing wrong in a stock that is off."""

    def sell() -> None:
        mug = Mug.objects.get()
        Sale.objects.create(sku="MUG")
        mug.stock -= 1
        mug.save()

    assert explore([sell] * 2, setup=one_mug).not_serializable
    assert not explore([sell] * 2, setup=one_mug, state=Sale.objects.count).not_serializable


def test_three_sessions_have_six_serial_orders() -> None:
    def sell(units: int) -> bool:
        return bool(Mug.objects.filter(stock__gte=units).update(stock=F("stock") - units))

    def setup() -> None:
        Mug.objects.all().delete()
        Mug.objects.create(sku="MUG", stock=4)

    result = explore([lambda: sell(1), lambda: sell(2), lambda: sell(3)], setup=setup)
    assert result.schedules == 6
    result.assert_serializable()


# The voucher attack of the ACIDRain study, on code that isn't ours


def one_voucher() -> None:
    Redemption.objects.all().delete()
    Voucher.objects.all().delete()
    Voucher.objects.create(code="ONCE", may_be_used=1)


def redeem(customer: str) -> bool:
    """As found in real shops: count, compare, insert."""
    with transaction.atomic():
        voucher = Voucher.objects.get(code="ONCE")
        used = Redemption.objects.filter(voucher=voucher).count()
        if used >= voucher.may_be_used:
            return False
        Redemption.objects.create(voucher=voucher, customer=customer)
        return True


def redeem_in_turn(customer: str) -> bool:
    """Mended: whoever redeems a voucher holds its row, and counts on a snapshot taken after."""
    with transaction.atomic():
        voucher = Voucher.objects.select_for_update(no_key=True).get(code="ONCE")
        used = Redemption.objects.filter(voucher=voucher).count()
        if used >= voucher.may_be_used:
            return False
        Redemption.objects.create(voucher=voucher, customer=customer)
        return True


def test_a_voucher_for_one_use_is_used_twice(races: Callable[..., Result]) -> None:
    result = races(
        {"A": lambda: redeem("A"), "B": lambda: redeem("B")},
        setup=one_voucher,
        invariant=lambda run: Redemption.objects.count() <= 1,
    )
    assert result.shortest is not None
    assert result.shortest.preemptions == 1
    assert result.shortest.returned == {"A": True, "B": True}
    with pytest.raises(RaceFound, match=r"looked at race_models_redemption\s[^,]*before\s+B's\s"):
        result.assert_holds()


def test_a_voucher_redeemed_in_turn_is_used_once(races: Callable[..., Result]) -> None:
    result = races(
        {"A": lambda: redeem_in_turn("A"), "B": lambda: redeem_in_turn("B")},
        setup=one_voucher,
        invariant=lambda run: Redemption.objects.count() <= 1,
    )
    result.assert_holds()
    result.assert_serializable()
    assert result.exhaustive
