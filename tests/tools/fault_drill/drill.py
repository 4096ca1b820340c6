"""The rounds of the drill."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection
from contextlib import suppress

from django.db import Error, connection

from tests.tools.drills import Crowd, Disagreement
from tests.tools.fault_drill import books, catalogue
from tests.tools.fault_drill.buyers import Answers, Buyer, Staff
from tests.tools.fault_drill.faults import Fault, possible_kinds
from tests.tools.fault_drill.law_watcher import LawWatcher
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
LONGEST_PROBLEM = 3000  # characters


class DrillFailed(Exception):
    """Something is wrong, after a fault or at the end; ``again`` are the options that repeat it."""

    def __init__(self, where: str, problem: str, again: str) -> None:
        super().__init__(f"{time.strftime('%H:%M:%S')}, {where}:\n{problem[:LONGEST_PROBLEM]}")
        self.again = again


class Impossible(Exception):
    """This machine can't have the kind of fault that was asked for; the message says why."""


class Drill:
    """A drill on running machines. Raises Impossible."""

    def __init__(self, machines: Machines, report: Report, only: str | None = None) -> None:
        self.machines = machines
        self.report = report
        self.kinds, self.report.left_out = possible_kinds(machines)
        if only in self.report.left_out:
            raise Impossible(f"{only} can't happen here: {self.report.left_out[only]}.")
        if only:
            self.kinds = [kind for kind in self.kinds if kind.kind == only]
        self._again = f" --only {only}" if only else ""
        self._answers = Answers(report.statuses)
        self._staff = Staff()
        self._log = Log(machines.log)
        self._buyers: list[Buyer] = []
        self._took_to_return = self._took_to_finish = 0.0  # seconds, in the last round

    def run(self, faults: int, seed: int, seconds: float) -> None:
        """Run so many rounds, or fewer if the time is over before. Raises DrillFailed."""
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
            buyers = self._let_them_meet(faults, seed, chance)
            watcher.check()
            self._wait_until_finished(buyers)
            watcher.check()
            self._check(buyers)
        except (Disagreement, TimeoutError, Error) as error:
            where = f"fault {number + 1}, seed {seed}, {' and '.join(map(str, faults))}"
            raise DrillFailed(
                where, str(error), f"--faults 1 --seed {seed}{self._again}"
            ) from error
        for fault in faults:
            self.report.faults[fault.kind] += 1
        print(
            f"{number + 1}. seed {seed}, {' and '.join(map(str, faults))}: {len(buyers)} buyers, "
            f"up after {self._took_to_return:.0f} s, done {self._took_to_finish:.0f} s later",
            flush=True,
        )

    def _choose(self, seed: int, chance: random.Random) -> list[Fault]:
        """One fault, or two together. All kinds come one after the other."""
        first = self.kinds[seed % len(self.kinds)]
        kinds = [first]
        if len(self.kinds) > 1 and chance.random() < TWO_AT_ONCE:
            kinds.append(chance.choice([kind for kind in self.kinds if kind is not first]))
        return [kind(self.machines, chance) for kind in kinds]

    # Buyers and faults

    def _let_them_meet(self, faults: list[Fault], seed: int, chance: random.Random) -> list[Buyer]:
        """Let buyers come while the faults last; return them when all have done their shopping."""
        first = len(self._buyers)
        scarce = catalogue.add_scarce(first, chance)
        connection.close()  # the database may go away
        buyers: list[Buyer] = []

        def come(number: int) -> None:
            buyer = Buyer(
                self.machines.shop.url,
                first + number,
                self._answers,
                random.Random(f"{seed} {number}"),
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
        self._buyers += buyers
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

    def _check(self, buyers: Collection[Buyer]) -> None:
        """Raise Disagreement unless all is as it should be."""
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
        report = self.report
        try:
            books.check_strangers(self._buyers)
            money = books.check_money(self.machines.standin)
        except Disagreement as error:
            again = f"--faults {faults} --seed {seed}{self._again}"
            raise DrillFailed("at the end", str(error), again) from error
        report.charges, report.charged = money.charges, money.charged
        report.refunds, report.given_back = money.refunds, money.given_back

    def count_everything(self) -> None:
        """Complete the figures, also of a drill that failed."""
        from shop.models import Order

        mails = self.machines.mail.mails
        self.report.lost = self._answers.lost
        self.report.mails, self.report.repeated_mails = len(mails), books.repeated_mails(mails)
        with suppress(Error):
            self.report.orders.update(Order.objects.values_list("state", flat=True))


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
