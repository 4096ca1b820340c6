"""The drill: send request after request, and check each answer and all changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.tools.fuzz import changes, jobs, leftovers
from tests.tools.fuzz.checks import Fault, find_faults
from tests.tools.fuzz.generator import odd_request
from tests.tools.fuzz.owners import Owners
from tests.tools.fuzz.sending import WebServer
from tests.tools.fuzz.wire import Answer, Request
from tests.tools.fuzz.world import World, make_world

RENEW = 100  # requests; after them, what they have ended is made anew
LEFT = -1  # the number of a request that looks at what others have left


@dataclass
class Found:
    """A fault, and the request that it came to."""

    number: int
    fault: Fault
    request: Request


@dataclass
class Results:
    kinds: Counter[str] = field(default_factory=Counter)
    """Answers by the first digit of their status."""
    senders: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    """Changed rows by table."""
    found: list[Found] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds."""
    was_broken_off: bool = False


class Drill:
    """One run. The web servers share the database, whose changes are noted."""

    def __init__(self, servers: list[WebServer], seed: int) -> None:
        self.servers = servers
        self.seed = seed
        self.results = Results()
        self.owners = Owners()
        self.world: World = make_world(servers[0].ask)

    def run(self, numbers: Iterable[int]) -> Results:
        """Send the requests of these numbers; then look at what they have left.

        Ctrl-C ends the sending, not what follows.
        """
        try:
            for sent, number in enumerate(numbers):
                if sent % RENEW == 0:
                    self.renew()
                self.send(number)
        except KeyboardInterrupt:
            self.results.was_broken_off = True
        self.renew()
        for request in leftovers.requests(self.world):
            self.check(LEFT, request, self.servers[0].ask(request))
        if any(server.has_lost_a_process() for server in self.servers):
            self.note("died", "A web process has ended, or was replaced.")
        return self.results

    def renew(self) -> None:
        """Do what a worker would, and make anew what has ended."""
        for error in jobs.do_waiting():
            self.note("job", error)
        self.world.renew()
        changes.take()
        self.owners.read()

    def note(self, kind: str, text: str) -> None:
        """Note a fault that isn't of one request."""
        self.results.found.append(Found(LEFT, Fault(kind, text), Request("NONE", "")))

    def send(self, number: int) -> None:
        request = odd_request(self.world.targets, self.seed, number)
        server = self.servers[number % 5 == 0 and len(self.servers) > 1]
        self.check(number, request, server.ask(request))

    def check(self, number: int, request: Request, answer: Answer) -> None:
        made = changes.take()
        sender = self.world.senders[request.sender]
        faults = list(find_faults(request, answer, made, sender, self.owners))
        self.results.found += [Found(number, fault, request) for fault in faults]
        self.results.kinds[f"{answer.status // 100}xx" if answer.status else "closed"] += 1
        self.results.senders["raw" if request.raw is not None else request.sender] += 1
        self.results.rows.update(change.table for change in made)
        self.results.slowest = max(self.results.slowest, answer.seconds)
