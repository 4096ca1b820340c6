"""The DSN of Sentry is checked at the start, and an event has nothing of a visitor's.

``tests/http/test_what_is_logged.py`` looks at events of real requests and jobs.
"""

from __future__ import annotations

from typing import Any

import pytest

from shop import logs
from shop.logs import sentry
from tests.shop.programs import manage


@pytest.mark.parametrize(
    "value",
    ["https://key@errors.example.org/1", "http://key@127.0.0.1:9000/a/path/42"],
)
def test_a_dsn(value: str) -> None:
    assert sentry.dsn(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("errors.example.org", "https://errors.example.org/1", "https://key@errors.example.org/"),
        *("https://key@errors.example.org/x", "ftp://key@h/1", "https://key@/1", "https://k@h:0/1"),
        *("https://key@h:x/1", "https://key@h/1?a=b", "https://[key@h/1"),
    ],
)
def test_what_is_no_dsn_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^it must be a DSN of Sentry, such as https://key@"):
        sentry.dsn(value)


def test_a_dsn_without_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentry, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^it needs the package sentry-sdk: pip install"):
        sentry.dsn("https://key@errors.example.org/1")


@pytest.mark.slow
def test_a_wrong_dsn_ends_the_program_and_its_key_is_not_repeated() -> None:
    run = manage("check", env={"SECRET_KEY": "x", "SENTRY_DSN": "https://very-secret@h/x"})
    assert run.returncode == 1
    assert run.stderr.startswith("SENTRY_DSN is 'https://…@h/x': it must be a DSN of Sentry")


def test_an_event_has_what_the_log_has_and_nothing_else() -> None:
    logs.begin("req-1")
    frame = {"function": "f", "context_line": "send('zed@example.org')", "vars": {"name": "Zed"}}
    event: Any = {
        "event_id": "0" * 32,
        "level": "error",
        "logentry": {"message": "To %s", "params": ["zed@example.org"]},
        "exception": {
            "values": [{"value": "x\nDETAIL:  (Zed)", "stacktrace": {"frames": [frame]}}]
        },
        "contexts": {"trace": {"trace_id": "1" * 32}, "device": {"name": "zed@example.org"}},
        "request": {"cookies": {"buyer": "zed"}, "data": {"name": "Zed"}},
        "user": {"email": "zed@example.org"},
        "extra": {"job": {"args": "zed@example.org"}},
    }
    assert sentry.scrub_event(event, {}) == {
        "event_id": "0" * 32,
        "level": "error",
        "logentry": {"message": "To %s", "params": ["[e-mail]"]},
        "exception": {
            "values": [
                {
                    "value": "x\nDETAIL: […]",
                    "stacktrace": {
                        "frames": [{"function": "f", "context_line": "send('[e-mail]')"}]
                    },
                }
            ]
        },
        "contexts": {"trace": {"trace_id": "1" * 32}},
        "breadcrumbs": {"values": []},
        "tags": {"request_id": "req-1"},
    }


def test_a_breadcrumb_is_scrubbed() -> None:
    crumb = {"message": "to zed@example.org", "data": {"job": "zed"}, "level": "info"}
    found = sentry.scrub_breadcrumb(crumb, {})
    assert (found["message"], found["level"], "data" in found) == ("to [e-mail]", "info", False)
