"""The stand-in as a program: ``python -m tests.stripe_standin --port 12111``.

It prints its address, and runs until it is ended. See ``control`` for its deeds by HTTP.
"""

from __future__ import annotations

import argparse
import signal
import threading

from tests.tools.drills import ErrorsFirstParser

from .standin import StripeStandin
from .webhooks import SECRET


def main() -> None:
    parser = make_parser()
    options = parser.parse_args()
    try:
        standin = StripeStandin(
            port=options.port, webhook_url=options.webhook, secret=options.secret
        )
    except OSError as error:
        parser.error(f"port {options.port} can't be opened: {error.strerror}")
    for key in options.api_key:
        standin.account.add_key(key)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with standin:
        if options.webhook:
            standin.webhooks.start_courier()
        print(standin.url, flush=True)
        ended.wait()


def make_parser() -> argparse.ArgumentParser:
    parser = ErrorsFirstParser(
        prog="python -m tests.stripe_standin",
        description="Stand in for Stripe on 127.0.0.1. No money moves.",
    )
    parser.add_argument("--port", type=port, default=0, help="the port; a free one by default")
    parser.add_argument(
        "--webhook",
        metavar="URL",
        default="",
        help="deliver messages to this address, until each is accepted; by default, only on demand",
    )
    parser.add_argument(
        "--secret", metavar="whsec_…", default=SECRET, help="the secret that signs messages"
    )
    parser.add_argument(
        "--api-key",
        metavar="sk_test_…",
        type=api_key,
        action="append",
        default=[],
        help=f"an API key that is right, beside {StripeStandin.secret_key}; can be repeated",
    )
    return parser


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def api_key(text: str) -> str:
    if not text.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
        raise argparse.ArgumentTypeError(f"{text!r} doesn't begin like an API key of Stripe")
    return text


if __name__ == "__main__":
    main()
