"""The nature of an expression: the rows, the object or the request that it stands for."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.forms import BaseForm
from django.http import HttpRequest

from .own import is_own, is_own_somewhere


@dataclass(frozen=True)
class Rows:
    """A model's instance, its manager, or a queryset of it."""

    model: type[models.Model]
    is_new: bool = False
    """Made here, and so not read before."""
    through: str = ""
    """The table between two models, behind a many-to-many field."""


@dataclass(frozen=True, eq=False)
class Thing:
    """An object that a name stands for: a module, a class, a function, a constant."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True)
class Instance:
    """An instance of a class that is no model."""

    cls: type
    value: Any = field(default=None, compare=False)
    """The object itself, where there is one already."""
    is_new: bool = False
    """A form or serializer that was given no row to change."""


@dataclass(frozen=True)
class Method:
    """A function that is called on something."""

    function: Callable[..., Any]
    owner: Rows | Instance | Thing


@dataclass(frozen=True)
class Above:
    """``super()``: what the classes after ``cls`` say."""

    owner: Rows | Instance
    cls: type


@dataclass(frozen=True)
class Request:
    """The request."""


@dataclass(frozen=True)
class Session:
    """The dictionary ``request.session``, which is saved whole."""


Nature = Rows | Thing | Instance | Method | Above | Request | Session | None


def first(natures: Any) -> Nature:
    return next((each for each in natures if each is not None), None)


# Objects, and their attributes


def nature_of(value: object) -> Nature:
    """The nature of an object that a name stands for."""
    if isinstance(value, models.Manager | models.QuerySet):
        return Rows(value.model) if value.model else None
    if isinstance(value, models.Model):
        return Rows(type(value))
    if isinstance(value, functools.partial):
        return nature_of(value.func)
    if isinstance(value, types.MethodType):
        return Method(value.__func__, owner_of(value.__self__))
    return Thing(value)


def owner_of(value: object) -> Rows | Instance | Thing:
    """The nature of the object that a bound method belongs to."""
    nature = nature_of(value)
    if isinstance(nature, Rows):
        return nature
    return Thing(value) if isinstance(value, type) else Instance(type(value), value)


def of_thing(value: Any, name: str) -> Nature:
    """The attribute of a module, a class, or another object, without running any code of it."""
    if isinstance(value, types.ModuleType):
        found = vars(value).get(name)
        return nature_of(found) if found is not None else thing_named(value.__name__, name)
    if is_model(value) and any(manager.name == name for manager in value._meta.managers):
        return Rows(value)
    is_class = isinstance(value, type)
    found = inspect.getattr_static(value if is_class else type(value), name, None)
    if isinstance(found, classmethod):
        return Method(found.__func__, Thing(value))
    if isinstance(found, staticmethod):
        return Thing(found.__func__)
    if found is not None and isinstance(found, types.FunctionType):
        return Thing(found) if is_class else Method(found, Instance(type(value), value))
    if found is None and not is_class:
        found = getattr(value, "__dict__", {}).get(name)
    return nature_of(found) if found is not None else None


def above(owner: Above, name: str) -> Nature:
    """The method of this name that comes after the class in its order of bases."""
    cls = owner.owner.model if isinstance(owner.owner, Rows) else owner.owner.cls
    mro = list(cls.__mro__)
    after = mro[mro.index(owner.cls) + 1 :] if owner.cls in mro else mro[1:]
    for each in after:
        found = each.__dict__.get(name)
        if isinstance(found, types.FunctionType):
            is_builtin = isinstance(owner.owner, Rows) and not is_own_somewhere(found)
            return None if is_builtin else Method(found, owner.owner)
    return None


def thing_named(module: str, name: str = "", package: str = "") -> Nature:
    """The object that an import would give; None if there is no such thing."""
    try:
        found = importlib.import_module(module, package or None)
        if not name:
            return Thing(found)
        if hasattr(found, name):
            return nature_of(getattr(found, name))
        return Thing(importlib.import_module(f"{found.__name__}.{name}"))
    except Exception:  # an import that fails is none of ours
        return None


def annotated(node: object, outside: dict[str, Any]) -> Nature:
    """The nature of a value with this annotation, given as a tree, as text, or as an object."""
    if isinstance(node, str):
        try:
            node = ast.parse(node, mode="eval").body
        except SyntaxError:
            return None
    match node:
        case ast.Constant(value=str() as text):
            return annotated(text, outside)
        case ast.BinOp():
            return annotated(node.left, outside) or annotated(node.right, outside)
        case ast.Subscript():
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return first(annotated(each, outside) for each in parts)
        case ast.Name() | ast.Attribute():
            found = outside.get(ast.unparse(node).partition(".")[0])
            for name in ast.unparse(node).split(".")[1:]:
                found = getattr(found, name, None)
            return annotated(found, outside)
    if isinstance(node, type):
        if is_model(node):
            return Rows(node)
        if issubclass(node, HttpRequest) or node.__name__ == "Request":
            return Request()
        return Instance(node) if is_own(node) or issubclass(node, BaseForm) else None
    return None


def is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, models.Model) and hasattr(value, "_meta")


def is_function(nature: Nature) -> bool:
    return isinstance(nature, Thing) and isinstance(nature.value, types.FunctionType)


# Models, views and forms


def form_of(cls: type, name: str) -> Nature:
    """The form or serializer that a view's methods get under this name."""
    for attribute in ("form_class", "serializer_class"):
        found = getattr(cls, attribute, None)
        if attribute.startswith(name) and isinstance(found, type):
            return Instance(found)
    return None


def model_of(cls: type) -> type[models.Model] | None:
    """The model of a form, a serializer or a generic view."""
    for holder in (cls, getattr(cls, "form_class", None), getattr(cls, "serializer_class", None)):
        for place in (holder, getattr(holder, "_meta", None), getattr(holder, "Meta", None)):
            model = getattr(place, "model", None)
            if is_model(model):
                return model
    queryset = inspect.getattr_static(cls, "queryset", None)
    return queryset.model if isinstance(queryset, models.QuerySet | models.Manager) else None


def related_rows(model: type[models.Model], name: str) -> Rows | None:
    """The rows behind a field that relates, or behind the other side of one."""
    meta = model._meta
    try:
        found: Any = meta.get_field(name)
    except FieldDoesNotExist:
        found = next(
            (each for each in meta.related_objects if each.get_accessor_name() == name), None
        )
    if found is None or not found.is_relation or not is_model(found.related_model):
        return None
    through = getattr(found, "through", None) or getattr(
        getattr(found, "remote_field", None), "through", None
    )
    return Rows(found.related_model, through=through._meta.db_table if through else "")


def function_of_model(model: type[models.Model], name: str) -> Any:
    """A method or property of the model, of its managers, or of their querysets."""
    found = inspect.getattr_static(model, name, None)
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if isinstance(found, types.FunctionType | property | functools.cached_property):
        return found
    for manager in model._meta.managers:
        for cls in (type(manager), getattr(manager, "_queryset_class", object)):
            found = inspect.getattr_static(cls, name, None)
            if isinstance(found, types.FunctionType):
                return found
    return None


def user_rows() -> Rows | None:
    try:
        return Rows(get_user_model())
    except ImproperlyConfigured:
        return None
