"""A stand-in in a process of its own, with the same deeds; results are as JSON shows them."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from .account import LIVE_SECRET_KEY, SECRET_KEY
from .control import PARTS, PREFIX
from .errors import NotPossible
from .webhooks import SECRET

LONGEST_DEED = 60.0  # seconds; a delivery waits for the shop's answer


class RemotePart:
    """A part of a stand-in: each deed is a request to it."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name

    def __getattr__(self, deed: str) -> Callable[..., Any]:
        method = getattr(PARTS[self._name], deed)

        def request_deed(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(method).bind(self, *args, **kwargs).arguments
            parameters = {name: value for name, value in bound.items() if name != "self"}
            return _post(f"{self._url}{PREFIX}{self._name}/{deed}", parameters)

        return request_deed


class RemoteStandin:
    """A stand-in that listens at a known address."""

    secret_key = SECRET_KEY
    live_secret_key = LIVE_SECRET_KEY
    webhook_secret = SECRET

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> RemotePart:
        if name not in PARTS:
            raise AttributeError(name)
        return RemotePart(self.url, name)

    def page_of(self, session: str) -> str:
        """Return the address of a session's page."""
        return f"{self.url}/c/pay/{session}"


class StandinProcess(RemoteStandin):
    """Starts a stand-in in a process of its own, which lives on when the shop is killed."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stripe_standin", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        if not url:
            self.stop()
            raise RuntimeError("The stand-in didn't start.")
        super().__init__(url)

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _post(url: str, parameters: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, data=json.dumps(parameters).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=LONGEST_DEED) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise NotPossible(json.load(error)["error"]) from error
