"""Uploaded files are stored whole, or the reason is one for staff."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.base import ContentFile

from shop.deployment.media_files import FileNotStored, MediaStorage


def test_a_directory_that_cannot_be_made_is_a_reason_for_staff(tmp_path: Path) -> None:
    """There is room for the file, and not for the directory that it belongs in."""
    (tmp_path / "pictures").write_text("in the place of the directory")
    storage = MediaStorage(location=tmp_path)
    with pytest.raises(FileNotStored, match="is not a directory"):
        storage.save("pictures/a.png", ContentFile(b"a picture"))
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]
