"""Requests that no browser sends are rejected before anything reads them, with a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from shop.wsgi import application
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import staff  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db

Staff = Callable[..., Client]
FORM = "application/x-www-form-urlencoded"


class Unread:
    """A body that must not be read."""

    def read(self, *args: Any) -> NoReturn:
        raise AssertionError("The body was read.")

    readline = __iter__ = read


def ask(method: str = "GET", path: str = "/", query: Any = "", **environ: Any) -> tuple[str, str]:
    """Call the application as a web server does; return the status and the page."""
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, **environ}
    environ.setdefault("HTTP_HOST", "localhost")
    setup_testing_defaults(environ)
    answered = []
    answer = application(environ, lambda status, headers: answered.append(status))
    page = b"".join(answer).decode()
    answer.close()  # type: ignore[attr-defined]
    return answered[0].split(" ")[0], page


# Text


NUL: dict[str, Callable[[Client], Any]] = {
    "address": lambda client: client.get("/demo-bank/\0/"),
    "address in the admin": lambda client: client.get("/admin/inventory/product/\0/change/"),
    "query": lambda client: client.get("/", {"q": "a\0b"}),
    "name in the query": lambda client: client.get("/", {"a\0b": "q"}),
    "form": lambda client: client.post("/basket/holds/", {"product": "\0"}),
    "name in the form": lambda client: client.post("/basket/holds/", {"\0": "1"}),
    "form by address": lambda client: client.post("/basket/holds/", "a=%00", content_type=FORM),
    "search in the admin": lambda client: client.get("/admin/shop/shopalert/", {"q": "K\0"}),
    "address of a parcel": lambda client: client.post("/checkout/", {"town": "Spring\0field"}),
    "login": lambda client: client.post("/admin/login/", {"username": "\0", "password": "x"}),
    "beside a file": lambda client: client.post(
        "/admin/login/", {"file": SimpleUploadedFile("a.png", b"x"), "x": "\0"}
    ),
    "cookie": lambda _: Client(headers={"cookie": 'sessionid="abcdefgh\\000"'}).get("/admin/"),
}


@pytest.mark.parametrize("where", NUL)
def test_a_nul_is_rejected_wherever_it_stands(client: Client, where: str) -> None:
    answer = NUL[where](client)
    assert answer.status_code == 400
    assert "We could not read that" in answer.content.decode()
    assert "Content-Security-Policy" in answer


def test_odd_but_valid_text_is_read(client: Client, make_product: MakeProduct) -> None:
    make_product(name="Zoë’s 🙂 \x01 lamp")
    assert "Zoë" in client.get("/", {"q": "Zoë’s 🙂"}).content.decode()
    assert client.get("/?q=%FF%ED%A0%80&%ff=%zz").status_code == 200
    assert client.get("/products/%F0%9F/").status_code == 404


# Encodings


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
@pytest.mark.parametrize(
    "charset",
    ["utf-16", "UTF-32", "utf-7", "base64", "rot13", "idna", "punycode", "nonsense", "\xff"],
)
@pytest.mark.parametrize("path", ["/", "/basket/holds/", "/admin/", "/payments/demo/events/"])
def test_text_in_another_encoding_is_rejected(method: str, charset: str, path: str) -> None:
    content_type = f"{FORM}; charset={charset}"
    status, page = ask(method, path, "q=lamp", CONTENT_TYPE=content_type)
    assert status == "415"
    assert method == "HEAD" or "it reads UTF-8" in page


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii"])
def test_utf8_by_any_name_is_read(charset: str) -> None:
    assert ask(CONTENT_TYPE=f"{FORM}; charset={charset}")[0] == "200"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("content_type", ["", ";;;", "x", "text/html; x*=nonsense''y", "\xff/\xff"])
def test_a_malformed_content_type_is_no_fault_of_ours(content_type: str) -> None:
    assert ask(query="q=x", CONTENT_TYPE=content_type)[0] in ("200", "415")


# Forms that can't be read


BROKEN = {
    "no boundary": ("multipart/form-data", b"--x"),
    "an empty boundary": ("multipart/form-data; boundary=", b"--x"),
    "a boundary that isn't ASCII": ("multipart/form-data; boundary=b\xe9", b"--b\xe9"),
    "headers without an end": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\nX: ' + b"y" * 9000 + b"\r\n\r\n--x--",
    ),
    "no base64": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n--x--\r\n",
    ),
    "too many fields": (FORM, b"&".join([b"a=1"] * 2000)),
}


@pytest.mark.parametrize("path", ["/basket/holds/", "/admin/login/", "/orders/x/payment/"])
@pytest.mark.parametrize("host", ["localhost", "[", "example.org", ""])
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_form_is_rejected_by_error_pages_too(what: str, host: str, path: str) -> None:
    """Django's own error page would read the form again, and fail again."""
    content_type, body = BROKEN[what]
    client = Client(enforce_csrf_checks=True, headers={"host": host})
    client.cookies["csrftoken"] = "a" * 32  # or the form isn't read for it
    answer = client.generic("POST", path, body, content_type)
    assert answer.status_code == 400
    assert "We could not read that" in answer.content.decode()


# Sizes


@pytest.mark.parametrize(
    "path",
    ["/basket/holds/", "/checkout/", "/admin/login/", "/admin/inventory/product/add/"],
)
@pytest.mark.parametrize("content_type", [FORM, "multipart/form-data; boundary=x", "image/png"])
def test_nothing_is_read_of_a_body_that_is_too_large_for_a_visitor(
    path: str, content_type: str
) -> None:
    large: dict[str, Any] = {"CONTENT_LENGTH": str(64 * 1024 + 1), "wsgi.input": Unread()}
    status, page = ask("POST", path, CONTENT_TYPE=content_type, **large)
    assert status == "413"
    assert "up to 64.0" in page


def test_a_message_of_a_provider_has_the_same_limit(client: Client) -> None:
    large: dict[str, Any] = {"CONTENT_LENGTH": str(64 * 1024 + 1), "wsgi.input": Unread()}
    assert ask("POST", "/payments/demo/events/", **large)[0] == "413"


def test_a_visitor_may_send_a_form(client: Client) -> None:
    assert client.post("/basket/holds/", {"product": "x" * 60_000}).status_code == 404


@pytest.mark.parametrize("role", ["", "merchant", "auditor"])
def test_staff_may_send_more_in_the_admin_alone(
    staff: Staff,  # noqa: F811
    settings: Any,
    role: str,
) -> None:
    settings.MOST_UPLOAD_BYTES = 200_000
    client = staff(role)
    upload = "/admin/inventory/product/import/"
    assert client.post(upload, file_of(150_000)).status_code in (200, 403)
    assert client.post("/basket/holds/", file_of(150_000)).status_code == 413
    answer = client.post(upload, file_of(250_000))
    assert answer.status_code == 413
    assert "up to 195.3" in answer.content.decode()


def test_an_ended_session_counts_as_a_visitor(staff: Staff) -> None:  # noqa: F811
    client = staff("merchant")
    client.logout()
    answer = client.post("/admin/inventory/product/import/", file_of(70_000))
    assert answer.status_code == 413


def file_of(size: int) -> dict[str, SimpleUploadedFile]:
    return {"import_file": SimpleUploadedFile("a.csv", b"x" * size)}


@pytest.mark.parametrize("length", ["x", "1e3", "-", "²", "9" * 5000])
def test_a_malformed_length(length: str) -> None:
    assert ask("POST", "/basket/holds/", CONTENT_LENGTH=length)[0] in ("400", "403", "413")


def test_a_body_of_unknown_length() -> None:
    """Django would take the body for empty."""
    body: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": Unread()}
    status, page = ask("POST", "/payments/demo/events/", **body)
    assert status == "411"
    assert "Content-Length" in page


def test_a_picture_with_a_name_that_no_file_can_have(client: Client) -> None:
    for name in ("x" * 300, "x/" * 3000, "..", ".", "%2e%2e/%2e%2e/etc/passwd"):
        assert client.get(f"/media/{name}").status_code in (400, 404)
