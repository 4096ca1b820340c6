"""Files that were previewed in the admin and wait to be confirmed.

The preview and the confirmation are two requests, and may reach two machines. So the database
keeps the file between them, for a day. Its name on the page is a key that can't be guessed, and
that only works for the same user and the same list.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Model
from django.db.models.functions import Now

from inventory.models import ImportFile

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

KEEP = timedelta(days=1)
ENCODING = "utf-8-sig"


def store(content: bytes, name: str, *, model: type[Model], by: AbstractBaseUser) -> ImportFile:
    """Store a file of rows of ``model`` for its user, and return it."""
    return ImportFile.objects.create(
        model=model._meta.label_lower, name=name[-200:], content=content, uploaded_by_id=by.pk
    )


def find(key: str, *, model: type[Model], by: AbstractBaseUser) -> ImportFile | None:
    """The file of this name that this user previewed in the last day, or None."""
    try:
        pk = UUID(key)
    except ValueError:
        return None
    return ImportFile.objects.filter(
        pk=pk, model=model._meta.label_lower, uploaded_by=by.pk, uploaded_at__gt=Now() - KEEP
    ).first()


def claim(file: ImportFile) -> bool:
    """Whether the caller's transaction is the one that imports the file.

    Others who confirm the file at the same time wait here for the end of that transaction. If
    it is rolled back, the next one may import the file.
    """
    unclaimed = ImportFile.objects.filter(pk=file.pk, imported_at=None)
    return unclaimed.update(imported_at=Now()) == 1


def delete_old() -> int:
    """Delete the files of more than a day ago, imported or not; return how many."""
    return ImportFile.objects.filter(uploaded_at__lte=Now() - KEEP).delete()[0]
