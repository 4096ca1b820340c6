"""What buyers type, checked before anything is asked of the stock."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from unfold.forms import AuthenticationForm

from shop.address import country_choices
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


class ContactForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """The form for what the buyer types of an order: ``shop.orders`` takes its ``instance``."""

    country = forms.ChoiceField(
        widget=forms.Select(attrs={"autocomplete": "country"}),
        error_messages={
            "required": "Choose the country that we send it to.",
            "invalid_choice": "We don't send there: choose one of these countries.",
        },
    )

    class Meta:
        model = Order
        fields = Order.CHECKOUT_FIELDS
        labels = {"email": "E-mail"}
        help_texts = {
            "email": "For the news of your order, and nothing else.",
            "street": "Street and house number; a flat or a company in a second line.",
        }
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "street": forms.Textarea(attrs={"autocomplete": "street-address", "rows": 2}),
            "postcode": forms.TextInput(attrs={"autocomplete": "postal-code"}),
            "town": forms.TextInput(attrs={"autocomplete": "address-level2"}),
        }
        error_messages = {
            "name": {"required": "Enter the name to write on the parcel."},
            "email": {
                "required": "Enter your e-mail address, such as ada@example.org.",
                "invalid": "Enter an e-mail address, such as ada@example.org.",
            },
            "street": {"required": "Enter the street and the house number."},
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

    def add_prefix(self, field_name: str) -> str:
        """The name in the page: pages that are still open send the street as ``address``."""
        return super().add_prefix("address" if field_name == "street" else field_name)

    def full_clean(self) -> None:
        """Check all that was sent; the page takes its reader to the first field that is wrong."""
        super().full_clean()
        wrong = next((name for name in self.Meta.fields if name in self.errors), None)
        if wrong:
            self.fields[wrong].widget.attrs["autofocus"] = True

    @property
    def typed_fields(self) -> list[forms.BoundField]:
        """The fields that a buyer fills in."""
        return [self[name] for name in self.Meta.fields]

    @property
    def typed(self) -> dict[str, Any]:
        """What was typed, right or wrong, in the fields that were sent."""
        sent = {field.name: field.data for field in self.typed_fields} if self.is_bound else {}
        return {name: data for name, data in sent.items() if data is not None}

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
