"""Odd values: what no browser sends, in each place of a request."""

from __future__ import annotations

import re

from tests.tools.fuzz.wire import BOUNDARY

# Bytes, since not all of it is text.
ODD: list[bytes] = [
    b"",
    b" ",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # a lone surrogate
    "\N{SMILING FACE WITH SUNGLASSES}".encode(),
    "²٣".encode(),  # digits that are no ASCII
    b"%00",
    b"%zz",
    b"_00",  # how the admin quotes a NUL
    b"_zz_",
    b"'\"<script>{{7*7}}",
    b"../../../etc/passwd",
    b"..\\..\\x",
    b"//example.org/",
    b"http://[/",
    b"\r\nX-Odd: yes",
    b"0",
    b"-1",
    b"1.5",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"2147483648",
    b"99999999999999999999",
    b"9" * 5000,
    b"x" * 300,
    b"x" * 6000,
    b"/".join([b"x"] * 200),
    b"0001-01-01",
    b"9999-12-31",
    b"99999-99-99",
    b"25:61:61",
    b"00:00:00",
    b"00000000-0000-0000-0000-000000000000",
    b"None",
    b"null",
    b"true",
    b"[]",
    b'{"a": 1}',
    b"a,b,,c",
    b"id__exact=1&pk=2",
    b"__class__",
    b"password",
    b"id",
    b"logentry",
    b"groups",
]

METHODS = ["GET"] * 8 + ["POST"] * 8 + ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "FOO"]

CONTENT_TYPES = [
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-16",
    "application/x-www-form-urlencoded; charset=base64",
    "application/x-www-form-urlencoded; charset=nonsense",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=b\xe9",
    f"multipart/form-data; boundary={BOUNDARY}; charset=utf-16",
    f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7",
    "application/json",
    "application/json; charset=utf-16",
    "text/plain; charset=utf-32",
    "text/html; charset=idna",
    "image/png",
    ";;;",
    "\xff/\xff",
]

HEADERS = {
    "Authorization": ["\xff", "Bearer x", "Bearer \xff", "Basic !!", "Bearer"],
    "Accept": ["*/*", "text/html;q=x", "\xff", "," * 1000],
    "Accept-Encoding": ["gzip, br", "br;q=nan", "\xff"],
    "Accept-Language": ["de", "x" * 600, "*;q=1e999", "\xff", "en-" * 300],
    "Forwarded": ["for=\xff"],
    "HX-Current-URL": ["http://[", "\xff"],
    "HX-Request": ["true"],
    "HX-Target": ["\xff"],
    "Host": ["[", "localhost:99999", "\xff", "a b", "", "127.0.0.1:x", "xn--a"],
    "If-Match": ["\xff"],
    "If-Modified-Since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 99999 99:99:99 GMT"],
    "If-None-Match": ['"x"', "*", "\xff"],
    "Origin": ["null", "http://[", "\xff", "https://example.org"],
    "Range": ["bytes=0-1", "bytes=9-1", "bytes=-", "bytes=x", "bytes=99999999999999999999-"],
    "Referer": ["http://[", "\xff", "x" * 3000],
    "User-Agent": ["\xff", "x" * 3000, ""],
    "X-CSRFToken": ["\xff", "x", ""],
    "X-Forwarded-For": ["\xff", "1.2.3.4", "::1, x", "," * 500],
    "X-Forwarded-Proto": ["https", "\xff"],
    "X-HTTP-Method-Override": ["DELETE"],
    "X-Requested-With": ["XMLHttpRequest"],
}
# Each request has its marker in these, too: an error page may show them.
REFLECTING_HEADERS = ["User-Agent", "Referer", "X-Forwarded-Host", "X-Original-URL", "X-Request-ID"]
COOKIES = ["sessionid", "csrftoken", "buyer", "messages"]
ODD_COOKIES = ["", "x", "x" * 3000, '"a\\000bcdefgh"', "\xff", "a:b:c", '"', "a" * 32, "[[1]]:x:y"]

PARAMETERS = re.findall(
    r"\S+",
    """
    p o q s all e page extended next sort in_stock seen before term app_label model_name
    field_name _to_field _popup _changelist_filters _facets action index select_across
    _selected_action state state__exact status__exact status__isnull kind__exact shelf lapse
    stock_is is_active__exact product__id__exact groups__id__exact action_flag__exact
    reason__exact placed_at_from_0 placed_at_from_1 placed_at_to_0 placed_at_to_1 made_at_from_0
    made_at_to_0 created_at_from_0 created_at_from_1 decided_at_to_0 refused_at_from_0
    started_at_to_1 token__regex id__in pk__gt product__sku id units name__icontains product
    quantity key hold remove choice name email address seen_total confirmed units reason note
    restock amount tracking strategy initial-strategy price slug sku picture format resource
    import_file import_file_name original_file_name export_items username password password1
    password2 network cancel_orders postcode town country shown_price
    lines-TOTAL_FORMS lines-INITIAL_FORMS _save _continue _saveasnew
    """,
)


LIST = re.findall(
    r"\S+",
    """
    p o q all e state shelf lapse stock_is _facets _to_field _popup _changelist_filters
    """,
)
