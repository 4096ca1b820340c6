"""The pages that a sender may get: an oracle, which reads no permission of the shop."""

from __future__ import annotations

import re

from tests.tools.fuzz.owners import Owners
from tests.tools.fuzz.senders import Sender
from tests.tools.fuzz.wire import Answer, Request

LOGIN = "/admin/login/"
OF_MODEL = re.compile(r"/admin/(?P<app>[a-z]+)/(?P<model>[a-z]+)/(?P<rest>.*)")
OF_BANK = re.compile(r"/demo-bank/charges/\d+/")
CONTENT = range(200, 300)

READ_BY_MERCHANT = {
    "inventory.product",
    "inventory.stockmovement",
    "inventory.reservation",
    "inventory.stockalert",
    "experiments.flashsale",
    "shop.order",
    "shop.payment",
    "shop.refund",
    "shop.dispute",
    "shop.refusal",
    "shop.shopalert",
}
READ = {
    "clerk": set[str](),
    "merchant": READ_BY_MERCHANT,
    "auditor": READ_BY_MERCHANT | {"auth.user", "auth.group", "admin.logentry"},
}
READING = re.compile(r"(|export/|.+/(history|change|packing-slip|stock-history|holders)/)")
"""The pages of a model that only show something."""


def forbidden_content(answer: Answer, request: Request, sender: Sender) -> str:
    """The reason why the sender must not get this answer; empty if that is all right.

    Without permission there is a way to the login, or a refusal.
    """
    path = request.decoded_path
    if answer.status not in CONTENT or request.method == "OPTIONS":
        return ""
    if path == "/metrics":
        return "It is for those with the token."
    if OF_BANK.fullmatch(path):
        return "" if sender.role in ("auditor", "merchant", "superuser") else "It is for staff."
    if not path.startswith("/admin/") or path == LOGIN or sender.role == "superuser":
        return ""
    if not sender.is_staff:
        is_logout = path == "/admin/logout/" and request.method == "POST"
        return "" if is_logout else f"The page is for staff, not for a {sender.role}."
    found = OF_MODEL.fullmatch(path)
    if not found or found["app"] not in ("inventory", "experiments", "shop", "auth", "admin"):
        return ""
    if f"{found['app']}.{found['model']}" not in READ[sender.role]:
        return f"Pages of {found['model']} are not for the {sender.role}."
    if sender.role == "auditor" and not READING.fullmatch(found["rest"]):
        return "The auditor gets a page for changing something."
    return ""


def leaked_words(answer: Answer, request: Request, sender: Sender, owners: Owners) -> list[str]:
    """Words in the answer about others' orders, which the sender may not read."""
    heads = "\n".join(value for name, value in answer.headers if name.lower() != "set-cookie")
    text = f"{heads}\n{answer.text}"
    watched = owners.watched_orders()
    usable = {number for number, _ in watched if owners.may_use(number, sender, request)}
    known = {word for number, words in watched if number in usable for word in words.private}
    leaked = []
    for number, words in watched:
        if number in usable:
            continue
        hidden = words.secret if reads_orders(sender, request) else words.secret | words.private
        if sees_outbox(sender, request):
            hidden = set()
        new = hidden - known
        leaked += [word for word in new if word in text and not request.contains(word)]
    buyers = [buyer for buyer in owners.watched_buyers() if buyer and buyer != sender.buyer]
    return leaked + [key for key in buyers if key in text and not request.contains(key)]


def reads_orders(sender: Sender, request: Request) -> bool:
    """Whether this is a page on which staff read names and addresses of customers."""
    is_for_staff = request.decoded_path.startswith(("/admin/", "/demo-bank/charges/"))
    return is_for_staff and sender.role in ("auditor", "merchant", "superuser")


def sees_outbox(sender: Sender, request: Request) -> bool:
    """Whether it is an e-mail, which staff who change orders may read, links included."""
    is_mail = request.decoded_path.startswith("/demo/outbox/")
    return is_mail and sender.role in ("merchant", "superuser")


def forbidden_hold(answer: Answer, owners: Owners, request: Request, sender: Sender) -> list[str]:
    """Holds of other customers that a customer's page shows."""
    if sender.is_staff or answer.status not in CONTENT:
        return []
    return [
        hold
        for hold, buyer in owners.watched_holds()
        if hold in answer.text
        and buyer != sender.buyer
        and not request.contains(hold)
        and not owners.may_use(owners.order_of_hold.get(hold, 0), sender, request)
    ]
