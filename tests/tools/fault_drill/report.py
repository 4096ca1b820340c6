"""The figures of a drill."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from tests.tools.drills import in_words


@dataclass
class Report:
    """Everything that was counted."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    """Kinds of faults that this machine can't have, and why."""
    plans: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    """Requests without an answer."""
    looks: int = 0
    """How often the law of stock was looked at."""
    charges: int = 0
    charged: Decimal = Decimal(0)
    refunds: int = 0
    given_back: Decimal = Decimal(0)
    mails: int = 0
    repeated_mails: int = 0
    longest_return: float = 0.0
    """Seconds from the end of a fault until all programs were up."""
    longest_work: float = 0.0
    """Seconds from then until nothing was left to do."""
    errors: Counter[str] = field(default_factory=Counter)
    """Tracebacks in the logs, by the kind of the error."""
    seconds: float = 0.0

    def __str__(self) -> str:
        answers = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        lines = [
            f"seed {self.seed}, {self.seconds:.0f} s",
            f"faults {self.faults.total()}: {in_words(self.faults)}",
            *(f"left out: {kind}: {why}" for kind, why in self.left_out.items()),
            f"buyers: {in_words(self.plans)}",
            f"asked for units: {in_words(self.asked)}",
            f"answers: {answers}; none {self.lost} ×",
            f"orders: {in_words(self.orders)}",
            f"charges {self.charges}, {self.charged}; refunds {self.refunds}, {self.given_back}",
            f"e-mails {self.mails}, of them repeated {self.repeated_mails}",
            f"the law was looked at {self.looks} ×",
            f"all was up again within {self.longest_return:.0f} s, and nothing was left to do "
            f"{self.longest_work:.0f} s later",
            f"tracebacks in the logs: {in_words(self.errors) or 'none'}",
        ]
        return "\n".join(lines)
