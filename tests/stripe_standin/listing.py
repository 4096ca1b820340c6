"""Lists, as the API pages and filters them, and the expansion of ids into objects."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from .errors import ApiError, ResourceMissing
from .ledger import Ledger, Object
from .parameters import Parameters

DEFAULT_LIMIT = 10
LARGEST_LIMIT = 100
DEEPEST = 4  # levels of an expansion

COMPARISONS = {
    "gt": lambda value, limit: value > limit,
    "gte": lambda value, limit: value >= limit,
    "lt": lambda value, limit: value < limit,
    "lte": lambda value, limit: value <= limit,
}


def page(
    objects: Iterable[Object], parameters: Parameters, *, url: str, filters: Iterable[str]
) -> Object:
    """Return a page of the objects, the newest first; ``filters`` are fields to compare."""
    wanted = {name: parameters.text(name) for name in filters}
    matching = [
        one
        for one in _created_within(objects, parameters)
        if all(value is None or one[name] == value for name, value in wanted.items())
    ]
    matching.reverse()
    limit = parameters.whole_number("limit", least=1, most=LARGEST_LIMIT) or DEFAULT_LIMIT
    after = _after_cursor(matching, parameters)
    return {
        "object": "list",
        "data": after[:limit],
        "has_more": len(after) > limit,
        "url": url,
    }


def expand(ledger: Ledger, object: Object, paths: Iterable[str]) -> Object:
    """Return a copy in which the ids at these paths are replaced by their objects.

    Raises ApiError. The request is carried out by then.
    """
    expanded = deepcopy(object)
    for path in paths:
        names = path.split(".")
        if len(names) > DEEPEST:
            raise ApiError(
                f"You cannot expand more than {DEEPEST} levels of a property. Property: {path}",
                param="expand",
            )
        _expand(ledger, expanded, names, path)
    return expanded


def _created_within(objects: Iterable[Object], parameters: Parameters) -> list[Object]:
    if "created" not in parameters:
        return list(objects)
    interval = parameters.created()
    return [
        one
        for one in objects
        if all(COMPARISONS[name](one["created"], limit) for name, limit in interval.items())
    ]


def _after_cursor(objects: list[Object], parameters: Parameters) -> list[Object]:
    cursor = parameters.text("starting_after")
    if cursor is None:
        return objects
    ids = [one["id"] for one in objects]
    if cursor not in ids:
        raise ResourceMissing("object", cursor, param="starting_after")
    return objects[ids.index(cursor) + 1 :]


def _expand(ledger: Ledger, object: Object, names: list[str], path: str) -> None:
    first, *rest = names
    value = object.get(first, "")
    if isinstance(value, str):
        value = object[first] = deepcopy(ledger.find(value))
        if value is None:
            raise _not_expandable(path)
    if value is None:  # the field may have an id later
        return
    if isinstance(value, dict) and not rest:
        if "id" not in value:
            raise _not_expandable(path)
    elif isinstance(value, dict):
        _expand(ledger, value, rest, path)
    elif isinstance(value, list) and rest:
        for one in value:
            _expand(ledger, one, rest, path)
    else:
        raise _not_expandable(path)


def _not_expandable(path: str) -> ApiError:
    return ApiError(
        f"This property cannot be expanded ({path}). You may want to try expanding another "
        "property.",
        param="expand",
    )
