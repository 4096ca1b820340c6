"""Errors for Sentry (setting SENTRY_DSN), of which it gets no more than the log has.

It gets the log's lines from ERROR on, with their tracebacks, and the lines before each as
breadcrumbs. It never sees a request: no body, no cookie, no header, no user, no local variables.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from shop.logs.formats import fields_of
from shop.logs.scrubbing import scrub

Event = dict[str, Any]

# Parts of an event that say nothing of a visitor. Texts in all others are scrubbed.
PLAIN = ("event_id", "timestamp", "level", "platform", "sdk", "server_name", "release")
TEXTS = ("logger", "message", "logentry", "exception", "threads", "transaction", "environment")


def dsn(value: str) -> str:
    """A ``cast`` for the address that Sentry gives a project."""
    if not _is_dsn(value):
        raise ValueError("it must be a DSN of Sentry, such as https://key@errors.example.org/1.")
    if find_spec("sentry_sdk") is None:
        raise ValueError("it needs the package sentry-sdk: pip install sentry-sdk.")
    return value


def _is_dsn(value: str) -> bool:
    try:
        parts = urlsplit(value)
        project = parts.path.rpartition("/")[2]
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname and parts.username)
            and parts.port != 0
            and project.isdecimal()
            and not (parts.query or parts.fragment)
        )
    except ValueError:
        return False


def start(dsn: str) -> None:
    """Send this process's errors to the project at ``dsn``; nothing if that is empty."""
    if not dsn:
        return
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.logging import LoggingIntegration

    sentry_sdk.init(
        dsn,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            LoggingIntegration(),  # lines from INFO on as breadcrumbs, from ERROR on as events
            DedupeIntegration(),
            AtexitIntegration(callback=lambda pending, timeout: None),  # it would print a line
        ],
        before_send=scrub_event,  # type: ignore[arg-type]  # an event is a dictionary
        before_breadcrumb=scrub_breadcrumb,
        include_local_variables=False,
        max_request_body_size="never",
        send_default_pii=False,
        auto_session_tracking=False,
        send_client_reports=False,
    )


def scrub_breadcrumb(crumb: Event, hint: Event) -> Event:
    """The line before an error: its logger, level, time and scrubbed message."""
    kept = {name: crumb.get(name) for name in ("type", "level", "category", "timestamp")}
    return {**kept, "message": scrub(str(crumb.get("message") or ""))}


def scrub_event(event: Event, hint: Event) -> Event:
    """The event as the log would show it: all that isn't named here is left out."""
    kept = {name: event[name] for name in PLAIN if name in event}
    kept |= {name: _scrubbed(event[name]) for name in TEXTS if name in event}
    contexts = event.get("contexts", {})
    kept["contexts"] = {name: contexts[name] for name in ("runtime", "trace") if name in contexts}
    kept["breadcrumbs"] = event.get("breadcrumbs", {"values": []})
    kept["tags"] = fields_of(hint.get("log_record"))
    return kept


def _scrubbed(part: Any) -> Any:
    """The part with all its texts scrubbed, and without local variables."""
    if isinstance(part, dict):
        return {name: _scrubbed(each) for name, each in part.items() if name != "vars"}
    if isinstance(part, (list, tuple)):
        return [_scrubbed(each) for each in part]
    return scrub(part) if isinstance(part, str) else part
