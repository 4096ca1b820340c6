"""The page where the buyer pays: ``/c/pay/<session>``."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import parse_qs

from .errors import NotPossible, ResourceMissing
from .exchange import Answer, Request
from .ledger import Object
from .money import format_amount
from .sessions import Sessions

ADDRESS = re.compile(r"/c/pay/(?P<session>[A-Za-z0-9_]+)")

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d9e2, #3b4152); }
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif;
  background: light-dark(#f6f8fa, #14161c); color: light-dark(#1a1f36, #e9ecf3); }
main { box-sizing: border-box; max-width: 26rem; margin: 0 auto; padding: 2rem 1.25rem; }
h1 { margin: 0; font-size: 1.125rem; font-weight: 600; }
.amount { margin: 0 0 1rem; font-size: 2.25rem; font-weight: 700; overflow-wrap: anywhere; }
ul { margin: 0 0 1.5rem; padding: 0; list-style: none; border-top: 1px solid var(--line); }
li { display: flex; justify-content: space-between; gap: 1rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
button { display: block; box-sizing: border-box; width: 100%; min-height: 3rem; margin: 0 0 .75rem;
  padding: .6rem 1rem; border: 1px solid light-dark(#5b53d8, #8f88ff); border-radius: .5rem;
  font: inherit; font-weight: 600; cursor: pointer; }
.pay { background: light-dark(#5b53d8, #8f88ff); color: light-dark(#fff, #14161c); }
.other { background: transparent; color: inherit; }
a { color: light-dark(#4a42c4, #a9a4ff); }
[role=alert] { padding: .75rem 1rem; border-left: .25rem solid light-dark(#b3261e, #ff8a80);
  background: light-dark(#fdecea, #3a1f22); }
.note { font-size: .875rem; color: light-dark(#545b73, #a8b0c4); }
"""


class Pages:
    """The pages of the stand-in. The buyer's choices are the same deeds that tests do."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def knows(self, request: Request) -> bool:
        """Tell whether the request is one for a page."""
        return request.path.startswith("/c/")

    def answer(self, request: Request) -> Answer:
        """Show the page of a session, or do what the buyer chose there."""
        match = ADDRESS.fullmatch(request.path)
        try:
            session = self._sessions.get(match["session"] if match else "")
        except ResourceMissing:
            return _notice(
                "This page doesn’t exist", "<p>Go back to the shop, and try again.</p>", 404
            )
        if request.method == "POST":
            return self._choose(session, parse_qs(request.form).get("choice", [""])[0])
        return self._show(session)

    def _choose(self, session: Object, choice: str) -> Answer:
        try:
            if choice == "pay":
                paid = self._sessions.pay(session["id"])
                return _redirect(_success_url(paid))
            if choice == "decline":
                self._sessions.decline_card(session["id"])
                return self._show(session, "Your card was declined. Try another card.")
        except NotPossible:
            return self._show(self._sessions.get(session["id"]))
        return self._show(session, "Choose how to go on.", 400)

    def _show(self, session: Object, problem: str = "", status: int = 200) -> Answer:
        if session["status"] == "expired":
            back = _link(session["cancel_url"])
            return _notice("This payment page has expired", f"<p>You have paid nothing.</p>{back}")
        if session["status"] == "complete":
            back = _link(_success_url(session))
            return _notice(
                "This payment is complete", f"<p>You have nothing more to do here.</p>{back}"
            )
        amount = escape(format_amount(session["amount_total"], session["currency"]))
        lines = "".join(
            f"<li><span>{item['quantity']} × {escape(item['description'])}</span> "
            f"<span>{escape(format_amount(item['amount_total'], item['currency']))}</span></li>"
            for item in self._sessions.line_items(session["id"])
        )
        alert = f'<p role="alert">{escape(problem)}</p>' if problem else ""
        description = escape(self._sessions.description(session["id"]) or "Pay by card")
        return _page(
            f"Pay {amount}",
            f'<h1>{description}</h1><p class="amount">{amount}</p><ul>{lines}</ul>{alert}'
            '<form method="post">'
            f'<button class="pay" name="choice" value="pay">Pay {amount}</button>'
            '<button class="other" name="choice" value="decline">'
            "Pay with a card that is declined</button>"
            "</form>"
            f"{_link(session['cancel_url'])}"
            '<p class="note">This page stands in for Stripe. No money moves.</p>',
            status,
        )


def _success_url(session: Object) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _link(url: str | None) -> str:
    return f'<p><a href="{escape(url)}">Back to the shop</a></p>' if url else ""


def _redirect(url: str) -> Answer:
    return Answer(303, b"", {"Location": url})


def _notice(title: str, main: str, status: int = 200) -> Answer:
    return _page(title, f"<h1>{title}</h1>{main}", status)


def _page(title: str, main: str, status: int) -> Answer:
    return Answer.of_html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # else browsers ask for one
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{main}</main></body>"
        "</html>",
        status,
    )
