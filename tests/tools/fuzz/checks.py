"""The checks of each answer. A fault says what was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.tools.fuzz.changes import Change
from tests.tools.fuzz.owners import Owners
from tests.tools.fuzz.pages import forbidden_content, forbidden_hold, leaked_words
from tests.tools.fuzz.reflections import unescaped
from tests.tools.fuzz.rights import Rights
from tests.tools.fuzz.senders import Sender
from tests.tools.fuzz.wire import Answer, Request

SLOW = 1.0  # seconds
ON_PURPOSE = {501, 505}  # a way of sending, and a version of HTTP, that the web server doesn't know
NO_ANSWER = 599


@dataclass(frozen=True)
class Fault:
    kind: str
    """One of KINDS."""
    text: str


KINDS = {
    "5xx": "answers that are a 5xx",
    "hang": "requests that got no answer in time",
    "slow": "answers that took over a second",
    "changed": "changes of what isn't the sender's own",
    "read": "pages that are not for the sender",
    "unescaped": "markers that came out as code",
    "smuggled": "requests that got several answers",
    "job": "jobs that failed",
    "died": "web processes that ended",
}


def find_faults(
    request: Request, answer: Answer, changes: list[Change], sender: Sender, owners: Owners
) -> Iterator[Fault]:
    """The faults of an answer, and of the changes that the request made."""
    new_buyers = owners.learn(changes)
    yield from faults_of_status(request, answer)
    if answer.seconds > SLOW:
        yield Fault("slow", f"{answer.seconds:.1f} s")
    for text in Rights(sender, request, owners, new_buyers).forbidden(changes):
        yield Fault("changed", text)
    if reason := forbidden_content(answer, request, sender):
        yield Fault("read", reason)
    for word in leaked_words(answer, request, sender, owners):
        yield Fault("read", f"It has {word!r}.")
    for hold in forbidden_hold(answer, owners, request, sender):
        yield Fault("read", f"It has another buyer's hold {hold}.")
    for text in unescaped(answer):
        yield Fault("unescaped", text)


def faults_of_status(request: Request, answer: Answer) -> Iterator[Fault]:
    if answer.status == NO_ANSWER:
        yield Fault("hang", "There is no answer.")
    elif answer.status >= 500 and not is_on_purpose(request, answer):
        yield Fault("5xx", f"{answer.status}: {answer.text[:300]!r}")
    if answer.count > 1:
        yield Fault("smuggled", f"There are {answer.count} answers.")


def is_on_purpose(request: Request, answer: Answer) -> bool:
    """Whether a 5xx says for how long to stay away, or that the bytes are of no use to anybody."""
    if answer.status == 503:
        return bool(answer.header("Retry-After"))
    return request.raw is not None and answer.status in ON_PURPOSE
