"""Static files: from a fresh checkout, and after collectstatic."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from shop.deployment.static_files import HashedIfCollected, StaticFilesMiddleware


@pytest.fixture(autouse=True)
def as_it_is_served(settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = False  # in other tests it is on


def get(url: str) -> HttpResponse:
    """Ask whitenoise, as it would be after a start of the shop with the settings of now."""

    def not_found(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=404)

    response: HttpResponse = StaticFilesMiddleware(not_found)(RequestFactory().get(url))
    response.close()
    return response


@pytest.mark.django_db  # the end of a response looks at the connections
def test_a_fresh_checkout_serves_its_files_by_their_names(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path / "never made"
    assert HashedIfCollected().url("shop/shop.css") == "/static/shop/shop.css"
    assert get("/static/shop/shop.css").status_code == 200
    assert get("/static/admin/css/base.css").status_code == 200


@pytest.mark.slow
@pytest.mark.django_db
def test_collected_files_have_hashed_names_that_browsers_keep_for_ever(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    call_command("collectstatic", interactive=False, verbosity=0)
    storage = HashedIfCollected()
    monkeypatch.setattr("whitenoise.middleware.staticfiles_storage", storage)
    url = storage.url("shop/shop.css")
    assert url.startswith("/static/shop/shop.")
    assert url != "/static/shop/shop.css"
    assert get(url).status_code == 200
    assert "immutable" in get(url)["Cache-Control"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/static/../manage.py", "/static/nope.css", "/media/../manage.py", "/media/", "/.env"]
)
def test_there_are_no_other_files_to_be_had(client: Client, path: str) -> None:
    assert client.get(path).status_code in (400, 404)
