"""A session: a racing caller in a thread, with a connection, stopped at every statement.

The gate is Django's ``execute_wrapper`` for statements, and the connection's own ``_commit`` and
``_rollback`` for the ends of transactions, which no wrapper sees. BEGIN has no gate: it takes
neither a snapshot nor a lock, and is sent with the first statement. Traffic that goes past the
gate is noticed in psycopg's ``Connection.wait``, and raises SqlAroundTheGate.
"""

from __future__ import annotations

import contextlib
import functools
import random
import re
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import psycopg
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.postgres import types as oids
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus

from . import statements
from .coroutines import Cancel, finished
from .current import RUNNING, STARTED_BY
from .errors import Misuse, SqlAroundTheGate
from .parts import Key, Rows, rows_named
from .python_steps import Lookout
from .server import Server, Wait
from .statements import Kind
from .touch import NOTHING, UNKNOWN, Touch

MOST_ROWS_SHOWN = 3
LOOK = re.compile(r"(?:still waiting|avoided deadlock) for \w+ on (?P<lock>.+?)(?: by .+)? after ")
LONGEST_VALUE = 40  # characters of a value that are kept for the transcript
# The types of instants and of UUIDs, which are other ones in each schedule
MADE_ANEW = {oids[name].oid for name in ("timestamptz", "timestamp", "time", "timetz", "uuid")}


class Aborted(BaseException):
    """Raised inside a session to end it, when its schedule is given up."""


class State(Enum):
    STARTING = "connecting"
    RUNNING = "on its way to the next gate"
    AT_GATE = "at a gate"
    BLOCKED = "waiting for a lock"
    DONE = "done"


@dataclass
class Board:
    """State that sessions and their conductor share, guarded by ``changed``."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    is_aborted: bool = False


@dataclass(slots=True)
class Step:
    """One statement, COMMIT or ROLLBACK of a session, and its outcome."""

    session: str
    sql: str
    """The statement, normalised and with placeholders, by which replays are compared."""
    shown: str
    """The statement with its values."""
    kind: Kind
    tables: frozenset[str]
    is_autocommit: bool
    touch: Touch = UNKNOWN
    """The rows by which it can concern other sessions' steps."""
    number: int = 0
    """Its number in the schedule, from 1."""
    rows: int | None = None
    values: tuple[dict[str, str], ...] = ()
    """The first rows that a query returned, as text."""
    answer: int = 0
    """A hash of all rows that a query returned, without keys and instants."""
    wait: Wait | None = None
    sqlstate: str | None = None
    error: str | None = None
    primary_keys: Mapping[str, Key] = field(default_factory=dict, repr=False)
    """The primary key of each table that has one of a single column."""

    @property
    def named(self) -> Rows | None:
        """The rows that its text names by primary key; of an INSERT also those that it returned.

        None: it may concern other rows of its table, or other tables. Triggers don't count.
        """
        is_whole = len(self.values) == self.rows
        return rows_named(self.shown, self.primary_keys, self.values if is_whole else ())

    @property
    def only_concerns(self) -> Rows | None:
        """The rows beyond which it reads and writes nothing, also by triggers and foreign keys.

        None where that isn't certain. Two steps that concern different rows of a table can still
        meet in a unique constraint or a sequence.
        """
        named = self.named
        return named if named is not None and self.tables == {named.table} else None

    @property
    def is_in_python(self) -> bool:
        """Whether it is a step in Python, and no statement."""
        return self.kind in (Kind.POINT, Kind.CLOCK, Kind.CACHE)

    @property
    def changes(self) -> bool:
        """Whether the step wrote at least one row."""
        return self.kind is Kind.WRITE and self.error is None and bool(self.rows)


class Spare:
    """Connections of earlier sessions, kept as good as new, because connecting takes longest.

    Each serves one session at a time.
    """

    def __init__(self) -> None:
        self._connections: list[psycopg.Connection[Any]] = []

    def take(self) -> psycopg.Connection[Any] | None:
        try:
            return self._connections.pop()
        except IndexError:
            return None

    def give(self, connection: psycopg.Connection[Any]) -> None:
        """Keep an idle connection, once PostgreSQL has reset its session (DISCARD ALL)."""
        connection.execute("DISCARD ALL")
        self._connections.append(connection)

    def close(self) -> None:
        while (connection := self.take()) is not None:
            connection.close()


class Session(threading.Thread):
    """Runs ``call`` one statement at a time; ``go`` lets each through."""

    def __init__(
        self,
        name: str,
        call: Callable[[], object],
        board: Board,
        server: Server,
        spare: Spare,
        *,
        using: str,
        isolation: str | None,
        lookout: Lookout,
        seed: str,
    ) -> None:
        super().__init__(name=f"race session {name}", daemon=True)
        self.label = name
        self.state = State.STARTING
        self.step: Step | None = None
        """At the gate: the next step. Otherwise: the last one that was let through."""
        self.is_in_sql = False
        self.has_looked_at = ""
        """The lock in whose wait it has looked for a deadlock. It looks once in each wait."""
        self.pid = 0
        self.has_returned = False
        self.returned: object = None
        self.raised: BaseException | None = None
        self.misuse: Misuse | None = None
        self.connection: BaseDatabaseWrapper | None = None
        self._call = call
        self._cancel: Cancel | None = None
        self._board = board
        self._server = server
        self._spare = spare
        self._using = using
        self._isolation = isolation
        self.lookout = lookout
        self._chance = random.Random(seed).getstate()
        """The state of ``random`` in this session, whatever the others draw."""
        self._transaction = NOTHING
        """All that the open transaction touches."""
        self._pipeline: Step | None = None
        self.is_quiet = False
        """Statements that the explorer sends now are not part of the schedule."""

    # For the conductor

    def go(self) -> Step:
        """Let the session through its gate. The caller has acquired ``board.changed``."""
        assert self.state is State.AT_GATE
        self.state = State.RUNNING
        self.has_looked_at = ""
        self._board.changed.notify_all()
        assert self.step is not None
        return self.step

    def cancel_coroutine(self) -> None:
        """Cancel the coroutine that the session waits for, if it is one."""
        if self._cancel is not None:
            self._cancel()

    # In the thread

    def run(self) -> None:
        RUNNING.set(self)
        try:
            self.connection = connection = connections[self._using]
            self._connect(connection)
            self._wait_at_gate(None)
            with self.lookout.watching(self):
                self.returned = finished(self._call(), self._note_cancel)
            if not self._board.is_aborted:  # else it may have caught the error that ends it
                self._check_what_is_left(connection)
            self.has_returned = True
        except Aborted:
            pass
        except Misuse as misuse:
            self.misuse = misuse
        except BaseException as error:
            self.raised = error
        finally:
            self.is_quiet = True
            self._leave(connections[self._using])
            with self._board.changed:
                self.state = State.DONE
                self._board.changed.notify_all()

    def _note_cancel(self, cancel: Cancel) -> None:
        self._cancel = cancel

    # In its code, in whatever thread that runs

    @property
    def own_session(self) -> Session:
        return self

    @property
    def is_in_statement(self) -> bool:
        return self.is_in_sql or self.is_quiet or self._pipeline is not None

    def pause(self, kind: Kind, text: str, shown: str, touch: Touch) -> None:
        """Wait at a gate in Python. A statement under way is one step, with all that it calls."""
        if not self.is_in_statement and self.state is not State.DONE:
            self._wait_at_gate(Step(self.label, text, shown, kind, frozenset(), is_autocommit=True))

    def adopted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The function, to be called in another thread for this session."""

        @functools.wraps(call)
        def for_this_session(*args: Any, **kwargs: Any) -> Any:
            token = STARTED_BY.set(self)
            try:
                with self.lookout.watching(self):
                    return call(*args, **kwargs)
            finally:
                STARTED_BY.reset(token)

        return for_this_session

    # In the thread

    def _connect(self, connection: BaseDatabaseWrapper) -> None:
        try:
            self._take_over(connection)
        except DatabaseError as error:
            raise Misuse(f"Session {self.label} can't connect: {error}") from error

    def _take_over(self, connection: BaseDatabaseWrapper) -> None:
        """Put gates into this thread's connection, and connect."""
        connection.settings_dict = {
            **connection.settings_dict,
            "CONN_HEALTH_CHECKS": False,  # no session's statements
            "CONN_MAX_AGE": None,
            "DISABLE_SERVER_SIDE_CURSORS": True,  # FETCH passes no gate
        }
        connect, get_new = connection.connect, connection.get_new_connection
        commit, rollback = connection._commit, connection._rollback  # type: ignore[attr-defined]
        is_usable = connection.is_usable

        def connect_and_adopt() -> None:
            self.is_quiet = True
            try:
                connect()
                self._adopt(connection)
            finally:
                self.is_quiet = False

        def gated_commit() -> object:
            if is_idle(connection):
                return self._quietly(commit)  # sends nothing
            return self._perform(self._end(statements.COMMIT), commit)

        def gated_rollback() -> object:
            if is_idle(connection) or self._board.is_aborted:
                return self._quietly(rollback)
            return self._perform(self._end(statements.ROLLBACK), rollback)

        connection.get_new_connection = (  # type: ignore[method-assign]
            lambda conn_params: self._spare.take() or get_new(conn_params)
        )
        connection.connect = connect_and_adopt  # type: ignore[method-assign]
        # After an error, Django asks the server between two jobs of a worker.
        connection.is_usable = lambda: bool(self._quietly(is_usable))  # type: ignore[method-assign]
        connection._commit = gated_commit  # type: ignore[attr-defined]
        connection._rollback = gated_rollback  # type: ignore[attr-defined]
        connection.execute_wrappers.insert(0, self._statement)
        connection.ensure_connection()

    def _adopt(self, connection: BaseDatabaseWrapper) -> None:
        """Prepare a new server connection for the explorer."""
        raw = connection.connection
        if self._isolation is not None:
            raw.isolation_level = None  # Django's own option would win over the setting
        sql, settings = self._server.session_settings(self._isolation)
        with raw.cursor() as cursor:
            cursor.execute(sql, settings)
            self.pid = cursor.fetchone()[0]
        if not raw.autocommit:
            raw.commit()
        raw.add_notice_handler(self._note_look)
        wait = raw.wait

        def wait_behind_the_gate(gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
            name = getattr(gen, "__name__", "")
            if self._pipeline is not None:
                return self._wait_in_pipeline(name, lambda: wait(gen, *args, **kwargs))
            # These change a flag of the client, or begin and end a pipeline without statements.
            harmless = name.startswith(("_set_", "_enter_gen", "_exit_gen", "_sync_gen"))
            if self.is_in_sql or self.is_quiet or self._board.is_aborted or harmless:
                return wait(gen, *args, **kwargs)
            self.misuse = SqlAroundTheGate(
                f"Session {self.label} talked to PostgreSQL other than by a cursor's execute(), "
                f"where it can't be held back ({name}, such as COPY, a "
                "stored procedure's callproc(), or psycopg's own connection). Use "
                "connection.cursor().execute()."
            )
            raise self.misuse

        raw.wait = wait_behind_the_gate

    def _note_look(self, notice: psycopg.errors.Diagnostic) -> None:
        """Note that the session has looked for a deadlock: PostgreSQL reports its wait."""
        found = LOOK.search(notice.message_primary or "")
        if found and notice.source_function == "ProcSleep":
            with self._board.changed:
                self.has_looked_at = found["lock"]
                self._board.changed.notify_all()

    def _leave(self, connection: BaseDatabaseWrapper) -> None:
        """Keep the connection for the next schedule if it is as good as new; otherwise close it."""
        raw = connection.connection
        with contextlib.suppress(psycopg.Error):  # it is closed below
            if raw is not None and self._is_as_good_as_new(raw):
                del raw.wait  # of the session, which has ended
                raw.remove_notice_handler(self._note_look)
                self._spare.give(raw)
                connection.connection = None
        for each in connections.all(initialized_only=True):
            each.close()

    def _is_as_good_as_new(self, raw: psycopg.Connection[Any]) -> bool:
        return (
            self.misuse is None
            and not self._board.is_aborted
            and raw.autocommit
            and raw.prepare_threshold is None  # or psycopg would think they are prepared
            and raw.info.transaction_status == TransactionStatus.IDLE
        )

    def _statement(
        self,
        execute: Callable[..., object],
        sql: Any,
        params: Any,
        many: bool,
        context: dict[str, Any],
    ) -> object:
        """The wrapper that Django calls for every statement."""
        if self.is_quiet:
            return execute(sql, params, many, context)
        connection, cursor = context["connection"], context["cursor"].cursor
        text = sql if isinstance(sql, str) else sql.as_string(connection.connection)
        text = statements.normalised(text)
        if many:
            text = f"{text} (many)"
        kind = self._server.kind_of(text)
        step = Step(
            self.label,
            text,
            text if many else with_values(connection, text, params),
            kind,
            self._server.reach_of(text, kind),
            is_autocommit=connection.autocommit,
            primary_keys=self._server.primary_keys,
        )
        step.touch = self._server.touch_of(step)
        if self._board.is_aborted and text.startswith(("ROLLBACK TO", "RELEASE")):
            return execute(sql, params, many, context)  # on the way out
        raw = connection.connection
        if raw.pgconn.pipeline_status != PipelineStatus.OFF and self._pipeline is None:
            self._begin_pipeline(step)
            return execute(sql, params, many, context)
        return self._perform(step, lambda: execute(sql, params, many, context), cursor)

    def _end(self, sql: str) -> Step:
        return Step(
            self.label,
            sql,
            sql,
            statements.kind_of(sql),
            frozenset(),
            is_autocommit=False,
            touch=self._transaction.at_end(is_committed=sql == statements.COMMIT),
        )

    def _perform(self, step: Step, act: Callable[[], object], cursor: Any = None) -> object:
        """Wait at the gate, act, and note the outcome in ``step``."""
        if self._pipeline is not None:
            self._pipeline.shown += f"; {step.shown}"
            self._pipeline.tables |= step.tables
            return act()
        self._wait_at_gate(step)
        was_in_sql = self.is_in_sql
        self.is_in_sql = True
        try:
            result = act()
        except Exception as error:
            note_error(step, error)
            raise
        else:
            if cursor is not None:
                note_result(step, cursor)
            return result
        finally:
            self._end_step(step, was_in_sql)

    def _begin_pipeline(self, step: Step) -> None:
        """Begin a pipeline. It is one step: all of it is sent before any answer comes back."""
        step.kind, step.touch = Kind.OTHER, UNKNOWN
        self._wait_at_gate(step)
        self._pipeline = step
        self.is_in_sql = True

    def _wait_in_pipeline(self, name: str, act: Callable[[], Any]) -> Any:
        """Run psycopg's generator of that name. The step ends with the pipeline."""
        assert self._pipeline is not None
        try:
            return act()
        except Exception as error:
            note_error(self._pipeline, error)
            raise
        finally:
            if name == "_exit_gen":
                step, self._pipeline = self._pipeline, None
                self._end_step(step, was_in_sql=False)

    def _wait_at_gate(self, step: Step | None) -> None:
        """Wait until the conductor lets the session through to this step, or to its start."""
        with self._board.changed:
            if not self._board.is_aborted:
                if self.state is State.AT_GATE:
                    raise self._refuse_two_at_once(step)
                if self.state is not State.STARTING:
                    self._chance = random.getstate()
                self.step = step
                self.state = State.AT_GATE
                self._board.changed.notify_all()
            while self.state is State.AT_GATE and not self._board.is_aborted:
                self._board.changed.wait()
            if self._board.is_aborted:
                self.state = State.RUNNING
                raise Aborted
        random.setstate(self._chance)

    def _refuse_two_at_once(self, step: Step | None) -> Misuse:
        steps = " and ".join(f"“{each.shown}”" for each in (self.step, step) if each)
        self.misuse = Misuse(
            f"Session {self.label} does two things at once, in two threads: {steps}. One after "
            "the other, they can be held."
        )
        return self.misuse

    def _end_step(self, step: Step, was_in_sql: bool) -> None:
        self._note_transaction(step)
        with self._board.changed:
            self.is_in_sql = was_in_sql
            if self.state is State.BLOCKED:
                self.state = State.RUNNING
        random.setstate(self._chance)  # others may have drawn while this one waited for a lock

    def _note_transaction(self, step: Step) -> None:
        if step.kind in (Kind.COMMIT, Kind.ROLLBACK):
            self._transaction = NOTHING
        elif not step.is_autocommit:
            self._transaction = self._transaction.joined(self._server.touch_of(step))

    def _quietly(self, act: Callable[[], object]) -> object:
        was_quiet, self.is_quiet = self.is_quiet, True
        try:
            return act()
        finally:
            self.is_quiet = was_quiet

    def _check_what_is_left(self, connection: BaseDatabaseWrapper) -> None:
        if not is_idle(connection):
            raise Misuse(
                f"Session {self.label} ended inside a transaction: it must commit or roll back."
            )


def is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Whether no transaction is open on the server, so that COMMIT and ROLLBACK send nothing."""
    raw = connection.connection
    return raw is None or raw.closed or raw.info.transaction_status == TransactionStatus.IDLE


def with_values(connection: BaseDatabaseWrapper, sql: str, params: Any) -> str:
    """The statement with its values put in; without them where that can't be done."""
    if params is None:
        return sql
    try:
        return statements.normalised(connection.ops.compose_sql(sql, params))  # type: ignore[attr-defined]
    except Exception:  # a value that can't be adapted fails when the statement is executed
        return sql


def note_result(step: Step, cursor: Any) -> None:
    """Note row count and first rows, without taking them away from the caller."""
    step.rows = cursor.rowcount if cursor.rowcount >= 0 else None
    result = getattr(cursor, "pgresult", None)
    if result is None or result.status != ExecStatus.TUPLES_OK:
        return
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    step.values = tuple(
        {
            name: short_value(result.get_value(row, column))
            for column, name in enumerate(names)
            if result.fformat(column) == 0
        }
        for row in range(min(result.ntuples, MOST_ROWS_SHOWN))
    )
    keys = {key.column for key in step.primary_keys.values()}
    compared = [
        column
        for column, name in enumerate(names)
        if result.ftype(column) not in MADE_ANEW and not (name in keys or name.endswith("_id"))
    ]
    step.answer = hash(
        tuple(result.get_value(row, column) for row in range(result.ntuples) for column in compared)
    )


def short_value(value: bytes | None) -> str:
    text = "NULL" if value is None else value.decode("utf-8", "replace")
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def note_error(step: Step, error: Exception) -> None:
    step.sqlstate = sqlstate_of(error)
    step.error = (str(error).strip() or type(error).__name__).splitlines()[0]


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE of an error, or of a cause of it; None if there is no SQLSTATE."""
    while error is not None:
        code = getattr(error, "sqlstate", None)
        if code:
            return str(code)
        error = error.__cause__ or error.__context__
    return None
