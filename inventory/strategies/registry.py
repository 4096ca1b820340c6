"""The strategies that the setting INVENTORY_STRATEGIES names by their dotted paths.

They are imported at the first call: a strategy needs the models, which don't exist yet when Django
reads the settings.
"""

from __future__ import annotations

import difflib
import inspect
import re
import threading
from functools import lru_cache

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from inventory import conf
from inventory.exceptions import UnknownStrategy
from inventory.strategies.base import Strategy

SETTING = "INVENTORY_STRATEGIES"
EXAMPLE = "“inventory.strategies.combined.Combined”"
SLUG = re.compile(r"[-\w]{1,32}", re.ASCII)  # it becomes part of addresses, SKUs and options
WORDS = ("slug", "label", "how", "when")
ANSWERS = ("is_safe", "joins_transaction")


def all_strategies() -> list[Strategy]:
    """Every strategy, in the order of the setting; of ours the unsafe ones come first.

    All functions here raise ImproperlyConfigured if the setting is wrong.
    """
    return list(_registry().values())


def get(slug: str) -> Strategy:
    """Return this process's strategy of that name. Raises UnknownStrategy."""
    registry = _registry()
    if slug in registry:
        return registry[slug]
    near = difflib.get_close_matches(slug, registry, n=3, cutoff=0.4)
    names = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(registry)}."
    raise UnknownStrategy(f"There is no strategy “{slug}”: {names}")


def find(slug: str) -> Strategy | None:
    """The same, or None: rows may name strategies that the setting no longer names."""
    return _registry().get(slug)


def create(slug: str) -> Strategy:
    """Return a new one, as another process would have it. Raises UnknownStrategy."""
    return type(get(slug))()


def label_of(slug: str) -> str:
    """The strategy's name for people; the slug itself if there is no such strategy."""
    strategy = find(slug)
    return slug if strategy is None else strategy.label


def _registry() -> dict[str, Strategy]:
    """The strategies of the setting, by slug."""
    paths = conf.strategies()
    if not isinstance(paths, list | tuple) or not paths:
        raise ImproperlyConfigured(
            f"{SETTING} is {paths!r}. It must be a list of dotted paths such as {EXAMPLE}."
        )
    for path in paths:
        if not isinstance(path, str):
            raise ImproperlyConfigured(
                f"{SETTING}: {path!r} is no dotted path. It must be one such as {EXAMPLE}."
            )
    return _load_all(tuple(paths))


@lru_cache  # not of what raises: a module may be imported before what it needs is there
def _load_all(paths: tuple[str, ...]) -> dict[str, Strategy]:
    """Load these strategies. Raises ImproperlyConfigured with a line for each wrong one."""
    path_of: dict[str, str] = {}
    found: dict[str, Strategy] = {}
    problems = []
    for path in paths:
        try:
            strategy = _load(path)
        except ImproperlyConfigured as error:
            problems.append(f"{SETTING}: {error}")
            continue
        slug = strategy.slug
        if path_of.get(slug) == path:
            problems.append(f"{SETTING}: “{path}” is there twice. Name it once.")
        elif slug in path_of:
            problems.append(
                f"{SETTING}: “{path_of[slug]}” and “{path}” have the same slug, “{slug}”. Each "
                "needs one of its own."
            )
        else:
            path_of[slug] = path
            found[slug] = strategy
    if problems:
        raise ImproperlyConfigured("\n".join(problems))
    return found


def _load(path: str) -> Strategy:
    """Return this process's instance of that class. Raises ImproperlyConfigured."""
    try:
        cls = import_string(path)
    except Exception as error:  # a module may raise anything
        raise ImproperlyConfigured(
            f"“{path}” can't be imported ({_in_a_line(error)}). It must be the dotted path of a "
            f"strategy, such as {EXAMPLE}."
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, Strategy)):
        raise ImproperlyConfigured(f"“{path}” is no subclass of inventory.strategies.Strategy.")
    if missing := sorted(cls.__abstractmethods__):
        raise ImproperlyConfigured(f"“{path}” is abstract. It must define {', '.join(missing)}.")
    _check_declarations(path, cls)
    try:
        return _instance(cls)
    except Exception as error:
        raise ImproperlyConfigured(
            f"“{path}” can't be made ({_in_a_line(error)}). Its __init__ must need no arguments."
        ) from error


def _check_declarations(path: str, cls: type[Strategy]) -> None:
    """Raise ImproperlyConfigured unless the class makes all declarations of a strategy."""
    for name in WORDS:
        text = getattr(cls, name, None)
        if not isinstance(text, str) or not text.strip():
            raise ImproperlyConfigured(f"“{path}” must declare {name}, a text.")
    for name in ANSWERS:
        if not isinstance(getattr(cls, name, None), bool):
            raise ImproperlyConfigured(f"“{path}” must declare {name}, True or False.")
    if not SLUG.fullmatch(cls.slug):
        raise ImproperlyConfigured(
            f"“{path}” has the slug “{cls.slug}”. It must be 1 to 32 letters, digits, hyphens or "
            "underscores."
        )


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


_instances: dict[type[Strategy], Strategy] = {}
_making = threading.Lock()


def _instance(cls: type[Strategy]) -> Strategy:
    """This process's instance of the class, for its lifetime.

    All threads share its state, such as the lock of ``process_mutex``.
    """
    with _making:
        if cls not in _instances:
            _instances[cls] = cls()
        return _instances[cls]
