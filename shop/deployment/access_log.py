"""gunicorn's log: all its lines as ours are, and the access log, a line per request.

gunicorn prepares every value that any format may ask for, all headers among them. In the event loop
that would cost more than the answer to a simple request: here a line costs less than half of it.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from django.conf import settings
from gunicorn.glogging import Logger

from shop.client_address import client_address_in
from shop.logs.context import REQUEST_ID
from shop.logs.formats import FORMATTERS, JSON, iso_time, json_line
from shop.logs.scrubbing import scrub_target

FORMAT = '%(t)s %(h)s "%(r)s" %(s)s %(b)s bytes %(M)s ms'

HAS_LEFT = "shop.has_left"
"""In the environ: whether the client left before its answer. The asgi worker sets it."""


class AccessLog(Logger):  # type: ignore[misc]  # it has no types
    """Writes lines of ``FORMAT`` itself, and leaves those of other formats to gunicorn.

    Of the request's target it shows no secret part and no values of the query. All else in
    ``FORMAT`` is plain.
    """

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        if self.cfg.access_log_format != FORMAT:
            super().access(resp, req, environ, request_time)
            return
        is_answered = resp.headers or not environ.get(HAS_LEFT)
        write = self._write_json if settings.LOG_FORMAT == JSON else self._write_text
        write(
            client_address_in(environ),
            environ["REQUEST_METHOD"],
            scrub_target(environ["RAW_URI"]),
            environ["SERVER_PROTOCOL"],
            str(resp.status)[:3] if is_answered else "499",
            resp.sent,
            request_time.seconds * 1000 + request_time.microseconds // 1000,
            environ.get(REQUEST_ID, ""),
        )

    def _write_text(
        self, client: str, method: str, target: str, protocol: str, *rest: object
    ) -> None:
        self.access_log.info(
            '%s %s "%s %s %s" %s %s bytes %s ms request_id=%s',
            time_in_brackets(int(time.time())),
            client,
            method,
            target.replace('"', r"\""),
            protocol,
            *rest,
        )

    def _write_json(
        self,
        client: str,
        method: str,
        target: str,
        protocol: str,
        status: str,
        sent: int | None,
        milliseconds: int,
        request_id: str,
    ) -> None:
        line = {
            "time": iso_time(time.time()),
            "level": "INFO",
            "logger": self.access_log.name,
            "client": client,
            "method": method,
            "target": target,
            "protocol": protocol,
            "status": int(status),
            "bytes": sent,
            "ms": milliseconds,
            "request_id": request_id,
        }
        self.access_log.info("%s", json_line(line))

    def _set_handler(self, log: Any, output: Any, fmt: Any, stream: Any = None) -> None:
        """Let gunicorn's lines be written as ours are."""
        super()._set_handler(log, output, self._formatter_for(log, fmt), stream)

    def _set_syslog_handler(self, log: Any, cfg: Any, fmt: Any, name: str) -> None:
        super()._set_syslog_handler(log, cfg, fmt, name)
        handler = log.handlers[-1]
        handler.setFormatter(self._formatter_for(log, handler.formatter))

    def _formatter_for(self, log: Any, own: logging.Formatter) -> logging.Formatter:
        if log is self.access_log and self.cfg.access_log_format == FORMAT:
            return own  # it writes the message alone, which has been scrubbed
        return FORMATTERS[settings.LOG_FORMAT]()


@functools.lru_cache(maxsize=1)
def time_in_brackets(second: int) -> str:
    """The time as in gunicorn's other lines; ``second`` is Unix time."""
    return time.strftime("[%Y-%m-%d %H:%M:%S %z]", time.localtime(second))
