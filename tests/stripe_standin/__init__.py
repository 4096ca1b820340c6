"""A stand-in for Stripe, that follows Stripe's documentation.

The real library talks real HTTP to it. In a test, the fixture ``stripe_standin`` is one in a
thread, and its parts have these deeds:

``url``, ``secret_key``, ``live_secret_key``, ``webhook_secret``, ``page_of(session)``

``clock``: ``now() advance(seconds)``

``sessions``, named by their ids: ``pay(session, booked=) book(session) pay_later(session)
settle(session) fail(session) decline_card(session) expire(session) get(session) all()``

``refunds``: ``dashboard(payment, amount) begin_as(status) succeed(refund) fail(refund, reason)
cancel(refund) get(refund) all()``; a payment is named by its session, intent or charge

``disputes``: ``open(payment, amount, reason=, inquiry=) escalate(dispute) answer(dispute)
win(dispute) lose(dispute) close_inquiry(dispute) prevent(payment, amount) get(dispute) all()``

``account``: ``restrict() lift_restriction() add_key(key) revoke_key(key) deny(on)``

``keys``: ``forget()``

``webhooks``: ``event(kind, object, id=, at=, secret=) sign(body, at=, secret=) queued(kind)
messages(kind) deliver(ids, attempts=, at=) drop_queued() set_url(url) roll_secret(new)
drop_old_secret() enable_events(kinds) start_courier(seconds) stop_courier()
wait_until_delivered(seconds)``

``faults``: ``add(on, kind, times=, seconds=, done=) hook(on, before=, after=, times=)
remove(number) clear() wait_until_paused(requests) resume() drop()``; ``on`` is a regular expression
for the whole of method and path, as in ``POST /v1/refunds``; the kinds are at ``faults.Kind``

``books``: ``balance(session) balances() charges()``; ``requests``: ``all(on) clear()``

The fixture ``stripe_standin_process`` is one in a process of its own, for a drill that kills the
shop: ``remote.StandinProcess``, with the same deeds, whose results are as JSON shows them. By hand:
``python -m tests.stripe_standin --help``; ``control`` tells how to do deeds by HTTP.

Where the documentation is silent, the stand-in does this:

- Most wordings are from reports of Stripe's users, some are our own; codes and types are Stripe's.
- An unknown id is a 404 in an address, and a 400 in a parameter.
- ``Stripe-Should-Retry`` is sent with lock timeouts (true) and with errors of the server (false).
- A restricted account may not open sessions (403); all else works.
- Amounts that are too small or too large, and wrong expansions, are found after validation: an
  idempotency key keeps the answer.
- A refund of more than is left has no code.
- After a declined card the session keeps its intent, which is cancelled when the session expires.
- One deed's messages come in one fixed order.
- A dispute that is prevented takes the money like a lost one, without a fee.
- A dispute of a part keeps the rest from being refunded, too, until it is won.
"""

from .standin import StripeStandin

__all__ = ["StripeStandin"]
