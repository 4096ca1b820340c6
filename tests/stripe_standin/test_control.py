"""The stand-in in a process of its own, and its control by HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
import stripe

from .errors import NotPossible
from .remote import StandinProcess
from .shop import client_of, listening_endpoint, open_session
from .standin import StripeStandin


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.stripe_standin", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def post(url: str, body: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, body) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_a_process_does_the_same_deeds(stripe_standin_process: StandinProcess) -> None:
    standin = stripe_standin_process
    client = client_of(standin)
    session = open_session(client)

    assert standin.sessions.pay(session)["payment_status"] == "paid"
    standin.refunds.begin_as("pending")
    refund = standin.refunds.dashboard(session, 300)
    standin.refunds.fail(refund["id"], reason="lost_or_stolen_card")
    standin.disputes.open(session, 400)

    assert client.v1.checkout.sessions.retrieve(session).payment_status == "paid"
    balance = standin.books.balance(session)
    assert (balance["charged"], balance["refunded"], balance["kept"]) == (1000, 0, 600)
    signed = standin.webhooks.event("a.b", {"object": "c"})
    stripe.Webhook.construct_event(signed["body"], signed["signature"], standin.webhook_secret)
    with pytest.raises(NotPossible, match="complete"):
        standin.sessions.pay(session)


@pytest.mark.slow
def test_a_process_goes_wrong_on_demand(stripe_standin_process: StandinProcess) -> None:
    standin = stripe_standin_process
    client = client_of(standin)
    standin.faults.add("POST /v1/checkout/sessions", "unavailable", times=2)

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            open_session(client)
    session = open_session(client)

    assert [one["status"] for one in standin.requests.all("POST .*")] == [503, 503, 200]
    assert [one["id"] for one in standin.sessions.all()] == [session]


@pytest.mark.slow
def test_a_process_delivers_by_itself() -> None:
    with (
        listening_endpoint() as endpoint,
        StandinProcess("--webhook", endpoint.url, "--secret", "whsec_mine") as standin,
    ):
        client = client_of(standin)
        client.v1.checkout.sessions.expire(open_session(client))
        standin.webhooks.wait_until_delivered()

        [(body, signature)] = endpoint.received
        event = stripe.Webhook.construct_event(body, signature, "whsec_mine")
        assert event.type == "checkout.session.expired"


@pytest.mark.slow
def test_a_process_takes_other_keys() -> None:
    with StandinProcess("--api-key", "sk_test_mine") as standin:
        open_session(client_of(standin, "sk_test_mine"))


@pytest.mark.slow
def test_wrong_options(stripe_standin: StripeStandin) -> None:
    taken = stripe_standin.url.rpartition(":")[2]

    for options, message in (
        (["--port", taken], f"port {taken} can't be opened"),
        (["--port", "70000"], "invalid port value: '70000'"),
        (["--api-key", "secret"], "doesn't begin like an API key"),
    ):
        ended = run(*options)
        assert ended.returncode == 2
        assert message in ended.stderr


def test_deeds_by_http(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    session = open_session(client)
    control = f"{stripe_standin.url}/_standin"

    status, paid = post(f"{control}/sessions/pay", json.dumps({"session": session}).encode())

    assert (status, paid["payment_status"]) == (200, "paid")
    assert post(f"{control}/clock/now", b"")[0] == 200
    assert post(f"{control}/webhooks/queued", b"{}")[1][0]["kind"] == "payment_intent.created"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("sessions/steal", b"", 404, "no deed"),
        ("nonsense/pay", b"", 404, "no deed"),
        ("sessions/_end", b"", 404, "no deed"),
        ("sessions/ledger", b"", 404, "no deed"),
        ("sessions/pay", b"", 400, "session"),
        ("sessions/pay", b'{"session": ', 400, "Expecting value"),
        ("sessions/pay", b"[1]", 400, "object"),
        ("sessions/pay", b"\xff", 400, "decode"),
        ("sessions/pay", b'{"session": "cs_test_unknown"}', 404, "No such checkout.session"),
        ("faults/add", b'{"on": "GET .*", "kind": "flood"}', 400, "no kind of fault"),
        ("faults/add", b'{"on": "(", "kind": "slow"}', 400, "unterminated"),
        ("faults/wait_until_paused", b'{"seconds": 0.01}', 409, "0 of 1"),
        ("webhooks/deliver", b'{"ids": ["evt_unknown"]}', 409, "no address"),
    ],
)
def test_wrong_deeds_by_http(
    stripe_standin: StripeStandin, path: str, body: bytes, status: int, message: str
) -> None:
    got, answer = post(f"{stripe_standin.url}/_standin/{path}", body)

    assert got == status
    assert message in answer["error"]
