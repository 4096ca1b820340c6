"""A pass says so where a session never came to anything."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.decorators import login_required
from django.db import OperationalError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path

from inventory.races import Run, explore, point, request
from tests.inventory.races.models import Mug, Sale
from tests.inventory.races.test_counts import (
    SoldOut,
    in_a_transaction,
    locked,
    one_mug,
    sells_at_most_one,
)

pytestmark = pytest.mark.django_db(transaction=True)


def not_there(asked: HttpRequest) -> HttpResponse:
    Mug.objects.count()
    raise Http404


@login_required(login_url="/accounts/login/")
def members(asked: HttpRequest) -> HttpResponse:
    raise AssertionError("Nobody is logged in.")


def counted(asked: HttpRequest) -> HttpResponse:
    Mug.objects.count()
    return members(asked)


def buy(asked: HttpRequest) -> HttpResponse:
    try:
        locked()
    except SoldOut:
        return HttpResponse("Sold out.", status=409)
    return HttpResponse("Yours.")


def thanks(asked: HttpRequest) -> HttpResponse:
    Mug.objects.count()
    return redirect("/thanks/")


urlpatterns = [
    path("not-there/", not_there),
    path("members/", counted),
    path("buy/", buy),
    path("thanks/", thanks),
]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.LOGIN_URL = "/accounts/login/"
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]


def notes_of(session: Any) -> list[str]:
    result = explore({"Ann": session, "Bob": locked}, setup=one_mug, max_preemptions=0)
    result.assert_holds()
    return result.notes


def test_an_exception_in_every_schedule() -> None:
    def misspelt() -> None:
        Mug.objects.get(sku="MOG")

    [note] = notes_of(misspelt)
    assert note.startswith(
        "Ann raised an exception in every schedule (DoesNotExist: Mug matching query does not "
        "exist.), and may not"
    )


def test_a_refusal_in_every_schedule() -> None:
    assert notes_of(request("/not-there/")) == [
        "Ann was answered with 404 in every schedule, and may not have come to what should race."
    ]
    assert notes_of(request("/members/")) == [
        "Ann was sent to the log-in page in every schedule, and may not have come to what "
        "should race."
    ]


def test_success_is_not_noted_nor_is_who_only_came_second(settings: Any) -> None:
    assert notes_of(locked) == notes_of(request("/buy/")) == []
    for login in ("/accounts/login/", "a_page_that_is_not_there"):
        settings.LOGIN_URL = login
        assert notes_of(request("/thanks/")) == []


def test_who_came_second_in_all_that_was_performed_is_not_noted() -> None:
    sessions = {"Ann": request("/buy/"), "Bob": request("/buy/")}
    result = explore(sessions, setup=one_mug, invariant=lambda run: False, first=True)
    assert (result.schedules, result.runs[0].returned["Bob"].status_code) == (1, 409)  # type: ignore[attr-defined]
    assert result.notes == []


def looks_in_memory() -> None:
    Mug.objects.count()
    point("in memory")


def test_sessions_that_change_nothing_are_noted() -> None:
    """As those whose form lacks a field. A point says that something in memory may change."""

    def notes(look: Any) -> list[str]:
        return explore([look, look], setup=one_mug, max_preemptions=0).notes

    [note] = notes(request("/thanks/"))
    assert note.startswith("No session changed a row in any schedule")
    [note] = notes(lambda: Mug.objects.filter(sku="MOG").update(stock=0))
    assert note.startswith("No session changed a row in any schedule")
    assert notes(lambda: Mug.objects.update(stock=0)) == []
    assert notes(looks_in_memory) == []


def lock(*skus: str) -> None:
    with transaction.atomic():
        for sku in skus:
            Mug.objects.select_for_update().get(sku=sku)


def two_mugs() -> None:
    one_mug()
    Mug.objects.create(sku="CUP", stock=1)


def test_a_deadlock_is_noted_where_no_rule_is_broken() -> None:
    """As in test_counts, 8 of 12 schedules: neither has both locks when the other has one."""
    result = explore([lambda: lock("MUG", "CUP"), lambda: lock("CUP", "MUG")], setup=two_mugs)
    result.assert_serializable()
    first = next(run for run in result.runs if run.deadlocks)
    note = "In 8 of 12 schedules a deadlock ended a session, which did not try again. First: "
    assert note + first.schedule in result.notes
    assert note in result.summary


def sell(again: int = 0) -> None:
    try:
        with transaction.atomic():
            mug = Mug.objects.get(sku="MUG")
            mug.stock -= 1
            mug.save()
    except OperationalError:
        if not again:
            raise
        sell(again - 1)


def test_a_serialization_failure_is_noted_unless_its_session_tries_again() -> None:
    def notes(again: int) -> str:
        sessions = [lambda: sell(again), lambda: sell(again)]
        options: dict[str, Any] = {"isolation": "repeatable read", "max_preemptions": 1}
        result = explore(sessions, setup=one_mug, serial=False, **options)
        assert "40001" in result.sqlstates
        return " ".join(result.notes)

    assert "a serialization failure ended a session" in notes(again=0)
    assert "ended a session" not in notes(again=1)


def test_a_deadlock_that_a_view_answers_with_500_is_noted() -> None:
    def answer(*skus: str) -> HttpResponse:
        try:
            lock(*skus)
        except OperationalError:
            return HttpResponse(status=500)
        return HttpResponse()

    sessions = [lambda: answer("MUG", "CUP"), lambda: answer("CUP", "MUG")]
    result = explore(sessions, setup=two_mugs, serial=False)
    assert any("a deadlock ended a session" in note for note in result.notes)


def test_an_invariant_that_lacks_its_return_is_noted() -> None:
    """As in test_counts, 22 of 24 schedules sell the mug twice."""

    def lacks_return(run: Run) -> None:
        Sale.objects.count() <= 1  # noqa: B015

    def notes(invariant: Any, sell: Any) -> list[str]:
        return explore([sell, sell], setup=one_mug, invariant=invariant).notes

    [note] = notes(lacks_return, in_a_transaction)
    assert note.startswith("The invariant returned None in every schedule, and no assert in it ")
    assert "22 of 24 schedules end like no serial order" in note
    assert notes(lacks_return, locked) == []
    assert notes(lambda run: True, in_a_transaction) == []
    assert notes(sells_at_most_one, in_a_transaction) == []
