"""How requests go wrong, and what the library makes of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from .exchange import Request
from .faults import Kind
from .shop import client_of, open_session, parameters
from .standin import StripeStandin

CREATE = "POST /v1/checkout/sessions"


def sessions(standin: StripeStandin) -> list[str]:
    return [one["id"] for one in standin.sessions.all()]


def test_a_lost_answer_comes_again_by_the_same_key(stripe_standin: StripeStandin) -> None:
    stripe_standin.faults.add(CREATE, "answer_lost")

    session = open_session(client_of(stripe_standin, retries=1))

    assert sessions(stripe_standin) == [session]
    lost, again = stripe_standin.requests.all(CREATE)
    assert (lost.status, lost.is_answered, lost.is_replayed) == (200, False, False)
    assert (again.status, again.is_answered, again.is_replayed) == (200, True, True)
    assert lost.idempotency_key == again.idempotency_key


def test_a_lost_answer_without_retries(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    stripe_standin.faults.add(CREATE, "answer_lost")

    with pytest.raises(stripe.APIConnectionError):
        open_session(client)

    assert len(sessions(stripe_standin)) == 1


def test_a_connection_that_is_closed_before_anything_is_done(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    stripe_standin.faults.add(CREATE, "connection_closed")

    with pytest.raises(stripe.APIConnectionError):
        open_session(client)

    assert sessions(stripe_standin) == []
    assert [one.status for one in stripe_standin.requests.all(CREATE)] == [None]


@pytest.mark.parametrize(
    ("kind", "error", "status", "should_retry"),
    [
        ("server_error", stripe.APIError, 500, "false"),
        ("unavailable", stripe.APIError, 503, None),
        ("rate_limited", stripe.RateLimitError, 429, None),
        ("lock_timeout", stripe.RateLimitError, 429, "true"),
    ],
)
def test_errors_of_stripe(
    stripe_standin: StripeStandin,
    client: stripe.StripeClient,
    kind: Kind,
    error: type[stripe.StripeError],
    status: int,
    should_retry: str | None,
) -> None:
    stripe_standin.faults.add(CREATE, kind)

    with pytest.raises(error) as caught:
        open_session(client)

    assert caught.value.http_status == status
    assert (caught.value.headers or {}).get("Stripe-Should-Retry") == should_retry
    assert sessions(stripe_standin) == []


@pytest.mark.parametrize("kind", ["unavailable", "lock_timeout", "connection_closed"])
def test_the_library_gets_over_these(stripe_standin: StripeStandin, kind: Kind) -> None:
    stripe_standin.faults.add(CREATE, kind)

    session = open_session(client_of(stripe_standin, retries=1))

    assert sessions(stripe_standin) == [session]
    assert len(stripe_standin.requests.all(CREATE)) == 2


@pytest.mark.parametrize("done", [False, True])
def test_a_server_error_is_kept_by_its_key(
    stripe_standin: StripeStandin, client: stripe.StripeClient, done: bool
) -> None:
    stripe_standin.faults.add(CREATE, "server_error", done=done)

    def create(key: str) -> stripe.checkout.Session:
        return client.v1.checkout.sessions.create(parameters(), {"idempotency_key": key})

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            create("order-1")
    assert len(sessions(stripe_standin)) == (1 if done else 0)
    assert create("order-2").status == "open"


@pytest.mark.parametrize("kind", ["unavailable", "rate_limited", "lock_timeout"])
def test_an_error_from_in_front_of_the_keys_is_not_kept(
    stripe_standin: StripeStandin, client: stripe.StripeClient, kind: Kind
) -> None:
    stripe_standin.faults.add(CREATE, kind)

    with pytest.raises(stripe.StripeError):
        client.v1.checkout.sessions.create(parameters(), {"idempotency_key": "order-1"})

    client.v1.checkout.sessions.create(parameters(), {"idempotency_key": "order-1"})


@pytest.mark.parametrize("done", [False, True])
def test_garbage_instead_of_an_answer(
    stripe_standin: StripeStandin, client: stripe.StripeClient, done: bool
) -> None:
    stripe_standin.faults.add(CREATE, "garbage", done=done)

    with pytest.raises(stripe.APIError, match="Invalid response body"):
        open_session(client)

    assert len(sessions(stripe_standin)) == (1 if done else 0)


def test_after_garbage_that_nothing_stands_behind_the_key_is_free(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    stripe_standin.faults.add(CREATE, "garbage")
    with pytest.raises(stripe.APIError):
        client.v1.checkout.sessions.create(parameters(), {"idempotency_key": "order-1"})

    client.v1.checkout.sessions.create(parameters(), {"idempotency_key": "order-1"})


def test_an_answer_that_comes_too_late(stripe_standin: StripeStandin) -> None:
    stripe_standin.faults.add(CREATE, "slow", seconds=60)

    with pytest.raises(stripe.APIConnectionError):
        open_session(client_of(stripe_standin, timeout=0.2))

    assert len(sessions(stripe_standin)) == 1


def test_a_dripping_answer_stays_below_the_timeout_of_a_read(
    stripe_standin: StripeStandin,
) -> None:
    stripe_standin.faults.add(CREATE, "drip", seconds=1.5)

    open_session(client_of(stripe_standin, timeout=1))

    assert len(sessions(stripe_standin)) == 1


def test_a_fault_is_for_so_many_requests(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    stripe_standin.faults.add(CREATE, "unavailable", times=2)

    assert outcomes(lambda: open_session(client), 3) == ["APIError", "APIError", "done"]


def test_a_fault_is_for_all_requests_until_it_is_removed(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    fault = stripe_standin.faults.add("GET .*", "unavailable", times=None)
    session = open_session(client)

    assert outcomes(lambda: client.v1.checkout.sessions.retrieve(session), 3) == 3 * ["APIError"]
    stripe_standin.faults.remove(fault)
    assert client.v1.checkout.sessions.retrieve(session).id == session


def outcomes(request: Callable[[], Any], times: int) -> list[str]:
    found = []
    for _ in range(times):
        try:
            request()
            found.append("done")
        except stripe.StripeError as error:
            found.append(type(error).__name__)
    return found


def test_a_fault_is_for_requests_of_its_name_alone(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    stripe_standin.faults.add("GET /v1/checkout/sessions/.*", "unavailable", times=None)

    stripe_standin.faults.add("POST /v1/checkout/sessions", "unavailable", times=None)

    client.v1.checkout.sessions.list()
    client.v1.checkout.sessions.expire(session)
    with pytest.raises(stripe.APIError):
        client.v1.checkout.sessions.retrieve(session)


def test_an_unknown_fault(stripe_standin: StripeStandin) -> None:
    unknown: Any = "flood"

    with pytest.raises(ValueError, match="'flood' is no kind of fault; there are answer_lost"):
        stripe_standin.faults.add(CREATE, unknown)


def test_hooks_look_in_before_and_after_a_request_is_done(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    seen: list[tuple[str, int]] = []

    def note(request: Request) -> None:
        seen.append((request.name, len(stripe_standin.sessions.all())))

    stripe_standin.faults.hook(CREATE, before=note, after=note)
    open_session(client)
    open_session(client)

    assert seen == [(CREATE, 0), (CREATE, 1)]


def test_a_hook_may_ask_the_stand_in_itself(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = open_session(client)
    stripe_standin.faults.hook(
        f"POST /v1/checkout/sessions/{session}/expire",
        before=lambda _: stripe_standin.sessions.pay(session),
    )

    with pytest.raises(stripe.InvalidRequestError, match="status of `complete`"):
        client.v1.checkout.sessions.expire(session)


@pytest.mark.parametrize(("kind", "done"), [("pause_before", 0), ("pause_after", 1)])
def test_a_request_waits_before_or_after_it_is_done(
    stripe_standin: StripeStandin, client: stripe.StripeClient, kind: Kind, done: int
) -> None:
    stripe_standin.faults.add(CREATE, kind)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(open_session, client)

        assert stripe_standin.faults.wait_until_paused() == [CREATE]
        assert len(sessions(stripe_standin)) == done
        assert not waiting.done()
        stripe_standin.faults.resume()

        session = waiting.result(10)
        assert sessions(stripe_standin) == [session]


@pytest.mark.parametrize(("kind", "done"), [("pause_before", 0), ("pause_after", 1)])
def test_a_request_that_waits_is_dropped(
    stripe_standin: StripeStandin, client: stripe.StripeClient, kind: Kind, done: int
) -> None:
    stripe_standin.faults.add(CREATE, kind)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(open_session, client)
        stripe_standin.faults.wait_until_paused()
        stripe_standin.faults.drop()

        with pytest.raises(stripe.APIConnectionError):
            waiting.result(10)
    assert len(sessions(stripe_standin)) == done


def test_to_wait_for_a_request_that_never_comes(stripe_standin: StripeStandin) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests paused"):
        stripe_standin.faults.wait_until_paused(seconds=0.1)


def test_the_end_of_the_stand_in_ends_all_waiting() -> None:
    standin = StripeStandin()
    standin.start()
    standin.faults.add(CREATE, "pause_before")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(open_session, client_of(standin))
        standin.faults.wait_until_paused()
        standin.stop()
        with pytest.raises(stripe.APIConnectionError):
            waiting.result(10)
            open_session(client_of(standin))
