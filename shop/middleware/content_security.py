"""The Content-Security-Policy: pages load only our own files, and nothing inline."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.http import HttpRequest, HttpResponse

from shop import payments

SHOP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

# The admin's Alpine evaluates expressions in attributes, and Unfold and Chart.js set styles.
ADMIN = (
    SHOP.replace("script-src 'self'", "script-src 'self' 'unsafe-eval'")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    .replace("img-src 'self'", "img-src 'self' data:")
    + "; font-src 'self'"
)

# Policies by the beginning of the path, where the shop's own is too strict.
POLICIES = {"/admin/": ADMIN}


def middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Add the policy to every response without one."""

    def handle(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "Content-Security-Policy" not in response:
            response["Content-Security-Policy"] = policy(request.path_info)
        return response

    return handle


def policy(path: str) -> str:
    """The Content-Security-Policy of the page at ``path``."""
    for prefix, of_prefix in POLICIES.items():
        if path.startswith(prefix):
            return of_prefix
    return _shop_policy(payments.origins())


def _shop_policy(origins: Iterable[str]) -> str:
    """The shop's policy. ``form-action`` covers redirects, too: a form may lead to a bank."""
    return SHOP.replace("form-action 'self'", " ".join(["form-action 'self'", *origins]))
