"""Finds the place in the code that reads the clock or uses a cache, in words for a reader."""

from __future__ import annotations

import contextlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from django.db.models import Field

# They read the clock for their caller.
FOR_THEIR_CALLER = (
    __package__,
    "django.utils.timezone",
    "django.core.signing",
    "uuid",
    "freezegun",
    "asgiref",
    "asyncio",
    "concurrent.futures",
    "contextlib",
    "functools",
    "threading",
)
# Where nobody's code leads there: a coroutine awaits it in another thread, or an executor was given
# the function alone, such as timezone.now.
IN_A_COROUTINE, IN_A_THREAD = "in a coroutine", "in a thread"
# The readings of Django on which data depends. All others end in cookies, headers, sessions'
# expiry, pages or logs.
DJANGO_WITH_DATA = ("django.db.models", "django.contrib.auth", "django.views.generic.dates")
# They read the clock for themselves: drivers, and tools that watch how long things take.
TOOLS = {
    "coverage", "ddtrace", "debug_toolbar", "elasticapm", "newrelic", "opentelemetry",
    "prometheus_client", "psycopg", "psycopg_pool", "pytest", "_pytest", "sentry_sdk", "silk",
    "structlog", "urllib3",
}  # fmt: skip
# Beyond them a request's own code ends, and that of whoever sends it begins.
HANDLERS = ("django.core.handlers", "django.test.client")
STDLIB = sysconfig.get_paths()["stdlib"]
INSTALLED = ("site-packages", "dist-packages")


def place_of_reading(frame: FrameType) -> str | None:
    """The place that reads the clock; None if no data depends on it, as far as that is known."""
    for reader in frames_from(frame):
        if not is_below(reader, FOR_THEIR_CALLER) and not is_generated(reader):
            break
    else:
        return without_a_place(frame)
    if is_below(reader, ("django",)):
        return place_in_django(reader) if is_below(reader, DJANGO_WITH_DATA) else None
    if module_of(reader).partition(".")[0] in TOOLS or is_of_python(reader):
        return None
    return in_words(reader)


def place_in_django(frame: FrameType) -> str:
    """The model's field that reads the clock; else the code that called Django."""
    field = frame.f_locals.get("self")
    if isinstance(field, Field) and hasattr(field, "model"):
        return f"{field.model._meta.label}.{field.name}"
    return place_outside(frame)


def place_outside(frame: FrameType) -> str:
    """The nearest code outside of Django, Python and the explorer that leads to ``frame``.

    If a request is all that leads there, the code in Django itself.
    """
    for each in frames_from(frame):
        if is_below(each, HANDLERS):
            return in_words(frame)
        if not (
            is_below(each, ("django", "asgiref", __package__))
            or is_of_python(each)
            or is_generated(each)
        ):
            return in_words(each)
    return without_a_place(frame)


def without_a_place(frame: FrameType) -> str:
    is_awaited = any(is_below(each, ("asgiref",)) for each in frames_from(frame))
    return IN_A_COROUTINE if is_awaited else IN_A_THREAD


def in_words(frame: FrameType) -> str:
    """File and line: below the current directory, or below the place of installed packages."""
    path = Path(frame.f_code.co_filename)
    for folder in INSTALLED:
        if folder in path.parts:
            below = path.parts[path.parts.index(folder) + 1 :]
            return f"{'/'.join(below)}:{frame.f_lineno}"
    with contextlib.suppress(OSError, ValueError):  # there is none, or it isn't below
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.f_lineno}"


def frames_from(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame, its caller, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_below(frame: FrameType, packages: tuple[str, ...]) -> bool:
    """Whether the frame's module is one of these, or below one."""
    module = module_of(frame)
    return any(module == name or module.startswith(f"{name}.") for name in packages)


def module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def is_of_python(frame: FrameType) -> bool:
    """Whether it is code of Python's own library."""
    return (
        module_of(frame).partition(".")[0] in sys.stdlib_module_names
        and frame.f_code.co_filename.startswith(STDLIB)
        and not is_installed(frame)
    )


def is_installed(frame: FrameType) -> bool:
    """Whether it is code of a package from elsewhere."""
    return any(folder in Path(frame.f_code.co_filename).parts for folder in INSTALLED)


def is_generated(frame: FrameType) -> bool:
    """Whether there is no file, as for the ``__init__`` of a dataclass."""
    return frame.f_code.co_filename.startswith("<")
