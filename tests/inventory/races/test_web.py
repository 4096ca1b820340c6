"""Requests as sessions: they reach the view as a browser's do, and nothing else is raced."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session as BrowserSession
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template import Context, Template
from django.test import AsyncClient, Client
from django.urls import path
from django.views.decorators.http import require_POST

from inventory.races import Misuse, explore, replay, request
from tests.inventory.races.models import Mug, Sale

pytestmark = pytest.mark.django_db(transaction=True)


# The project that is asked


@require_POST
def buy(asked: HttpRequest) -> HttpResponse:
    """Sells the last mug to everybody: it looks, and writes later."""
    if Mug.objects.get().stock < 1:
        return HttpResponse("Sold out.", status=409)
    Mug.objects.update(stock=0)
    Sale.objects.create(sku="MUG")
    return redirect("/thanks/")


def gone(asked: HttpRequest) -> HttpResponse:
    raise Http404


def form(asked: HttpRequest) -> HttpResponse:
    return HttpResponse(asked.POST["email"])


def members(asked: HttpRequest) -> HttpResponse:
    return redirect("/accounts/login/?next=/members/")


def elsewhere(asked: HttpRequest) -> HttpResponse:
    return redirect("/thanks/")


def echo(asked: HttpRequest) -> JsonResponse:
    """Returns all that the request says, after one statement."""
    body = asked.body.decode()
    Mug.objects.count()
    user = getattr(asked, "user", None)
    return JsonResponse(
        {
            "method": asked.method,
            "query": asked.GET.dict(),
            "form": asked.POST.dict(),
            "files": {name: file.read().decode() for name, [file] in asked.FILES.lists()},
            "body": body,
            "shop": asked.headers.get("X-Shop"),
            "user": user.get_username() if user else "",
            "browser": asked.COOKIES.get("sessionid"),
            "secure": asked.is_secure(),
        }
    )


def fail(asked: HttpRequest) -> HttpResponse:
    Mug.objects.count()
    raise ValueError("the view's own")


def stream(asked: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(mug.sku for mug in Mug.objects.iterator())


def page(asked: HttpRequest) -> HttpResponse:
    Mug.objects.count()
    template = Template("A page of {{ of }}.")
    return HttpResponse(template.render(Context({"of": asked.GET.get("of", "nobody")})))


def writing_in_the_end(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """A middleware that writes, also after a view's exception."""

    def middleware(asked: HttpRequest) -> HttpResponse:
        response = get_response(asked)
        if response.status_code == 500:
            Sale.objects.count()
        return response

    return middleware


urlpatterns = [
    path("page/", page),
    path("buy/", buy),
    path("echo/", echo),
    path("fail/", fail),
    path("stream/", stream),
    path("gone/", gone),
    path("form/", form),
    path("members/", members),
    path("elsewhere/", elsewhere),
]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        f"{__name__}.writing_in_the_end",
    ]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    settings.SECURE_SSL_REDIRECT = False
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def one_mug() -> None:
    Sale.objects.all().delete()
    Mug.objects.all().delete()
    Mug.objects.create(sku="MUG", stock=1)


def answer_to(session: Any, setup: Any = one_mug) -> dict[str, Any]:
    run = replay("A", [session, request("/echo/")], setup=setup, serial=False)
    answer: dict[str, Any] = json.loads(run.returned["A"].content)  # type: ignore[attr-defined]
    return answer


# Requests race


def test_two_requests_for_the_last_mug() -> None:
    result = explore(
        {"Ann": request("/buy/"), "Bob": request("/buy/")},
        setup=one_mug,
        invariant=lambda run: Sale.objects.count() <= 1,
        max_preemptions=1,
    )
    assert result.broken
    assert result.runs[0].results == {"Ann": "HttpResponseRedirect 302", "Bob": "HttpResponse 409"}


def test_logging_in_is_no_part_of_the_race() -> None:
    def setup() -> None:
        one_mug()
        BrowserSession.objects.all().delete()
        User.objects.all().delete()
        User.objects.create_user("ann", password="secret")  # a new row, with another key

    run = replay(
        "Ann", {"Ann": request("/echo/", user="ann"), "Bob": request("/buy/")}, setup=setup
    )
    tables = [sorted(step.tables)[0] for step in run.steps if step.session == "Ann"]
    assert [step.kind.value for step in run.steps if step.session == "Ann"] == ["read"] * 3
    assert tables == ["race_models_mug", "django_session", "auth_user"]
    answer = json.loads(run.returned["Ann"].content)  # type: ignore[attr-defined]
    assert answer["user"] == "ann"


def test_a_user_is_looked_up_after_setup() -> None:
    ann = User.objects.create_user("ann", password="secret")

    def change_password() -> None:
        """Otherwise Django would end the session that began with the old one."""
        one_mug()
        fresh = User.objects.get(pk=ann.pk)
        fresh.set_password("secret")
        fresh.save()

    assert answer_to(request("/echo/", user=ann), change_password)["user"] == "ann"
    by_function = request("/echo/", user=lambda: User.objects.get())
    assert answer_to(by_function, change_password)["user"] == "ann"


def test_each_user_has_a_browser_and_a_client_is_one() -> None:
    User.objects.create_user("ann")

    def browsers(**options: Any) -> list[str]:
        ours = [request("/echo/", user="ann", **options) for _ in range(2)]
        run = replay("A B", ours, setup=one_mug)
        return [json.loads(run.returned[name].content)["browser"] for name in "AB"]  # type: ignore[attr-defined]

    one, other = browsers()
    assert one != other
    one, other = browsers(client=Client())
    assert one == other


# Requests say what the caller says


def test_forms_queries_bodies_and_headers() -> None:
    assert answer_to(request("/echo/", data={"email": "ann@example.com"}))["form"] == {
        "email": "ann@example.com"
    }
    asked = answer_to(request("/echo/?a=1", method="get", data={"b": 2}))
    assert (asked["method"], asked["query"]) == ("GET", {"a": "1", "b": "2"})
    asked = answer_to(
        request("/echo/?a=1", method="PUT", data={"b": 2}, content_type="application/json")
    )
    assert (asked["query"], json.loads(asked["body"])) == ({"a": "1"}, {"b": 2})
    form = "application/x-www-form-urlencoded"
    assert answer_to(request("/echo/", data={"b": 2}, content_type=form))["form"] == {"b": "2"}
    assert answer_to(request("/echo/", headers={"X-Shop": "north"}))["shop"] == "north"


def test_a_file_is_sent_in_each_schedule() -> None:
    """It can be read only once, and there are several performances before the first schedule."""
    file = io.BytesIO(b"picture")
    file.name = "mug.png"
    assert answer_to(request("/echo/", data={"picture": file}))["files"] == {"picture": "picture"}


def test_functions_are_called_after_setup() -> None:
    """Rows that setup makes anew have new keys."""
    session = request(
        lambda: f"/echo/?mug={Mug.objects.get().pk}",
        data=lambda: {"mug": Mug.objects.get().pk},
    )
    answer = answer_to(session)
    assert answer["query"] == answer["form"] == {"mug": str(Mug.objects.get().pk)}


def test_a_shop_on_https_and_a_host_of_its_own(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = [".mugs.example"]
    settings.MIDDLEWARE = [
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ]
    assert answer_to(request("/echo/"))["secure"] is True


def test_a_streamed_response_is_read_to_its_end() -> None:
    run = replay("A", [request("/stream/"), request("/echo/")], setup=one_mug)
    assert [step.session for step in run.steps] == ["A", "B"]


# Exceptions


def test_a_view_s_exception_is_that_session_s_result() -> None:
    run = replay("A", [request("/fail/"), request("/echo/")], setup=one_mug)
    assert str(run.raised["A"]) == "the view's own"


def by(client: Client | AsyncClient, path: str) -> Callable[[], HttpResponse]:
    post: Any = client.post
    if isinstance(client, AsyncClient):
        post = async_to_sync(post)
    return lambda: post(path)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_client_raises_another_s_exception(kind: type[Client | AsyncClient]) -> None:
    """Django reports each view's exception to every client that waits for a response."""
    shared = kind()
    for clients in ((kind(), kind()), (shared, shared)):
        sessions = {"Ann": by(clients[0], "/buy/"), "Bob": by(clients[1], "/fail/")}
        run = replay("Ann Bob*2 Ann*2", sessions, setup=one_mug)
        assert set(run.returned) == {"Ann"}
        assert str(run.raised["Bob"]) == "the view's own"


def test_a_shared_client_does_not_raise_what_another_request_is_about_to() -> None:
    """The view of one has failed, and its middleware still writes, while the other ends."""
    client = Client()
    sessions = {"Ann": by(client, "/buy/"), "Bob": by(client, "/fail/")}
    for schedule in ("Ann Bob Ann*2", "Bob Ann*3"):
        assert set(replay(schedule, sessions, setup=one_mug).returned) == {"Ann"}


def test_a_response_has_the_templates_of_its_own_request() -> None:
    sessions = {"Ann": by(Client(), "/page/"), "Bob": by(Client(), "/page/?of=Bob")}
    run = replay("Ann Bob", sessions, setup=one_mug)
    responses: dict[str, Any] = run.returned
    assert {name: len(response.templates) for name, response in responses.items()} == {
        "Ann": 1,
        "Bob": 1,
    }
    assert responses["Ann"].context["of"] == "nobody"
    assert responses["Bob"].context["of"] == "Bob"


# Refusals


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        (
            "/boy/",
            None,
            "; it asked POST /boy/, which no URL of the project fits. Did you mean /buy/",
        ),
        ("/gone/", None, "; it asked POST /gone/, and was answered with 404."),
        ("/form/", {"name": "Ann"}, "; it asked POST /form/, and its data lack the field email."),
        (
            "/members/",
            None,
            "; it asked POST /members/, and was sent to the log-in page. Say whose request it is",
        ),
        ("/elsewhere/", None, "; it asked POST /elsewhere/, and was sent to /thanks/."),
    ],
)
def test_a_request_without_sql_says_what_it_came_to(
    path: str, data: object, said: str, settings: Any
) -> None:
    settings.LOGIN_URL = "/accounts/login/"
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True  # no page for them, which might send statements
    with pytest.raises(Misuse, match=re.escape(f"A ran no SQL on “default”{said}")) as refused:
        answer_to(request(path, data=data))
    assert "in memory" not in str(refused.value)


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misuse, match="begins with a slash, as “/book/”; 'book/' doesn't"):
        request("book/")
    with pytest.raises(Misuse, match="There is no user “eve” after setup"):
        answer_to(request("/echo/", user="eve"))
    with pytest.raises(Misuse, match="There is no user “ann” after setup"):
        answer_to(request("/echo/", user=User(pk=12345, username="ann")))
    with pytest.raises(Misuse, match="The data of POST /echo/ can't be sent: Cannot encode None"):
        answer_to(request("/echo/", data={"email": None}))
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django.contrib.sessions")
    with pytest.raises(Misuse, match="which is not in INSTALLED_APPS"):
        answer_to(request("/echo/", user="ann"))
