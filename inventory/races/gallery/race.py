"""A race as the gallery declares it, and how one of its schedules is judged by luck, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Sessions = Mapping[str, Callable[[], object]]


class Ended(Protocol):
    """The end of the sessions: the explorer's Run, or a try by luck."""

    @property
    def returned(self) -> Mapping[str, object]: ...
    @property
    def raised(self) -> Mapping[str, BaseException]: ...


@dataclass(frozen=True, kw_only=True)
class Race:
    """A race in a published package. Two tests are made of it, and a measurement of luck.

    The package as it was published must break the invariant in some schedule, and in no serial
    order. The mended sessions must keep it in every schedule.
    """

    name: str
    """A word: of the test, and of the transcript's file."""
    title: str
    """The harm, as a sentence."""
    setup: Callable[[], object]
    sessions: Sessions
    invariant: Callable[[Ended], object]
    """True after every serial order. It looks at the database, at ``returned`` and ``raised``."""
    mended: Sessions
    """The same, mended: in our own code, without a change to the package."""
    mend: str
    """How it is mended, and how the maintainers could do it: a sentence or two."""
    known: str = "Not reported yet. Tell the maintainers first."
    """Where the maintainers say something about it, or when they were told."""
    describe: Callable[[], str] | None = None
    """The state in a line, for the transcript."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More options of ``explore``, as ``max_preemptions``."""
    mended_options: Mapping[str, Any] | None = None
    """Those for the mended sessions, if they differ."""


def verdict(invariant: Callable[[Ended], object], ended: Ended) -> bool:
    """Whether the invariant holds, as ``explore`` sees it: False and AssertionError break it."""
    try:
        return invariant(ended) is not False
    except AssertionError:
        return False
