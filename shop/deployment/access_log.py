"""gunicorn's access log, a line per request, at less than half of its processor time.

gunicorn prepares every value that any format may ask for, all headers among them. In the event loop
that would cost more than the answer to a simple request.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from gunicorn.glogging import Logger

FORMAT = '%(t)s %(h)s "%(r)s" %(s)s %(b)s bytes %(M)s ms'

HAS_LEFT = "shop.has_left"
"""In the environ: whether the client left before its answer. The asgi worker sets it."""


class AccessLog(Logger):  # type: ignore[misc]  # it has no types
    """Writes lines of ``FORMAT`` itself, and leaves those of other formats to gunicorn."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        if self.cfg.access_log_format != FORMAT:
            super().access(resp, req, environ, request_time)
            return
        is_answered = resp.headers or not environ.get(HAS_LEFT)
        self.access_log.info(
            '%s %s "%s %s %s" %s %s bytes %s ms',
            time_in_brackets(int(time.time())),
            environ.get("REMOTE_ADDR", "-"),
            environ["REQUEST_METHOD"],
            environ["RAW_URI"].replace('"', r"\""),
            environ["SERVER_PROTOCOL"],
            str(resp.status)[:3] if is_answered else "499",
            resp.sent,
            request_time.seconds * 1000 + request_time.microseconds // 1000,
        )


@functools.lru_cache(maxsize=1)
def time_in_brackets(second: int) -> str:
    """The time as in gunicorn's other lines; ``second`` is Unix time."""
    return time.strftime("[%Y-%m-%d %H:%M:%S %z]", time.localtime(second))
