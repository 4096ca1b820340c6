"""The errors that Stripe answers with."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer that isn't a success. ``type`` and ``code`` are as Stripe documents them."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON: Stripe leaves out the fields that don't apply."""
        error = {"type": self.type, "message": str(self)}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param:
            error["param"] = self.param
        return {"error": error}


class InvalidParameters(ApiError):
    """The parameters failed validation: nothing began, so no idempotency key keeps this answer."""


class ResourceMissing(ApiError):
    """No object has this id, at least not in the key's mode.

    Stripe answers 404 if the id was in the address, and 400 if it was a parameter.
    """

    def __init__(self, what: str, id: str, *, param: str = "", hint: str = "") -> None:
        super().__init__(
            f"No such {what}: '{id}'{hint}",
            status=400 if param else 404,
            code="resource_missing",
            param=param or "id",
        )


class NotPossible(Exception):
    """A test asked for a deed that can't be done at Stripe, either; the message says why."""
