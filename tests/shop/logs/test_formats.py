"""The form of a line, the fields that it has, and the levels that are written."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from shop import logs
from shop.logs import formats
from shop.logs.formats import JsonFormatter, TextFormatter

NAMES = ["time", "level", "logger", "process", "message"]


def record(message: str = "It is %s.", *args: object, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "shop.x", "levelname": "ERROR", "msg": message, "args": args, **fields}
    )


def as_json(line: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(JsonFormatter().format(line))
    return found


def test_a_line_as_text() -> None:
    line = TextFormatter().format(record("It is %s.", "so", process=7, created=0, order="AB-1"))
    assert line.endswith("] [7] [ERROR] shop.x: It is so. order=AB-1")


def test_a_line_as_json() -> None:
    line = as_json(record("It is %s.", "“so”", process=7, created=1.25))
    assert list(line) == NAMES
    assert line == {
        "time": "1970-01-01T00:00:01.250+00:00",
        "level": "ERROR",
        "logger": "shop.x",
        "process": 7,
        "message": "It is “…”.",
    }


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_a_traceback_is_in_the_same_record(formatter: type[logging.Formatter]) -> None:
    try:
        raise ValueError("no e-mail: a@example.org")
    except ValueError as error:
        trace = (ValueError, error, error.__traceback__)
    line = formatter().format(record("Odd.", exc_info=trace))
    assert "ValueError: no e-mail: [e-mail]" in line
    assert formatter is TextFormatter or line.count("\n") == 0


def test_the_request_the_order_and_the_product_are_fields() -> None:
    logs.begin("req-1")
    logs.bind(order="AB-1", product="MUG")
    line = as_json(record("x"))
    assert (line["request_id"], line["order"], line["product"]) == ("req-1", "AB-1", "MUG")
    line = as_json(record("x", order="CD-2"))
    assert (line["order"], line["product"]) == ("CD-2", "MUG")
    logs.unbind()
    assert list(as_json(record("x"))) == [*NAMES, "request_id"]
    logs.begin("")
    assert list(as_json(record("x"))) == NAMES


def test_other_extras_are_left_out() -> None:
    """procrastinate gives each line the job with its arguments, for instance."""
    assert list(as_json(record("x", job={"task_kwargs": {"a": "b"}}))) == NAMES


def test_a_thread_goes_on_with_the_request_that_it_works_for() -> None:
    logs.begin("req-1")
    found: list[str] = []
    note = logs.carry(lambda: found.append(logs.request_id()))
    logs.begin("req-2")
    for work in (note, lambda: found.append(logs.request_id())):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == ["req-1", ""]


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [
        ("DEBUG", "DEBUG", "WARNING"),
        ("INFO", "INFO", "WARNING"),
        ("WARNING", "WARNING", "WARNING"),
        ("ERROR", "ERROR", "ERROR"),
    ],
)
def test_libraries_are_written_from_warnings_on(level: str, ours: str, others: str) -> None:
    setting = formats.configure(level, "text")
    assert setting["loggers"]["shop"]["level"] == ours
    assert setting["loggers"]["inventory"]["level"] == ours
    assert setting["root"]["level"] == setting["loggers"]["django"]["level"] == others


def test_gunicorn_says_when_it_starts_but_not_its_configuration() -> None:
    assert [formats.gunicorn_level(each) for each in ("DEBUG", "INFO", "ERROR")] == [
        *("info", "info", "error")
    ]


def test_all_handlers_have_our_format() -> None:
    """Also those that Django would add of its own: for DEBUG, and for runserver's lines."""
    names = [*logging.root.manager.loggerDict, ""]
    handlers = {each for name in names for each in logging.getLogger(name).handlers}
    others = {each for each in handlers if not type(each).__module__.startswith("_pytest")}
    kinds = (formats.ScrubbedFormatter, type(None))
    assert [each for each in others if not isinstance(each.formatter, kinds)] == []
