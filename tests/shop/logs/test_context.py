"""The context of log lines ends with the request, the job or the command that they are about."""

from __future__ import annotations

import contextvars

from shop import logs
from shop.logs.context import private_texts
from shop.models import Order


def test_what_a_command_hides_is_not_hidden_from_all_that_comes_later() -> None:
    """A command is no request and no job: nothing has begun its lines."""
    order = Order(number="AB-1", name="Zed Quillfeather", email="", street="", town="")
    contextvars.Context().run(logs.bind_order, order)
    assert contextvars.Context().run(private_texts) == []
