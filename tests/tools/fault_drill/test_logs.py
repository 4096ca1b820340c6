"""Tracebacks in the programs' logs, told apart by the kind of their error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .logs import Log, errors_in, unexplained

LOST = """\
[2026-01-01] [7] [WARNING] psycopg.pool: error connecting in 'pool-1': connection refused
Traceback (most recent call last):
  File "somewhere.py", line 1, in ask
    ask()
psycopg.OperationalError: the connection was lost

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "somewhere.py", line 2, in ask
    ask()
django.db.utils.OperationalError: the connection was lost
"""
WRONG = """\
Traceback (most recent call last):
  File "somewhere.py", line 1, in ask
    ask()
KeyError: 'token'
"""


def test_each_traceback_counts_by_its_last_line() -> None:
    assert errors_in(LOST + WRONG) == Counter(
        ["psycopg.OperationalError", "django.db.utils.OperationalError", "KeyError"]
    )


def test_a_database_that_is_away_explains_only_its_own_errors() -> None:
    assert not unexplained(errors_in(LOST))
    assert unexplained(errors_in(LOST + WRONG)) == Counter(["KeyError"])
    broken = WRONG.replace("KeyError", "django.db.utils.IntegrityError")
    assert unexplained(errors_in(broken)).total() == 1


def test_an_answer_500_is_never_explained() -> None:
    line = "[2026-01-01] [7] [ERROR] django.request: Internal Server Error: /basket/\n"
    assert unexplained(errors_in(line + LOST)) == Counter(["an answer 500"])


def test_a_log_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LOST)
    log = Log(path)
    assert log.new_errors().total() == 2
    with path.open("a") as file:
        file.write(WRONG)
    assert log.new_errors() == Counter(["KeyError"])
    assert not log.new_errors()
