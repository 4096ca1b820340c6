"""The stand-in as a whole: its parts, and the way of a request through them."""

from __future__ import annotations

from typing import Self

from .account import LIVE_SECRET_KEY, SECRET_KEY, Account
from .api import Api
from .books import Books
from .clock import Clock
from .control import Control
from .disputes import Disputes
from .errors import ApiError
from .exchange import Answer, Request
from .faults import Faults, Trouble
from .keys import IdempotencyKeys
from .ledger import Ledger
from .pages import Pages
from .refunds import Refunds
from .requests_log import RequestsLog
from .server import Server
from .sessions import Sessions
from .webhooks import API_VERSION, SECRET, Webhooks


class StripeStandin:
    """Stands in for Stripe at ``url``, from ``start`` to ``stop``; ``with`` does both."""

    secret_key = SECRET_KEY
    live_secret_key = LIVE_SECRET_KEY

    def __init__(self, *, port: int = 0, webhook_url: str = "", secret: str = SECRET) -> None:
        self._server = Server(port, self._answer)
        self.clock = Clock()
        self.webhooks = Webhooks(self.clock, url=webhook_url, secret=secret)
        self.account = Account()
        self.ledger = Ledger(self.clock, self.webhooks.announce)
        self.webhooks.catch_up = self.ledger.catch_up
        self.sessions = Sessions(self.ledger, self.account, self.page_of)
        self.refunds = Refunds(self.ledger)
        self.disputes = Disputes(self.ledger, self.refunds)
        self.books = Books(self.ledger)
        self.keys = IdempotencyKeys(self.clock)
        self.faults = Faults()
        self.requests = RequestsLog()
        self._api = Api(self)
        self._pages = Pages(self.sessions)
        self._control = Control(self)

    @property
    def url(self) -> str:
        """The address of the API, for the library's ``base_addresses``."""
        return self._server.url

    @property
    def webhook_secret(self) -> str:
        """The newest secret by which messages are signed."""
        return self.webhooks.secrets[0]

    @property
    def api_version(self) -> str:
        """The API's version in messages."""
        return API_VERSION

    def page_of(self, session: str) -> str:
        """Return the address of a session's page, also if the session is over."""
        return f"{self.url}/c/pay/{session}"

    def start(self) -> None:
        """Answer requests from now on."""
        self._server.start()

    def stop(self) -> None:
        """Close all connections and the port."""
        self.webhooks.stop_courier()
        self.faults.stop()
        self._server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, request: Request) -> Answer:
        """Answer a request. Raises ConnectionLost."""
        if self._control.knows(request):
            return self._control.answer(request)
        logged = self.requests.begin(request)
        trouble = self.faults.meet(request)
        try:
            answer = trouble.at_the_door() or self._carry_out(request, trouble)
        except ApiError as error:
            answer = Answer.of_json(error.body, error.status, error.headers)
        logged.status, logged.is_replayed = answer.status, answer.is_replayed
        sent = trouble.on_the_way_back(request, answer)
        logged.is_answered = True
        return sent

    def _carry_out(self, request: Request, trouble: Trouble) -> Answer:
        if not self._pages.knows(request):
            return self._api.answer(request, trouble)
        trouble.before(request)
        page = self._pages.answer(request)
        trouble.when_done()
        return page
