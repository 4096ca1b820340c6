"""Settings whose default isn't written into the database by whoever reads it."""

from typing import Any

from constance import settings
from constance.backends.database import DatabaseBackend
from constance.base import Config


class ReadingWritesNothing(DatabaseBackend):
    """To be named in CONSTANCE_BACKEND."""

    def get(self, key: str) -> Any:
        stored = super().get(key)
        return settings.CONFIG[key][0] if stored is None else stored


config = Config()
config._backend = ReadingWritesNothing()
