"""``manage.py races /a/ /b/`` in a project that isn't ours, into which the folder was copied."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from inventory.races.management.commands.races import Command
from tests.inventory.races.office import Done, Races, Start, scratch_databases

ONE_SEAT = "--setup=scenes:one_seat"
ONE_BOOKING = "--setup=scenes:one_booking"
BOOK = "/concerts/1/book"
PAY = "/bookings/{booking}/pay/"


# A race that is there, and one that isn't


@pytest.mark.slow
def test_two_bookings_of_the_last_seat(races_in_office: Races, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    emails = ("--data=A:email=ann@tickets.example", "--data=B:email=bob@tickets.example")
    rule = "--invariant=scenes:at_most_one_booking"
    done = races_in_office(
        *(BOOK, BOOK, ONE_SEAT, rule, *emails, "--first", "--json=-", f"--html={page}"),
    )
    assert done.code == 1, done.errors
    found = json.loads(done.out)
    assert [each["alone"]["status"] for each in found["requests"]] == [200, 200]
    assert all(each["alone"]["has_written"] for each in found["requests"])
    assert found["broken"] == 1
    # Nobody else ran before each read the number of bookings; the emails tell who is who.
    lines = [(line["session"], line["sql"]) for line in found["shortest"]["lines"]]
    counts = [sql for _, sql in lines if "COUNT(*)" in sql]
    assert len(counts) == 2
    added = {name: sql for name, sql in lines if 'INTO "tickets_booking"' in sql}
    assert "ann@tickets.example" in added["A"]
    assert "bob@tickets.example" in added["B"]
    assert found["shortest"]["before"] == ""
    # People read it on the other stream.
    assert f"A  POST {BOOK}  alone: 200 OK" in done.errors
    assert "did not see what" in done.errors
    assert f"<title>POST {BOOK}" in page.read_text()

    schedule = found["shortest"]["schedule"]
    again = races_in_office(BOOK, BOOK, ONE_SEAT, rule, *emails, f"--replay={schedule}", columns=80)
    assert again.code == 1
    assert f"BROKEN  {schedule} " in again.out
    assert max(map(len, again.out.splitlines())) <= 80


@pytest.mark.slow
def test_users_values_of_setup_caches_and_locks(each_of: Callable[..., list[Done]]) -> None:
    lost, told, locked, cached, serial, same, different = each_of(
        [
            [PAY, ONE_BOOKING, "--as=ann", "--first"],
            [PAY, ONE_BOOKING, "--as=ann", "--first", "--invariant=scenes:each_charge_counts"],
            ["/bookings/{booking}/cancel-safely/", ONE_BOOKING, "--data={}"],
            ["/cached/1/", "/cached/2/", "--max-preemptions=0"],
            [BOOK, ONE_SEAT, "--data=email=a@tickets.example", "--replay=A*5 B*3"],
            ["/count/", ONE_BOOKING, "--as=ann", "--first"],
            ["/count/", ONE_BOOKING, "--as=ann", "--as=bob", "--first"],
        ]
    )
    # One URL alone is requested twice. Without an invariant, the serial orders are the rule.
    assert lost.code == 1, lost
    assert f"B  POST {PAY} as ann  alone: 302 Found to /" in lost.out
    assert "read cents = 500" in lost.out
    assert "and wrote cents = 400" in " ".join(lost.out.split())
    assert told.code == 1, told
    assert "500 - 2 * 100 cents are 400" in told.out
    # The lock is taken first.
    assert locked.code == 0, locked
    assert " 0 broken (exhaustive" in locked.out
    # Each schedule begins with an empty cache, though Redis was asked for: so each one writes.
    assert cached.code == 0, cached
    assert "2 schedules, 0 broken" in cached.out
    # One after the other: A has all, and B sees it.
    assert serial.code == 0, serial
    assert "B returned HttpResponse 409" in serial.out
    # Two tabs of one browser have one session; each saves it whole, over what the other saved.
    assert same.code == 1, same
    assert "A returned HttpResponse 201; B returned HttpResponse 201" in same.out
    assert different.code == 0, different


@pytest.fixture
def owner() -> Iterator[dict[str, str]]:
    """A role that may make databases, and is no superuser: settings of its connection."""
    role = {"USER": "races_owner", "PASSWORD": "only for tests"}
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS races_owner")
        cursor.execute("CREATE ROLE races_owner LOGIN CREATEDB PASSWORD 'only for tests'")
    yield role
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE races_owner")


@pytest.mark.slow
def test_a_role_that_is_no_superuser(races_in_office: Races, owner: dict[str, str]) -> None:
    """Each of the schedules begins with a wallet of 500, which a trigger keeps where it is."""
    done = races_in_office(
        *(PAY, "--setup=scenes:guarded_wallet", "--as=ann", "--max-preemptions=1", "--json=-"),
        **owner,
    )
    assert done.code == 1, done.errors
    found = json.loads(done.out)
    # Without preemption, one charge comes after the other.
    assert 0 < found["broken"] <= found["schedules"] - 2
    assert [line["result"] for line in found["shortest"]["lines"] if "cents" in line["result"]] == [
        "cents=500"
    ] * 2


@pytest.mark.slow
def test_an_interrupted_race_says_what_it_found(office: Path, start_here: Start) -> None:
    rule = "--invariant=scenes:noted"
    process = start_here("-m", "django", "races", *[PAY] * 3, ONE_BOOKING, rule, "--as=ann")
    judged = office / "judged"
    deadline = time.monotonic() + 60
    while not (judged.exists() and judged.stat().st_size >= 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # after a few schedules of thousands
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, out + errors
    assert "0 broken (broken off)" in out
    assert "Broken off. The scratch database is dropped." in errors
    assert "Traceback" not in out + errors
    assert scratch_databases(process.pid) == []


@pytest.mark.slow
def test_headers_bodies_and_tables_without_migrations(each_of: Callable[..., list[Done]]) -> None:
    session = "--setup=scenes:one_session"
    cookie, body, extra = each_of(
        [
            ["/count/", session, "--header=Cookie: sessionid={session}", "--first"],
            ["/tags-by-json/", session, '--data={"name": "{name}"}', "--json=-"],
            [BOOK, "--setup=scenes:one_seat_and_an_extra", "--data=email=x", "--first"],
        ]
    )
    # Anonymous visitors with one cookie have one session.
    assert cookie.code == 1, cookie
    assert "A returned HttpResponse 201; B returned HttpResponse 201" in cookie.out
    assert body.code == 0, body
    found = json.loads(body.out)
    assert [each["alone"]["has_written"] for each in found["requests"]] == [True, True]
    assert found["exhaustive"]
    assert extra.code == 1, extra


# Requests that can't be what was meant


CANNOT_BE_MEANT = [
        (["/bookings/7/pya/", ONE_BOOKING], "no URL of the project fits. Did you mean /bookings/<"),
        ([PAY, ONE_BOOKING], "leads to the log-in (/log-in/). Say whose request it is, with --as"),
        ([PAY, ONE_BOOKING, "--as=zoe"], "There is no user “zoe” after setup"),
        ([BOOK, ONE_SEAT, "--get"], f"A: {BOOK} doesn't take GET, but POST."),
        (["/bookings/1/cancel", ONE_BOOKING], "redirects to /bookings/1/cancel/: give the URL wi"),
        (["/without-sql/"], "runs no SQL (200 OK; changes nothing), so there is nothing to order"),
        (["/", "--get"], "no request changes anything, so nothing can go wrong."),
        (
            ["/form/", ONE_BOOKING, "--data=email=ann"],
            "POST /form/: 200 OK (its form says: email: Enter a valid email address.); changes no",
        ),
        (["/crash/"], "POST /crash/: KeyError: '0' (tickets/views.py:"),
        (["/concerts/7/book", ONE_SEAT], "POST /concerts/7/book: 404 Not Found; changes nothing"),
        (["/elsewhere/"], "The database “other” was used, too. Only “default” has a scratch"),
        ([BOOK, "--setup=scenes:elsewhere"], "The database “other” was used, too."),
        ([BOOK, "--setup=scenes:wrong_setup"], "setup failed: TypeError: Concert() got unexpected"),
        ([BOOK, "--setup=scenes:without_table"], "The scratch database has the tables that migra"),
        ([BOOK, "--setup=scenes:left_open"], "setup must commit: it left a transaction open."),
        (["/{token}/", ONE_BOOKING], "A: /{token}/ needs a value for “token”. Let setup return it"),
        (
            [BOOK, ONE_SEAT, "--data=email=x", "--invariant=scenes:wrong_invariant"],
            "invariant failed: AttributeError: 'Run' object has no attribute 'nothing' (scenes.py:",
        ),
        ([BOOK, ONE_SEAT, "--data=email=x", "--replay=A*3 Z"], "The schedule names “Z”."),
]  # fmt: skip


@pytest.mark.slow
def test_requests_that_cannot_be_what_was_meant(each_of: Callable[..., list[Done]]) -> None:
    asked = [arguments for arguments, _ in CANNOT_BE_MEANT]
    for done, (arguments, message) in zip(each_of(asked), CANNOT_BE_MEANT, strict=True):
        assert done.code == 2, (arguments, done)
        assert message in done.errors, arguments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"PORT": "1", "HOST": "127.0.0.1"}, "The database “default” doesn't answer: conn"),
        (
            {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
            "The database “default” is SQLite.",
        ),
        ({"OPTIONS": {"pool": True}}, "has a pool"),
    ],
)
def test_databases_that_do_not_do(
    races_in_office: Races, changed: dict[str, Any], message: str
) -> None:
    done = races_in_office(BOOK, ONE_SEAT, "--data=email=x", **changed)
    assert done.code == 2, done.out + done.errors
    assert message in done.errors


# Options that make no sense: found out before any database is made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name the URLs that race, as in /orders/1/pay/ /orders/1/cancel/."),
        (["orders/"], "A URL begins with a slash, as in /orders/1/pay/; 'orders/' doesn't."),
        (["/a/"] * 27, "At most 26 requests can race, not 27."),
        (["/a/", "--as=x", "--as=y", "--as=z"], "Give --as once for all requests, or once for "),
        (["/a/", "--method=GET", "--get", "--get"], "Give --method once for all requests, or on"),
        (["/a/", "--method=FLY"], "must be one of GET, HEAD, POST"),
        (["/a/", "--data=x"], "must be KEY=VALUE, or a JSON document, not 'x'"),
        (["/a/", "--data=C:x=y"], "--data C:x=y: the requests are A, B."),
        (["/a/", "--data=x=y", "--data={}"], "--data takes fields, or one JSON document"),
        (["/a/", "--data={}", "--data=[]"], "--data takes fields, or one JSON document"),
        (["/a/", "--header=x"], "must be \"NAME: VALUE\", not 'x'"),
        (["/a/", "--database=nope"], "The settings have no database “nope”, only “default”"),
        (["/a/", "--seconds=0"], "must be a number of seconds, more than 0, not '0'"),
        (["/a/", "--seconds=nan"], "must be a number of seconds, more than 0, not 'nan'"),
        (["/a/", "--setup=scenes"], "--setup must be MODULE:FUNCTION, as in orders.races:one_o"),
        (["/a/", "--setup=nowhere:x"], "--setup: there is no module “nowhere”."),
        (["/a/", "--setup=tests.nowhere.x:x"], "--setup: there is no module “tests.nowhere”."),
        (["/a/", "--setup=json:lods"], "json has no function “lods”. Did you mean loads?"),
        (["/a/", "--setup=sys:path"], "--setup: sys has no function “path”."),
        (["/a/", "--setup=json:loads"], "--setup: json:loads must take no arguments."),
        (["/a/", "--invariant=cmd:x"], "--invariant: cmd has no function “x”."),
        (["/a/", "--invariant=bisect:insort"], "insort must take the run, and nothing else."),
        (["/a/", "--replay=A B", "--html=/dev/null"], "--replay shows one schedule; --html is"),
        (["/a/", "--list"], "--list takes no URLs."),
        (["/a/", "--html=/"], "/ can't be written: Is a directory"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command(Command(), *arguments)
    assert message in str(refused.value)
    assert refused.value.returncode == 2 or "Error: argument" in str(refused.value)


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is named: the module is there, and imports something that isn't."""
    (tmp_path / "scenes_with_a_fault.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CommandError, match="can't be imported: No module named 'not_installed_"):
        call_command(Command(), "/a/", "--setup=scenes_with_a_fault:x")
