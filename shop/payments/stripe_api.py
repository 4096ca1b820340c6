"""Stripe's API by its official library: who waits how long, and what its errors mean to us."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from textwrap import shorten
from typing import Any, TypeVar

import stripe
from django.conf import settings

from shop.logs.scrubbing import scrub
from shop.payments import base
from shop.payments.base import ProviderMisconfigured, ProviderUnavailable
from shop.payments.stripe_settings import secret_key_problem

log = logging.getLogger(__name__)

API_VERSION = "2026-10-28.endive"  # the README names it, too
LONGEST_REFERENCE = 200  # characters, in our tables
LARGEST_AMOUNT = 10**12  # in minor units: more fits into no column of ours
LONGEST_PROBLEM = 300  # characters of Stripe's words to staff

# Stripe carried it out, or will never do so: the same request would fail again.
REFUSED = (stripe.InvalidRequestError, stripe.CardError)
# Stripe doesn't let us in. A person must change the settings, or the account.
LOCKED_OUT = (stripe.AuthenticationError, stripe.PermissionError)
# Raised by reading an answer that isn't as Stripe documents it.
NONSENSE = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)

stripe.enable_telemetry = False  # it sends how long earlier requests took, and the machine's kind
stripe.set_app_info("Stockwell")

Answer = dict[str, Any]
"""An object of Stripe's, as its JSON shows it."""
T = TypeVar("T")

# No timeout of a socket limits a name server that is silent, an address after the other that
# doesn't answer, or a server that sends drop by drop. So while somebody waits, a thread of its own
# asks, and we stop listening to it in time. It may go on for a while, which is harmless: a request
# that changes something has a key. The threads keep the library's connections, one each.
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="stripe")


def ask(call: Callable[[stripe.StripeClient], Any]) -> Answer:
    """Return Stripe's answer to one call of the library.

    Raises StripeError, ProviderUnavailable if the time is over, one of NONSENSE.
    """
    answer: Answer = _in_time(lambda client: call(client).to_dict())
    return answer


def ask_for_all(call: Callable[[stripe.StripeClient], Any]) -> list[Answer]:
    """Return all objects of a list, from all of its pages, the oldest first. Raises as ``ask``."""
    newest_first = _in_time(
        lambda client: [one.to_dict() for one in call(client).auto_paging_iter()]
    )
    return newest_first[::-1]


def _in_time(call: Callable[[stripe.StripeClient], T]) -> T:
    if not base.somebody_waits():
        return call(_client(somebody_waits=False))
    left = base.time_left()
    if left <= 0:
        raise ProviderUnavailable("No time is left to ask Stripe.")
    answer = _threads.submit(call, _client(somebody_waits=True))
    try:
        return answer.result(timeout=left)
    except TimeoutError:
        answer.cancel()
        raise ProviderUnavailable("Stripe doesn't answer in time.") from None


def _client(*, somebody_waits: bool) -> stripe.StripeClient:
    key = settings.STRIPE_SECRET_KEY
    if problem := secret_key_problem(key):
        raise stripe.AuthenticationError(problem)
    return _new_client(key, settings.STRIPE_API_BASE, somebody_waits)


@lru_cache(maxsize=4)
def _new_client(key: str, address: str, somebody_waits: bool) -> stripe.StripeClient:
    """A client that all threads share: the library keeps a connection for each of them.

    While somebody waits, a connection that turns out dead is given up early enough for a second
    attempt within the five seconds of a form: 2.5 s, the library's pause of 0.5 s, and what is
    left. ``_in_time`` ends the wait whatever happens.
    """
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        max_network_retries=1 if somebody_waits else 2,
        http_client=stripe.RequestsClient(timeout=2.5 if somebody_waits else 20),
        base_addresses={"api": address},
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise ProviderUnavailable instead of the library's errors, and for answers without sense."""
    try:
        yield
    except stripe.IdempotencyError as error:
        # We asked for something else by the same key. That is a fault of this program.
        log.error("Stripe has another request by this key: %s", words_of(error))
        raise ProviderUnavailable(f"Stripe: {words_of(error)}") from error
    except LOCKED_OUT as error:
        log.error("Stripe doesn't let us in: %s", words_of(error))
        raise ProviderMisconfigured(f"Stripe doesn't let us in: {words_of(error)}") from error
    except stripe.APIConnectionError as error:
        log.warning("Stripe can't be reached: %s", words_of(error))
        raise ProviderUnavailable("Stripe can't be reached.") from error
    except stripe.StripeError as error:
        raise ProviderUnavailable(f"Stripe can't be asked: {words_of(error)}") from error
    except NONSENSE as error:
        log.exception("Stripe's answer makes no sense.")
        raise ProviderUnavailable("Stripe's answer makes no sense.") from error


def words_of(error: stripe.StripeError) -> str:
    """Sentences for staff, in one line: the error's message, and what to do if we know it.

    No key and no e-mail address is in it.
    """
    text = scrub(str(error.user_message or type(error).__name__))
    text = shorten(text, LONGEST_PROBLEM, placeholder=" …")
    text = text if text.endswith((".", "!", "?", "…")) else f"{text}."
    return " ".join(filter(None, [text, _advice(error)]))


def _advice(error: stripe.StripeError) -> str:
    if isinstance(error, stripe.AuthenticationError):
        return "Look at the setting STRIPE_SECRET_KEY."
    if isinstance(error, stripe.PermissionError):
        return "Look in Stripe's dashboard at what the account and the key may do."
    return ""


# The parts of answers. Each raises ValueError or TypeError if it isn't as documented.


def read_id(value: object) -> str:
    """The id of an object that is given as its id alone, or in whole."""
    id = value["id"] if isinstance(value, dict) else value
    if not isinstance(id, str) or not id.isprintable() or not 0 < len(id) <= LONGEST_REFERENCE:
        raise ValueError("no id")
    return id


def read_amount(value: object) -> Decimal:
    """An amount of a currency with two decimal places."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= LARGEST_AMOUNT:
        raise ValueError("no amount")
    return Decimal(value).scaleb(-2)


def read_time(value: object) -> datetime:
    """A moment, from seconds since 1970."""
    if not isinstance(value, int):
        raise ValueError("no time")
    return datetime.fromtimestamp(value, UTC)


def read_metadata(object: Answer) -> dict[str, str]:
    """The object's metadata; empty if it has none, or can have none."""
    metadata = object.get("metadata")
    if not isinstance(metadata, dict):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(value, str)}
