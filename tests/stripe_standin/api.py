"""The endpoints of the API that a shop needs for Checkout."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from . import listing
from .account import is_live
from .errors import ApiError, InvalidParameters, ResourceMissing
from .exchange import Answer, Request
from .faults import Trouble
from .ledger import Object
from .money import LARGEST_AMOUNT, SMALLEST_AMOUNTS
from .parameters import Parameters
from .sessions import LONGEST, SHORTEST, TOLERANCE, SessionRequest

if TYPE_CHECKING:
    from .standin import StripeStandin

METHOD_TYPES = ("card", "link", "paypal", "klarna", "ideal", "bancontact", "eps", "sepa_debit")
MOST_LINES = 100
REASONS = ("duplicate", "fraudulent", "requested_by_customer")
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")

Endpoint = Callable[[Parameters, str], Object]
"""Carries out a request by its parameters and the id in its address."""


class Api:
    """Answers requests to ``/v1``."""

    def __init__(self, standin: StripeStandin) -> None:
        self._clock = standin.clock
        self._ledger = standin.ledger
        self._account = standin.account
        self._keys = standin.keys
        self._sessions = standin.sessions
        self._refunds = standin.refunds

    def answer(self, request: Request, trouble: Trouble) -> Answer:
        """Carry a request out, or repeat the first answer to its idempotency key."""
        answer = self._answer(request, trouble)
        headers = {"Request-Id": f"req_{uuid.uuid4().hex[:14]}"}
        for name in ("Idempotency-Key", "Stripe-Version"):
            if name.lower() in request.headers:
                headers[name] = request.headers[name.lower()]
        return dataclasses.replace(answer, headers={**answer.headers, **headers})

    def _answer(self, request: Request, trouble: Trouble) -> Answer:
        try:
            key = self._account.key_of(request.headers.get("authorization", ""))
            self._account.check_permission(key, request.name)
            _check_version(request.headers.get("stripe-version", ""))
            endpoint, id = self._endpoint(request, is_live(key))
            once = request.headers.get("idempotency-key", "")
            if request.method == "GET" or not once:
                return self._carry_out(request, endpoint, id, trouble)
            return self._keys.answer_once(
                once,
                "live" if is_live(key) else "test",
                f"{request.name} {sorted(parse_qsl(request.form, keep_blank_values=True))}",
                lambda: self._carry_out(request, endpoint, id, trouble),
            )
        except ApiError as error:
            return Answer.of_json(error.body, error.status, error.headers)

    def _carry_out(self, request: Request, endpoint: Endpoint, id: str, trouble: Trouble) -> Answer:
        """Answer, also with an error. Raises InvalidParameters if nothing began."""
        try:
            trouble.before(request)
            with self._ledger.turn():
                parameters = Parameters.parse(request.form)
                expansions = parameters.texts("expand")
                result = endpoint(parameters, id)
                shown = listing.expand(self._ledger, result, expansions)
            trouble.when_done()
            return Answer.of_json(shown)
        except InvalidParameters:
            raise
        except ApiError as error:
            return Answer.of_json(error.body, error.status, error.headers)

    def _endpoint(self, request: Request, live: bool) -> tuple[Endpoint, str]:
        for pattern, endpoint in self._endpoints(live):
            match = re.fullmatch(pattern, request.name)
            if match:
                return endpoint, match.groupdict().get("id", "")
        raise ApiError(
            f"Unrecognized request URL ({request.method}: {request.path}). Please see "
            "https://stripe.com/docs or we can help at https://support.stripe.com/.",
            status=404,
        )

    def _endpoints(self, live: bool) -> list[tuple[str, Endpoint]]:
        sessions, id = "/v1/checkout/sessions", "(?P<id>[^/]+)"
        payment = ("payment_intent", "charge")
        return [
            (f"POST {sessions}", lambda p, _: self._create_session(p, live)),
            (f"GET {sessions}", self._list("checkout.session", ("payment_intent", "status"), live)),
            (f"GET {sessions}/{id}", self._get("checkout.session", live)),
            (f"POST {sessions}/{id}/expire", lambda p, id: self._expire(p, id, live)),
            (f"GET {sessions}/{id}/line_items", lambda p, id: self._line_items(p, id, live)),
            (f"GET /v1/payment_intents/{id}", self._get("payment_intent", live)),
            (f"GET /v1/charges/{id}", self._get("charge", live)),
            (f"GET /v1/balance_transactions/{id}", self._get("balance_transaction", live)),
            ("POST /v1/refunds", lambda p, _: self._create_refund(p, live)),
            ("GET /v1/refunds", self._list("refund", payment, live)),
            (f"GET /v1/refunds/{id}", self._get("refund", live)),
            ("GET /v1/disputes", self._list("dispute", payment, live)),
            (f"GET /v1/disputes/{id}", self._get("dispute", live)),
        ]

    def _create_session(self, parameters: Parameters, live: bool) -> Object:
        return self._sessions.create(self._session_request(parameters, live))

    def _session_request(self, parameters: Parameters, live: bool) -> SessionRequest:
        for name in ("mode", "line_items", "success_url"):
            parameters.required(name)
        parameters.choice("mode", ("payment",))
        parameters.choice("ui_mode", ("hosted_page",))
        line_items = [self._line_item(one) for one in parameters.groups("line_items")]
        if len(line_items) > MOST_LINES:
            raise InvalidParameters(
                f"You can have at most {MOST_LINES} line items.", param="line_items"
            )
        currencies = {item["currency"] for item in line_items}
        if len(currencies) != 1:
            raise InvalidParameters(
                "All line items must have the same currency.", param="line_items"
            )
        request = SessionRequest(
            line_items=line_items,
            success_url=parameters.url("success_url") or "",
            expires_at=self._expires_at(parameters),
            currency=currencies.pop(),
            livemode=live,
            metadata=parameters.metadata(),
            payment_intent_data=_payment_intent_data(parameters.group("payment_intent_data")),
            fields={
                "cancel_url": parameters.url("cancel_url"),
                "client_reference_id": parameters.text("client_reference_id", longest=200),
                "customer_email": parameters.email("customer_email"),
                "locale": parameters.text("locale"),
                "payment_method_types": _method_types(parameters),
                "submit_type": parameters.choice("submit_type", ("auto", "pay", "book", "donate")),
            },
        )
        parameters.finish()
        return request

    def _line_item(self, parameters: Parameters) -> Object:
        parameters.required("quantity")
        parameters.required("price_data")
        quantity = parameters.whole_number("quantity", least=1, most=999_999) or 1
        price = parameters.group("price_data")
        for name in ("currency", "product_data", "unit_amount"):
            price.required(name)
        currency = (price.text("currency") or "").lower()
        if currency not in SMALLEST_AMOUNTS:
            raise InvalidParameters(
                f"Invalid currency: {currency}. Stripe currently supports these currencies: "
                f"{', '.join(SMALLEST_AMOUNTS)}",
                param=price.name_of("currency"),
            )
        amount = price.whole_number("unit_amount", least=0, most=LARGEST_AMOUNT) or 0
        product = price.group("product_data")
        product.required("name")
        item = {
            "object": "item",
            "amount_total": amount * quantity,
            "currency": currency,
            "description": product.text("name"),
            "quantity": quantity,
        }
        product.text("description")
        product.texts("images")
        product.metadata()
        return item

    def _expires_at(self, parameters: Parameters) -> int:
        now = self._clock.now()
        time = parameters.whole_number("expires_at")
        if time is None:
            return now + LONGEST
        if not now + SHORTEST - TOLERANCE <= time <= now + LONGEST + TOLERANCE:
            raise InvalidParameters(
                "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours "
                "from Checkout Session creation.",
                param="expires_at",
            )
        return time

    def _expire(self, parameters: Parameters, id: str, live: bool) -> Object:
        parameters.finish()
        self._in_mode(id, "checkout.session", live)
        return self._sessions.expire(id)

    def _line_items(self, parameters: Parameters, id: str, live: bool) -> Object:
        self._in_mode(id, "checkout.session", live)
        url = f"/v1/checkout/sessions/{id}/line_items"
        items = self._sessions.line_items(id)
        parameters.finish()
        return {"object": "list", "data": items, "has_more": False, "url": url}

    def _create_refund(self, parameters: Parameters, live: bool) -> Object:
        payment = parameters.text("payment_intent")
        charge = parameters.text("charge")
        if (payment is None) == (charge is None):
            raise InvalidParameters(
                "One of the following params should be provided for this request: payment_intent "
                "or charge."
            )
        amount = parameters.whole_number("amount", least=1)
        metadata = parameters.metadata()
        reason = parameters.choice("reason", REASONS)
        parameters.finish()
        if payment is not None:
            self._in_mode(payment, "payment_intent", live, param="payment_intent")
        if charge is not None:
            self._in_mode(charge, "charge", live, param="charge")
        return self._refunds.create(
            payment or charge or "", amount, metadata=metadata, reason=reason
        )

    def _get(self, kind: str, live: bool) -> Endpoint:
        def get(parameters: Parameters, id: str) -> Object:
            parameters.finish()
            return self._in_mode(id, kind, live)

        return get

    def _list(self, kind: str, filters: tuple[str, ...], live: bool) -> Endpoint:
        def list_(parameters: Parameters, _: str) -> Object:
            objects = [
                one for one in self._ledger.all(kind) if self._ledger.is_live(one["id"]) == live
            ]
            url = f"/v1/{kind.replace('.', '/')}s"
            page = listing.page(objects, parameters, url=url, filters=filters)
            parameters.finish()
            return page

        return list_

    def _in_mode(self, id: str, kind: str, live: bool, *, param: str = "") -> Object:
        """The object with this id, if it was made in this mode. Raises ResourceMissing."""
        found = self._ledger.find(id)
        if found is None or found["object"] != kind:
            raise ResourceMissing(kind, id, param=param)
        if self._ledger.is_live(id) != live:
            modes = ("test", "live") if live else ("live", "test")
            hint = (
                f"; a similar object exists in {modes[0]} mode, but a {modes[1]} mode key was "
                "used to make this request."
            )
            raise ResourceMissing(kind, id, param=param, hint=hint)
        return found


def _payment_intent_data(parameters: Parameters) -> Object:
    fields: Object = {"metadata": parameters.metadata()}
    for name in ("description", "statement_descriptor", "statement_descriptor_suffix"):
        fields[name] = parameters.text(name)
    fields["receipt_email"] = parameters.email("receipt_email")
    fields["shipping"] = _shipping(parameters)
    return fields


def _shipping(parameters: Parameters) -> Object | None:
    if "shipping" not in parameters:
        return None
    shipping = parameters.group("shipping")
    shipping.required("address")
    shipping.required("name")
    address = shipping.group("address")
    address.required("line1")
    lines = ("city", "country", "line1", "line2", "postal_code", "state")
    return {
        "address": {name: address.text(name) for name in lines},
        "carrier": shipping.text("carrier"),
        "name": shipping.text("name"),
        "phone": shipping.text("phone"),
        "tracking_number": shipping.text("tracking_number"),
    }


def _method_types(parameters: Parameters) -> list[str]:
    types = parameters.texts("payment_method_types") or ["card"]
    for number, one in enumerate(types):
        if one not in METHOD_TYPES:
            raise InvalidParameters(
                f"Invalid payment_method_types[{number}]: must be one of {', '.join(METHOD_TYPES)}",
                param=f"payment_method_types[{number}]",
            )
    return types


def _check_version(version: str) -> None:
    if version and not VERSION.fullmatch(version):
        raise InvalidParameters(f"Invalid Stripe API version: {version}")
