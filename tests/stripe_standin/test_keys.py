"""Idempotency keys, as https://docs.stripe.com/api/idempotent_requests has them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from .shop import client_of, intent_of, paid_session, parameters
from .standin import StripeStandin

DAY = 24 * 3600


def create(client: stripe.StripeClient, key: str, **changes: Any) -> stripe.checkout.Session:
    return client.v1.checkout.sessions.create(parameters(**changes), {"idempotency_key": key})


def header(answer: Any, name: str) -> str | None:
    value: str | None = answer.last_response.headers.get(name)
    return value


def test_a_repetition_gets_the_first_answer(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    first = create(client, "order-1")
    stripe_standin.sessions.pay(first.id)

    again = create(client, "order-1")

    assert again.to_dict() == first.to_dict()
    assert again.status == "open"  # as it was then
    assert header(first, "Idempotent-Replayed") is None
    assert header(again, "Idempotent-Replayed") == "true"
    assert len(stripe_standin.sessions.all()) == 1


def test_another_key_is_another_request(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    assert create(client, "order-1").id != create(client, "order-2").id


def test_other_parameters_are_refused(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    first = create(client, "order-1")

    with pytest.raises(stripe.IdempotencyError, match="same parameters") as error:
        create(client, "order-1", unit_amount=2000)
    with pytest.raises(stripe.IdempotencyError):
        client.v1.checkout.sessions.expire(first.id, None, {"idempotency_key": "order-1"})

    assert error.value.http_status == 400
    assert [one["id"] for one in stripe_standin.sessions.all()] == [first.id]


def test_the_order_of_parameters_is_no_difference(client: stripe.StripeClient) -> None:
    other_order: Any = dict(reversed(parameters().items()))

    first = create(client, "order-1")
    again = client.v1.checkout.sessions.create(other_order, {"idempotency_key": "order-1"})

    assert first.id == again.id


def test_the_modes_have_keys_of_their_own(stripe_standin: StripeStandin) -> None:
    test = create(client_of(stripe_standin), "order-1")
    live = create(client_of(stripe_standin, stripe_standin.live_secret_key), "order-1")

    assert test.id != live.id


def test_keys_are_forgotten_after_a_day(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    first = create(client, "order-1")

    stripe_standin.clock.advance(DAY - 10)
    assert create(client, "order-1").id == first.id
    stripe_standin.clock.advance(20)

    assert create(client, "order-1").id != first.id


def test_keys_are_forgotten_on_demand(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    first = create(client, "order-1")

    stripe_standin.keys.forget()

    assert create(client, "order-1").id != first.id


def test_a_key_in_use(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    stripe_standin.faults.add("POST /v1/checkout/sessions", "pause_before")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(create, client, "order-1")
        stripe_standin.faults.wait_until_paused()

        with pytest.raises(stripe.APIError, match="another in-progress request") as error:
            create(client, "order-1")
        stripe_standin.faults.resume()

        assert error.value.http_status == 409
        assert error.value.error is not None
        assert error.value.error.code == "idempotency_key_in_use"
        session = first.result(10)
        assert create(client, "order-1").id == session.id
    assert len(stripe_standin.sessions.all()) == 1


def test_the_library_tries_a_key_in_use_again(stripe_standin: StripeStandin) -> None:
    patient = client_of(stripe_standin, retries=2)
    stripe_standin.faults.add("POST /v1/checkout/sessions", "pause_before")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(create, patient, "order-1")
        stripe_standin.faults.wait_until_paused()
        stripe_standin.faults.hook(
            "POST /v1/checkout/sessions", after=lambda _: stripe_standin.faults.resume()
        )

        second = create(patient, "order-1")

        assert second.id == first.result(10).id
    assert len(stripe_standin.sessions.all()) == 1


def test_many_at_once_make_one(stripe_standin: StripeStandin) -> None:
    barrier = threading.Barrier(8)

    def create_at_once(_: int) -> str:
        client = client_of(stripe_standin, retries=5)
        barrier.wait(10)
        return create(client, "order-1").id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create_at_once, range(8)))

    assert ids == {one["id"] for one in stripe_standin.sessions.all()}
    assert len(ids) == 1


def test_an_error_is_kept_too(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    intent = intent_of(stripe_standin, paid_session(stripe_standin, client))
    made = stripe_standin.refunds.dashboard(intent)

    def refund_again() -> stripe.Refund:
        return client.v1.refunds.create({"payment_intent": intent}, {"idempotency_key": "r-1"})

    with pytest.raises(stripe.InvalidRequestError):
        refund_again()
    stripe_standin.refunds.fail(made["id"])
    with pytest.raises(stripe.InvalidRequestError) as error:
        refund_again()

    assert error.value.code == "charge_already_refunded"
    assert error.value.headers is not None
    assert error.value.headers["Idempotent-Replayed"] == "true"


def test_failed_validation_is_not_kept(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        create(client, "order-1", customer_email="nobody")

    create(client, "order-1", customer_email="somebody@example.org")


def test_a_key_is_255_characters_at_most(client: stripe.StripeClient) -> None:
    create(client, 255 * "k")
    with pytest.raises(stripe.StripeError, match="255"):
        create(client, 256 * "k")


def test_a_wrong_api_key_uses_up_no_idempotency_key(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    with pytest.raises(stripe.AuthenticationError):
        create(client_of(stripe_standin, "sk_test_wrong"), "order-1")

    create(client, "order-1", unit_amount=2000)
