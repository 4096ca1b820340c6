"""A log line as text, or as JSON for machines that collect lines; both are scrubbed."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from shop.logs.context import current
from shop.logs.scrubbing import scrub

TEXT, JSON = "text", "json"
OURS = ("shop", "inventory")

Fields = dict[str, str]


def configure(level: str, form: str) -> dict[str, Any]:
    """Django's setting LOGGING: our lines from ``level`` on, others' from WARNING on at least.

    ``form`` is "text" or "json". Tracebacks go here, too: with DEBUG off, Django would only mail
    them.
    """
    others = logging.getLevelName(max(logging.WARNING, logging.getLevelName(level)))
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"shop": {"()": f"{__name__}.{FORMATTERS[form].__name__}"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "shop"}},
        "root": {"handlers": ["console"], "level": others},
        "loggers": {
            **{name: {"level": level} for name in OURS},
            # Django's own handlers of these two would not scrub.
            "django": {"handlers": [], "level": others},
            "django.server": {"handlers": ["console"], "level": "INFO", "propagate": False},
            # Scanners ask for any host. The access log has a line on each, with the status 400.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }


def gunicorn_level(level: str) -> str:
    """The level of gunicorn's own lines, such as those of its start: ``level``, or INFO."""
    name: str = logging.getLevelName(max(logging.INFO, logging.getLevelName(level)))
    return name.lower()


def fields_of(record: logging.LogRecord | None) -> Fields:
    """The line's fields: request_id, order and product, as far as they are known.

    A line's own ``extra`` goes before what the request is about.
    """
    context = current()
    fields = {
        "request_id": context.request_id,
        "order": getattr(record, "order", context.order),
        "product": getattr(record, "product", context.product),
    }
    return {name: str(value) for name, value in fields.items() if value}


class ScrubbedFormatter(logging.Formatter):
    """The base of both. Its methods return scrubbed texts."""

    def message_of(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except Exception as error:  # a wrong format must not print its arguments
            message = f"{record.msg} (its arguments don't fit: {type(error).__name__})"
        return scrub(message)

    def trace_of(self, record: logging.LogRecord) -> str:
        """The traceback and the stack of the record; empty if it has none."""
        texts = []
        if record.exc_info and record.exc_info[0] is not None:
            texts.append(self.formatException(record.exc_info))
        if record.stack_info:
            texts.append(self.formatStack(record.stack_info))
        return scrub("\n".join(texts))


class TextFormatter(ScrubbedFormatter):
    """``[time] [process] [level] logger: message field=value``, and maybe a traceback."""

    default_time_format = "%Y-%m-%d %H:%M:%S %z"

    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, self.default_time_format)
        # A line that a visitor has broken must not look like two.
        message = self.message_of(record).replace("\n", "\n    ")
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        line = f"[{time}] [{record.process}] [{record.levelname}] {record.name}: {message}{fields}"
        trace = self.trace_of(record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(ScrubbedFormatter):
    """A line of JSON: time, level, logger, process, message, the fields, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": iso_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": self.message_of(record),
            **fields_of(record),
        }
        trace = self.trace_of(record)
        return json_line({**line, "traceback": trace} if trace else line)


FORMATTERS: dict[str, type[ScrubbedFormatter]] = {TEXT: TextFormatter, JSON: JsonFormatter}


def iso_time(timestamp: float) -> str:
    """Unix time as ISO 8601 has it, in UTC, with milliseconds."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")


def json_line(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False)
