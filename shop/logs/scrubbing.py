"""Texts for the log without what nobody may read there: personal data, keys, tokens, cookies.

``scrub`` knows such things by their form, the shop's own secrets by their values, and what is
private in the request under way by its context. It would rather hide too much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings
from django.utils.functional import LazyObject, empty

from shop.logs.context import private_texts

LEAST_LETTERS = 8  # of a secret that is found by its value: a shorter one may be in any word
SECRETS = (
    *("SECRET_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "METRICS_TOKEN", "SENTRY_DSN"),
    *("EMAIL_HOST_PASSWORD", "ALERT_WEBHOOK_URL", "DATABASE_URL", "REPLICA_URL"),
)

# PostgreSQL's further lines print rows and statements. They end where a traceback goes on.
END = (
    r"(?=\n(?:HINT|LOCATION):|\n\nThe above exception was the direct cause of"
    r"|\n\nDuring handling of the above exception, another|\n *\+-|\Z)"
)
# No part has more letters than these, so that a long text takes no time that grows by its square.
LOCAL = r"[^\s\"'`<>()\[\]{},;:=&?/\\|@]{1,64}"  # of an e-mail address
CAPITALIZED = r"[^\W\d_a-z][\w.'’-]{0,40}"
PERSON = rf"(?:\"[^\"\n]{{1,200}}\"|(?<![\w.'’-]){CAPITALIZED}(?: {CAPITALIZED}){{0,3}})"
VALUE = r"(?:\"[^\"\n]{0,500}\"|'[^'\n]{0,500}'|[^\s,;&\"')}\]]{1,500})"
SECRET_WORDS = ("password", "passwd", "secret", "token", "api_key", "apikey", "cookie", "csrf")
PRIVATE_NAMES = (
    *("authorization", "sessionid", "buyer", "username", "first_name", "last_name", "email"),
    *("email_key", "street", "postcode", "town", "phone", "dsn"),
)
NAME = (
    rf"(?:[\w.-]{{0,40}}(?:{'|'.join(SECRET_WORDS)})[\w-]{{0,40}}"
    rf"|(?:__Host-)?(?:{'|'.join(PRIVATE_NAMES)}))"
)


class Rule(NamedTuple):
    """``sign`` stands in the place of what ``pattern`` finds. Without a needle there is nothing."""

    needles: tuple[str, ...]
    """Small letters."""
    pattern: re.Pattern[str]
    sign: str


def rule(needles: str | Sequence[str], pattern: str, sign: str, flags: int = 0) -> Rule:
    words = needles.split() if isinstance(needles, str) else needles
    return Rule(tuple(words), re.compile(pattern, flags), sign)


RULES = [
    # A database's error
    rule(
        "detail: context: query: statement: where:",
        r"(\A|\s|\\n)(DETAIL|CONTEXT|QUERY|STATEMENT|WHERE):.*?" + END,
        r"\1\2: […]",
        re.DOTALL,
    ),
    rule("line", r"\nLINE \d+:[^\n]*\n *\^", r"\nLINE: […]"),
    rule("range", r"\bvalue \"[^\n]{0,500}\" is out of range", "value […] is out of range"),
    rule("near", r"\bat or near \"[^\n]{0,500}\"", "at or near […]"),
    rule(
        "invalid malformed range",
        r"((?:invalid|malformed|out of range)[^\"\n]{0,80}: )\"[^\n]{0,500}\"",
        r"\1[…]",
    ),
    # Errors of Python and Django that repeat a value
    rule(
        "got literal float",
        r"(\bgot:? |\bliteral for [^:\n]{1,40}: |\bto float: )(['\"])[^\n]{0,500}\2",
        r"\1[…]",
    ),
    rule(
        "time isoformat",
        r"(\btime data |\bisoformat string:? )(['\"])[^\n]{0,500}?\2",
        r"\1[…]",
    ),
    rule("“ „ « »", r"[“„«»][^”“«»\n]{0,500}[”“«»]", "“…”"),
    # Addresses with a password or a token, or with values
    rule("://", r"([A-Za-z][\w+.-]{0,20}://)[^\s\"'<>]{1,300}@", r"\1[…]@"),
    rule("? &", r"([?&][\w.~%-]{1,60}=)[^\s&\"'<>#]*", r"\1[…]"),
    rule(
        "/orders /demo-bank /outbox",
        r"(/(?:orders|demo-bank|demo/outbox)/+)(?!charges/)[^\s/?#,\"'<>]+",
        r"\1[…]",
    ),
    # Things that have a name before them
    rule("cookie", r"(\b(?:Set-)?Cookie\"?'?: ?)[^\n]*", r"\1[…]", re.IGNORECASE),
    rule("bearer basic", r"\b(Bearer|Basic) +[\w.~+/=-]+", r"\1 […]", re.IGNORECASE),
    rule(
        (*SECRET_WORDS, *PRIVATE_NAMES),
        rf"(?<![\w-])({NAME}[\"']?(?: ?= ?|: ?))b?{VALUE}",
        r"\1[…]",
        re.IGNORECASE,
    ),
    # Things of a known form
    rule("@ %40", rf"(?:{PERSON} )?<?(?<![\w.%+-]){LOCAL}(?:@|%40)[\w.-]+>?", "[e-mail]"),
    rule("sk_ rk_ pk_ whsec_ cs_", r"\b(sk|rk|pk|whsec|cs)_[\w*]{6,}", r"\1_[…]"),
    rule("-", r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "[key]", re.IGNORECASE),
]
LONG = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{32,}")
WORD = r"(?:[a-z]+|[A-Z]+|[0-9]+|(?:[A-Z][a-z]+)+)"
WORDS = re.compile(rf"_*{WORD}(?:[_-]+{WORD})+_*|(?:[A-Z][a-z]{{2,}})+|[_-]+")
# A path in which no rule would find anything.
PLAIN_PATH = re.compile(r"(?:/(?!orders/|demo-bank/|outbox/)[A-Za-z0-9.-]{0,31})*")
# Part of a path of the shop's own, between two slashes, or a sign that scrubbing has put there.
PLAIN_PART = re.compile(r"(?:[A-Za-z0-9._~:@-]|\[[a-z…-]+\])*")
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127)}


def scrub(text: str) -> str:
    """The text with a sign such as ``[e-mail]`` in the place of all that no log may show."""
    text = _without_secrets(text)
    for private in private_texts():
        text = re.sub(rf"(?<!\w){re.escape(private)}(?!\w)", "[private]", text)
    return text.translate(CONTROLS)


@lru_cache(maxsize=512)
def scrub_target(target: str) -> str:
    """A request's target (path and query) for the access log: its query has names, no values.

    In a rush thousands ask for the same target. So it is scrubbed once.
    """
    path, mark, query = target.partition("?")
    if not mark and PLAIN_PATH.fullmatch(path) and not any(each in path for each in _secrets()):
        return path
    parts = (part.partition("=") for part in query.split("&"))
    names = [f"{name}=[…]" if sign else "[…]" for name, sign, _ in parts] if query else []
    shown = [
        part if PLAIN_PART.fullmatch(part) else "[…]" for part in _without_secrets(path).split("/")
    ]
    return "/".join(shown) + _without_secrets(mark + "&".join(names)).translate(CONTROLS)


def _without_secrets(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, "[secret]")
    small = text.lower()
    for needles, pattern, sign in RULES:
        if any(needle in small for needle in needles):
            text = pattern.sub(sign, text)
    return LONG.sub(_without_token, text)


def _without_token(found: re.Match[str]) -> str:
    """Leave long names of functions, files and products; no random token looks like one."""
    return found[0] if WORDS.fullmatch(found[0]) else "[token]"


def _secrets() -> tuple[str, ...]:
    """The shop's own secrets, in each form that a text may have them in, the longest first."""
    values = [getattr(settings, name, "") for name in SECRETS]
    # A key that nobody has used yet is not made for this.
    known = [v for v in values if not (isinstance(v, LazyObject) and v._wrapped is empty)]
    passwords = [str(each.get("PASSWORD") or "") for each in settings.DATABASES.values()]
    return _forms_of((*map(str, known), *passwords))


@lru_cache(maxsize=16)
def _forms_of(values: tuple[str, ...]) -> tuple[str, ...]:
    forms = {
        form
        for value in values
        for part in _parts_of(value)
        for form in (part, quote(part, safe=""), repr(part)[1:-1], json.dumps(part)[1:-1])
        if len(part) >= LEAST_LETTERS
    }
    return tuple(sorted(forms, key=len, reverse=True))


def _parts_of(value: str) -> Iterator[str]:
    """The value itself. Of an address: its password, and what follows its host."""
    if "://" not in value:
        yield value
        return
    with suppress(ValueError):
        parts = urlsplit(value)
        yield from (parts.password or "", unquote(parts.password or ""))
        if value == getattr(settings, "ALERT_WEBHOOK_URL", ""):
            yield value.partition(parts.netloc)[2].lstrip("/")
        elif parts.username and not parts.password:  # the key of Sentry's
            yield parts.username
