"""A pass says so where a session never came to anything."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path

from inventory.races import explore, request
from tests.inventory.races.models import Mug
from tests.inventory.races.test_counts import SoldOut, locked, one_mug

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
