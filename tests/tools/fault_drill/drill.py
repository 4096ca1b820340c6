"""The rounds of the drill."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection

from django.db import Error, connection

from tests.tools.drills import Crowd, Disagreement
from tests.tools.fault_drill import books, catalogue
from tests.tools.fault_drill.buyers import Answers, Buyer, Staff
from tests.tools.fault_drill.faults import Fault, possible_kinds
from tests.tools.fault_drill.logs import Log, unexplained
from tests.tools.fault_drill.machines import Machines
from tests.tools.fault_drill.report import Report
from tests.tools.fault_drill.unfinished import find_unfinished

BUYERS_AT_ONCE = 8
MOST_BUYERS = 40  # in a round
SECONDS_BETWEEN_BUYERS = 0.12
LONGEST_START, LONGEST_FAULT = 1.0, 4.0  # seconds
TWO_AT_ONCE = 0.2  # of all rounds
SECONDS_TO_FINISH = 60.0
SECONDS_BETWEEN_LOOKS = 0.3


class RoundFailed(Exception):
    """Something is wrong after a fault."""

    def __init__(self, number: int, seed: int, faults: Collection[Fault], problem: str) -> None:
        named = " and ".join(map(str, faults)) or "no fault"
        super().__init__(f"fault {number + 1}, seed {seed}, {named}:\n{problem}")
        self.seed = seed


class Drill:
    """A drill on running machines."""

    def __init__(self, machines: Machines, report: Report, only: str | None = None) -> None:
        self.machines = machines
        self.report = report
        self.kinds, self.report.left_out = possible_kinds(machines)
        self.only = [kind for kind in self.kinds if kind.kind == only]
        self._answers = Answers()
        self._staff = Staff()
        self._log = Log(machines.log)
        self._buyers = 0
        self._took_to_return = self._took_to_finish = 0.0  # seconds, in the last round

    def run(self, faults: int, seed: int, seconds: float) -> None:
        """Run so many rounds, or fewer if the time is over before. Raises RoundFailed."""
        deadline = time.monotonic() + seconds
        catalogue.stock_shop()
        with LawWatcher() as watcher:
            for number in range(faults):
                if time.monotonic() > deadline:
                    break
                self._run_round(number, seed + number, watcher)
            self.report.looks = watcher.looks
        self._check_at_end(faults, seed)

    def _run_round(self, number: int, seed: int, watcher: LawWatcher) -> None:
        chance = random.Random(seed)
        faults = self._choose(seed, chance)
        try:
            buyers = self._let_them_meet(faults, chance)
            self._wait_until_finished(buyers)
            self._check(buyers, watcher)
        except (Disagreement, TimeoutError, Error) as error:
            raise RoundFailed(number, seed, faults, str(error)) from error
        for fault in faults:
            self.report.faults[fault.kind] += 1
        print(
            f"{number + 1}. seed {seed}, {' and '.join(map(str, faults))}: {len(buyers)} buyers, "
            f"up after {self._took_to_return:.0f} s, done {self._took_to_finish:.0f} s later",
            flush=True,
        )

    def _choose(self, seed: int, chance: random.Random) -> list[Fault]:
        """One fault, or two together. All kinds come one after the other."""
        first = (self.only or self.kinds)[seed % len(self.only or self.kinds)]
        kinds = [first]
        if not self.only and chance.random() < TWO_AT_ONCE:
            kinds.append(chance.choice([kind for kind in self.kinds if kind is not first]))
        return [kind(self.machines, chance) for kind in kinds]

    # Buyers and faults

    def _let_them_meet(self, faults: list[Fault], chance: random.Random) -> list[Buyer]:
        """Let buyers come while the faults last; return them when all have done their shopping."""
        scarce = catalogue.add_scarce(self._buyers, chance)
        connection.close()  # the database may go away
        buyers: list[Buyer] = []

        def come(number: int) -> None:
            buyer = Buyer(
                self.machines.shop.url,
                self._buyers + number,
                self._answers,
                random.Random(f"{self.report.seed} {self._buyers + number}"),
            )
            buyers.append(buyer)
            buyer.shop_around(scarce, self._staff)

        crowd = Crowd(come, MOST_BUYERS, BUYERS_AT_ONCE)
        with Doorkeeper(crowd):
            time.sleep(chance.uniform(0.2, LONGEST_START))
            try:
                for fault in faults:
                    fault.begin()
                time.sleep(chance.uniform(0.3, LONGEST_FAULT))
            finally:
                for fault in faults:
                    fault.heal()
            self._took_to_return = self.machines.wait_until_up()
        self.report.longest_return = max(self.report.longest_return, self._took_to_return)
        crowd.close()
        crowd.wait()
        self._buyers += MOST_BUYERS
        return buyers

    def _wait_until_finished(self, buyers: Collection[Buyer]) -> None:
        """Wait until nothing is left to do. Raises Disagreement."""
        began = time.monotonic()
        while unfinished := self._find_unfinished(buyers):
            if time.monotonic() - began > SECONDS_TO_FINISH:
                raise Disagreement(
                    f"all is up for {SECONDS_TO_FINISH:.0f} s, and still unfinished: {unfinished}"
                )
            time.sleep(0.25)
        self._took_to_finish = time.monotonic() - began
        self.report.longest_work = max(self.report.longest_work, self._took_to_finish)

    def _find_unfinished(self, buyers: Collection[Buyer]) -> str:
        from shop.models import Order

        tokens = [buyer.told.token for buyer in buyers if buyer.told.token]
        orders = list(Order.objects.filter(token__in=tokens))
        missing = books.missing_mails(orders, self.machines.mail.mails)
        return find_unfinished(self.machines.standin, missing)

    # Comparing

    def _check(self, buyers: Collection[Buyer], watcher: LawWatcher) -> None:
        """Raise Disagreement unless all is as it should be."""
        watcher.check()
        books.check_law()
        books.check_buyers(buyers, self.machines.mail.mails)
        errors = self._log.new_errors()
        self.report.errors += errors
        if strange := unexplained(errors):
            raise Disagreement(f"errors in the log that no fault explains: {dict(strange)}")
        self._count(buyers)

    def _count(self, buyers: Collection[Buyer]) -> None:
        for buyer in buyers:
            self.report.plans[buyer.plan] += 1
            for asked in buyer.told.asked:
                self.report.asked["held" if asked.held else "refused"] += 1

    def _check_at_end(self, faults: int, seed: int) -> None:
        from shop.models import Order

        report, mails = self.report, self.machines.mail.mails
        try:
            report.charges, report.charged, report.refunds, report.given_back = books.check_money(
                self.machines.standin
            )
        except Disagreement as error:
            raise RoundFailed(faults - 1, seed, [], str(error)) from error
        report.statuses, report.lost = self._answers.statuses, self._answers.lost
        report.mails, report.repeated_mails = len(mails), books.repeated_mails(mails)
        report.orders.update(Order.objects.values_list("state", flat=True))


class Doorkeeper:
    """Lets buyers come one after the other, as long as the block lasts."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._let_in, daemon=True)

    def _let_in(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_BUYERS):
            self._crowd.let_in(1)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()


class LawWatcher:
    """Looks at the law of stock all the time, also during faults, whenever the database answers."""

    def __init__(self) -> None:
        self.looks = 0
        self._problem = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def check(self) -> None:
        """Raise Disagreement if the law was ever broken."""
        if self._problem:
            raise Disagreement(self._problem)

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                books.check_law()
                self.looks += 1
            except Disagreement as error:
                self._problem = self._problem or str(error)
            except Error:  # the database is away
                connection.close()
        connection.close()

    def __enter__(self) -> LawWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
