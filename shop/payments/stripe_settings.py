"""The settings of Stripe: what is wrong with them, in words that show no secret.

This needs no library, so that ``check`` can name a fault before anything is asked.
"""

from __future__ import annotations

STRIPE_ADDRESS = "https://api.stripe.com"
KEY_IS_AT = "It is in Stripe's dashboard, under Developers, API keys: it begins with sk_ or rk_."
WEBHOOK_SECRET_IS_AT = (
    "It is in Stripe's dashboard, under Developers, Webhooks, at the endpoint of this shop "
    "(“Signing secret”): it begins with whsec_."
)


def secret_key_problem(key: str) -> str:
    """Say what is wrong with STRIPE_SECRET_KEY, by its form alone; empty if nothing is."""
    if not key:
        return "STRIPE_SECRET_KEY is missing."
    if not _is_plain(key):
        return "STRIPE_SECRET_KEY has spaces, or other characters that no key of Stripe has."
    if key.startswith("pk_"):
        return "STRIPE_SECRET_KEY is a publishable key (pk_…), which can't take payments."
    if key.startswith("whsec_"):
        return "STRIPE_SECRET_KEY is the secret of a webhook (whsec_…): it belongs elsewhere."
    if not key.startswith(("sk_", "rk_")):
        return "STRIPE_SECRET_KEY is no secret key of Stripe: it must begin with sk_ or rk_."
    return ""


def webhook_secret_problem(secret: str) -> str:
    """Say what is wrong with STRIPE_WEBHOOK_SECRET, by its form alone; empty if nothing is."""
    if not secret:
        return "STRIPE_WEBHOOK_SECRET is missing: anybody could forge Stripe's messages."
    if not _is_plain(secret):
        return "STRIPE_WEBHOOK_SECRET has spaces, or other characters that no secret has."
    if not secret.startswith("whsec_") or secret == "whsec_":
        return "STRIPE_WEBHOOK_SECRET is no signing secret of Stripe: it must begin with whsec_."
    return ""


def is_test_key(key: str) -> bool:
    """Whether the key moves no real money."""
    return key.startswith(("sk_test_", "rk_test_"))


def _is_plain(text: str) -> bool:
    """Whether it can be sent in a header, and wasn't copied with anything round it."""
    return text.isascii() and text.isprintable() and not set(text) & set(" \"'<>")
