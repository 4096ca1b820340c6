"""PostgreSQL's codes of errors (SQLSTATE), and the constraint behind an error."""

from __future__ import annotations

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
LOCK_NOT_AVAILABLE = "55P03"
UNDEFINED_TABLE = "42P01"
CONNECTION_EXCEPTION, SHUTTING_DOWN = "08", "57P"  # how codes begin; PgBouncer uses 08, too


def sqlstate(error: BaseException | None) -> str | None:
    """The code of an error of Django or psycopg; None if it didn't come from a server."""
    code: str | None = getattr(error, "sqlstate", None)
    return code or getattr(getattr(error, "__cause__", None), "sqlstate", None)


def constraint_name(error: BaseException) -> str | None:
    """The constraint that was violated."""
    diagnostics = getattr(error.__cause__, "diag", None)
    return getattr(diagnostics, "constraint_name", None)
