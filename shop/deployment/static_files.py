"""Static files: with hashed names, cached for ever, once ``collectstatic`` has run."""

from __future__ import annotations

from pathlib import Path

from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedIfCollected(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Names a file by its hash if ``collectstatic`` made that file, and by its own name if not."""

    def stored_name(self, name: str) -> str:
        hashed: str = self.hashed_files.get(self.hash_key(self.clean_name(name)), name)
        return hashed


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    """whitenoise, without its warning before ``collectstatic`` has run."""

    def add_files(self, root: str, prefix: str | None = None) -> None:
        if Path(root).is_dir():
            super().add_files(root, prefix=prefix)
