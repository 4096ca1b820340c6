"""gunicorn's master process when processes of its can't load the shop."""

from __future__ import annotations

import os

import pytest
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from shop.deployment.arbiter import ServiceArbiter

PROCESSES = [101, 102]


class NoHandlers(Logger):  # type: ignore[misc]  # it has no types
    def setup(self, cfg: object) -> None:
        """Leave the handlers of this process as they are."""


class Application(BaseApplication):  # type: ignore[misc]  # neither has it
    def load_config(self) -> None:
        self.cfg.set("logger_class", NoHandlers)


@pytest.fixture
def arbiter(monkeypatch: pytest.MonkeyPatch) -> ServiceArbiter:
    """A master process all of whose processes have just ended, since they could not load it."""
    arbiter = ServiceArbiter(Application())
    arbiter.WORKERS.update({pid: object() for pid in PROCESSES})
    ended = [(pid, arbiter.APP_LOAD_ERROR << 8) for pid in PROCESSES]  # an exit code, as by wait()
    monkeypatch.setattr(os, "waitpid", lambda *_: ended.pop() if ended else (0, 0))
    return arbiter


def test_the_first_one_stops_it(arbiter: ServiceArbiter) -> None:
    with pytest.raises(HaltServer):
        arbiter.reap_workers()


def test_while_it_stops_the_others_do_not_stop_it_again(arbiter: ServiceArbiter) -> None:
    arbiter.is_stopping = True
    arbiter.reap_workers()
    assert arbiter.WORKERS == {}
