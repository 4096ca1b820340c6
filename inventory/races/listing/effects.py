"""The effects of a function on tables, and what Django does besides."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models import signals

from .natures import Nature
from .own import is_own_somewhere

CHANGING = ("post", "put", "patch", "delete")
"""Methods of HTTP that may change something."""
SAVE, CREATE, UPDATE, DELETE, SQL = "save", "create", "update", "delete", "sql"
WAYS = {
    "save": SAVE, "bulk_update": SAVE, "create": CREATE, "bulk_create": CREATE,
    "get_or_create": CREATE, "update_or_create": CREATE, "update": UPDATE, "delete": DELETE,
    "_raw_delete": DELETE,
}  # fmt: skip
SAVES_EACH = {"save", "create", "get_or_create", "update_or_create"}
"""Methods that call the model's ``save``."""


@dataclass
class Effects:
    """The tables that a function touches, by itself and by what it calls."""

    writes: dict[str, set[str]] = field(default_factory=dict)
    """By table: the ways in which it is written: save, create, update, delete, sql."""
    reads: set[str] = field(default_factory=set)
    locks: set[str] = field(default_factory=set)
    """Tables whose rows it locks (SELECT … FOR UPDATE)."""
    has_advisory_lock: bool = False
    looks_at_post: bool = False
    """Whether it mentions ``request.POST``, ``request.method`` or the request's body."""
    unseen: dict[str, None] = field(default_factory=dict)
    """Places whose effects can't be told, as “orders/views.py:12 form.save()”."""
    returns: Nature = None

    def add(self, other: Effects) -> None:
        for table, ways in other.writes.items():
            self.writes.setdefault(table, set()).update(ways)
        self.reads |= other.reads
        self.locks |= other.locks
        self.unseen |= other.unseen
        self.has_advisory_lock |= other.has_advisory_lock
        self.looks_at_post |= other.looks_at_post


def way_of_library(bases: set[str], method: str) -> str | None:
    """The way in which a library's method of a view writes its model, by Django's and DRF's names.

    ``bases``: the names of the view's bases. None: it doesn't write, as far as is known.
    """
    action = method.removeprefix("perform_").removeprefix("partial_")
    if action not in (*CHANGING, "form_valid", "create", "update", "destroy"):
        return None
    if "DeletionMixin" in bases or action == "destroy":
        return DELETE
    if "DestroyModelMixin" in bases and action == "delete":
        return DELETE
    if "BaseCreateView" in bases or action == "create":
        return CREATE
    if "CreateModelMixin" in bases and action == "post":
        return CREATE
    if "ModelFormMixin" in bases or action == "update":
        return SAVE
    return SAVE if "UpdateModelMixin" in bases and action in ("put", "patch") else None


def receivers_of(signal: signals.ModelSignal, model: type[models.Model]) -> list[Any]:
    """The project's functions that a signal of this model calls."""
    found: Any = signal._live_receivers(model)
    flat = [each for part in found for each in part] if isinstance(found, tuple) else found
    return [each for each in flat if is_own_somewhere(each)]


def cascades_of(model: type[models.Model]) -> dict[str, str]:
    """The tables that a deletion changes besides, and how."""
    found: dict[str, str] = {}
    todo = [model]
    while todo:
        for relation in todo.pop()._meta.get_fields(include_hidden=True):
            if not (relation.auto_created and relation.is_relation and not relation.concrete):
                continue
            on_delete = getattr(relation, "on_delete", None)
            related: Any = relation.related_model
            table = related._meta.db_table
            if table in found or on_delete is None:
                continue
            if on_delete is models.CASCADE:
                found[table] = DELETE
                todo.append(related)
            elif on_delete in (models.SET_NULL, models.SET_DEFAULT):
                found[table] = UPDATE
    return found


@functools.cache
def known_tables() -> frozenset[str]:
    return frozenset(model._meta.db_table for model in apps.get_models(include_auto_created=True))


def session_table() -> str | None:
    """The table of sessions, if that is where they are."""
    engine = settings.SESSION_ENGINE
    if engine.rpartition(".")[2] in ("db", "cached_db"):
        return "django_session"
    return None
