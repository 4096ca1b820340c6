"""The findings of a run, in words."""

from __future__ import annotations

from collections import Counter

from tests.tools.fuzz.checks import KINDS
from tests.tools.fuzz.drill import LEFT, Found, Results

MOST = 20  # faults of a kind that are printed in full
MOST_BYTES = 3000  # of a request


def describe(found: Found) -> str:
    """A fault, and how to send its request again."""
    request = found.request
    number = "" if found.number == LEFT else f" {found.number}"
    sent = request.as_bytes()[:MOST_BYTES]
    return (
        f"{found.fault.kind}: {found.fault.text}\n"
        f"  in answer to request{number} of the {request.sender}: {sent!r}"
    )


def report(results: Results) -> str:
    counts = Counter(found.fault.kind for found in results.found)
    shown: Counter[str] = Counter()
    lines = []
    for found in results.found:
        shown[found.fault.kind] += 1
        if shown[found.fault.kind] <= MOST:
            lines += [describe(found), ""]
    if results.was_broken_off:
        lines.append(f"Broken off after {sum(results.kinds.values())} answers.")
    lines.append(f"Answers: {counted(results.kinds)}")
    lines.append(f"Senders: {counted(results.senders)}")
    lines.append(f"Changed rows: {counted(results.rows)}")
    lines.append(f"Slowest answer: {results.slowest:.2f} s")
    lines += [f"{counts[kind]:6} {words}" for kind, words in KINDS.items()]
    return "\n".join(lines)


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
