"""Control by HTTP, for a stand-in in a process of its own: ``POST /_standin/<part>/<deed>``.

The body is JSON with the deed's parameters by name, or empty. The answer is JSON with the result.
So ``POST /_standin/sessions/pay`` with ``{"session": "cs_test_…"}`` is ``sessions.pay("cs_…")``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .account import Account
from .books import Books
from .clock import Clock
from .disputes import Disputes
from .errors import ApiError, NotPossible
from .exchange import Answer, Request
from .faults import Faults
from .keys import IdempotencyKeys
from .refunds import Refunds
from .requests_log import RequestsLog
from .sessions import Sessions
from .webhooks import Webhooks

if TYPE_CHECKING:
    from .standin import StripeStandin

PREFIX = "/_standin/"
PARTS = {
    "account": Account,
    "books": Books,
    "clock": Clock,
    "disputes": Disputes,
    "faults": Faults,
    "keys": IdempotencyKeys,
    "refunds": Refunds,
    "requests": RequestsLog,
    "sessions": Sessions,
    "webhooks": Webhooks,
}


class Control:
    """Does deeds that come by HTTP."""

    def __init__(self, standin: StripeStandin) -> None:
        self._standin = standin

    def knows(self, request: Request) -> bool:
        """Tell whether the request is one for the control."""
        return request.path.startswith(PREFIX)

    def answer(self, request: Request) -> Answer:
        """Do the deed, and answer with its result, or with the reason why it can't be done."""
        method = self._method(request.path.removeprefix(PREFIX))
        if method is None:
            return _problem(404, f"The stand-in has no deed at {request.path}.")
        try:
            parameters = json.loads(request.body or b"{}")
            if not isinstance(parameters, dict):
                return _problem(400, "The body must be a JSON object with the deed's parameters.")
            inspect.signature(method).bind(**parameters)
            return Answer.of_json(_plain(method(**parameters)))
        except ApiError as error:
            return _problem(error.status, str(error))
        except (NotPossible, TimeoutError) as error:
            return _problem(409, str(error))
        except (TypeError, ValueError, re.error) as error:
            return _problem(400, str(error))

    def _method(self, path: str) -> Callable[..., Any] | None:
        part, _, name = path.partition("/")
        if part not in PARTS or name.startswith("_"):
            return None
        method = getattr(getattr(self._standin, part), name, None)
        return method if inspect.ismethod(method) else None


def _problem(status: int, message: str) -> Answer:
    return Answer.of_json({"error": message}, status)


def _plain(value: Any) -> Any:
    """The same value, in types that JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value
