"""Steps in Python: points, the clock, caches. And the words for those that were left out."""

from __future__ import annotations

import datetime
import functools
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid1

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import IntegrityError, connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from django.utils.timezone import now

from inventory.races import Misuse, Result, explore, point, replay, story
from inventory.races.python_steps import touch_of_cache
from inventory.races.statements import Kind
from inventory.races.touch import NOTHING, UNKNOWN, Touch
from tests.inventory.races.models import Made, Mug, MugHistory, Sale, TouchedByItself
from tests.inventory.races.test_counts import one_mug, read_check_save

pytestmark = pytest.mark.django_db(transaction=True)

HERE = "tests/inventory/races/test_python_steps.py"


@pytest.fixture(autouse=True)
def two_caches(settings: object) -> None:
    backend = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {  # type: ignore[attr-defined]
        "default": {**backend, "LOCATION": "one"},
        "other": {**backend, "LOCATION": "two"},
        "none": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        "slow": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": "/nonexistent/races",
        },
    }


def look() -> None:
    Mug.objects.get()


def mugs_and_history() -> None:
    MugHistory.objects.all().delete()
    one_mug()


def set_stock(stock: int) -> None:
    """Writes the row, and then its history, with an instant that Python reads in between."""
    Mug.objects.update(stock=stock)
    MugHistory.objects.create(stock=stock, at=timezone.now())


def newest_history_is_the_row(run: object) -> bool:
    return MugHistory.objects.latest("at").stock == Mug.objects.get().stock


BOTH_SET_STOCK = {"Ann": lambda: set_stock(5), "Bob": lambda: set_stock(7)}


def shown(run: object) -> list[str]:
    return [f"{step.session} {step.shown}" for step in run.steps]  # type: ignore[attr-defined]


# Points


MEMORY = {"stock": 0}


def in_memory() -> None:
    MEMORY["stock"] = 1


def take_from_memory() -> bool:
    """Looks and writes in memory, without any statement."""
    point("begins")
    stock = MEMORY["stock"]
    point("looked")
    if stock < 1:
        return False
    MEMORY["stock"] = stock - 1
    return True


def test_a_race_in_memory_is_found_by_a_point() -> None:
    result = explore(
        [take_from_memory, take_from_memory],
        setup=in_memory,
        invariant=lambda run: sum(map(bool, run.returned.values())) <= 1,
    )
    # Two steps each: 4! / (2! × 2!). All are broken but the two serial ones.
    assert (result.schedules, len(result.broken), result.exhaustive) == (6, 4, True)
    assert shown(result.runs[0]) == ["A ⋯ begins", "A ⋯ looked", "B ⋯ begins", "B ⋯ looked"]


def test_a_point_is_a_step_between_two_statements() -> None:
    """The answer of the first statement is there, and other sessions come before the second."""
    seen: list[int] = []

    def look_twice() -> None:
        look()
        point("between")
        seen.append(len(seen))
        look()

    run = replay("A B*2 A", [look_twice, read_check_save], setup=one_mug)
    kinds = [(step.session, step.kind) for step in run.steps]
    assert kinds[:4] == [("A", Kind.READ), ("B", Kind.READ), ("B", Kind.WRITE), ("A", Kind.POINT)]


def test_a_point_outside_of_sessions_does_nothing() -> None:
    point("nobody here")

    def setup() -> None:
        point("nor here")
        one_mug()

    def invariant(run: object) -> None:
        point("nor here, either")

    assert explore([look, look], setup=setup, invariant=invariant).schedules == 2


def test_a_point_in_a_coroutine_that_runs_in_another_thread() -> None:
    async def take() -> bool:
        mug = await Mug.objects.aget()
        point("looked")
        return mug.stock == 1

    run = replay("A*2 B", [async_to_sync(take), look], setup=one_mug)
    assert [step.kind for step in run.steps] == [Kind.READ, Kind.POINT, Kind.READ]
    assert run.returned["A"] is True


def test_a_point_inside_a_statement_is_no_step() -> None:
    def session() -> None:
        def wrapper(execute: Callable[..., object], *rest: object) -> object:
            point("inside")
            return execute(*rest)

        with connection.execute_wrapper(wrapper):
            look()

    assert explore([session, look], setup=one_mug).schedules == 2


def test_a_points_name_is_text() -> None:
    with pytest.raises(Misuse, match="A point's name must be text, not 7"):
        point(7)  # type: ignore[arg-type]


def test_an_exploration_that_is_given_up_ends_sessions_at_points() -> None:
    def restless() -> None:
        while True:
            point("again")

    with pytest.raises(Misuse, match="A has made 20 steps"):
        explore([restless, look], setup=one_mug, max_steps=20)


# The clock


def test_a_false_pass_has_a_word() -> None:
    """Python reads the clock right after the UPDATE: the instants follow the order of the rows."""
    result = explore(BOTH_SET_STOCK, setup=mugs_and_history, invariant=newest_history_is_the_row)
    assert (len(result.broken), result.exhaustive) == (0, True)
    line = set_stock.__code__.co_firstlineno + 3
    assert result.notes == [
        f"Ann and Bob read the clock ({HERE}:{line}). No other session came between a statement "
        "and a reading of the clock right after it; with clock=True, they do."
    ]


def test_with_the_clock_as_a_step_the_race_is_found() -> None:
    result = explore(
        BOTH_SET_STOCK, setup=mugs_and_history, invariant=newest_history_is_the_row, clock=True
    )
    # Three steps each, and no waits: 6! / (3! × 3!).
    assert (result.schedules, result.exhaustive) == (20, True)
    assert result.notes == []
    assert result.broken
    run = result.shortest
    assert run is not None
    line = set_stock.__code__.co_firstlineno + 3
    assert run.schedule == "Ann Bob*3 Ann*2"
    assert shown(run)[4] == f"Ann ⋯ reads the clock ({HERE}:{line})"
    assert story.describe_run(run) == (
        "The statements alone don't tell why. Bob came in (lines 2 to 4) before Ann read the clock "
        "(line 5)."
    )
    for _ in range(3):
        assert result.replay(run.schedule).broken


def test_nobody_reads_the_clock() -> None:
    result = explore([read_check_save] * 2, setup=one_mug)
    assert result.notes == []


def test_only_sessions_that_read_the_clock_are_named() -> None:
    result = explore({"Ann": lambda: set_stock(5), "Bob": look}, setup=mugs_and_history)
    [note] = result.notes
    assert note.startswith("Ann read the clock (")
    assert "Bob" not in note


def touch() -> None:
    TouchedByItself.objects.create()


def make() -> None:
    Made.objects.create()


def nothing_stamped() -> None:
    one_mug()
    TouchedByItself.objects.all().delete()
    Made.objects.all().delete()


def test_fields_that_read_the_clock_are_named() -> None:
    result = explore([touch, look], setup=nothing_stamped, serial=False)
    [note] = result.notes
    assert note.startswith("A read the clock (race_models.TouchedByItself.changed).")
    result = explore([make, look], setup=nothing_stamped, serial=False)
    [note] = result.notes
    assert note.startswith(
        "A read the clock (race_models.Made.aware, race_models.Made.seconds, "
        "race_models.Made.bound)."
    )


@pytest.mark.parametrize(("session", "steps"), [(touch, 1), (make, 3)])
def test_fields_that_read_the_clock_are_steps(session: Callable[[], None], steps: int) -> None:
    run = replay("A", [session, look], setup=nothing_stamped, clock=True)
    kinds = [step.kind for step in run.steps if step.session == "A"]
    assert kinds == [Kind.CLOCK] * steps + [Kind.WRITE]


class Later(datetime.datetime):
    """A class of the project's own."""


@pytest.mark.parametrize(
    "read",
    [
        timezone.now,
        now,
        datetime.datetime.now,
        datetime.datetime.today,
        datetime.date.today,
        lambda: datetime.datetime.now(datetime.UTC),
        lambda: datetime.datetime(2000, 1, 1).now(),
        Later.now,
        timezone.localtime,
        timezone.localdate,
        time.time,
        time.time_ns,
        time.localtime,
        time.gmtime,
        time.ctime,
        lambda: time.strftime("%Y"),
        lambda: time.clock_gettime(time.CLOCK_REALTIME),
        uuid1,
        lambda: signing.loads(signing.dumps(1), max_age=9),
    ],
)
def test_every_way_to_read_the_clock_is_noticed(read: Callable[[], object]) -> None:
    def session() -> None:
        look()
        read()

    result = explore([session, look], setup=one_mug, serial=False)
    [note] = result.notes
    assert note.startswith(f"A read the clock ({HERE}:")


@pytest.mark.parametrize(
    "read",
    [
        time.monotonic,
        time.perf_counter,
        lambda: time.localtime(0),
        lambda: time.gmtime(0),
        lambda: time.strftime("%Y", time.gmtime(0)),
        lambda: datetime.datetime.fromtimestamp(0, datetime.UTC),
        lambda: logging.getLogger("races").warning("noted"),
        lambda: HttpResponse().set_cookie("a", "b", max_age=3),
        lambda: caches["other"].set("mine", 1, timeout=9),
    ],
)
def test_readings_on_which_no_data_depends_have_no_word(read: Callable[[], object]) -> None:
    def session() -> None:
        look()
        read()

    [note] = explore([session, look], setup=one_mug, serial=False).notes
    assert note.startswith("No session changed a row")


def test_a_login_has_one_word_and_not_six() -> None:
    """Sessions, cookies and signatures read the clock, too; only the user's row keeps it."""

    def setup() -> None:
        one_mug()
        Session.objects.all().delete()
        User.objects.all().delete()
        User.objects.create(username="ann")

    def log_in() -> None:
        client = Client()
        client.force_login(User.objects.get())
        client.get("/nowhere")

    [note] = explore([log_in, look], setup=setup, serial=False, budget=2, samples=0).notes
    assert re.match(r"A read the clock \((axes/\S+, )?django/contrib/auth/models.py:\d+\)", note)


def test_a_reading_in_an_order_that_no_serial_order_has() -> None:
    """It reads the clock only where its INSERT fails, which needs a race."""

    def none() -> None:
        Mug.objects.all().delete()
        Sale.objects.all().delete()

    def create() -> None:
        if not Mug.objects.filter(sku="NEW").exists():
            try:
                Mug.objects.create(sku="NEW", stock=1)
            except IntegrityError:
                Sale.objects.create(sku="late" if time.time() else "")

    result = explore([create, create], setup=none)
    [note] = result.notes
    assert note.startswith(f"A and B read the clock ({HERE}:")


def test_a_reading_in_a_coroutine_is_noticed_and_held() -> None:
    async def session() -> None:
        await Mug.objects.aget()
        timezone.now()
        await sync_to_async(timezone.now)()

    [note] = explore([async_to_sync(session), look], setup=one_mug, serial=False).notes
    assert note.startswith(f"A read the clock ({HERE}:")
    run = replay("A", [async_to_sync(session), look], setup=one_mug, clock=True)
    assert [step.kind for step in run.steps][:3] == [Kind.READ, Kind.CLOCK, Kind.CLOCK]


def test_a_reading_in_a_thread_without_sql_is_noticed() -> None:
    with ThreadPoolExecutor(1) as pool:

        def session() -> None:
            look()
            pool.submit(datetime.datetime.now).result()
            pool.submit(lambda: datetime.datetime.now()).result()

        [note] = explore([session, look], setup=one_mug, serial=False).notes
    assert note.startswith(f"A read the clock (in a thread, {HERE}:")


def test_steps_in_another_thread_can_be_none_and_have_a_word() -> None:
    def in_the_thread() -> None:
        point("looked")
        timezone.now()
        caches["default"].get("a")

    def session() -> None:
        look()
        thread = threading.Thread(target=in_the_thread)
        thread.start()
        thread.join()

    result = explore([session, look], setup=one_mug, clock=True, cache=True)
    first = in_the_thread.__code__.co_firstlineno + 1
    where = "in another thread than its own, where it can't be a step."
    assert result.notes == [
        f"A passed the point “looked” {where}",
        f"A read the clock ({HERE}:{first + 1}) {where}",
        f"A used the cache “default” ({HERE}:{first + 2}) {where}",
    ]


def test_many_places_are_counted() -> None:
    def session() -> None:
        look()
        # fmt: off
        now()
        now()
        now()
        now()
        now()
        # fmt: on

    [note] = explore([session, look], setup=one_mug, serial=False).notes
    assert ", and 2 more places)." in note


# Caches


def no_hits() -> None:
    one_mug()
    for name in ("default", "other"):
        caches[name].clear()


def count_a_hit() -> int:
    look()
    hits: int = caches["default"].get("hits", 0)
    caches["default"].set("hits", hits + 1)
    return hits


def two_hits(run: object) -> bool:
    return bool(caches["default"].get("hits") == 2)


def test_get_then_set_has_a_word() -> None:
    result = explore({"Ann": count_a_hit, "Bob": count_a_hit}, setup=no_hits, invariant=two_hits)
    assert (len(result.broken), result.exhaustive) == (0, True)
    line = count_a_hit.__code__.co_firstlineno + 2
    places = f"{HERE}:{line}, {HERE}:{line + 1}"
    assert result.notes == [
        f"Ann and Bob used the key “hits” of the cache “default” ({places}). No other session came "
        "between a statement and the operations on the cache right after it; with cache=True, they "
        "do."
    ]


def test_with_the_cache_as_steps_the_race_is_found() -> None:
    result = explore([count_a_hit, count_a_hit], setup=no_hits, invariant=two_hits, cache=True)
    # Three steps each, and no waits: 6! / (3! × 3!).
    assert (result.schedules, result.exhaustive, result.notes) == (20, True, [])
    # A hit is lost unless one has set before the other gets. Then only the other's SELECT is free
    # to come at four moments, and each may be the first: 8.
    assert len(result.broken) == 20 - 8
    assert result.shortest is not None
    assert any("cache “default”: get 'hits'" in line for line in shown(result.shortest))


@pytest.mark.parametrize(
    ("operate", "steps"),
    [
        (lambda cache: cache.get("a"), 1),
        (lambda cache: cache.add("a", 1), 1),
        (lambda cache: cache.incr("hits"), 1),
        (lambda cache: cache.get_or_set("new", 1), 3),  # get, add, get
        (lambda cache: cache.get_or_set("hits", 1), 1),
        (lambda cache: cache.get_many(["a", "b"]), 2),  # in memory: one after the other
        (lambda cache: "a" in cache, 1),
        (lambda cache: cache.delete("a"), 1),
        (lambda cache: cache.touch("a"), 1),
        (lambda cache: cache.clear(), 1),
        (lambda cache: async_to_sync(cache.aget)("a"), 1),
    ],
)
def test_operations_are_steps_as_far_as_the_cache_makes_them_one(
    operate: Callable[[object], object], steps: int
) -> None:
    def setup() -> None:
        no_hits()
        caches["default"].set("hits", 1)

    run = replay("A", [lambda: operate(caches["default"]), look], setup=setup, cache=True)
    assert [step.kind for step in run.steps if step.session == "A"] == [Kind.CACHE] * steps


def test_a_lock_by_a_file_is_two_operations(settings: object, tmp_path: Path) -> None:
    """The add() of Django's cache in files looks, and then writes: two may both add."""
    settings.CACHES = {  # type: ignore[attr-defined]
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": str(tmp_path),
        }
    }

    def lock() -> bool:
        return bool(caches["default"].add("lock", 1))

    result = explore(
        [lock, lock],
        setup=caches["default"].clear,
        invariant=lambda run: list(run.returned.values()).count(True) == 1,
        cache=True,
    )
    # Each looks, and writes: 4! / (2! × 2!). But in the two serial ones the second doesn't write.
    assert (result.schedules, len(result.broken)) == (6, 4)


def test_an_operation_that_a_coroutine_awaits() -> None:
    async def session() -> None:
        await Mug.objects.aget()
        await caches["default"].aset("a", 1)

    [note] = explore([session, session], setup=no_hits).notes
    assert note.startswith("A and B used the key “a” of the cache “default” (in a coroutine).")


def test_keys_that_only_one_session_uses_or_nobody_writes_have_no_word() -> None:
    def session(name: str) -> None:
        look()
        caches["default"].set(f"of-{name}", 1)
        caches["default"].get("greeting")
        caches["none"].set("both", 1)
        if name == "Ann":
            caches["other"].set("hits", 1)
        else:
            caches["default"].incr("hits")

    def setup() -> None:
        no_hits()
        caches["default"].set("hits", 1)

    sessions = {"Ann": lambda: session("Ann"), "Bob": lambda: session("Bob")}
    result = explore(sessions, setup=setup)
    [note] = result.notes
    assert note.startswith("No session changed a row")
    assert not result.runs[0].raised


@pytest.mark.parametrize(
    ("ann", "bob"),
    [
        (lambda cache: cache.clear(), lambda cache: cache.get("a")),
        (lambda cache: cache.set_many({"a": 1}), lambda cache: cache.get_many(["b", "a"])),
        (lambda cache: cache.delete("a"), lambda cache: cache.has_key("a")),
        (lambda cache: cache.add("a", 1), lambda cache: cache.add("a", 1)),
        (lambda cache: cache.incr("hits"), lambda cache: cache.decr("hits")),
    ],
)
def test_every_kind_of_conflict_in_a_cache_has_a_word(
    ann: Callable[[object], object], bob: Callable[[object], object]
) -> None:
    def session(operate: Callable[[object], object]) -> None:
        look()
        operate(caches["default"])

    def setup() -> None:
        no_hits()
        caches["default"].set("hits", 1)

    sessions = {"Ann": lambda: session(ann), "Bob": lambda: session(bob)}
    [note] = explore(sessions, setup=setup).notes
    assert note.startswith("Ann and Bob used ")
    assert "the cache “default”" in note


def test_a_backend_with_decorated_methods(settings: object) -> None:
    """As third parties write them: all have the same code around them."""
    settings.CACHES = {  # type: ignore[attr-defined]
        "default": {"BACKEND": f"{__name__}.Decorated", "LOCATION": "three"}
    }
    no_hits_here = functools.partial(caches["default"].clear)

    def setup() -> None:
        one_mug()
        no_hits_here()

    result = explore([count_a_hit, count_a_hit], setup=setup)
    assert "“hits”" in result.notes[0]
    result = explore([count_a_hit, count_a_hit], setup=setup, cache=True)
    assert result.schedules == 20

    def hit_at_once() -> None:
        caches["default"].incr("hits")

    def one_hit() -> None:
        setup()
        caches["default"].set("hits", 1)

    # One step each, and then no operation that comes after it is left out.
    assert explore([hit_at_once, hit_at_once], setup=one_hit, cache=True).schedules == 2
    assert explore([hit_then_get, look], setup=one_hit, cache=True).schedules == 3


def test_a_session_without_statements_is_told_of_steps_in_python() -> None:
    with pytest.raises(Misuse, match=r"Session A ran no SQL on “default”.*races.point"):
        explore([in_memory, look], setup=one_mug)


def hit_then_get() -> None:
    caches["default"].incr("hits")
    caches["default"].get("hits")


def decorated(method: Any) -> Any:
    @functools.wraps(method)
    def around(*args: object, **kwargs: object) -> object:
        return method(*args, **kwargs)

    return around


class Decorated(LocMemCache):
    """One operation that is made of two others: with its own lock, as far as others can see."""

    get = decorated(LocMemCache.get)
    set = decorated(LocMemCache.set)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        assert len(key) < 250
        value: int = self.get(key) + delta
        self.set(key, value)
        return value


# Swapping equal steps


POINT = Touch(is_of_all=True)
READS = Touch(sees={"mug": None})
WRITES = Touch(sees={"mug": None}, takes={"mug": None}, shows={"mug": None})
CLOCK = NOTHING.reading_clock()
GET = touch_of_cache("default", ["a"], is_write=False)
SET = touch_of_cache("default", ["a"], is_write=True)


@pytest.mark.parametrize(
    ("one", "other", "is_concerned"),
    [
        (POINT, READS, True),
        (POINT, NOTHING, True),
        (POINT, POINT, True),
        (POINT, CLOCK, True),
        (CLOCK, CLOCK, True),
        (CLOCK, WRITES, False),
        (CLOCK, WRITES.reading_clock(), True),
        (CLOCK, NOTHING, False),
        (CLOCK, UNKNOWN, True),
        (SET, GET, True),
        (SET, SET, True),
        (GET, GET, False),
        (SET, touch_of_cache("default", ["b"], is_write=True), False),
        (SET, touch_of_cache("other", ["a"], is_write=True), False),
        (GET, touch_of_cache("default", [None], is_write=True), True),
        (SET, WRITES, False),
        (SET, CLOCK, False),
    ],
)
def test_steps_whose_order_matters(one: Touch, other: Touch, *, is_concerned: bool) -> None:
    assert one.concerns(other) is is_concerned
    assert other.concerns(one) is is_concerned


def test_statements_that_read_the_clock() -> None:
    """By their text, or by the default of a column that they leave out."""

    def touches(sql: str) -> bool:
        def session() -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql)

        [step] = replay("A", [session, look], setup=nothing_stamped).steps[:1]
        return step.touch.concerns(CLOCK)

    assert touches("SELECT now()")
    assert touches("UPDATE race_models_mug SET stock = extract(second FROM clock_timestamp())")
    assert touches(
        "INSERT INTO race_models_made (aware, seconds, bound) VALUES ('1-1-1', 1, '1-1-1')"
    )
    assert not touches("SELECT stock FROM race_models_mug")
    assert not touches("UPDATE race_models_mug SET stock = 3")


@pytest.mark.parametrize(
    "sessions",
    [
        [lambda: set_stock(5), lambda: set_stock(7)],
        [count_a_hit, count_a_hit],
        [take_from_memory, take_from_memory],
    ],
)
def test_leaving_equal_schedules_out_loses_no_outcome(sessions: list[Callable[[], None]]) -> None:
    def setup() -> None:
        mugs_and_history()
        no_hits()
        in_memory()

    def state() -> object:
        newest = MugHistory.objects.order_by("at").last()
        return (
            newest and newest.stock == Mug.objects.get().stock,
            caches["default"].get("hits"),
            MEMORY["stock"],
        )

    def outcomes(*, reduce: bool) -> Result:
        return explore(sessions, setup=setup, state=state, clock=True, cache=True, reduce=reduce)

    everything, reduced = outcomes(reduce=False), outcomes(reduce=True)
    assert set(reduced.outcomes) == set(everything.outcomes)
    assert reduced.schedules <= everything.schedules
