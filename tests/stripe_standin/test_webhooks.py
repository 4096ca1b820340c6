"""Messages and their signatures, as https://docs.stripe.com/webhooks has them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from .errors import NotPossible
from .shop import Endpoint, listening_endpoint, open_session, paid_session, refund
from .standin import StripeStandin
from .webhooks import API_VERSION, Signed

PAYMENT = [
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "checkout.session.completed",
    "charge.updated",
]


@pytest.fixture
def endpoint(stripe_standin: StripeStandin) -> Iterator[Endpoint]:
    """The address that the stand-in delivers to."""
    with listening_endpoint() as endpoint:
        stripe_standin.webhooks.set_url(endpoint.url)
        yield endpoint


def read(signed: Signed, secret: str) -> stripe.Event:
    """The message, as the library reads it."""
    event: stripe.Event = stripe.Webhook.construct_event(signed.body, signed.signature, secret)
    return event


def received(endpoint: Endpoint) -> list[str]:
    return [json.loads(body)["type"] for body, _ in endpoint.received]


def test_the_library_trusts_a_message_of_the_stand_in(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)
    message = stripe_standin.webhooks.queued("checkout.session.completed")[0]

    event = read(stripe_standin.webhooks.sign(message.body), stripe_standin.webhook_secret)

    assert (event.id, event.type) == (message.id, "checkout.session.completed")
    assert event.api_version == API_VERSION
    assert event.data.object["id"] == session
    assert event.data.object["payment_status"] == "paid"


def test_a_message_shows_its_object_as_it_was(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)
    stripe_standin.refunds.dashboard(session)

    assert stripe_standin.webhooks.queued("charge.succeeded")[0].object["refunded"] is False
    assert stripe_standin.webhooks.queued("charge.refunded")[0].object["refunded"] is True


def test_each_message_has_an_id_of_its_own(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    paid_session(stripe_standin, client)

    ids = [message.id for message in stripe_standin.webhooks.messages()]

    assert len(set(ids)) == len(PAYMENT)
    assert all(id.startswith("evt_") for id in ids)


def test_a_message_that_is_made_up(stripe_standin: StripeStandin) -> None:
    signed = stripe_standin.webhooks.event(
        "invoice.paid", {"id": "in_1", "object": "invoice"}, id="evt_foreign"
    )

    event = read(signed, stripe_standin.webhook_secret)

    assert (event.id, event.type, event.data.object["id"]) == (
        "evt_foreign",
        "invoice.paid",
        "in_1",
    )
    assert stripe_standin.webhooks.messages() == []


def test_a_wrong_secret(stripe_standin: StripeStandin) -> None:
    forged = stripe_standin.webhooks.event("a.b", {"object": "c"}, secret="whsec_other")

    with pytest.raises(stripe.SignatureVerificationError, match="No signatures found matching"):
        read(forged, stripe_standin.webhook_secret)


def test_an_old_signature(stripe_standin: StripeStandin) -> None:
    now = stripe_standin.clock.now()
    young = stripe_standin.webhooks.event("a.b", {"object": "c"}, at=now - 200)
    old = stripe_standin.webhooks.event("a.b", {"object": "c"}, at=now - 400)

    read(young, stripe_standin.webhook_secret)
    with pytest.raises(stripe.SignatureVerificationError, match="Timestamp outside"):
        read(old, stripe_standin.webhook_secret)


def test_signatures_have_the_time_of_the_clock(stripe_standin: StripeStandin) -> None:
    stripe_standin.clock.advance(-400)

    with pytest.raises(stripe.SignatureVerificationError, match="Timestamp outside"):
        read(stripe_standin.webhooks.event("a.b", {"object": "c"}), stripe_standin.webhook_secret)


def test_while_the_secret_is_changed_both_are_right(stripe_standin: StripeStandin) -> None:
    old = stripe_standin.webhook_secret
    new = stripe_standin.webhooks.roll_secret()
    both = stripe_standin.webhooks.event("a.b", {"object": "c"})

    assert both.signature.count("v1=") == 2
    read(both, old)
    read(both, new)

    stripe_standin.webhooks.drop_old_secret()
    one = stripe_standin.webhooks.event("a.b", {"object": "c"})
    read(one, new)
    with pytest.raises(stripe.SignatureVerificationError):
        read(one, old)


def test_messages_are_delivered_in_their_order(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    paid_session(stripe_standin, client)

    deliveries = stripe_standin.webhooks.deliver()

    assert [one.status for one in deliveries] == [200, 200, 200, 200, 200]
    assert received(endpoint) == PAYMENT
    for body, signature in endpoint.received:
        read(Signed(body, signature), stripe_standin.webhook_secret)
    assert stripe_standin.webhooks.queued() == []
    assert stripe_standin.webhooks.deliver() == []


def test_messages_are_delivered_in_another_order_and_again(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    paid_session(stripe_standin, client)
    ids = [message.id for message in stripe_standin.webhooks.queued()]

    stripe_standin.webhooks.deliver([ids[3], ids[0], ids[3]])
    stripe_standin.webhooks.deliver([ids[3]])

    assert received(endpoint) == [PAYMENT[3], PAYMENT[0], PAYMENT[3], PAYMENT[3]]
    assert [message.kind for message in stripe_standin.webhooks.queued()] == [
        PAYMENT[1],
        PAYMENT[2],
        PAYMENT[4],
    ]


def test_the_endpoint_gets_the_kinds_that_it_asks_for(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    stripe_standin.webhooks.enable_events(["checkout.session.completed"])
    paid_session(stripe_standin, client)
    stripe_standin.webhooks.deliver()

    assert received(endpoint) == ["checkout.session.completed"]
    assert [message.kind for message in stripe_standin.webhooks.messages()] == PAYMENT


def test_a_message_comes_when_the_clock_moves(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    open_session(client)

    stripe_standin.clock.advance(24 * 3600)

    assert [one.kind for one in stripe_standin.webhooks.deliver()] == ["checkout.session.expired"]


@pytest.mark.parametrize("status", [302, 400, 500, 503])
def test_a_message_that_is_not_accepted_stays_queued(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint, status: int
) -> None:
    client.v1.checkout.sessions.expire(open_session(client))
    endpoint.next_statuses = [status]

    assert [one.status for one in stripe_standin.webhooks.deliver()] == [status]
    assert len(stripe_standin.webhooks.queued()) == 1
    assert [one.status for one in stripe_standin.webhooks.deliver()] == [200]

    first, second = endpoint.received
    assert first[0] == second[0]


def test_a_message_is_tried_until_it_is_accepted(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    client.v1.checkout.sessions.expire(open_session(client))
    endpoint.next_statuses = [500, 503]

    deliveries = stripe_standin.webhooks.deliver(attempts=5)

    assert [one.status for one in deliveries] == [500, 503, 200]
    assert stripe_standin.webhooks.deliveries == deliveries


def test_a_shop_that_is_down(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    with listening_endpoint() as endpoint:
        stripe_standin.webhooks.set_url(endpoint.url)
    client.v1.checkout.sessions.expire(open_session(client))

    assert [one.status for one in stripe_standin.webhooks.deliver()] == [None]
    assert len(stripe_standin.webhooks.queued()) == 1


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"nonsense\r\n\r\n"]
)
def test_a_shop_that_is_killed_while_it_answers(
    stripe_standin: StripeStandin, client: stripe.StripeClient, answer: bytes
) -> None:
    client.v1.checkout.sessions.expire(open_session(client))
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        stripe_standin.webhooks.set_url(f"http://127.0.0.1:{server.getsockname()[1]}/")
        delivering = pool.submit(stripe_standin.webhooks.deliver)
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

        assert [one.status for one in delivering.result(10)] == [None]
    assert len(stripe_standin.webhooks.queued()) == 1


def test_no_address_to_deliver_to(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    paid_session(stripe_standin, client)

    with pytest.raises(NotPossible, match="no address"):
        stripe_standin.webhooks.deliver()


def test_the_courier_delivers_by_itself(
    stripe_standin: StripeStandin, client: stripe.StripeClient, endpoint: Endpoint
) -> None:
    endpoint.next_statuses = [500]
    stripe_standin.webhooks.start_courier(0.01)
    session = paid_session(stripe_standin, client)
    refund(stripe_standin, client, session)

    stripe_standin.webhooks.wait_until_delivered()
    stripe_standin.webhooks.stop_courier()

    assert sorted(set(received(endpoint))) == sorted(
        [*PAYMENT, "charge.refunded", "refund.created"]
    )
    assert len(endpoint.received) == len(PAYMENT) + 2 + 1  # one was not accepted at first
