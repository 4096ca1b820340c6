"""A reload of the web server: somebody answers all the time, with the old release or the new."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import IO

import pytest

from shop.load_tests.serving import ROOT
from tests.http.conftest import OTHER_DEADLINES, Served
from tests.shop.programs import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.longest]

SECONDS = 30  # for an answer


class Release(Served):
    """The shop, served from a directory of its own, whose new processes wait at a gate.

    As in production, a link leads to the directory of the release.
    """

    def __init__(self, home: Path, app: str, log: IO[bytes]) -> None:
        self.home = home / "current"
        (home / "1").mkdir()
        self.home.symlink_to("1")
        self.log_file = Path(log.name)
        self.gate = home / "gate"
        for name in ("shop", "inventory", "templates", "manage.py", "tests/http", "tests/shop"):
            self._copy(name)
        super().__init__(
            {"WEB_CONCURRENCY": "2", "START_WHEN": str(self.gate), "PWD": str(self.home)},
            gunicorn_conf=OTHER_DEADLINES,
            app=app,
            log=log,
            root=self.home,
        )

    def _copy(self, name: str) -> None:
        here, there = ROOT / name, self.home / name
        if here.is_dir():
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(here, there)

    def ask(self, path: str = "/healthz") -> tuple[int, str, int]:
        """The answer's status and text, and its process."""
        client = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        try:
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode(), int(answer.headers["X-Process"])
        finally:
            client.close()

    def processes(self) -> set[int]:
        return {each.pid for each in self.web_workers()}

    def reload(self) -> None:
        self.web.send_signal(signal.SIGHUP)

    def reload_and_read_log(self, last: str) -> str:
        """Reload; return what was logged until the line with ``last`` in it."""
        begun = self.log_file.stat().st_size
        self.reload()

        def log() -> str:
            return self.log_file.read_bytes()[begun:].decode()

        wait_until(lambda: last in log(), f"the log says: {last}")
        return log()


@contextmanager
def asking(shop: Release) -> Iterator[list[tuple[int, int]]]:
    """Ask for a page all the time; yield the answers' statuses and processes."""
    answers: list[tuple[int, int]] = []
    ended = Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                status, _, process = shop.ask("/")
                answers.append((status, process))
            except (OSError, http.client.HTTPException):
                answers.append((0, 0))

    threads = [Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        ended.set()
        for each in threads:
            each.join()


@contextmanager
def release_of(home: Path, app: str) -> Iterator[Release]:
    with (home / "log").open("ab") as log:
        shop = Release(home, app, log)
        shop.gate.touch()
        try:
            shop.start()
            wait_until_all_answer(shop)
            yield shop
        finally:
            shop.gate.touch()
            shop.stop()


def wait_until_all_answer(shop: Release) -> None:
    have_answered: set[int] = set()

    def ask() -> bool:
        have_answered.add(shop.ask()[2])
        return have_answered == shop.processes()

    wait_until(ask, "all processes have answered")


@pytest.mark.parametrize(
    ("app", "reloads"),
    [("shop.asgi", 2), pytest.param("shop.wsgi", 1, marks=pytest.mark.thorough)],
)
def test_a_visitor_notices_nothing_of_a_reload(app: str, reloads: int, tmp_path: Path) -> None:
    with release_of(tmp_path, app) as shop, asking(shop) as answers:
        for _ in range(reloads):
            old = shop.processes()
            shop.gate.unlink()
            shop.reload()
            wait_until(lambda: len(shop.processes()) == 4, "the new processes start")
            asked = len(answers)
            wait_until(lambda: len(answers) > asked + 20, "there are more answers")
            assert {process for _, process in answers[asked:]} <= old
            shop.gate.touch()
            wait_until(lambda: len(shop.processes()) == 2, "the old processes have ended")
            asked = len(answers) + 4  # all that were asked for before have come
            wait_until(lambda: len(answers) > asked + 20, "there are more answers")
            assert {process for _, process in answers[asked:]} <= shop.processes() - old
    assert {status for status, _ in answers} == {200}


@pytest.fixture(scope="module")
def shop(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: object
) -> Iterator[Release]:
    with release_of(tmp_path_factory.mktemp("release"), "shop.asgi") as shop:
        yield shop


@contextmanager
def changed(file: Path, text: str) -> Iterator[None]:
    """Append the text to the file while the block runs."""
    before = file.read_text() if file.exists() else None
    file.write_text((before or "") + text)
    try:
        yield
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_text(before)


MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("inventory", "0001_initial")]
"""


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("shop/views/pages.py", "\nthis is no Python", "SyntaxError"),
        ("shop/gunicorn_conf.py", "\nthis is no Python", "invalid syntax"),
        (".env", "LOCK_TIMEOUT=long\n", "LOCK_TIMEOUT is 'long'"),
        ("inventory/experiments/migrations/0999_late.py", MIGRATION, "experiments.0999_late"),
    ],
)
def test_a_release_that_cannot_start_leaves_the_old_one_alone(
    file: str, text: str, reason: str, shop: Release
) -> None:
    old = shop.processes()
    with changed(shop.home / file, text):
        log = shop.reload_and_read_log("The reload has failed")
    assert reason in log
    assert "The old processes go on serving" in log
    assert shop.processes() == old
    status, _, process = shop.ask("/")
    assert status == 200
    assert process in old


def test_a_new_release_has_its_new_settings(shop: Release) -> None:
    """Here it is in another directory, and the old one is gone."""
    assert "Newly settled" not in shop.ask("/")[1]
    old = shop.home.resolve()
    new = old.rename(old.with_name("2"))
    shop.home.unlink()
    shop.home.symlink_to("2")
    with (new / "shop/settings.py").open("a") as settings:
        settings.write('\nSHOP_NAME = "Newly settled"\n')
    shop.reload_and_read_log("The shop is reloaded")
    assert "Newly settled" in shop.ask("/")[1]


def test_a_killed_process_is_replaced_once_its_code_can_start(shop: Release) -> None:
    """While it can't, the others serve, and the master doesn't give up."""
    killed, other = sorted(shop.processes())
    begun = shop.log_file.stat().st_size
    with changed(shop.home / "shop/views/pages.py", "\nthis is no Python"):
        os.kill(killed, signal.SIGKILL)
        wait_until(
            lambda: b"SyntaxError" in shop.log_file.read_bytes()[begun:], "the new one can't start"
        )
        assert shop.ask("/")[::2] == (200, other)
    wait_until(lambda: shop.ask("/")[2] != other, "a new process answers")
    assert other in shop.processes()


def test_it_can_be_stopped_in_the_middle_of_a_reload(tmp_path: Path) -> None:
    with release_of(tmp_path, "shop.asgi") as shop:
        shop.gate.unlink()
        shop.reload()
        wait_until(lambda: len(shop.processes()) == 4, "the new processes start")
        new = sorted(shop.processes())[2:]
        shop.web.send_signal(signal.SIGTERM)
        assert shop.web.wait(SECONDS) == 0
        assert [pid for pid in new if Path(f"/proc/{pid}").exists()] == []
