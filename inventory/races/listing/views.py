"""The project's own views that change something, with an example of a URL for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import AccessMixin
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern
from django.utils.module_loading import import_string
from django.utils.regex_helper import normalize

from .effects import CHANGING, CREATE, DELETE, Effects, way_of_library
from .natures import (
    Instance,
    model_of,
)
from .own import (
    bound_layers,
    closure_of,
    is_own,
    is_own_somewhere,
    layers,
)
from .source import Source

ROUTE_PARAMETER = re.compile(r"<(?:(?P<converter>[^>:]+):)?(?P<name>[^>]+)>")
REGEX_PARAMETER = re.compile(r"%\((\w+)\)s")
CALLED_FOR_EACH = {"dispatch", "setup", "initial"}
OF_ONE_ACTION = {
    "perform_create": {"create"},
    "perform_update": {"update", "partial_update"},
    "perform_destroy": {"destroy"},
}


@dataclass(frozen=True)
class Place:
    """A pattern of the URLconf, with its view."""

    url: str
    """An example: a number is 1, everything else a name in braces, as ``setup`` returns it."""
    pattern: str
    view: Any


@dataclass
class OwnView:
    """A view of the project's own, as it is reached by one method of HTTP."""

    url: str
    pattern: str
    name: str
    method: str
    needs_login: bool
    is_for_staff: bool
    effects: Effects

    @property
    def as_request(self) -> str:
        return f"{self.method} {self.pattern}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "pattern": self.pattern,
            "view": self.name,
            "method": self.method,
            "needs_login": self.needs_login,
            "writes": {table: sorted(ways) for table, ways in sorted(self.effects.writes.items())},
            "reads": sorted(self.effects.reads),
            "locks": sorted(self.effects.locks),
            "advisory_lock": self.effects.has_advisory_lock,
            "unseen": list(self.effects.unseen),
        }


def own_views(urlconf: str | None = None) -> list[OwnView]:
    """The project's own views that may change something, by their URLs.

    Views that only take GET are left out, and functions that take any method but neither look at
    what was posted nor write, as far as their source tells.
    """
    source = Source()
    found: dict[tuple[int, str, str], OwnView] = {}
    places = list(places_in(get_resolver(urlconf)))
    actions = actions_in(places)
    for _ in range(2):  # the second time, it is known what methods assigned to self
        source.forget_functions()
        found = {}
        for place in places:
            for view in views_at(place, source, actions):
                found.setdefault((id(identity(place.view)), view.name, view.method), view)
    return list(found.values())


def places_in(resolver: URLResolver, before: tuple[Any, ...] = ()) -> Iterator[Place]:
    """All patterns below a resolver, with those of its includes."""
    for each in resolver.url_patterns:
        patterns = (*before, each.pattern)
        if isinstance(each, URLResolver):
            yield from places_in(each, patterns)
        elif isinstance(each, URLPattern):
            shown = "/" + "".join(in_words(pattern) for pattern in patterns)
            yield Place("/" + "".join(map(example, patterns)), shown, each.callback)


def example(pattern: Any) -> str:
    """A part of a URL that fits: “1” for numbers, and names in braces for the rest.

    >>> example(RoutePattern("orders/<int:pk>/lines/<slug:sku>/"))
    'orders/1/lines/{sku}/'
    """
    if isinstance(pattern, RoutePattern):
        return ROUTE_PARAMETER.sub(
            lambda found: value_for(found["name"], is_number=found["converter"] == "int"),
            str(pattern),
        )
    regex = getattr(pattern, "_regex", None)
    if regex is None:
        return str(pattern)  # the prefix of a language
    return filled_regex(
        regex, lambda name: value_for(name, is_number=takes_only_numbers(regex, name))
    )


def in_words(pattern: Any) -> str:
    """The pattern as ``path()`` writes it."""
    regex = None if isinstance(pattern, RoutePattern) else getattr(pattern, "_regex", None)
    return str(pattern) if regex is None else filled_regex(regex, lambda name: f"<{name}>")


def filled_regex(regex: str, value: Callable[[str], str]) -> str:
    """The simplest text that fits the expression, with a value for each of its groups."""
    text, _ = next(iter(normalize(regex)), ("", []))
    filled = REGEX_PARAMETER.sub(
        lambda found: value(re.sub(r"^_(\d+)$", r"value\1", found[1])), text
    )
    return filled.replace("%%", "%")


def value_for(name: str, *, is_number: bool) -> str:
    return "1" if is_number else f"{{{name}}}"


def takes_only_numbers(regex: str, name: str) -> bool:
    """Whether the group of that name is \\d+, [0-9]+ or a like."""
    return bool(re.search(rf"\(\?P<{re.escape(name)}>(?:\\d|\[0-9\])[^A-Za-z]*\)", regex))


def identity(view: Any) -> Any:
    """The same for all patterns of one view, though ``as_view`` makes a function each time."""
    return class_of(view) if class_of(view) and not initkwargs_of(view) else view


def actions_in(places: list[Place]) -> dict[type, set[str]]:
    """The methods of each ViewSet that have a URL of their own."""
    found: dict[type, set[str]] = {}
    for place in places:
        cls, actions = class_of(place.view), getattr(place.view, "actions", None)
        if cls is not None and isinstance(actions, dict):
            found.setdefault(cls, set()).update(actions.values())
    return found


def views_at(place: Place, source: Source, actions: dict[type, set[str]]) -> Iterator[OwnView]:
    cls = class_of(place.view)
    if cls is None:
        found = views_of_function(place, source)
    else:
        found = views_of_class(place, cls, source, actions.get(cls, set()))
    for method, name, effects in found:
        yield OwnView(
            place.url,
            place.pattern,
            name,
            method.upper(),
            needs_login(place.view, cls),
            is_in_the_admin(place.view),
            effects,
        )


def views_of_function(place: Place, source: Source) -> Iterator[tuple[str, str, Effects]]:
    allowed = methods_allowed(place.view)
    changing = [method for method in CHANGING if allowed is None or method.upper() in allowed]
    if not changing or not is_own_somewhere(place.view):
        return
    effects = source.effects_of(place.view)
    if allowed is None and not (effects.writes or effects.looks_at_post):
        return
    yield changing[0], name_of(place.view), effects


def views_of_class(
    place: Place, cls: type, source: Source, actions: set[str]
) -> Iterator[tuple[str, str, Effects]]:
    configured = initkwargs_of(place.view)
    if configured:  # CreateView.as_view(model=Order): as if it were a class with these attributes
        known = {name: value for name, value in configured.items() if hasattr(cls, name)}
        whole = type(cls.__name__, (cls,), {"__module__": cls.__module__, **known})
    else:
        whole = cls
    if not (any(is_own(each) for each in cls.__mro__) or is_configured_with_own(configured)):
        return
    handlers = handlers_of(place.view, cls)
    for method, handler in handlers.items():
        name = name_of_handler(place.view, cls, handler)
        others = {*CHANGING, "get", "head", "options", *handlers.values(), *actions} - {handler}
        yield method, name, effects_of_class(whole, handler, others, source)


def handlers_of(view: Any, cls: type) -> dict[str, str]:
    """The methods of HTTP that change something, with the names of their handlers."""
    actions = getattr(view, "actions", None)  # of a ViewSet
    if isinstance(actions, dict):
        return {method: actions[method] for method in CHANGING if method in actions}
    allowed = methods_allowed(view)
    found = {}
    for method in CHANGING:
        handler = getattr(cls, method, None)
        is_taken = method in getattr(cls, "http_method_names", CHANGING)
        if not callable(handler) or not is_taken or (allowed and method.upper() not in allowed):
            continue
        # Django's generic views send PUT and DELETE where POST goes.
        if method == "post" or not str(handler.__module__).startswith("django."):
            found[method] = method
    return found


def effects_of_class(cls: type, handler: str, others: set[str], source: Source) -> Effects:
    """The effects of one handler, and of the methods that a library calls besides.

    If a library has this handler, too, it may call each of the class's methods, except the
    ``others``, which handle other requests.
    """
    found = Effects()
    is_known_to_library = any(handler in vars(each) for each in cls.__mro__ if not is_own(each))
    others = others | {name for name, actions in OF_ONE_ACTION.items() if handler not in actions}
    for each in cls.__mro__:
        for name, function in list(vars(each).items()):
            is_called = is_known_to_library and name not in others
            is_called |= name == handler or name in CALLED_FOR_EACH
            if is_called and callable(function) and is_own_somewhere(function):
                found.add(source.effects_of(function, Instance(cls)))
    if is_known_to_library and not is_own_somewhere(getattr(cls, handler)):
        found.add(effects_of_library(cls, handler, source))
    return found


def effects_of_library(cls: type, handler: str, source: Source) -> Effects:
    """The writes of a generic view, of Django's or of a package that names things as it does."""
    found, model = Effects(), model_of(cls)
    way = way_of_library({each.__name__ for each in cls.__mro__}, handler)
    if model is not None and way is not None:
        found.add(source.effects_of_write(model, way, "delete" if way == DELETE else "save"))
        if way != CREATE:
            found.reads.add(model._meta.db_table)
    return found


def class_of(view: Any) -> type | None:
    """The class of a view made by ``as_view()``; None for a function."""
    for name in ("view_class", "cls"):
        found = getattr(view, name, None)
        if isinstance(found, type):
            return found
    return None


def initkwargs_of(view: Any) -> dict[str, Any]:
    found = getattr(view, "view_initkwargs", None)
    return found if isinstance(found, dict) else {}


def is_configured_with_own(configured: dict[str, Any]) -> bool:
    return any(
        (isinstance(value, type) and is_own(value))
        or is_own(getattr(value, "model", None) or object)
        for value in configured.values()
    )


def methods_allowed(view: Any) -> set[str] | None:
    """The methods that a decorator (``require_POST``) lets through; None if there is none."""
    found: set[str] | None = None
    for layer in layers(view):
        allowed = closure_of(layer).get("request_method_list")
        if allowed is not None:
            found = {each.upper() for each in allowed} & (
                found or {each.upper() for each in allowed}
            )
    return found


def needs_login(view: Any, cls: type | None) -> bool:
    """Whether anonymous visitors are sent away, as far as decorators and base classes tell."""
    modules = {each.__module__ for each in layers(view)}
    if is_in_the_admin(view):
        return True
    if cls is not None:
        modules |= {each.__module__ for each in layers(getattr(cls, "dispatch", None))}
        if issubclass(cls, AccessMixin):
            return True
        permissions = getattr(cls, "permission_classes", ()) or ()
        if any(getattr(each, "__name__", "").startswith(("IsA", "Django")) for each in permissions):
            return True
    if modules & {"django.contrib.auth.decorators", "django.contrib.admin.sites"}:
        return True
    return has_login_middleware() and getattr(view, "login_required", True)


def is_in_the_admin(view: Any) -> bool:
    """Whether it is a method of a ModelAdmin, or wrapped by ``admin_site.admin_view``."""
    for layer, bound_to in bound_layers(view):
        owners = (bound_to, closure_of(layer).get("self"))
        names = {each.__name__ for owner in owners for each in type(owner).__mro__}
        if names & {"AdminSite", "BaseModelAdmin"}:
            return True
    return False


def has_login_middleware() -> bool:
    from django.contrib.auth import middleware

    required = getattr(middleware, "LoginRequiredMiddleware", None)
    for path in settings.MIDDLEWARE:
        try:
            found = import_string(path)
        except ImportError:
            continue
        if required and isinstance(found, type) and issubclass(found, required):
            return True
    return False


def name_of_handler(view: Any, cls: type, handler: str) -> str:
    """The class, and in a ViewSet the action; the function if ``api_view`` made a class from it."""
    if "<locals>" in cls.__qualname__:
        return name_of(getattr(cls, handler))
    is_action = isinstance(getattr(view, "actions", None), dict)
    return f"{cls.__module__}.{cls.__qualname__}" + (f".{handler}" if is_action else "")


def name_of(view: Any) -> str:
    """The name of the innermost function of the project."""
    own = [each for each in layers(view) if is_own(each)]
    last = own[-1] if own else view
    for each in own:  # wraps() gives the decorated one's name to all layers
        if each.__qualname__.count("<locals>") == 0:
            last = each
    return f"{last.__module__}.{last.__qualname__}"
