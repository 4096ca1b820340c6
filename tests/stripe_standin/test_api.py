"""Keys, addresses, versions, lists and expansions, as Stripe's API reference has them."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from typing import Any

import pytest
import stripe

from .shop import client_of, intent_of, open_session, paid_session, parameters, refund
from .standin import StripeStandin
from .webhooks import API_VERSION


def test_a_wrong_key_is_not_authenticated(stripe_standin: StripeStandin) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided") as error:
        open_session(client_of(stripe_standin, "sk_test_of_another_account"))

    assert error.value.http_status == 401
    assert "of_another" not in str(error.value)


def test_a_revoked_key_is_wrong(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    open_session(client)
    stripe_standin.account.revoke_key(stripe_standin.secret_key)

    with pytest.raises(stripe.AuthenticationError):
        open_session(client)


def test_the_key_may_come_by_basic_authentication(
    stripe_standin: StripeStandin,
) -> None:
    basic = base64.b64encode(f"{stripe_standin.secret_key}:".encode()).decode()

    assert get(stripe_standin, "/v1/refunds", f"Basic {basic}") == 200
    assert get(stripe_standin, "/v1/refunds", "") == 401


def get(standin: StripeStandin, path: str, authorization: str) -> int:
    request = urllib.request.Request(standin.url + path, headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_restricted_key_lacks_a_permission(stripe_standin: StripeStandin) -> None:
    stripe_standin.account.deny("POST /v1/refunds")
    client = client_of(stripe_standin, "rk_test_standin")
    session = paid_session(stripe_standin, client)

    with pytest.raises(stripe.PermissionError, match="required permissions"):
        refund(stripe_standin, client, session)
    refund(stripe_standin, client_of(stripe_standin), session)


def test_test_mode_and_live_mode_see_nothing_of_each_other(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    live = client_of(stripe_standin, stripe_standin.live_secret_key)
    session = open_session(live)

    assert session.startswith("cs_live_")
    assert live.v1.checkout.sessions.retrieve(session).livemode is True
    assert client.v1.checkout.sessions.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="a similar object exists in live mode"):
        client.v1.checkout.sessions.retrieve(session)


def test_an_unknown_address_is_not_found(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL") as error:
        client.raw_request("get", "/v1/checkout/session")

    assert error.value.http_status == 404


@pytest.mark.parametrize("version", ["2026", "latest", "2026-10-28-endive"])
def test_a_wrong_version_is_refused(stripe_standin: StripeStandin, version: str) -> None:
    client = stripe.StripeClient(
        stripe_standin.secret_key,
        stripe_version=version,
        base_addresses={"api": stripe_standin.url},
    )

    with pytest.raises(stripe.InvalidRequestError, match="Invalid Stripe API version"):
        open_session(client)


def test_an_object_that_does_not_exist(client: stripe.StripeClient) -> None:
    for retrieve in (
        client.v1.checkout.sessions.retrieve,
        client.v1.payment_intents.retrieve,
        client.v1.charges.retrieve,
        client.v1.refunds.retrieve,
        client.v1.disputes.retrieve,
    ):
        with pytest.raises(stripe.InvalidRequestError) as error:
            retrieve("cs_test_unknown")
        assert (error.value.code, error.value.http_status) == ("resource_missing", 404)


def test_the_id_of_another_kind_is_missing(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)

    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.refunds.retrieve(intent_of(stripe_standin, session))
    assert error.value.code == "resource_missing"


def test_ids_are_expanded_on_demand(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    session = paid_session(stripe_standin, client)

    plain = client.v1.checkout.sessions.retrieve(session)
    assert isinstance(plain.payment_intent, str)
    intent = client.v1.checkout.sessions.retrieve(
        session, {"expand": ["payment_intent.latest_charge.balance_transaction"]}
    ).payment_intent

    assert isinstance(intent, stripe.PaymentIntent)
    assert isinstance(intent.latest_charge, stripe.Charge)
    change = intent.latest_charge.balance_transaction
    assert isinstance(change, stripe.BalanceTransaction)
    assert (change.amount, change.net + change.fee) == (1000, 1000)


def test_ids_of_a_list_are_expanded_on_demand(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    open_session(client)
    paid_session(stripe_standin, client)

    paid, unpaid = client.v1.checkout.sessions.list({"expand": ["data.payment_intent"]}).data

    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert unpaid.payment_intent is None


def test_what_is_no_id_is_not_expanded(client: stripe.StripeClient) -> None:
    session = open_session(client)

    for path in ("amount_total", "metadata", "nonsense", "a.b.c.d.e"):
        with pytest.raises(stripe.InvalidRequestError, match="expand"):
            client.v1.checkout.sessions.retrieve(session, {"expand": [path]})


def test_lists_begin_with_the_newest_and_come_in_pages(client: stripe.StripeClient) -> None:
    ids = [open_session(client) for _ in range(5)]

    first = client.v1.checkout.sessions.list({"limit": 2})
    second = client.v1.checkout.sessions.list({"limit": 3, "starting_after": first.data[-1].id})

    assert [one.id for one in first.data] == [ids[4], ids[3]]
    assert first.has_more is True
    assert [one.id for one in second.data] == [ids[2], ids[1], ids[0]]
    assert second.has_more is False
    paged = client.v1.checkout.sessions.list({"limit": 2}).auto_paging_iter()
    assert [one.id for one in paged] == ids[::-1]


def test_a_page_has_ten_objects_by_default_and_a_hundred_at_most(
    client: stripe.StripeClient,
) -> None:
    for _ in range(11):
        open_session(client)

    assert len(client.v1.checkout.sessions.list().data) == 10
    assert len(client.v1.checkout.sessions.list({"limit": 100}).data) == 11
    for limit in (0, 101):
        with pytest.raises(stripe.InvalidRequestError) as error:
            client.v1.checkout.sessions.list({"limit": limit})
        assert error.value.param == "limit"


def test_lists_are_cut_by_the_time_of_creation(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    old = open_session(client)
    stripe_standin.clock.advance(100)
    new = open_session(client)
    time = client.v1.checkout.sessions.retrieve(new).created

    def listed(created: Any) -> list[str]:
        return [one.id for one in client.v1.checkout.sessions.list({"created": created}).data]

    assert listed({"gte": time}) == [new]
    assert listed({"gt": time}) == []
    assert listed({"lt": time}) == [old]
    assert listed({"lte": time}) == [new, old]
    assert listed({"gte": time - 200, "lt": time}) == [old]
    assert listed(time) == [new]


def test_lists_are_cut_by_status_and_payment(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    unpaid, paid = open_session(client), paid_session(stripe_standin, client)
    other = paid_session(stripe_standin, client)
    refunds = [refund(stripe_standin, client, one, 100).id for one in (paid, other)]
    disputes = [stripe_standin.disputes.open(one)["id"] for one in (paid, other)]
    intent = intent_of(stripe_standin, paid)

    def ids(listed: Any) -> list[str]:
        return [one.id for one in listed.data]

    assert ids(client.v1.checkout.sessions.list({"status": "open"})) == [unpaid]
    assert ids(client.v1.checkout.sessions.list({"payment_intent": intent})) == [paid]
    assert ids(client.v1.refunds.list({"payment_intent": intent})) == refunds[:1]
    assert ids(client.v1.disputes.list({"payment_intent": intent})) == disputes[:1]
    assert ids(client.v1.disputes.list()) == disputes[::-1]


def test_unknown_parameters_are_refused(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.checkout.sessions.create(parameters(colour="green"))

    assert (error.value.code, error.value.param) == ("parameter_unknown", "colour")


def test_a_wrong_expansion_is_found_when_the_request_is_done(
    stripe_standin: StripeStandin, client: stripe.StripeClient
) -> None:
    wanted = parameters(expand=["nonsense"])

    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError, match="expand"):
            client.v1.checkout.sessions.create(wanted, {"idempotency_key": "order-1"})

    assert len(stripe_standin.sessions.all()) == 1


def test_each_answer_names_its_request(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v1.refunds.retrieve("re_unknown")
    assert str(error.value.request_id).startswith("req_")

    session = client.v1.checkout.sessions.create(parameters(), {"idempotency_key": "order-1"})
    answer = session.last_response
    assert answer is not None
    assert answer.request_id != error.value.request_id
    assert answer.idempotency_key == "order-1"
    assert answer.headers["Stripe-Version"] == API_VERSION


def test_requests_are_logged(stripe_standin: StripeStandin, client: stripe.StripeClient) -> None:
    client.v1.checkout.sessions.create(parameters(), {"idempotency_key": "order-1"})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.retrieve("re_unknown")

    created, missing = stripe_standin.requests.all()

    assert (created.method, created.path) == ("POST", "/v1/checkout/sessions")
    assert (created.status, created.idempotency_key) == (200, "order-1")
    assert (missing.method, missing.path) == ("GET", "/v1/refunds/re_unknown")
    assert (missing.status, missing.idempotency_key) == (404, "")
    assert created.version == missing.version == API_VERSION
    assert stripe_standin.requests.all("GET /v1/refunds/.*") == [missing]
