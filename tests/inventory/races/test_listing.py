"""``races --list``: the views of a project, the tables that they write, and the pairs."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from django.core.management import call_command

from inventory.races.listing import url_beside
from inventory.races.management.commands.races import Command
from tests.inventory.races.office import Races

BOOKING, LOG, CONCERT = "tickets_booking", "tickets_log", "tickets_concert"
# By request: the view, and the ways in which it writes each table. As a reader of ticket_office
# finds them: saving a booking also sends the signal that adds a line to the log.
EXPECTED: dict[str, tuple[str, dict[str, list[str]]]] = {
    "POST /concerts/<int:pk>/book": ("book", {BOOKING: ["create"], LOG: ["create"]}),
    "POST /bookings/<int:pk>/pay/": ("pay", {"tickets_wallet": ["save"], LOG: ["create"]}),
    "POST /bookings/<int:pk>/cancel/": ("cancel", {BOOKING: ["save"], LOG: ["create"]}),
    "POST /bookings/<int:pk>/cancel-safely/": (
        "cancel_safely",
        {BOOKING: ["save"], LOG: ["create"]},
    ),
    "POST /form/": ("by_form", {BOOKING: ["create"], LOG: ["create"]}),
    "POST /seats/<pk>/": ("take_a_seat", {CONCERT: ["sql"], LOG: ["create"]}),
    "POST /two-seats/<slug:pk>/": ("take_two_seats", {CONCERT: ["update"]}),
    "POST /mystery/": ("mystery", {}),
    "POST /without-sql/": ("without_sql", {}),
    "POST /elsewhere/": ("elsewhere", {}),
    "POST /crash/": ("crash", {}),
    "POST /cached/<int:pk>/": ("cached", {LOG: ["create"]}),
    "POST /count/": ("count", {"django_session": ["save"]}),
    "POST /tags-by-json/": ("by_json", {"tickets_tag": ["create"]}),
    "POST /new/": ("NewBooking", {BOOKING: ["create"], LOG: ["create"]}),
    "POST /edit/<int:pk>/": (
        "EditBooking",
        {BOOKING: ["save"], LOG: ["create"], "tickets_concert_tags": ["create"]},
    ),
    "POST /drop/<value0>/<word>/": (
        "DropConcert",
        {CONCERT: ["delete"], BOOKING: ["delete"], "tickets_concert_tags": ["delete"]},
    ),
    "POST /drop-tag/<int:pk>/": (
        "DropTag",
        {"tickets_tag": ["delete"], LOG: ["create"], "tickets_concert_tags": ["delete"]},
    ),
    "POST /rename-tag/<int:pk>/": ("RenameTag", {"tickets_tag": ["save"]}),
    "POST /move/<uuid:pk>/": ("Move", {BOOKING: ["save"], LOG: ["create"]}),
    "DELETE /move/<uuid:pk>/": ("Move", {BOOKING: ["delete"]}),
    "POST /api/": (
        "Bookings.create",
        {BOOKING: ["create"], LOG: ["create"], "tickets_tag": ["create"]},
    ),
    "PUT /api/<int:pk>/": ("Bookings.update", {BOOKING: ["save"], LOG: ["create"]}),
    "POST /api/<int:pk>/cancel/": ("Bookings.cancel", {BOOKING: ["save"], LOG: ["create"]}),
    "POST /tags/": ("CreateView", {"tickets_tag": ["create"]}),
}
WITH_LOG_IN = {"POST /bookings/<int:pk>/pay/", "POST /new/"}


@pytest.mark.slow
def test_the_views_of_another_project(races_in_office: Races) -> None:
    done = races_in_office("--list", "--json=-")
    assert done.code == 0, done.errors
    found = json.loads(done.out)
    views = {f"{view['method']} {view['pattern']}": view for view in found["views"]}
    assert set(views) == set(EXPECTED)
    for request, (name, writes) in EXPECTED.items():
        assert views[request]["view"].endswith(f".{name}"), request
        assert views[request]["writes"] == writes, request
        assert views[request]["needs_login"] is (request in WITH_LOG_IN), request
    assert views["POST /seats/<pk>/"]["url"] == "/seats/1/"
    assert views["POST /drop/<value0>/<word>/"]["url"] == "/drop/{value0}/{word}/"
    assert views["POST /bookings/<int:pk>/cancel-safely/"]["locks"] == [BOOKING]
    [unseen] = views["POST /mystery/"]["unseen"]
    assert unseen.startswith("tickets/services.py:")
    assert unseen.endswith("thing.save()")
    check_pairs(found["pairs"])


def check_pairs(pairs: list[dict[str, Any]]) -> None:
    place = {tuple(pair["requests"]): number for number, pair in enumerate(pairs)}
    cancel, safely = "POST /bookings/<int:pk>/cancel/", "POST /bookings/<int:pk>/cancel-safely/"
    # Overwriting what was read comes before adding, and all that before what is locked.
    assert place[cancel, cancel] < place[cancel, safely] < place[safely, safely]
    book, new = "POST /concerts/<int:pk>/book", "POST /new/"
    assert place[book, book] < place[new, new]  # it looks, and then adds
    # Nothing in common, or nothing at all, is no pair.
    assert ("POST /two-seats/<slug:pk>/", "POST /tags/") not in place
    assert ("POST /crash/", "POST /crash/") not in place
    commands = {tuple(pair["requests"]): shlex.split(pair["command"]) for pair in pairs}
    pay = "POST /bookings/<int:pk>/pay/"
    assert commands[pay, pay][-5:] == [
        "races", "/bookings/1/pay/", "/bookings/1/pay/", "--as=USERNAME", "--setup=MODULE:FUNCTION",
    ]  # fmt: skip
    move = "POST /move/<uuid:pk>/", "DELETE /move/<uuid:pk>/"
    assert {"/move/{pk}/", "--method=POST", "--method=DELETE"} <= set(commands[move])


@pytest.mark.slow
def test_a_listing_for_people(races_in_office: Races) -> None:
    done = races_in_office("--list", columns=80)
    assert done.code == 0, done.errors
    lines = done.out.splitlines()
    assert "POST /mystery/  tickets.views.mystery" in lines
    after = lines[lines.index("POST /mystery/  tickets.views.mystery") + 1 :]
    assert after[0] == "    no table, as far as its source tells"
    assert after[1].startswith("    not followed: tickets/services.py:")
    assert "Nothing was run." in done.out
    assert " more pairs: --list --full" in done.out
    assert max(map(len, lines)) <= 80
    # A command that takes two rows is pasted as one.
    [first] = [number for number, line in enumerate(lines) if line.startswith("1. ")]
    rows = [line for line in lines[first + 1 : first + 6] if "races" in line or "--" in line]
    assert shlex.split("\n".join(rows))[:4] == ["python", "-m", "django", "races"]


@pytest.mark.parametrize(
    ("first", "second", "beside"),
    [
        ("/orders/{pk}/pay/", "/orders/{pk}/cancel/", "/orders/{pk}/cancel/"),
        ("/orders/{pk}/", "/orders/{pk}/", "/orders/{pk}/"),
        ("/orders/{pk}/pay/", "/refunds/{pk}/", "/refunds/{pk_b}/"),
        ("/orders/{pk}/pay/", "/refunds/{key}/", "/refunds/{key}/"),
        ("/a/{x}/{y}/", "/a/{x}/b/{y}/", "/a/{x}/b/{y_b}/"),
    ],
)
def test_a_pair_of_two_things_names_both(first: str, second: str, beside: str) -> None:
    assert url_beside(first, second) == beside


def test_the_shops_own_views(capsys: pytest.CaptureFixture[str]) -> None:
    call_command(Command(), "--list", "--json=-")
    found = json.loads(capsys.readouterr().out)
    views = {view["pattern"]: view for view in found["views"]}
    # Its own ones, also in the admin; but those of Django's admin aren't.
    assert {"/checkout/", "/basket/holds/", "/orders/<slug:token>/cancellation/"} <= set(views)
    assert "/admin/shop/order/<path:object_id>/refund-all/" in views
    assert "/admin/shop/order/add/" not in views
    assert "/" not in views  # it takes no POST
    checkout = views["/checkout/"]
    assert {"shop_order", "shop_orderline", "shop_payment", "inventory_reservation"} <= set(
        checkout["writes"]
    )
    assert {"inventory_reservation", "shop_order"} <= set(checkout["locks"])
    assert not checkout["needs_login"]
    assert views["/admin/shop/order/<path:object_id>/ship/"]["needs_login"]


def test_where_there_are_no_such_views(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    call_command(Command(), "--list")
    assert "No view of the project's own changes anything" in capsys.readouterr().out
