"""Members of staff, logged in; and forms posted the way a browser does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import html5lib
import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client

Staff = Callable[..., Client]


@pytest.fixture
def staff(db: None) -> Staff:
    """A function that logs a member of staff in: of a group, or without one, a superuser."""

    def log_in(group: str = "", name: str = "staff") -> Client:
        if group:
            user = User.objects.create_user(name, is_staff=True)
            user.groups.add(Group.objects.get(name=group))
        else:
            user = User.objects.create_superuser(name)
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def admin(staff: Staff) -> Client:
    """A client of a superuser."""
    return staff()


@pytest.fixture(autouse=True)
def delete_jobs(db: None) -> Any:
    yield
    with connection.cursor() as cursor:  # Django doesn't know that table
        cursor.execute("DELETE FROM procrastinate_jobs")


def fields_of(html: str, form_with: str = "") -> dict[str, str]:
    """The fields that a browser would post of the page's form with a field of that name."""
    document = html5lib.parse(html, namespaceHTMLElements=False)
    for form in document.iter("form"):
        names = {each.get("name") for each in form.iter() if each.get("name")}
        if form.get("method", "").lower() == "post" and (not form_with or form_with in names):
            return _values(form)
    raise AssertionError(f"There is no form with {form_with}.")


def _values(form: Any) -> dict[str, str]:
    values = {}
    for element in form.iter():
        name = element.get("name")
        if not name:
            continue
        if element.tag == "textarea":
            values[name] = (element.text or "").removeprefix("\n")
        elif element.tag == "select":
            chosen = [o for o in element.iter("option") if o.get("selected") is not None]
            first = list(element.iter("option"))[:1]
            values[name] = (chosen or first)[0].get("value", "")
        elif element.tag == "input":
            kind = element.get("type", "text")
            if kind in ("submit", "file", "button"):
                continue
            if kind in ("checkbox", "radio") and element.get("checked") is None:
                continue
            default = "on" if kind in ("checkbox", "radio") else ""
            values[name] = element.get("value", default)
    return values


def words(response: Any) -> list[str]:
    """The messages that the page after a redirect shows."""
    return [str(message) for message in response.context["messages"]]
