"""Chance is no race, whenever it shows; and a race beside it is found all the same."""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction

from inventory.races import RacesError, Unrepeatable, explore
from tests.inventory.races.models import Mug, Redemption, Sale, Voucher
from tests.inventory.races.test_counts import one_mug

pytestmark = pytest.mark.django_db(transaction=True)

Call = Callable[[], object]


def mug_and_no_vouchers() -> None:
    one_mug()
    Redemption.objects.all().delete()
    Voucher.objects.all().delete()


def takes() -> None:
    Mug.objects.update(stock=0)


def signs_if_it_is_taken() -> None:
    """A token for the one who comes second."""
    if Mug.objects.get().stock == 0:
        Mug.objects.update(sku=secrets.token_hex(4))


def signs_if_it_is_not() -> None:
    if Mug.objects.get().stock:
        Mug.objects.update(sku=secrets.token_hex(4))


def answers_if_it_is_taken() -> str:
    return secrets.token_hex(4) if Mug.objects.get().stock == 0 else "it is there"


def raises_if_it_is_taken() -> None:
    if Mug.objects.get().stock == 0:
        raise ValueError(f"no mug: see {secrets.token_hex(4)}")


def answers_with_a_set() -> object:
    return {secrets.token_hex(4), "x"} if Mug.objects.get().stock == 0 else None


@pytest.mark.parametrize(
    "session",
    [
        signs_if_it_is_taken,
        signs_if_it_is_not,
        answers_if_it_is_taken,
        raises_if_it_is_taken,
        answers_with_a_set,
    ],
)
def test_chance_in_one_order_only(session: Call) -> None:
    for sessions in ([session, takes], [takes, session]):
        result = explore(sessions, setup=one_mug)
        assert result.exhaustive
        result.assert_serializable()
        assert not result.broken


def test_chance_in_one_order_of_three() -> None:
    """C signs only after A and B, in this order."""

    def once_taken(before: int, after: int) -> Call:
        return lambda: Mug.objects.filter(stock=before).update(stock=after)

    def sign() -> None:
        if Mug.objects.filter(stock=3).exists():
            Sale.objects.create(sku=secrets.token_hex(4))

    result = explore([once_taken(1, 2), once_taken(2, 3), sign], setup=one_mug)
    result.assert_serializable()


def test_chance_after_a_conflict_only() -> None:
    """No serial order has such an end: the loser's INSERT fails, and it writes another token.

    By the rows without that token it ends as in turn.
    """

    def book() -> None:
        if Sale.objects.exists():
            Voucher.objects.create(code=secrets.token_hex(4), may_be_used=0)
            return
        try:
            Voucher.objects.create(code="FIRST", may_be_used=0)
        except IntegrityError:
            Voucher.objects.create(code=secrets.token_hex(4), may_be_used=0)
        else:
            Sale.objects.create(sku="MUG")

    result = explore([book, book], setup=mug_and_no_vouchers)
    assert "23505" in result.sqlstates
    result.assert_serializable()
    assert result.notes == [
        "Not compared, since two performances of one schedule differ there: "
        "race_models_voucher.code."
    ]


def test_chance_that_no_serial_order_shows() -> None:
    """A session that reads between two writes of another signs, and puts the row back."""

    def writes_twice() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=1)

    def signs_in_between() -> str:
        if Mug.objects.get().stock == 7:
            Mug.objects.update(sku=secrets.token_hex(4))
            return secrets.token_hex(4)
        return "ok"

    result = explore([writes_twice, signs_in_between], setup=one_mug)
    result.assert_serializable()
    assert result.outcomes.total() == result.schedules
    assert result.notes == [
        "Not compared, since two performances of one schedule differ there: race_models_mug.sku.",
        "Compared by type alone, since two performances of one schedule differ there: what B "
        "returned or raised.",
    ]


def test_chance_of_sessions_that_run_alone_once_others_are_undone() -> None:
    """The one that survives a deadlock ends as if it were alone: then its token stays."""

    def two_mugs() -> None:
        one_mug()
        Mug.objects.create(sku="X", stock=1)

    def sell(first: str, second: str) -> None:
        with transaction.atomic():
            Mug.objects.filter(sku=first).update(stock=0)
            if Mug.objects.filter(sku=second, stock=1).update(stock=0):
                Sale.objects.create(sku=secrets.token_hex(4))
            else:
                Sale.objects.all().delete()

    result = explore({"A": lambda: sell("MUG", "X"), "B": lambda: sell("X", "MUG")}, setup=two_mugs)
    assert result.deadlocks > 0
    result.assert_serializable()


def test_lots_that_mix_values() -> None:
    """Each column has the same values each time, in other rows."""

    def deal() -> None:
        Sale.objects.all().delete()
        codes = ["A", "B", "C", "D", "E"]
        secrets.SystemRandom().shuffle(codes)
        for number, code in enumerate(codes):
            Voucher.objects.update_or_create(code=code, defaults={"may_be_used": number})

    result = explore([deal, takes], setup=mug_and_no_vouchers, max_preemptions=1)
    result.assert_serializable()


def test_a_race_beside_chance_is_found() -> None:
    def sell() -> str:
        mug = Mug.objects.get()
        mug.stock, mug.sku = mug.stock - 1, secrets.token_hex(4)
        mug.save()
        return mug.sku

    result = explore([sell, sell], setup=one_mug)
    assert len(result.not_serializable) == len(result.broken) == 4


def test_a_race_in_a_column_of_chance_is_not_compared_and_that_is_said() -> None:
    """Only one of the two columns is chance; both are named where both are."""

    def sell() -> None:
        mug = Mug.objects.get()
        Mug.objects.update(stock=mug.stock + 1 + secrets.randbelow(10**6), sku="X")

    result = explore([sell, sell], setup=one_mug)
    assert not result.not_serializable
    assert result.notes == [
        "Not compared, since two performances of one schedule differ there: race_models_mug.stock."
    ]
    assert "race_models_mug.stock" in result.as_dict()["notes"][0]


def test_chance_behind_a_foreign_key_is_called_by_its_own_table() -> None:
    def voucher_by_chance() -> None:
        Redemption.objects.all().delete()
        Voucher.objects.all().delete()
        Voucher.objects.create(code=secrets.token_hex(4), may_be_used=2)

    def redeem() -> None:
        Redemption.objects.create(voucher=Voucher.objects.get())

    result = explore([redeem, redeem], setup=voucher_by_chance, max_preemptions=0)
    assert result.notes == [
        "Not compared, since two performances of one schedule differ there: "
        "race_models_voucher.code."
    ]


def test_nothing_is_noted_where_nothing_is_chance() -> None:
    assert explore([takes, signs_if_it_is_not], setup=one_mug, serial=False).notes == []
    assert explore([takes, takes], setup=one_mug).notes == []


def test_a_replay_of_sessions_that_return_chance() -> None:
    result = explore([answers_if_it_is_taken, takes], setup=one_mug)
    for run in result.runs:
        assert result.replay(run).schedule == run.schedule
        result.replay(run.schedule)


def test_a_state_of_ones_own_with_chance_in_it() -> None:
    with pytest.raises(Unrepeatable, match=r"state\(\) differs between two performances"):
        explore([takes, takes], setup=one_mug, state=lambda: secrets.token_hex(4))


def test_an_invariant_with_chance_in_it() -> None:
    answers = itertools.count()
    with pytest.raises(Unrepeatable, match="the invariant answered otherwise"):
        explore([takes, takes], setup=one_mug, invariant=lambda run: next(answers) != 1)


def test_statements_by_chance() -> None:
    def draws() -> None:
        for _ in range(secrets.randbelow(50)):
            Mug.objects.get()
        takes()

    with pytest.raises(RacesError):
        explore([draws, takes], setup=one_mug)


class Clock:
    """Ticks at every ninth reading, as a clock of whole seconds does while schedules go by."""

    def __init__(self) -> None:
        self.readings = 0

    def now(self) -> str:
        self.readings += 1
        return str(self.readings // 9)


def test_a_clock_that_ticks_now_and_then() -> None:
    """Both performances of each serial order fall between two ticks."""
    clock = Clock()

    def stamps() -> str:
        Mug.objects.update(sku=clock.now())
        Mug.objects.filter(stock=1).count()
        return clock.now()

    result = explore([stamps, stamps], setup=one_mug, max_preemptions=1)
    result.assert_serializable()
    assert "race_models_mug.sku" in result.notes[0]


def test_a_real_clock_of_whole_seconds() -> None:
    def stamps() -> None:
        Mug.objects.update(sku=int(time.time()))
        Mug.objects.filter(stock=1).count()

    for _ in range(3):
        explore([stamps, stamps], setup=one_mug).assert_serializable()


def test_what_a_session_draws_from_random_is_its_own() -> None:
    """It doesn't hang on how often the others have drawn: no chance is left to be learned."""

    def draws() -> float:
        Mug.objects.get()
        Sale.objects.create(sku=f"{random.randrange(10**9)}")
        Mug.objects.get()
        return random.random()

    result = explore([draws, draws], setup=one_mug, max_preemptions=2)
    result.assert_serializable()
    assert not result.notes
    assert len(result.outcomes) == 1
    again = explore([draws, draws], setup=one_mug, max_preemptions=0)
    assert set(again.outcomes) == set(result.outcomes)
    other = explore([draws, draws], setup=one_mug, max_preemptions=0, seed=1)
    assert set(other.outcomes) != set(result.outcomes)


def test_what_a_session_draws_after_a_wait_is_its_own() -> None:
    def draws() -> float:
        with transaction.atomic():
            Mug.objects.select_for_update().get()
            drawn = random.random()
            Mug.objects.get()
            return drawn

    result = explore([draws, draws], setup=one_mug)
    assert result.waits > 0
    assert len({run.results["A"] for run in result.runs}) == 1


# The rows that are compared


def test_a_table_that_is_written_in_between_only() -> None:
    """In all other schedules that table ends as it began. B reads before, between and after A."""

    def two() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=1)

    def sees() -> None:
        if Mug.objects.get().stock == 7:
            Sale.objects.create(sku="SEEN")

    result = explore([two, sees], setup=one_mug)
    assert (result.schedules, len(result.not_serializable)) == (4, 2)
    assert len(result.outcomes) == 2


def test_a_table_that_is_written_in_one_serial_order_only() -> None:
    """With a row in it before, that no session touches."""

    def setup() -> None:
        mug_and_no_vouchers()
        Voucher.objects.create(code="OLD", may_be_used=1)

    def late() -> None:
        if Mug.objects.get().stock == 0:
            Voucher.objects.create(code="LATE", may_be_used=1)

    result = explore([late, takes], setup=setup)
    result.assert_serializable()


def test_writes_in_a_pipeline_are_compared() -> None:
    def sell() -> None:
        with transaction.atomic():
            stock = Mug.objects.get().stock
            with connection.cursor() as cursor, connection.connection.pipeline():
                cursor.execute("SELECT 1")
                cursor.execute("UPDATE race_models_mug SET stock = %s", [stock - 1])

    result = explore([sell, sell], setup=one_mug)
    assert result.not_serializable


def test_what_is_in_a_dictionary_or_a_set_is_compared() -> None:
    def answers() -> object:
        stock = Mug.objects.get().stock
        Mug.objects.update(stock=stock - 1)
        return {"left": {stock}}

    result = explore([answers, answers], setup=one_mug, state=lambda: None)
    assert len(result.not_serializable) == 4
