"""The gate: it stops statements, sees waits, refuses what it can't stop, and never hangs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F

from inventory.races import (
    ImpossibleSchedule,
    Misuse,
    SqlAroundTheGate,
    StepTimedOut,
    Unrepeatable,
    explore,
    replay,
)
from inventory.races.session import Session
from tests.inventory.races.models import Engraving, Mug, Sale
from tests.inventory.races.test_counts import in_a_transaction, locked, one_mug, read_check_save

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """After each test, whatever went wrong in it: no session's thread, and no connection."""
    yield
    assert not [thread for thread in threading.enumerate() if isinstance(thread, Session)]
    deadline = time.monotonic() + 60
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            if cursor.fetchone() == (0,):
                return
            time.sleep(0.01)
    raise AssertionError("a session's connection is still open")


def everything() -> None:
    Engraving.objects.all().delete()
    one_mug()


def steps_of(name: str, run: object) -> list[str]:
    return [step.sql.split()[0] for step in run.steps if step.session == name]  # type: ignore[attr-defined]


# Stopped statements


def test_statements_savepoints_and_ends_of_transactions_are_steps() -> None:
    def nested() -> None:
        with transaction.atomic():
            Mug.objects.get()
            with transaction.atomic():
                Mug.objects.update(stock=3)

    run = replay("A", [nested, locked], setup=one_mug)
    assert steps_of("A", run) == ["SELECT", "SAVEPOINT", "UPDATE", "RELEASE", "COMMIT"]


def test_a_transaction_without_statements_has_no_steps() -> None:
    def nothing_and_then_something() -> None:
        with transaction.atomic():
            pass
        Mug.objects.get()

    run = replay("A", [nothing_and_then_something, locked], setup=one_mug)
    assert steps_of("A", run) == ["SELECT"]


def test_iterators_commit_hooks_and_bulk_writes_are_held() -> None:
    def session() -> list[Mug]:
        with transaction.atomic():
            transaction.on_commit(lambda: Sale.objects.create(sku="hook"))
            Mug.objects.bulk_create([Mug(sku="X", stock=1), Mug(sku="Y", stock=1)])
            return list(Mug.objects.iterator(chunk_size=1))

    run = replay("A", [session, read_check_save], setup=one_mug)
    assert steps_of("A", run) == ["INSERT", "SELECT", "COMMIT", "INSERT"]


def test_a_pipeline_is_one_step() -> None:
    def lock_and_look(rounds: int) -> list[int]:
        stocks = []
        with transaction.atomic():
            for _ in range(rounds):
                with connection.cursor() as cursor, connection.connection.pipeline():
                    cursor.execute("SELECT pg_advisory_xact_lock(1)")
                    cursor.execute("SELECT stock FROM race_models_mug")
                    stocks.append(cursor.fetchall()[0][0])
            Mug.objects.update(stock=stocks[-1] + 1)
        return stocks

    result = explore([lambda: lock_and_look(1), lambda: lock_and_look(2)], setup=one_mug)
    assert result.waits > 0
    result.assert_serializable()
    run = result.replay("A*3")
    assert [step.kind.value for step in run.steps[:3]] == ["other", "write", "commit"]
    assert "SELECT stock FROM race_models_mug" in run.steps[0].shown


def test_a_session_may_leave_autocommit_off() -> None:
    def session() -> None:
        transaction.set_autocommit(False)
        Mug.objects.get()
        transaction.commit()

    assert explore([session, read_check_save], setup=one_mug).exhaustive


def test_a_callers_own_wrapper_and_reconnection_are_no_way_round() -> None:
    def session() -> None:
        Mug.objects.get()
        connection.close()
        with connection.execute_wrapper(lambda execute, *rest: execute(*rest)):
            Mug.objects.get()

    run = replay("A*2", [session, read_check_save], setup=one_mug)
    assert steps_of("A", run) == ["SELECT", "SELECT"]


def test_names_of_savepoints_don_t_make_runs_differ() -> None:
    """Django makes them of the thread's number, which is another one in each run."""

    def session() -> None:
        with transaction.atomic():
            Mug.objects.get()
            with transaction.atomic():
                Mug.objects.update(stock=F("stock") - 1)

    result = explore([session, session], setup=one_mug, serial=False)
    assert result.exhaustive
    assert any('SAVEPOINT "s_x1"' in step.sql for step in result.runs[0].steps)


# Waits


def test_a_foreign_key_makes_commit_wait() -> None:
    """Django's foreign keys are checked at COMMIT; FOR UPDATE stands in their way, needlessly."""

    def lock(*, no_key: bool) -> None:
        with transaction.atomic():
            list(Mug.objects.select_for_update(no_key=no_key))

    def engrave() -> None:
        with transaction.atomic():
            Engraving.objects.create(mug=mug())

    def mug() -> Mug:
        return Mug(pk=1, sku="MUG", stock=1)

    def setup() -> None:
        Engraving.objects.all().delete()
        Mug.objects.all().delete()
        mug().save(force_insert=True)

    strict = explore([lambda: lock(no_key=False), engrave], setup=setup)
    commits = [s for run in strict.runs for s in run.steps if s.sql == "COMMIT" and s.wait]
    assert len(commits) > 0
    assert {str(step.wait) for step in commits} == {"waiting on A: row lock on race_models_mug"}
    lenient = explore([lambda: lock(no_key=True), engrave], setup=setup)
    assert lenient.waits == 0
    # Two steps each, and nobody waits: 4! / (2! × 2!).
    assert lenient.schedules == 6


def test_a_commit_that_fails_is_an_outcome() -> None:
    """The parent is deleted between INSERT and COMMIT: the COMMIT waits, then fails."""

    def engrave() -> None:
        with transaction.atomic():
            Engraving.objects.create(mug_id=1)

    def delete() -> None:
        with transaction.atomic():
            Mug.objects.filter(pk=1).delete()

    def setup() -> None:
        Engraving.objects.all().delete()
        Mug.objects.all().delete()
        Mug.objects.create(pk=1, sku="MUG", stock=1)

    result = explore([engrave, delete], setup=setup, serial=False)
    failed = [run for run in result.runs if isinstance(run.raised.get("A"), IntegrityError)]
    assert failed
    assert any(step.sql == "COMMIT" and step.sqlstate == "23503" for step in failed[-1].steps)


def test_one_commit_frees_two_who_wait() -> None:
    result = explore([locked] * 3, setup=one_mug, max_preemptions=2, budget=60, samples=0)
    assert any(run.waits == 2 for run in result.runs)
    assert not result.broken


def test_advisory_locks_and_table_locks_are_named() -> None:
    def statement(sql: str) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.execute("SELECT 1")

    for sql, words in (
        ("SELECT pg_advisory_xact_lock(1)", "advisory lock"),
        ("LOCK TABLE race_models_mug", "table lock on race_models_mug (AccessExclusiveLock)"),
    ):
        result = explore([lambda: statement(sql)] * 2, setup=one_mug)
        waits = {step.wait.lock for run in result.runs for step in run.steps if step.wait}
        assert waits == {words}


# Refused, with a reason


def test_one_session_is_no_race() -> None:
    with pytest.raises(Misuse, match="at least two sessions, not 1"):
        explore([read_check_save], setup=one_mug)


def test_a_session_is_a_function() -> None:
    with pytest.raises(Misuse, match="Session B must be a function without arguments, not None"):
        explore([read_check_save, None], setup=one_mug)  # type: ignore[list-item]


def test_a_session_without_sql() -> None:
    with pytest.raises(Misuse, match="Session B ran no SQL on “default”"):
        explore([read_check_save, lambda: None], setup=one_mug)


def test_inside_a_transaction() -> None:
    with transaction.atomic(), pytest.raises(Misuse, match=r"TransactionTestCase.*atomic\(\)"):
        explore([read_check_save] * 2, setup=one_mug)


def test_a_setup_that_does_not_clear_what_was_left() -> None:
    def setup() -> None:
        Mug.objects.create(sku="MUG", stock=1)

    with pytest.raises(IntegrityError) as failed:
        explore([read_check_save] * 2, setup=setup)
    assert any("must first clear" in note for note in failed.value.__notes__)


def test_a_setup_that_fails_at_once_is_not_told_to_clear() -> None:
    def setup() -> None:
        raise LookupError("no such product")

    with pytest.raises(LookupError) as failed:
        explore([read_check_save] * 2, setup=setup)
    assert failed.value.__notes__ == ["This was setup(), before the first schedule."]


def test_an_invariant_may_take_no_run() -> None:
    def stock_is_left() -> bool:
        return Mug.objects.get().stock == 1

    async def stock_is_left_too() -> bool:
        return (await Mug.objects.aget()).stock == 1

    for invariant in (stock_is_left, stock_is_left_too):
        run = replay("A B", [read_check_save] * 2, setup=one_mug, invariant=invariant)
        assert run.broken == "The invariant does not hold."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": "5"}, "budget must be a whole number, not '5'"),
        ({"samples": 1.5}, "samples must be a whole number, not 1.5"),
        ({"max_preemptions": True}, "max_preemptions must be a whole number, not True"),
        ({"seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"seconds": "1"}, "seconds must be a number, not '1'"),
        ({"reduce": "yes"}, "reduce must be True, False or None, not 'yes'"),
        ({"invariant": True}, "invariant must be a function, not True"),
        ({"describe": "stock"}, "describe must be a function, not 'stock'"),
        ({"state": 1}, "state must be a function, not 1"),
        ({"setup": None}, "setup must be a function, not None"),
    ],
)
def test_an_option_of_another_kind_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Misuse, match=re.escape(said)):
        explore([read_check_save] * 2, **{"setup": one_mug, **options})


def test_a_setup_that_was_forgotten() -> None:
    for perform in (explore, partial(replay, "A B")):
        with pytest.raises(Misuse, match="setup is missing: give setup=…"):
            perform([read_check_save] * 2)


def test_a_session_that_leaves_a_transaction_open() -> None:
    def session() -> None:
        transaction.set_autocommit(False)
        Mug.objects.get()

    with pytest.raises(Misuse, match="Session A ended inside a transaction"):
        explore([session, read_check_save], setup=one_mug)


def test_sql_that_goes_round_the_gate() -> None:
    def copy() -> None:
        Mug.objects.get()
        with connection.cursor() as cursor, cursor.copy("COPY race_models_mug TO STDOUT") as rows:
            list(rows)

    def below_django() -> None:
        Mug.objects.get()
        connection.connection.execute("SELECT 1")

    for session in (copy, below_django):
        with pytest.raises(SqlAroundTheGate, match="Session B talked to PostgreSQL other than by"):
            explore([read_check_save, session], setup=one_mug)


@contextmanager
def settings_of_connection(**changes: object) -> Iterator[None]:
    settings = connection.settings_dict
    before = {key: settings.get(key) for key in changes}
    settings.update(changes)
    try:
        yield
    finally:
        settings.update(before)


def test_a_pool() -> None:
    options = {**connection.settings_dict["OPTIONS"], "pool": True}
    with (
        settings_of_connection(OPTIONS=options),
        pytest.raises(Misuse, match=r'has a pool \(OPTIONS\["pool"\]\)'),
    ):
        explore([read_check_save] * 2, setup=one_mug)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "chaos"}, "isolation must be one of read committed"),
        ({"max_preemptions": -1}, "max_preemptions must be 0 or more"),
        ({"budget": 0}, "budget must be at least 1"),
        ({"samples": -1}, "samples must be 0 or more"),
        ({"reduce": True, "max_preemptions": 2}, "no bound on preemptions"),
        ({"reduce": True, "isolation": "serializable"}, "READ COMMITTED only"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(Misuse, match=message):
        explore([read_check_save] * 2, setup=one_mug, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        ("A*2 C", Misuse, "names “C”"),
        ("A*2 B*0", Misuse, r"names “B\*0”"),
        ("A*9", ImpossibleSchedule, "Step 5 of “A.9” is a step of A. But A is done or waits"),
    ],
)
def test_a_schedule_that_is_none(schedule: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replay(schedule, [in_a_transaction] * 2, setup=one_mug)


def test_sessions_that_depend_on_more_than_the_schedule() -> None:
    """The message shows the statement that differs, as it was and as it is."""
    calls: list[int] = []

    def moody() -> None:
        calls.append(1)
        Mug.objects.filter(stock__in=range(len(calls))).count()
        Mug.objects.update(stock=0)

    with pytest.raises(Unrepeatable) as failed:
        explore([moody, read_check_save], setup=one_mug, serial=False)
    [was, is_] = re.findall(r"A (?:was|is) at: +(SELECT .*)", str(failed.value))
    assert was != is_


def test_an_error_in_the_invariant_is_not_a_broken_schedule() -> None:
    def invariant(run: object) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore([read_check_save] * 2, setup=one_mug, invariant=invariant)


# Nothing hangs


def test_a_statement_that_takes_too_long_is_ended_and_named() -> None:
    def sleepy() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(1000)")

    with pytest.raises(StepTimedOut, match=r"Session B is still in “SELECT pg_sleep\(1000\)”"):
        explore([read_check_save, sleepy], setup=one_mug, step_timeout=2)


def test_a_wait_for_somebody_else_is_ended_and_named() -> None:
    one_mug()
    outsider = connections["default"].copy()
    try:
        outsider.set_autocommit(False)
        with outsider.cursor() as cursor:
            cursor.execute("LOCK TABLE race_models_sale")
        with pytest.raises(StepTimedOut, match=r"INSERT INTO.*waiting for process .*LOCK TABLE"):
            explore(
                [read_check_save] * 2,
                setup=lambda: Mug.objects.update(stock=1),
                step_timeout=2,
            )
    finally:
        outsider.close()


def test_a_wait_that_the_database_does_not_know_of_is_named() -> None:
    """A lock in Python: whoever holds it waits at the gate, and the other isn't in SQL."""
    mutex = threading.Lock()

    def session() -> None:
        with mutex:
            Mug.objects.get()
            Mug.objects.update(stock=3)

    with pytest.raises(StepTimedOut, match=r"isn't in SQL.*a lock in Python"):
        explore([session, session], setup=one_mug, step_timeout=2)


def test_a_session_that_does_not_end() -> None:
    def restless() -> None:
        while True:
            Mug.objects.get()

    with pytest.raises(Misuse, match="A has made 20 steps"):
        explore([restless, read_check_save], setup=one_mug, max_steps=20)


def test_a_session_that_spins_in_some_schedules_is_cut_there_and_counted() -> None:
    """In serial orders it finds what it looks for at once, or never looks."""

    def spins_while_it_is_being_sold() -> None:
        for _ in range(1000):
            if not Mug.objects.filter(stock=7).exists():
                return

    def sells() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=0)

    result = explore([spins_while_it_is_being_sold, sells], setup=one_mug, max_steps=6)
    assert result.given_up > 0
    assert not result.exhaustive
    assert "too many steps" in result.coverage


def test_what_a_session_raises_is_its_result() -> None:
    def fails() -> None:
        Mug.objects.get()
        raise ZeroDivisionError

    result = explore([fails, read_check_save], setup=one_mug)
    assert result.exhaustive
    assert all(isinstance(run.raised["A"], ZeroDivisionError) for run in result.runs)


def test_an_interruption_ends_every_session() -> None:
    """As Ctrl-C would, in the middle of a schedule."""
    seen: list[int] = []

    def session() -> None:
        with transaction.atomic():
            Mug.objects.update(stock=1)
            Mug.objects.get()

    def setup() -> None:
        one_mug()
        seen.append(1)

    def interrupted(run: object) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore([session, session], setup=setup, invariant=interrupted)
    assert seen


def test_the_callers_connection_is_as_it_was() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")  # in the test database it is off
        cursor.execute("SHOW synchronous_commit")
        before = cursor.fetchone()
        sleep = time.sleep
        explore([read_check_save] * 2, setup=one_mug, max_preemptions=0)
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == before
    assert time.sleep is sleep


def test_pauses_between_attempts_take_no_time() -> None:
    def patient() -> None:
        time.sleep(1000)
        Mug.objects.get()

    assert explore([patient, read_check_save], setup=one_mug, max_preemptions=0).schedules == 2
