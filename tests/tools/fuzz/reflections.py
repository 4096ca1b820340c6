"""Where a marker came out of an answer as more than text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from tests.tools.fuzz.markers import MARK, has_mark
from tests.tools.fuzz.wire import Answer

HOST = "localhost"
PAGE = f"http://{HOST}/"
ADDRESSES = {
    "action",
    "background",
    "cite",
    "data",
    "formaction",
    "href",
    "hx-delete",
    "hx-get",
    "hx-patch",
    "hx-post",
    "hx-put",
    "hx-push-url",
    "hx-replace-url",
    "ping",
    "poster",
    "src",
    "srcset",
}
CODE = ("on", "hx-on", "x-", "@", ":", "style", "srcdoc", "hx-vals", "hx-vars", "hx-headers")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
HTML = {"text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", ""}
# A browser shows these as they are, if the answer has "nosniff".
INERT = {"text/plain", "application/json", "text/csv", "application/octet-stream"}


def unescaped(answer: Answer) -> Iterator[str]:
    """Each place where a marker is part of the answer's own code, in words."""
    yield from in_headers(answer)
    if not has_mark(answer.text):
        return
    if answer.kind != "text/html" and answer.header("X-Content-Type-Options") != "nosniff":
        yield "The answer has a marker, and no X-Content-Type-Options: nosniff."
    if answer.kind in HTML:
        yield from in_html(answer.text)
    elif answer.kind == "application/json":
        yield from in_json(answer.text)
    elif answer.kind == "text/csv":
        yield from in_csv(answer.text)
    elif answer.kind not in INERT and not answer.kind.startswith("image/"):
        yield f"The answer has a marker, and the Content-Type {answer.header('Content-Type')!r}."


def in_headers(answer: Answer) -> Iterator[str]:
    for name, value in answer.headers:
        if has_mark(name) or name.lower() == "x-odd":
            yield f"A marker has become a header: {name}: {value}"
        if name.lower() in ("location", "hx-redirect", "hx-location", "hx-push-url"):
            yield from in_address(value, f"the header {name}")
        if name.lower() == "set-cookie" and has_mark(value.split("=")[0]):
            yield f"A marker has become a cookie: {value}"
        if name.lower() == "content-disposition" and has_mark(value):
            yield from in_disposition(value)
        if name.lower() == "content-type" and has_mark(value):
            yield f"A marker is in the Content-Type: {value}"


def in_address(value: str, place: str) -> Iterator[str]:
    """An address that leads elsewhere, or is code."""
    text = "".join(letter for letter in value if letter > " ").replace("\\", "/")
    try:
        parts = urlsplit(urljoin(PAGE, text))
    except ValueError:
        return  # a browser doesn't go there either
    if parts.scheme not in ("http", "https", "mailto"):
        yield f"{place} has the scheme {parts.scheme}: {value}"
    elif parts.scheme != "mailto" and parts.hostname not in (HOST, "127.0.0.1"):
        yield f"{place} leads to another host: {value}"


def in_disposition(value: str) -> Iterator[str]:
    """A file name that isn't quoted to its end."""
    rest = value.split("filename=", 1)[-1].replace('\\"', "")
    if rest.startswith('"') and has_mark(rest[1:].partition('"')[2]):
        yield f"A marker leaves the file name's quotes: {value}"


def in_html(page: str) -> Iterator[str]:
    import html5lib

    for element in html5lib.parse(page, namespaceHTMLElements=False).iter():
        if not isinstance(element.tag, str):
            if has_mark(element.text or ""):
                yield f"A marker is in a comment: {element.text}"
            continue
        if has_mark(element.tag):
            yield f"A marker has become an element: <{element.tag}>"
        if element.tag in ("script", "style") and has_mark(element.text or ""):
            yield from in_code(element)
        for name, value in element.attrib.items():
            yield from in_attribute(element, str(name).rpartition("}")[2].lower(), value)


def in_code(element: Any) -> Iterator[str]:
    if element.tag == "script" and "json" in element.get("type", ""):
        yield from in_json(element.text)
    else:
        yield f"A marker is in <{element.tag}>: {around_mark(element.text)}"


def in_attribute(element: Any, name: str, value: str) -> Iterator[str]:
    if has_mark(name):
        yield f"A marker has become an attribute: <{element.tag} {name}=…>"
    if not has_mark(value):
        return
    if name in ADDRESSES:
        yield from in_address(value, f"<{element.tag} {name}=…>")
    elif name.startswith(CODE) or (element.tag == "meta" and name == "content"):
        yield f"A marker is in code: <{element.tag} {name}={around_mark(value)!r}>"


def in_json(text: str) -> Iterator[str]:
    try:
        json.loads(text)
    except ValueError:
        yield f"A marker has broken the JSON: {around_mark(text)}"


def in_csv(text: str) -> Iterator[str]:
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            if has_mark(cell) and cell.startswith(FORMULA):
                yield f"A marker is a formula of a spreadsheet: {cell}"


def around_mark(text: str) -> str:
    found = MARK.search(text)
    start = max(0, found.start() - 60) if found else 0
    return text[start : start + 160]
