"""Uploaded files, which are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage


class FileNotStored(Exception):
    """The disk of MEDIA_ROOT is full, or can't be written; the message is for staff."""


class MediaStorage(FileSystemStorage):
    """Writes each file beside its place first: a disk that gets full leaves no half file."""

    def _save(self, name: str, content: File[Any]) -> str:
        try:
            return self._write_and_move(name, content)
        except OSError as error:
            raise FileNotStored(
                "The file can't be stored: the disk for uploaded files says "
                f"“{error.strerror or error}”. Try again when there is room."
            ) from error

    def _write_and_move(self, name: str, content: File[Any]) -> str:
        """Write the file, and let Django move it, as it does with a large upload's own file."""
        part = self._write_part(content)
        whole: Any = File(None)
        whole.temporary_file_path = lambda: str(part)
        try:
            stored: str = super()._save(name, whole)  # type: ignore[misc]  # it is there
        finally:
            part.unlink(missing_ok=True)
        return stored

    def _write_part(self, content: File[Any]) -> Path:
        Path(self.location).mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.location)
        try:
            with os.fdopen(descriptor, "wb") as part:
                for chunk in content.chunks():
                    part.write(chunk)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        return Path(name)
