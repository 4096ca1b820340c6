"""RacesMixin, run as unittest runs it."""

from __future__ import annotations

import re
import unittest
from typing import Any

import pytest
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from inventory.races import Misuse, RacesMixin, explore
from inventory.races.errors import LeftOut
from tests.inventory.races.models import Mug
from tests.inventory.races.test_counts import (
    in_a_transaction,
    locked,
    one_mug,
    read_check_save,
    sells_at_most_one,
)

OPTIONS: dict[str, Any] = {"setup": one_mug, "invariant": sells_at_most_one}


class Shop(RacesMixin, TransactionTestCase):
    __test__ = False  # its failures are meant: see below

    def test_sells_once(self) -> None:
        result = self.assertNoRace({"Ann": locked, "Bob": locked}, **OPTIONS)
        # As in test_counts.
        assert (result.schedules, result.exhaustive) == (8, True)

    def test_sells_twice(self) -> None:
        self.assertNoRace({"Ann": in_a_transaction, "Bob": in_a_transaction}, **OPTIONS)

    def test_loses_an_update(self) -> None:
        self.assertNoRace([read_check_save] * 2, setup=one_mug)

    def test_leaves_something_out(self) -> None:
        self.assertNoRace([locked] * 2, max_preemptions=0, **OPTIONS)
        self.races([locked] * 2, max_preemptions=0, **OPTIONS)

    def test_all_schedules(self) -> None:
        assert len(self.races([read_check_save] * 2, **OPTIONS).broken) == 1
        assert len(self.races([read_check_save] * 2, first=False, **OPTIONS).broken) == 12


def outcome_of(test: unittest.TestCase) -> unittest.TestResult:
    result = unittest.TestResult()
    test.run(result)
    return result


@pytest.mark.django_db(transaction=True)
def test_a_race_is_a_failure_with_its_transcript() -> None:
    assert outcome_of(Shop("test_sells_once")).wasSuccessful()
    assert outcome_of(Shop("test_all_schedules")).wasSuccessful()
    for name, said in (
        ("test_sells_twice", "2 mugs were sold of 1"),
        ("test_loses_an_update", "It ends like no serial order"),
    ):
        result = outcome_of(Shop(name))
        assert not result.errors
        [(_, failure)] = result.failures
        assert said in failure
        assert re.search(r"UPDATE \S*mug", failure)


@pytest.mark.django_db(transaction=True)
def test_a_pass_warns_of_what_it_leaves_out() -> None:
    with pytest.warns(LeftOut) as warned:
        assert outcome_of(Shop("test_leaves_something_out")).wasSuccessful()
    assert [str(each.message) for each in warned] == [
        "Not exhaustive: all with at most no preemptions."
    ] * 2
    assert {each.filename for each in warned} == {__file__}


@pytest.mark.parametrize(
    ("base", "said"), [(TestCase, "is never committed"), (SimpleTestCase, "no TransactionTestCase")]
)
def test_a_class_whose_rows_nobody_sees_is_refused(base: Any, said: str) -> None:
    def race(test: Any) -> None:
        test.races([locked] * 2, **OPTIONS)

    for bases in ((RacesMixin, base), (base, RacesMixin)):
        test: Any = type("Mixed", bases, {"test": race})("test")
        with pytest.raises(Misuse, match=rf"Mixed .*{said}.*\(RacesMixin, TransactionTestCase\)"):
            test.test()


@pytest.mark.django_db(transaction=True)
def test_nothing_is_asserted_that_was_not_looked_at() -> None:
    """Without an invariant and without serial orders, no schedule can be broken."""
    result = explore([read_check_save] * 2, setup=one_mug, serial=False, max_preemptions=0)
    with pytest.raises(Misuse, match="serial=False"):
        result.assert_holds()
    with pytest.raises(Misuse, match="serial=False"):
        result.assert_serializable()
    only = explore([locked] * 2, serial=False, max_preemptions=0, **OPTIONS)
    only.assert_holds()
    assert Mug.objects.get().stock == 0
