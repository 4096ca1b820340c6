"""The programs' logs: errors other than those that a fault explains are faults of the shop."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

TRACEBACK = "Traceback (most recent call last):"
SERVER_ERROR = "Internal Server Error: "  # Django says so of each answer 500
LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(: .*)?$")
# A database, a bank or a mail server that is away, slow or full.
EXPLAINED = re.compile(
    r"^(django\.db\.utils|psycopg(\.errors|_pool)?|psycopg\.pool)\.\w+$"
    r"|^procrastinate\.exceptions\.(ConnectorException|JobRetry)$"
    r"|^shop\.payments\.base\.ProviderUnavailable$"
    r"|^(smtplib\.SMTP\w+|TimeoutError|ConnectionResetError|ConnectionRefusedError)$"
    r"|^shop\.notifications\.sending\.AnswerLost$"
    r"|^(BrokenPipeError|ConnectionAbortedError)$"
)
NOT_EXPLAINED = re.compile(r"\.(IntegrityError|ProgrammingError|DataError|NotSupportedError)$")


class Log:
    """A log that is read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def new_errors(self) -> Counter[str]:
        """The kinds of errors of the tracebacks since the last call."""
        with self.path.open("rb") as log:
            log.seek(self._read)
            content = log.read()
        self._read += len(content)
        return errors_in(content.decode(errors="replace"))


def errors_in(text: str) -> Counter[str]:
    """The kinds of errors: of tracebacks by the last line of each, and answers 500."""
    found: Counter[str] = Counter()
    is_inside = False
    for line in text.splitlines():
        if SERVER_ERROR in line:
            found["an answer 500"] += 1
        bare = line.removeprefix("  | ").removeprefix("    | ").lstrip("|+- ")
        if bare.startswith(TRACEBACK):
            is_inside = True
        elif is_inside and not line.startswith(" ") and (match := LAST_LINE.match(line)):
            found[match[1]] += 1
            is_inside = False
    return found


def unexplained(errors: Counter[str]) -> Counter[str]:
    """The errors that no fault explains."""
    return Counter(
        {
            name: number
            for name, number in errors.items()
            if NOT_EXPLAINED.search(name) or not EXPLAINED.match(name)
        }
    )
