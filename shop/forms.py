"""What buyers type, checked before anything is asked of the stock."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.core.exceptions import ValidationError

WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,100}\s*")


class QuantityField(forms.IntegerField):
    """A number of units, 1 or more: digits only, so that no other number is read into them.

    Too many for the shop is for the basket to say: it knows how many there are.
    """

    def __init__(self, **kwargs: Any) -> None:
        errors = {
            "required": "Enter how many you want, such as 1.",
            "invalid": "Quantity: enter a whole number, such as 2.",
            "min_value": "Quantity: enter 1 or more.",
        }
        super().__init__(min_value=1, error_messages=errors, **kwargs)

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values or not str(value).strip():
            return None
        if not WHOLE_NUMBER.fullmatch(str(value)):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return int(value)


class ReserveForm(forms.Form):
    """``key`` marks one filling-in of the form: sent twice, it counts once."""

    INCOMPLETE = "This form was incomplete. Please send it once more."

    quantity = QuantityField()
    key = forms.UUIDField(error_messages={"required": INCOMPLETE, "invalid": INCOMPLETE})

    @property
    def key_to_send(self) -> UUID:
        """The key that the page's form gets: the one sent, if it was refused, or a new one."""
        sent: UUID | None = self.cleaned_data.get("key") if self.is_bound else None
        return sent or uuid4()

    @property
    def typed(self) -> str:
        """The quantity as it was typed, to be shown again; HTML can't have a NUL."""
        return str(self["quantity"].value() or "").replace("\0", "")[:100]


class ChangeHoldForm(ReserveForm):
    """``seen`` is the quantity that the page showed."""

    seen = forms.IntegerField(min_value=1)


class SearchForm(forms.Form):
    """The list's search. What makes no sense is left out rather than complained about."""

    SORTS = {
        "name": ("By name", ["name", "pk"]),
        "price": ("Price, low to high", ["price", "name", "pk"]),
        "-price": ("Price, high to low", ["-price", "name", "pk"]),
        "new": ("New first", ["-created_at", "-pk"]),
    }

    q = forms.CharField(max_length=100, required=False)
    in_stock = forms.BooleanField(required=False)
    sort = forms.ChoiceField(choices=[(key, sort[0]) for key, sort in SORTS.items()])

    @property
    def words(self) -> list[str]:
        """The words that are searched for."""
        text: str = self.cleaned_data.get("q", "")
        return text.split()

    @property
    def order(self) -> list[str]:
        return self.SORTS[self.sorted_by][1]

    @property
    def sorted_by(self) -> str:
        key: str = self.cleaned_data.get("sort", "name")
        return key
