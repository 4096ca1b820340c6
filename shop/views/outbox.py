"""A demo's e-mails as pages. Only a demo has these pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from shop import links
from shop.middleware.buyer import ShopRequest
from shop.middleware.content_security import SHOP
from shop.notifications import outbox
from shop.views.privacy import private_page

NEWEST = 100

# Around an e-mail's HTML: styles of its own, no scripts, nothing loaded; a link that somebody
# clicks leaves the frame.
EMAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-top-navigation-by-user-activation"
)
LINKS_LEAVE_THE_FRAME = '<base target="_top">'

View = Callable[..., HttpResponse]


def in_demo(view: View) -> View:
    """Mark a view that only a demo has."""

    @wraps(view)
    def found_in_demo(*args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.DEMO:
            raise Http404
        return view(*args, **kwargs)

    return found_in_demo


@require_safe
@in_demo
@private_page
def mails(request: ShopRequest) -> HttpResponse:
    """List the e-mails that this visitor may see, newest first."""
    found = outbox.visible_mails(request.user, request.buyer)[:NEWEST]
    return render(request, "shop/outbox.html", {"mails": found, "most": NEWEST})


@require_safe
@in_demo
@private_page
def mail(request: ShopRequest, pk: int) -> HttpResponse:
    """Show one e-mail, with its HTML in a frame."""
    found = get_object_or_404(outbox.visible_mails(request.user, request.buyer), pk=pk)
    context = {"mail": found, "text": outbox.text_with_links(found.text, links.own_hosts(request))}
    response = render(request, "shop/outbox_mail.html", context)
    response["Content-Security-Policy"] = f"{SHOP}; frame-src 'self'"
    return response


@require_safe
@in_demo
@private_page
@xframe_options_sameorigin
def mail_html(request: ShopRequest, pk: int) -> HttpResponse:
    """Show the HTML of an e-mail, locked in: its styles work, and nothing else does."""
    found = get_object_or_404(
        outbox.visible_mails(request.user, request.buyer).exclude(html=""), pk=pk
    )
    html = found.html.replace("<head>", f"<head>{LINKS_LEAVE_THE_FRAME}", 1)
    return HttpResponse(html, headers={"Content-Security-Policy": EMAIL_POLICY})
