"""What buyers type, checked before anything is asked of the stock."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID, uuid4

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from unfold.forms import AuthenticationForm

from shop.address import Address, country_choices
from shop.models import Order

PRICE = re.compile(r"[0-9]{1,8}(\.[0-9]{1,2})?")
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


class SeenPriceField(forms.Field):
    """What a unit cost on the page. Anybody can send anything: what is no price is left out."""

    def to_python(self, value: Any) -> Decimal | None:
        return Decimal(value) if PRICE.fullmatch(str(value)) else None


class ReserveForm(forms.Form):
    """``key`` marks one filling-in of the form: sent twice, it counts once.

    ``seen_price`` is only for telling the buyer if it has changed meanwhile.
    """

    INCOMPLETE = "This form was incomplete. Please send it once more."

    quantity = QuantityField()
    seen_price = SeenPriceField(required=False)
    key = forms.UUIDField(error_messages={"required": INCOMPLETE, "invalid": INCOMPLETE})

    @property
    def key_to_send(self) -> UUID:
        """The key that the page's form gets: the one sent, if it was refused, or a new one."""
        sent: UUID | None = self.cleaned_data.get("key") if self.is_bound else None
        return sent or uuid4()

    @property
    def typed(self) -> str:
        """The quantity as it was typed, to be shown again."""
        return str(self["quantity"].value() or "")[:100]


class IdsField(forms.Field):
    """Ids, each in a field of the same name; what is none is left out, as it names nothing."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[UUID]:
        return uuids(value or [])


class ChangeHoldForm(ReserveForm):
    """``seen`` is the quantity that the page showed, and ``hold`` the holds that it was of."""

    seen = forms.IntegerField(
        min_value=1,
        error_messages=dict.fromkeys(("required", "invalid", "min_value"), ReserveForm.INCOMPLETE),
    )
    hold = IdsField(required=False)


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
    def only_in_stock(self) -> bool:
        return bool(self.cleaned_data.get("in_stock"))

    @property
    def order(self) -> list[str]:
        return self.SORTS[self.sorted_by][1]

    @property
    def sorted_by(self) -> str:
        key: str = self.cleaned_data.get("sort", "name")
        return key


def uuids(values: list[str]) -> list[UUID]:
    """Those of the values that are UUIDs."""
    found = []
    for value in values:
        try:
            found.append(UUID(value))
        except ValueError:
            continue
    return found


class Contact(TypedDict):
    """The name, e-mail and address of an order, as ``shop.orders.checkout`` takes them."""

    name: str
    email: str
    address: Address


class ContactForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """The form for the name, the e-mail and the address of an order."""

    TYPED = ["name", "email", "address", "postcode", "town", "country"]

    address = forms.CharField(
        label="Street address",
        max_length=1000,
        help_text="Street and house number; a flat or a company in a second line.",
        widget=forms.Textarea(attrs={"autocomplete": "street-address", "rows": 2}),
        error_messages={"required": "Enter the street and the house number."},
    )
    country = forms.ChoiceField(
        widget=forms.Select(attrs={"autocomplete": "country"}),
        error_messages={
            "required": "Choose the country that we send it to.",
            "invalid_choice": "We don't send there: choose one of these countries.",
        },
    )

    class Meta:
        model = Order
        fields = ["name", "email", "postcode", "town", "country"]
        labels = {"email": "E-mail"}
        help_texts = {"email": "For the news of your order, and nothing else."}
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "postcode": forms.TextInput(attrs={"autocomplete": "postal-code"}),
            "town": forms.TextInput(attrs={"autocomplete": "address-level2"}),
        }
        error_messages = {
            "name": {"required": "Enter the name to write on the parcel."},
            "email": {
                "required": "Enter your e-mail address, such as ada@example.org.",
                "invalid": "Enter an e-mail address, such as ada@example.org.",
            },
            "postcode": {"required": "Enter the postcode, or a dash if there is none."},
            "town": {"required": "Enter the town."},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        countries: list[str] = settings.SHIP_TO_COUNTRIES
        country = self.fields["country"]
        assert isinstance(country, forms.ChoiceField)
        country.choices = country_choices(countries)
        country.initial = countries[0]
        self.fields["postcode"].required = self.fields["town"].required = True

    def full_clean(self) -> None:
        """Check all that was sent; the page takes its reader to the first field that is wrong."""
        super().full_clean()
        wrong = next((name for name in self.TYPED if name in self.errors), None)
        if wrong:
            self.fields[wrong].widget.attrs["autofocus"] = True

    @property
    def contact(self) -> Contact:
        """The name, e-mail and address, if the form is valid."""
        sent = self.cleaned_data
        address = Address(sent["address"], sent["postcode"], sent["town"], sent["country"])
        return {"name": sent["name"], "email": sent["email"], "address": address}

    @property
    def typed_fields(self) -> list[forms.BoundField]:
        """The fields that a buyer fills in."""
        return [self[name] for name in self.TYPED]

    @property
    def typed(self) -> dict[str, str]:
        """What was typed, right or wrong."""
        return {name: self.data.get(name, "") for name in self.TYPED if name in self.data}

    @property
    def is_begun(self) -> bool:
        """Whether anything has been typed that could get lost."""
        return any(self.initial.values()) or any(self.typed.values())


class CheckoutForm(ContactForm):
    """Besides who gets it and where, what the page showed: the holds, and the total.

    ``key`` marks one filling-in of the form: sent twice, it makes one order.
    """

    INCOMPLETE = {"required": ReserveForm.INCOMPLETE, "invalid": ReserveForm.INCOMPLETE}

    hold = IdsField(required=False)
    ended = IdsField(required=False)  # holds that the page called over in time
    # More digits than an order's total can have: too large a basket is refused by its own name.
    seen_total = forms.DecimalField(max_digits=20, decimal_places=2, error_messages=INCOMPLETE)
    key = forms.UUIDField(error_messages=INCOMPLETE)

    @property
    def is_incomplete(self) -> bool:
        """Whether something is missing that the page itself should have sent."""
        return bool(self.errors.keys() & {"hold", "seen_total", "key"})

    @property
    def key_to_send(self) -> UUID:
        """The key that the page's form gets: the one sent, if it was refused, or a new one."""
        sent: UUID | None = self.cleaned_data.get("key") if self.is_bound else None
        return sent or uuid4()

    @property
    def holds_sent(self) -> list[UUID]:
        """The holds that the page showed when the form was sent, also as over in time."""
        sent = self.cleaned_data if self.is_bound else {}
        return [*sent.get("hold", []), *sent.get("ended", [])]


class LoginForm(AuthenticationForm):  # type: ignore[misc]
    """Refuses a name that is longer than any, which is too long to be kept as an attempt, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        longest = User._meta.get_field("username").max_length
        self.fields["username"].validators.append(MaxLengthValidator(longest))
