"""The key that a checkout makes for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import Client, RequestFactory

from shop.deployment import secret_key
from tests.shop.programs import NOBODY, PACKAGES, ROOT, copy_checkout, needs_root


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = secret_key.kept_key(tmp_path)
    assert len(key) >= 50
    assert secret_key.kept_key(tmp_path) == key
    assert (tmp_path / ".secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".secret_key"]


def test_each_checkout_has_another(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert secret_key.kept_key(tmp_path / "one") != secret_key.kept_key(tmp_path / "two")


def test_nothing_is_made_until_somebody_uses_it(tmp_path: Path, settings: LazySettings) -> None:
    settings.SECRET_KEY = secret_key.of_checkout(tmp_path)
    assert list(tmp_path.iterdir()) == []
    signed = signing.dumps("a key")
    assert signing.loads(signed, key=secret_key.kept_key(tmp_path)) == "a key"


@pytest.mark.django_db
def test_what_one_process_signed_another_accepts(
    tmp_path: Path, settings: LazySettings, client: Client
) -> None:
    """Cookies, sessions, tokens, with the key as each process reads it anew."""
    settings.SECRET_KEY = secret_key.of_checkout(tmp_path)
    user = User.objects.create_user("ann")
    client.force_login(user)
    token = default_token_generator.make_token(user)
    cookie = HttpResponse()
    cookie.set_signed_cookie("name", "value", salt="salt")

    settings.SECRET_KEY = secret_key.of_checkout(tmp_path)
    assert client.get("/").wsgi_request.user == user
    assert default_token_generator.check_token(user, token)
    request = RequestFactory().get("/")
    request.COOKIES["name"] = cookie.cookies["name"].value
    assert request.get_signed_cookie("name", salt="salt") == "value"

    (tmp_path / ".secret_key").write_text("another")
    settings.SECRET_KEY = secret_key.of_checkout(tmp_path)
    assert client.get("/").wsgi_request.user.is_anonymous
    assert not default_token_generator.check_token(user, token)
    with pytest.raises(signing.BadSignature):
        request.get_signed_cookie("name", salt="salt")


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shop.deployment import secret_key\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(secret_key.kept_key(Path(sys.argv[1])))"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    keys = {maker.communicate(timeout=60)[0].strip() for maker in makers}
    assert keys == {(tmp_path / ".secret_key").read_text()}


def test_an_editors_line_break_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / ".secret_key").write_text("my own key\n")
    assert secret_key.kept_key(tmp_path) == "my own key"


@needs_root
def test_what_root_makes_belongs_to_the_checkouts_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    secret_key.kept_key(tmp_path)
    assert (tmp_path / ".secret_key").stat().st_uid == NOBODY


def test_a_place_where_it_cannot_be_kept_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY isn't set, and none can be kept"):
        secret_key.kept_key(tmp_path / "missing")
    (tmp_path / ".secret_key").mkdir()
    with pytest.raises(ImproperlyConfigured, match="Set SECRET_KEY"):
        secret_key.kept_key(tmp_path)


def test_an_empty_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".secret_key").touch()
    with pytest.raises(ImproperlyConfigured, match=r"\.secret_key is empty: delete it"):
        secret_key.kept_key(tmp_path)


@pytest.mark.slow
def test_a_web_server_that_can_have_none_does_not_start(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path)
    (checkout / ".secret_key").touch()
    run = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "python:shop.gunicorn_conf", "shop.wsgi"],
        cwd=checkout,
        env={"PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1", "BIND": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert ".secret_key is empty: delete it, and a new key will be made." in run.stderr
