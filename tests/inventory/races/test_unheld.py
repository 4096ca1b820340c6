"""SQL that no gate holds: other threads, other databases, other vendors. Refused, or said."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Process
from multiprocessing.pool import ThreadPool
from multiprocessing.process import BaseProcess
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import LazySettings
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from inventory.races import Misuse, conductor, explore, point, replay
from inventory.races.current import running_session
from inventory.races.scratch import scratch_database
from inventory.races.session import State
from tests.inventory.races.models import Mug
from tests.inventory.races.test_counts import one_mug, read_check_save
from tests.inventory.races.test_gate import nobody_is_left  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "replica"])

HERE = "tests/inventory/races/test_unheld.py"
OTHER_THREAD = r"Session B uses the database in another thread, “.+” \((\S+:\d+|in a coroutine)\)\."


def look() -> None:
    Mug.objects.get()


def sell() -> None:
    Mug.objects.update(stock=0)


def look_and_close() -> None:
    try:
        look()
    finally:
        connection.close()


# Threads


def in_a_thread() -> None:
    look()
    thread = threading.Thread(target=look_and_close)
    thread.start()
    thread.join()


def in_a_thread_that_hides_it() -> None:
    def hidden() -> None:
        try:
            look_and_close()
        except Exception:
            return

    look()
    thread = threading.Thread(target=hidden)
    thread.start()
    thread.join()


def in_a_timer() -> None:
    look()
    timer = threading.Timer(0, look_and_close)
    timer.start()
    timer.join()


def in_an_executor() -> None:
    look()
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: look_and_close(), range(2)))


def in_a_pool_of_threads() -> None:
    look()
    with ThreadPool(1) as pool:
        pool.apply_async(look_and_close).wait(2)


def in_a_thread_of_a_thread() -> None:
    look()
    thread = threading.Thread(target=in_a_thread_alone)
    thread.start()
    thread.join()


def in_a_thread_alone() -> None:
    thread = threading.Thread(target=look_and_close)
    thread.start()
    thread.join()


def in_a_loop_of_its_own() -> None:
    async def count() -> int:
        return await Mug.objects.acount()

    look()
    asyncio.run(count())


def in_a_coroutines_thread() -> None:
    async def count() -> None:
        await sync_to_async(look_and_close, thread_sensitive=False)()

    look()
    async_to_sync(count)()


@pytest.mark.parametrize(
    "session",
    [
        in_a_thread, in_a_thread_that_hides_it, in_a_timer, in_an_executor, in_a_pool_of_threads,
        in_a_thread_of_a_thread, in_a_loop_of_its_own, in_a_coroutines_thread,
    ],
)  # fmt: skip
def test_sql_in_a_thread_that_a_session_starts(session: Callable[[], None]) -> None:
    with pytest.raises(Misuse, match=OTHER_THREAD):
        explore([look, session], setup=one_mug)


def test_a_session_that_waits_for_the_thread_that_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused at once, and not for the time that it takes."""
    monkeypatch.setattr(conductor, "GRACE", 60.0)  # for its wait to end

    def session() -> None:
        look()
        threading.Thread(target=look_and_close).start()
        threading.Event().wait(3)

    with pytest.raises(Misuse, match=OTHER_THREAD):
        explore([look, session], setup=one_mug, step_timeout=2)


def test_sql_in_a_thread_that_was_there_before_and_is_connected() -> None:
    """An executor of the whole process: the session gives it work."""
    with ThreadPoolExecutor(1) as pool:
        one_mug()
        pool.submit(look).result()

        def session() -> None:
            look()
            pool.submit(look).result()

        try:
            with pytest.raises(Misuse, match=OTHER_THREAD):
                explore([look, session], setup=one_mug)
        finally:
            pool.submit(lambda: connection.close()).result()


def test_a_thread_that_comes_too_late_for_its_schedule() -> None:
    """Its session has ended when it begins. The exploration ends all the same."""
    gate = threading.Event()

    def late() -> None:
        gate.wait(60)
        look_and_close()

    def setup() -> None:
        one_mug()
        gate.set()
        for thread in [each for each in threading.enumerate() if each.name == "late"]:
            thread.join()
        gate.clear()

    def session() -> None:
        look()
        threading.Thread(target=late, name="late").start()

    try:
        with pytest.raises(Misuse, match="in another thread, “late”"):
            explore([look, session], setup=setup)
    finally:
        gate.set()


def test_threads_without_sql_and_coroutines_that_come_back_are_no_matter() -> None:
    async def count() -> int:
        return await Mug.objects.acount()

    def session() -> int:
        thread = threading.Thread(target=len, args=("",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(len, "ab").result() == 2
        return async_to_sync(count)()

    result = explore([session, look], setup=one_mug)
    assert (result.schedules, result.exhaustive) == (2, True)
    [note] = result.notes
    assert note.startswith("No session changed a row")


def test_a_pause_in_a_thread_of_a_session_takes_no_time() -> None:
    def session() -> None:
        look()
        thread = threading.Thread(target=lambda: time.sleep(1000), daemon=True)
        thread.start()
        thread.join()

    assert explore([session, look], setup=one_mug).schedules == 2


def test_a_server_of_the_test_that_works_for_a_session(live_server: object) -> None:
    """As of a session that sends requests by HTTP: its SQL runs in the server's threads."""

    def session() -> None:
        with urlopen(f"{live_server.url}/") as page:  # type: ignore[attr-defined]
            page.read()

    with pytest.raises(Misuse, match="Session A ran no SQL") as refused:
        explore([session, look], setup=one_mug)
    assert "used a database while the sessions ran" in str(refused.value)


def test_a_process_that_a_session_starts_has_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseProcess, "start", lambda process: None)  # it would take a second

    def session() -> None:
        look()
        Process(target=look).start()

    result = explore({"Ann": session, "Bob": look}, setup=one_mug)
    assert result.notes == [
        "Ann started another process, whose statements are neither held nor seen."
    ]


def test_a_thread_of_somebody_else_has_a_word() -> None:
    """It was there before, and nobody knows for whom it works: its SQL is said, not refused."""
    asked, answered = threading.Event(), threading.Event()

    def work() -> None:
        while asked.wait(10):
            asked.clear()
            look_and_close()
            answered.set()

    thread = threading.Thread(target=work, name="heartbeat", daemon=True)
    thread.start()

    def session() -> None:
        look()
        answered.clear()
        asked.set()
        answered.wait(60)

    result = explore([look, session], setup=one_mug)
    assert result.notes == [
        "The thread “heartbeat” used a database while the sessions ran. Its statements were not "
        "held."
    ]


def test_a_session_that_does_two_things_at_once() -> None:
    """A point in a coroutine, while another coroutine is at a statement."""

    async def at_a_point() -> None:
        session = running_session()
        assert session is not None
        while session.state is not State.AT_GATE:
            time.sleep(0.001)
        point("at the same time")

    async def both() -> None:
        await asyncio.gather(Mug.objects.aget(), at_a_point())

    with pytest.raises(Misuse, match="Session B does two things at once, in two threads"):
        replay("A", [look, async_to_sync(both)], setup=one_mug)


# Other databases


@pytest.fixture(scope="module", autouse=True)
def replica(django_db_setup: None) -> Iterator[None]:
    """The tests' own database under a second name, before Django looks which names there are."""
    connections.settings["replica"] = copy.deepcopy(connections.settings["default"])
    yield
    connections["replica"].close()
    del connections["replica"], connections.settings["replica"]


class ReadsFromReplica:
    def db_for_read(self, model: type[Model], **hints: object) -> str:
        return "replica"

    def db_for_write(self, model: type[Model], **hints: object) -> str:
        return "default"


def reads_from_another() -> None:
    Mug.objects.using("replica").get()


def opens_and_closes_another() -> None:
    Mug.objects.using("replica").get()
    connections["replica"].close()


def hides_it() -> None:
    try:
        reads_from_another()
    except Exception:
        return


def opens_a_transaction_there() -> None:
    with transaction.atomic(using="replica"):
        sell()


@pytest.mark.parametrize(
    "touch", [reads_from_another, opens_and_closes_another, hides_it, opens_a_transaction_there]
)
def test_a_session_that_uses_another_database(touch: Callable[[], None]) -> None:
    def session() -> None:
        look()
        touch()
        sell()

    with pytest.raises(Misuse) as refused:
        explore([sell, session], setup=one_mug)
    message = str(refused.value)
    assert message.startswith(f"Session B uses the database “replica” ({HERE}:")
    assert "Only statements on “default” can be held" in message
    assert "using=“replica”" in message


def test_a_router_that_reads_from_a_replica(settings: LazySettings) -> None:
    settings.DATABASE_ROUTERS = [ReadsFromReplica()]
    one_mug()
    with pytest.raises(Misuse, match="Session A uses the database “replica”"):
        explore([read_check_save] * 2, setup=sell)
    settings.DATABASE_ROUTERS = []
    assert explore([read_check_save] * 2, setup=one_mug).schedules == 16


def test_setup_and_invariant_may_use_other_databases() -> None:
    def setup() -> None:
        reads_from_another()
        one_mug()

    one_mug()

    def invariant(run: object) -> None:
        reads_from_another()

    result = explore([sell, look], setup=setup, invariant=invariant)
    connections["replica"].close()
    assert (result.exhaustive, result.notes) == (True, [])


def test_a_second_connection_to_the_same_database() -> None:
    def session() -> None:
        look()
        second = connection.copy()
        try:
            with second.cursor() as cursor:
                cursor.execute("UPDATE race_models_mug SET stock = 5")
        finally:
            second.close()

    with pytest.raises(Misuse, match=r"Session B opens a second connection to “default” \("):
        explore([look, session], setup=one_mug)


def by_psycopg() -> None:
    with psycopg.connect(url()) as second:
        second.execute("UPDATE race_models_mug SET stock = 5")


def by_a_coroutine_of_psycopg() -> None:
    async def update() -> None:
        async with await psycopg.AsyncConnection.connect(url()) as second:
            await second.execute("UPDATE race_models_mug SET stock = 5")

    async_to_sync(update)()


def by_a_pool() -> None:
    with ConnectionPool(url(), open=True, timeout=0.5) as pool, pool.connection() as second:
        second.execute("UPDATE race_models_mug SET stock = 5")


def url() -> str:
    names = {
        "NAME": "dbname",
        "USER": "user",
        "PASSWORD": "password",
        "HOST": "host",
        "PORT": "port",
    }
    settings = connection.settings_dict
    return make_conninfo(**{name: settings[key] for key, name in names.items() if settings[key]})


@pytest.mark.parametrize("connect", [by_psycopg, by_a_coroutine_of_psycopg, by_a_pool])
def test_a_connection_that_django_does_not_know(connect: Callable[[], None]) -> None:
    def session() -> None:
        look()
        connect()

    message = r"Session B connects to PostgreSQL by psycopg itself \("
    with pytest.raises(Misuse, match=message):
        explore([look, session], setup=one_mug)


# Databases that aren't PostgreSQL


@pytest.fixture
def other_vendor() -> Iterator[Callable[[dict[str, object]], None]]:
    def add(settings: dict[str, object]) -> None:
        connections.settings["legacy"] = {**connections.settings["default"], **settings}

    yield add
    connections.settings.pop("legacy", None)
    if hasattr(connections._connections, "legacy"):  # type: ignore[attr-defined]
        del connections["legacy"]


class OfAVendor(BaseDatabaseWrapper):
    """Stands for a vendor whose driver isn't installed."""

    part: Any = staticmethod(lambda connection: None)
    client_class = creation_class = features_class = part
    introspection_class = ops_class = validation_class = part

    def __init__(self, vendor: str, display_name: str) -> None:
        super().__init__({"OPTIONS": {}}, "legacy")
        self.vendor, self.display_name = vendor, display_name


WHY = "asks PostgreSQL which session waits for which"


@pytest.mark.parametrize(
    ("vendor", "display_name"),
    [("mysql", "MySQL"), ("mysql", "MariaDB"), ("oracle", "Oracle"), ("microsoft", "SQL Server")],
)
def test_another_vendor(vendor: str, display_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings, "legacy", {})
    connections["legacy"] = OfAVendor(vendor, display_name)
    try:
        with pytest.raises(Misuse) as refused:
            explore([look, sell], setup=one_mug, using="legacy")
    finally:
        del connections["legacy"]
    assert str(refused.value).startswith(f"The database “legacy” is {display_name}. ")
    assert WHY in str(refused.value)


def test_sqlite(other_vendor: Callable[[dict[str, object]], None]) -> None:
    other_vendor({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}})
    with pytest.raises(Misuse, match=rf"The database “legacy” is SQLite\. .*{WHY}"):
        explore([look, sell], setup=one_mug, using="legacy")
    with (
        pytest.raises(Misuse, match=r"The database “legacy” is SQLite\. A scratch database"),
        scratch_database("legacy"),
    ):
        pass


def test_an_engine_that_cannot_be_loaded(
    other_vendor: Callable[[dict[str, object]], None],
) -> None:
    """As where no driver of MySQL is installed, or the name is wrong."""
    other_vendor({"ENGINE": "django.db.backends.nosuchthing"})
    with pytest.raises(Misuse, match=rf"engine django.db.backends.nosuchthing, which .*{WHY}"):
        explore([look, sell], setup=one_mug, using="legacy")


def test_postgresql_by_the_older_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.races.server.is_psycopg3", False)
    with pytest.raises(Misuse, match=r"“default” is used by psycopg2\. Races need psycopg 3"):
        explore([look, sell], setup=one_mug)


def test_no_driver_at_all() -> None:
    """As in a project on MySQL. The message is the last line that Python prints."""
    code = "import sys; sys.modules['psycopg'] = None; from inventory.races import explore"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: Races are explored on PostgreSQL only, by psycopg 3, which isn't installed: "
        "pip install “psycopg[binary]”."
    )


def test_a_server_that_only_speaks_like_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "inventory.races.server.version_of", lambda using: "CockroachDB CCL v24.1.0 (x86_64)"
    )
    with pytest.raises(Misuse, match=f"The database “default” is CockroachDB.*{WHY}"):
        explore([look, sell], setup=one_mug)


def test_a_name_that_no_database_has() -> None:
    with pytest.raises(Misuse, match="no database “stock”, only “default” and “replica”"):
        explore([look, sell], setup=one_mug, using="stock")


def test_a_database_without_an_engine(other_vendor: Callable[[dict[str, object]], None]) -> None:
    other_vendor({"ENGINE": "django.db.backends.dummy"})
    with pytest.raises(Misuse, match="The settings say no ENGINE for the database “legacy”"):
        explore([look, sell], setup=one_mug, using="legacy")
