"""Steps in Python: named points, readings of the clock, and operations on Django's caches.

Python goes on right after the statement before it, so that no other session ever comes in between.
For memory, the clock and caches that is an order of its own: it follows the order of statements. A
``point`` in the code is a step, where a session waits as it does before a statement. The clock and
the caches are found by Python's profiler, however they were imported. They are steps if asked for;
if not, a Lookout notes who uses them, so that the result can say so.
"""

from __future__ import annotations

import contextlib
import datetime
import dis
import functools
import inspect
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FrameType
from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.db.models import Field

from .current import responsible_session, running_session
from .errors import Misuse
from .places import frames_from, is_below, is_installed, place_of_reading, place_outside
from .statements import Kind
from .touch import NOTHING, Extent, Touch

if TYPE_CHECKING:
    from .session import Session

MOST_LISTED = 3  # places or keys that a note names
EVERY_KEY = None

OF_DATES = {"now", "utcnow", "today"}
OF_TIME = {"time", "time_ns", "clock_gettime", "clock_gettime_ns"}
OF_TIME_WITHOUT_ARGUMENT = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}
"""Functions of ``time`` that read the clock if they get no more arguments than that."""
OF_UUID = {"generate_time_safe"}
CLOCK_NAMES = {*OF_DATES, *OF_TIME, *OF_TIME_WITHOUT_ARGUMENT, *OF_UUID}
GET_DEFAULT = Field.get_default.__code__

READING = {"get", "has_key", "get_many", "__contains__"}
WRITING = {
    "add", "set", "touch", "delete", "incr", "decr", "set_many", "delete_many", "clear",
    "get_or_set", "incr_version", "decr_version",
}  # fmt: skip


def point(name: str = "") -> None:
    """Let other sessions come in between here. A step of the session; nothing elsewhere.

    For code that reads memory, a file, or another service, and then writes it. ``name`` is shown
    in transcripts. Python before a session's first step runs when the schedule starts, for one
    session after the other: if it matters there, make a point first. A statement, and a pipeline,
    are one step: points inside are none. Raises Misuse if the name isn't text.
    """
    if not isinstance(name, str):
        raise Misuse(f"A point's name must be text, not {name!r}.")
    text = f"⋯ {' '.join(name.split())}".rstrip()
    session = responsible_session()
    if session is None:
        return
    if session is running_session():
        session.pause(Kind.POINT, text, text, Touch(is_of_all=True))
    else:
        session.lookout.note_in_thread(session, f"passed the point “{name}”")


@dataclass(frozen=True)
class Use:
    """An operation on a cache: the key that a session uses, or all of them."""

    session: str
    alias: str
    key: str | None
    is_write: bool
    place: str

    def meets(self, other: Use) -> bool:
        """Whether the order of the two matters."""
        return (
            self.session != other.session
            and self.alias == other.alias
            and (self.key == other.key or EVERY_KEY in (self.key, other.key))
            and (self.is_write or other.is_write)
        )


class Lookout:
    """Watches the Python of sessions for readings of the clock and operations on caches."""

    def __init__(self, *, clock: bool, cache: bool) -> None:
        self.clock_is_step = clock
        self.cache_is_step = cache
        self.noted: Collection[str] = ()
        """The sessions of which to note what is no step."""
        self.readings: dict[str, dict[str, None]] = {}
        """The sessions that read the clock, and the places where they do, as they came."""
        self.uses: dict[Use, None] = {}
        self.in_threads: dict[str, None] = {}
        """Sentences on steps that can't be any, each once."""
        self.operations = operations_of_caches()

    @contextlib.contextmanager
    def watching(self, session: Session) -> Iterator[None]:
        """Watch the present thread, in which code of the session runs."""
        if not (session.label in self.noted or self.clock_is_step or self.cache_is_step):
            yield
            return
        before = sys.getprofile()
        sys.setprofile(Watch(self, session).see)
        try:
            yield
        finally:
            sys.setprofile(before)

    @property
    def has_nothing_to_note(self) -> bool:
        return self.clock_is_step and self.cache_is_step

    def note_in_thread(self, session: Session, deed: str) -> None:
        """Note a step that can't be one: its thread goes on beside that of its session."""
        self.in_threads[
            f"{session.label} {deed} in another thread than its own, where it can't be a step."
        ] = None

    def notes(self) -> list[str]:
        """Sentences on the steps in Python that schedules leave out."""
        return [*self._notes_on_the_clock(), *self._notes_on_caches(), *self.in_threads]

    def _notes_on_the_clock(self) -> Iterator[str]:
        if self.readings:
            names = sorted(self.readings)
            places = dict.fromkeys(place for name in names for place in self.readings[name])
            yield (
                f"{joined(names)} read the clock ({listed(places, 'places')}). No other session "
                "came between a statement and a reading of the clock right after it; with "
                "clock=True, they do."
            )

    def _notes_on_caches(self) -> Iterator[str]:
        met = [use for use in self.uses if any(use.meets(other) for other in self.uses)]
        for alias in sorted({use.alias for use in met}):
            uses = [use for use in met if use.alias == alias]
            names = sorted({use.session for use in uses})
            places = dict.fromkeys(use.place for use in uses)
            yield (
                f"{joined(names)} used {keys_in_words(uses)}the cache “{alias}” "
                f"({listed(places, 'places')}). No other session came between a statement and the "
                "operations on the cache right after it; with cache=True, they do."
            )


class Watch:
    """Watches one thread of a session, by Python's profiler."""

    def __init__(self, lookout: Lookout, session: Session) -> None:
        self._lookout = lookout
        self._session = session
        self._operation: FrameType | None = None
        """The operation on a cache that is under way. Those that it calls are parts of it."""

    def see(self, frame: FrameType, event: str, function: Any) -> None:
        """The profile function: called at each call and return. Its own calls don't count."""
        if event == "c_call":
            if function.__name__ in CLOCK_NAMES and reads_clock(function, frame):
                self._see_reading(frame)
        elif event == "call":
            if frame.f_code in self._lookout.operations:
                self._see_operation(frame)
            elif frame.f_code is GET_DEFAULT and is_clock_partial(frame.f_locals["self"].default):
                self._see_reading(frame)
        elif event == "return" and frame is self._operation:
            self._operation = None

    def _see_reading(self, frame: FrameType) -> None:
        if self._session.is_in_statement:
            return
        place = place_of_reading(frame)
        if place is None:
            return
        if not self._lookout.clock_is_step:
            self._lookout.readings.setdefault(self._session.label, {})[place] = None
        elif running_session() is self._session:
            text = f"⋯ reads the clock ({place})"
            self._session.pause(Kind.CLOCK, text, text, NOTHING.reading_clock())
        else:
            self._lookout.note_in_thread(self._session, f"read the clock ({place})")

    def _see_operation(self, frame: FrameType) -> None:
        if self._session.is_in_statement or self._operation is not None:
            return
        self._operation = frame
        name = self._lookout.operations[frame.f_code]
        alias, place = alias_of(frame.f_locals.get("self")), place_outside(caller_of_cache(frame))
        keys = keys_of(frame)
        if not self._lookout.cache_is_step:
            for key in keys:
                use = Use(self._session.label, alias, key, name in WRITING, place)
                self._lookout.uses[use] = None
        elif running_session() is self._session:
            operation = f"⋯ cache “{alias}”: {name}"
            shown = ", ".join(repr(key) for key in keys if key is not EVERY_KEY)
            self._session.pause(
                Kind.CACHE,
                f"{operation} ({place})",
                " ".join(filter(None, [operation, shown, f"({place})"])),
                touch_of_cache(alias, keys, is_write=name in WRITING),
            )
        else:
            self._lookout.note_in_thread(self._session, f"used the cache “{alias}” ({place})")


def reads_clock(function: BuiltinFunctionType, frame: FrameType | None = None) -> bool:
    """Whether the builtin function, called in this frame, reads the clock."""
    name, owner = function.__name__, getattr(function, "__self__", None)
    if isinstance(owner, datetime.date):
        owner = type(owner)
    if isinstance(owner, type):
        return name in OF_DATES and issubclass(owner, datetime.date)
    if owner is time:
        return name in OF_TIME or (
            name in OF_TIME_WITHOUT_ARGUMENT
            and (frame is None or arguments_of_call(frame) <= OF_TIME_WITHOUT_ARGUMENT[name])
        )
    return name in OF_UUID


def arguments_of_call(frame: FrameType) -> int:
    """The number of arguments of the call that the frame makes now; 0 if its code doesn't say."""
    code, place = frame.f_code.co_code, frame.f_lasti
    return code[place + 1] if dis.opname[code[place]] == "CALL" else 0


def is_clock_partial(default: object) -> bool:
    """Whether a field's default is ``partial(datetime.now, …)``, which the profiler can't see."""
    return (
        isinstance(default, functools.partial)
        and isinstance(default.func, BuiltinFunctionType)
        and reads_clock(default.func)
    )


def operations_of_caches() -> dict[CodeType, str]:
    """The code of each operation of a cache's class, and its name.

    Left out: operations that are made of others (those of BaseCache, and a file's ``add``); caches
    that keep nothing; and caches in a database, whose operations are statements.
    """
    operations = {}
    for backend in cache_classes():
        for name in READING | WRITING:
            method = inspect.unwrap(getattr(backend, name))
            if method is not getattr(BaseCache, name) and hasattr(method, "__code__"):
                operations[method.__code__] = name
    del operations[FileBasedCache.add.__code__]
    return operations


def cache_classes() -> Iterator[type[BaseCache]]:
    for alias in caches:
        with contextlib.suppress(Exception):  # one that can't be made can't be used, either
            caches[alias]
    found = [BaseCache]
    for each in found:
        found += each.__subclasses__()
    for each in found[1:]:
        if not issubclass(each, DummyCache | BaseDatabaseCache):
            yield each


def caller_of_cache(frame: FrameType) -> FrameType:
    """The nearest caller outside of the cache's own code."""
    modules = {"django.core.cache", *(each.__module__ for each in cache_classes())}
    for each in frames_from(frame.f_back):
        if not (is_below(each, tuple(modules)) and is_installed(each)):
            return each
    return frame


def alias_of(cache: object) -> str:
    """The cache's name in the settings; else that of its class."""
    for alias in caches:
        with contextlib.suppress(Exception):  # one that can't be made isn't this one
            if caches[alias] is cache:
                return alias
    return type(cache).__name__


def keys_of(frame: FrameType) -> list[str | None]:
    """The keys that an operation uses, as its arguments name them; else every key."""
    values = frame.f_locals
    if "key" in values:
        return [str(values["key"])]
    for name in ("keys", "data"):
        if isinstance(values.get(name), Collection):  # an iterator would be used up
            return [str(key) for key in values[name]]
    return [EVERY_KEY]


def touch_of_cache(alias: str, keys: list[str | None], *, is_write: bool) -> Touch:
    """The keys by which an operation concerns those of other sessions."""
    known = frozenset(key for key in keys if key is not EVERY_KEY)
    extent: Extent = {f"(cache {alias})": None if EVERY_KEY in keys else known}
    return Touch(sees=extent, shows=extent) if is_write else Touch(sees=extent)


def keys_in_words(uses: list[Use]) -> str:
    keys = sorted({f"“{use.key}”" for use in uses if use.key is not EVERY_KEY})
    if not keys:
        return ""
    return f"the key{'s' if len(keys) > 1 else ''} {listed(keys, 'keys')} of "


def joined(names: list[str]) -> str:
    """
    >>> joined(["Ann", "Bob", "Eve"])
    'Ann, Bob and Eve'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def listed(words: Iterable[str], noun: str) -> str:
    """The first few of them, and the number of the others."""
    words = list(words)
    more = len(words) - MOST_LISTED
    if more <= 0:
        return ", ".join(words)
    return f"{', '.join(words[:MOST_LISTED])}, and {more} more {noun[:-1] if more == 1 else noun}"
