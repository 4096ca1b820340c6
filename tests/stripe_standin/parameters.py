"""Form-encoded parameters, as the API takes them: nested by brackets, and checked one by one."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .errors import InvalidParameters

ARRAYS = {"expand", "images", "line_items", "payment_method_types"}
LONGEST_TEXT = 5000
MOST_METADATA = 50
LONGEST_METADATA_KEY = 40
LONGEST_METADATA_VALUE = 500

Tree = dict[str, Any]


class Parameters:
    """The parameters of a request, or of one group in it.

    Each is read once, by its type. ``finish`` then says which were not known.
    """

    def __init__(self, tree: Tree, path: str = "") -> None:
        self._unread = dict(tree)
        self._path = path
        self._groups: list[Parameters] = []

    @classmethod
    def parse(cls, encoded: str) -> Parameters:
        """Read a form's body, or the query of an address."""
        tree: Tree = {}
        for name, value in parse_qsl(encoded, keep_blank_values=True):
            _insert(tree, name, value)
        return cls(_with_arrays(tree))

    def __contains__(self, name: str) -> bool:
        return name in self._unread

    def required(self, name: str) -> None:
        """Raise InvalidParameters if the parameter is missing."""
        if name not in self._unread:
            raise InvalidParameters(
                f"Missing required param: {self.name_of(name)}.",
                code="parameter_missing",
                param=self.name_of(name),
            )

    def text(self, name: str, *, longest: int = LONGEST_TEXT) -> str | None:
        """Return a text; None if it isn't there."""
        value = self._unread.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, str):
            raise InvalidParameters("Invalid string: {…}", param=self.name_of(name))
        if not value:
            raise InvalidParameters(
                f"You passed an empty string for '{self.name_of(name)}'. We assume empty values "
                f"are an attempt to unset a parameter; however '{self.name_of(name)}' cannot be "
                f"unset. You should remove '{self.name_of(name)}' from your request or supply a "
                "non-empty value.",
                code="parameter_invalid_empty",
                param=self.name_of(name),
            )
        if len(value) > longest:
            raise InvalidParameters(
                f"Invalid string: {value[:10]}...{value[-10:]}; must be at most {longest} "
                "characters",
                param=self.name_of(name),
            )
        return value

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return one of the choices; None if it isn't there."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise InvalidParameters(
                f"Invalid {self.name_of(name)}: must be one of {', '.join(choices)}",
                param=self.name_of(name),
            )
        return value

    def whole_number(
        self, name: str, *, least: int | None = None, most: int | None = None
    ) -> int | None:
        """Return a number within the limits; None if it isn't there."""
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,19}", value):
            raise InvalidParameters(
                f"Invalid integer: {value}",
                code="parameter_invalid_integer",
                param=self.name_of(name),
            )
        number = int(value)
        if least is not None and number < least:
            raise self._out_of_range(name, f"greater than or equal to {least}")
        if most is not None and number > most:
            raise self._out_of_range(name, f"less than or equal to {most}")
        return number

    def url(self, name: str) -> str | None:
        """Return an address; None if it isn't there."""
        value = self.text(name)
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise InvalidParameters(
                    "Not a valid URL", code="url_invalid", param=self.name_of(name)
                )
        return value

    def email(self, name: str) -> str | None:
        """Return an e-mail address; None if it isn't there."""
        value = self.text(name, longest=800)
        if value is not None and not re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", value):
            raise InvalidParameters(
                f"Invalid email address: {value}", code="email_invalid", param=self.name_of(name)
            )
        return value

    def texts(self, name: str) -> list[str]:
        """Return an array of texts; it is empty if it isn't there."""
        value = self._unread.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InvalidParameters("Invalid array", param=self.name_of(name))
        return value

    def group(self, name: str) -> Parameters:
        """Return the parameters below a name; none if it isn't there."""
        value = self._unread.pop(name, {})
        if not isinstance(value, dict):
            raise InvalidParameters("Invalid object", param=self.name_of(name))
        return self._opened(Parameters(value, self.name_of(name)))

    def groups(self, name: str) -> list[Parameters]:
        """Return an array of groups; it is empty if it isn't there."""
        value = self._unread.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise InvalidParameters("Invalid array", param=self.name_of(name))
        path = self.name_of(name)
        return [
            self._opened(Parameters(one, f"{path}[{number}]")) for number, one in enumerate(value)
        ]

    def free_form(self, name: str) -> Tree | None:
        """Return a group that is stored as it came; None if it isn't there."""
        value = self._unread.pop(name, None)
        if value is not None and not isinstance(value, dict):
            raise InvalidParameters("Invalid object", param=self.name_of(name))
        return value

    def metadata(self) -> dict[str, str]:
        """Return the metadata, within the limits that Stripe documents."""
        values = self._unread.pop("metadata", None) or {}
        path = self.name_of("metadata")
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise InvalidParameters("Metadata must be a flat hash of keys and strings.", param=path)
        if len(values) > MOST_METADATA:
            raise InvalidParameters(
                f"Metadata can have up to {MOST_METADATA} keys, but you passed in {len(values)}.",
                param=path,
            )
        for key, value in values.items():
            if len(key) > LONGEST_METADATA_KEY:
                raise InvalidParameters(
                    f"Metadata keys can have up to {LONGEST_METADATA_KEY} characters, but you "
                    f"passed in a key that is {len(key)} characters. Invalid key: {key}",
                    param=path,
                )
            if len(value) > LONGEST_METADATA_VALUE:
                raise InvalidParameters(
                    f"Metadata values can have up to {LONGEST_METADATA_VALUE} characters, but "
                    f"you passed in a value that is {len(value)} characters. Invalid value: "
                    f"{value}",
                    param=f"{path}[{key}]",
                )
        return {key: value for key, value in values.items() if value}

    def created(self) -> dict[str, int]:
        """Return the limits for a list's ``created``: an interval, or one time."""
        if isinstance(self._unread["created"], str):
            time = self.whole_number("created") or 0
            return {"gte": time, "lte": time}
        interval = self.group("created")
        limits = {name: interval.whole_number(name) for name in ("gt", "gte", "lt", "lte")}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def finish(self) -> None:
        """Raise InvalidParameters if there are parameters that nobody read."""
        for name in self._unread:
            raise InvalidParameters(
                f"Received unknown parameter: {self.name_of(name)}",
                code="parameter_unknown",
                param=self.name_of(name),
            )
        for group in self._groups:
            group.finish()

    def name_of(self, name: str) -> str:
        """Return the whole name, as in ``line_items[0][quantity]``."""
        return f"{self._path}[{name}]" if self._path else name

    def _opened(self, group: Parameters) -> Parameters:
        self._groups.append(group)
        return group

    def _out_of_range(self, name: str, rule: str) -> InvalidParameters:
        return InvalidParameters(
            f"This value must be {rule}.",
            code="parameter_invalid_integer",
            param=self.name_of(name),
        )


def _insert(tree: Tree, name: str, value: str) -> None:
    """Put ``a[b][c]=value`` into the tree; ``a[]`` is the next of an array."""
    first, *rest = name.replace("]", "").split("[")
    keys = [first, *rest]
    for key in keys[:-1]:
        deeper = tree.setdefault(key, {})
        if not isinstance(deeper, dict):
            raise InvalidParameters("Invalid object", param=first)
        tree = deeper
    tree[keys[-1] or str(len(tree))] = value


def _with_arrays(tree: Tree) -> Tree:
    """The same tree, in which the arrays are lists."""
    whole: Tree = {}
    for name, value in tree.items():
        below = _with_arrays(value) if isinstance(value, dict) else value
        is_array = name in ARRAYS and isinstance(below, dict)
        whole[name] = list(below.values()) if is_array else below
    return whole
