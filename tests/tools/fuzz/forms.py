"""The forms of the shop's pages, as a browser would send them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

STAFF = ("clerk", "auditor", "merchant", "superuser")
STAFF_PAGES = ("/admin/", "/demo-bank/charges/")
LOGOUT = "admin/logout/"  # sent as seldom as any other address, or no senders would be left


@dataclass
class Form:
    """A form of a page."""

    address: str
    fields: list[tuple[str, bytes]]
    has_file: bool

    @property
    def shape(self) -> tuple[str, ...]:
        return (self.address, *(name for name, _ in self.fields))

    def replace(self, old: str, new: str) -> None:
        """Put another key, token or number in the place of one that has ended."""
        self.address = self.address.replace(old, new)
        self.fields = [
            (name, value.replace(old.encode(), new.encode())) for name, value in self.fields
        ]


def is_for(address: str, sender: str) -> bool:
    """Whether this kind of sender has something to do at the address."""
    return address.startswith(STAFF_PAGES) == (sender in STAFF)


def forms_of_page(page: bytes, path: str) -> Iterator[Form]:
    """The forms that the page at ``path`` sends by POST, but for the one that logs out."""
    import html5lib

    document = html5lib.parse(page, namespaceHTMLElements=False)
    for element in document.iter("form"):
        if element.get("method", "").lower() == "post":
            form = _form(element, path)
            if not form.address.endswith(LOGOUT):
                yield form


def _form(form: Any, page: str) -> Form:
    fields = []
    for element in form.iter():
        name, kind = element.get("name"), element.get("type", "")
        if not name or name == "csrfmiddlewaretoken":
            continue
        chosen = [each.get("value", "") for each in element.iter("option")][:1]
        text = element.text if element.tag == "textarea" else ""
        value = element.get("value") or (chosen[0] if chosen else text) or ""
        if kind != "file" and name != "_selected_action":
            fields.append((name, value.encode()))
        else:
            fields.append((name, b"1"))
    address = (form.get("action") or page).split("?")[0]
    has_file = any(element.get("type") == "file" for element in form.iter())
    return Form(address if address.startswith("/") else page, fields, has_file)
