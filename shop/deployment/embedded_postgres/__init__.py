"""A database backend for Django: PostgreSQL inside the checkout, started at the first connection.

``ENGINE`` is this package, and ``HOME`` the directory of the server's files (``base.py``). The
module ``server`` runs the server, and stops it after its last user.
"""

from shop.deployment.embedded_postgres.server import (
    DATABASE,
    PORT,
    USER,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    as_user,
    system_user,
)

__all__ = [
    "DATABASE",
    "PORT",
    "USER",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "as_user",
    "system_user",
]
