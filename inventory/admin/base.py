"""Shared by the admin's pages: read-only lists, and actions that ask before they run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from inventory.exceptions import InventoryError
from inventory.holds import MOST_UNITS
from inventory.models import Product

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

EXPECTED_ERRORS: tuple[type[Exception], ...] = (InventoryError, ValidationError)
MOST_MESSAGES = 5


class GuardedList(ChangeList):
    """A list that rejects every lookup in the address that it doesn't offer itself.

    Django's own list takes any field of the model, with any lookup. A user who may only read could
    guess each secret in the table letter by letter, as by ``?token__startswith=a``.
    """

    def get_filters(self, request: HttpRequest) -> Any:
        filters = super().get_filters(request)
        _, _, lookups_left, _, _ = filters
        rejected = lookups_left.keys() - set(self.model_admin.linked_lookups)
        if rejected:
            raise DisallowedModelAdminLookup(f"Filtering by {min(rejected)} not allowed")
        return filters


class GuardedAdmin(ModelAdmin):
    """The base of all our admins. It takes only input that its own pages can send."""

    # Lookups in links of our pages, beside those of ``list_filter``.
    linked_lookups: tuple[str, ...] = ()

    object_history_template: Any = "admin/inventory/object_history.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return GuardedList

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Count the pages of an object's history, even where the list is too long to be counted."""
        match = request.resolver_match
        if match and match.url_name == f"{self.opts.app_label}_{self.opts.model_name}_history":
            return Paginator(*args, **kwargs)
        return super().get_paginator(request, *args, **kwargs)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Read an empty ``?_to_field=`` as if it were missing."""
        return super().get_object(request, object_id, from_field or None)

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Find objects by their primary key alone."""
        return to_field == self.opts.pk.name

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Reject ticked keys that no row can have. A browser never sends them."""
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(key)
        except ValidationError:
            messages.error(request, "Nothing was done: tick the rows in the list, and try again.")
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, *args, **kwargs)


class OffersPossibleActions(GuardedAdmin):
    """Shows only the buttons of actions that are possible in the object's present state.

    A request from an older page still arrives. The action itself then says why it can't run.
    """

    def offers_action(self, action: str, obj: Any) -> bool:
        """Whether the detail action of this name is possible for ``obj``."""
        raise NotImplementedError

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        actions = super().get_actions_detail(request, object_id)
        obj = self.get_object(request, str(object_id)) if actions else None
        prefix = f"{self.opts.app_label}_{self.opts.model_name}_"
        return [
            action
            for action in actions
            if obj is not None and self.offers_action(action.action_name.removeprefix(prefix), obj)
        ]


class ReadOnlyAdmin(GuardedAdmin):
    """Rows that users read but don't edit.

    Its lists never count all rows. A row changes only by an action that asks first.
    """

    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_filter_submit = True
    list_disable_select_all = True
    compressed_fields = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ProductRecordAdmin(ReadOnlyAdmin):
    """Read-only records of products, found by the product's SKU."""

    search_fields = ("product__sku",)
    search_help_text = "SKU, in full"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("product")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(product__in=Product.objects.filter(sku=term)), False

    @display(description="Product")
    def product_link(self, record: Any) -> str:
        return link_to(record.product)


def object_or_404(model_admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The object of a page. Raises PermissionDenied if the user may not see it."""
    found = model_admin.get_object(request, object_id)
    if found is None:
        raise Http404(f"There is no {model_admin.opts.verbose_name} {object_id}.")
    if not model_admin.has_view_permission(request, found):
        raise PermissionDenied
    return found


def shortened(secret: str) -> str:
    """The start of a key: enough to tell keys apart on a page, too little to use one."""
    return f"{secret[: min(8, len(secret) // 4)]}…" if secret else ""


def user_of(request: HttpRequest) -> AbstractBaseUser:
    """The member of staff who sent the request; the admin lets in nobody else."""
    return cast("AbstractBaseUser", request.user)


def change_url(obj: Model) -> str:
    """The address of the object's page in the admin."""
    name = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change"
    return reverse(name, args=[quote(str(obj.pk))])


def link_to(obj: Model, text: object = "") -> SafeString:
    """A link to the object's page in the admin. Without ``text`` it shows the object's name."""
    return format_html('<a class="link" href="{}">{}</a>', change_url(obj), text or obj)


def list_url(model: type[Model], query: str = "") -> str:
    """The address of the model's list in the admin."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    return reverse(name) + (f"?{query}" if query else "")


class NothingChanged(str):
    """A warning that the action was done before, and so changed nothing. It isn't logged.

    A colleague may have been first, or a double click or an old page sent the form again.
    """

    link: tuple[str, str] | None = None
    """Address and text of a link."""

    @classmethod
    def with_link(cls, message: str, url: str, link_text: str) -> NothingChanged:
        """The warning with a link to the page that does the same once more."""
        warning = cls(message)
        warning.link = (url, link_text)
        return warning

    def as_message(self) -> str:
        """The warning as text, or as safe HTML with its link."""
        if self.link is None:
            return str(self)
        return format_html('{} <a class="link" href="{}">{}</a>', self, *self.link)


def date_and_time(instant: datetime) -> str:
    """The date and the time of day in the shop's time zone."""
    return f"{timezone.localtime(instant):%Y-%m-%d %H:%M}"


class AskForm(forms.Form):
    """The form of an action that asks before it runs. Without fields it has only a button."""


def new_key() -> str:
    return str(uuid4())


class OnceForm(AskForm):
    """A form with a key, so that its action runs once when a browser sends it twice."""

    key = forms.CharField(initial=new_key, max_length=100, widget=forms.HiddenInput())


class UnitsField(forms.IntegerField):
    """A number of units, from 1 to the largest integer of the database."""

    def __init__(self, **options: Any) -> None:
        defaults = {
            "min_value": 1,
            "max_value": MOST_UNITS,
            "widget": UnfoldAdminIntegerFieldWidget(attrs={"inputmode": "numeric"}),
        }
        super().__init__(**{**defaults, **options})


class LineField(forms.CharField):
    """A line of text, up to 200 characters."""

    def __init__(self, **options: Any) -> None:
        defaults = {"max_length": 200, "widget": UnfoldAdminTextInputWidget()}
        super().__init__(**{**defaults, **options})


class SelectField(forms.ChoiceField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": UnfoldAdminSelectWidget(), **options})


class CheckboxField(forms.BooleanField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": UnfoldBooleanWidget(), "required": False, **options})


def ask_then_run(
    model_admin: ModelAdmin,
    request: HttpRequest,
    obj: Any,
    *,
    title: str,
    consequences: list[str],
    button: str,
    run: Callable[[dict[str, Any]], str],
    form_class: type[forms.Form] = AskForm,
    initial: dict[str, Any] | None = None,
    danger: bool = False,
    expected_errors: tuple[type[Exception], ...] = EXPECTED_ERRORS,
) -> HttpResponse:
    """Show a form that asks about an action on ``obj``. When it is sent, run the action and log it.

    ``consequences`` are sentences on the page about what the action will do. ``run`` gets the
    form's data and returns a sentence on what it did; the page shows and logs it. If ``run``
    returns NothingChanged, the page shows a warning and logs nothing. If it raises one of
    ``expected_errors``, it has changed nothing, and the form shows the error.
    """
    form = form_class(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            done = run(form.cleaned_data)
        except expected_errors as error:
            for message in error.messages if isinstance(error, ValidationError) else [str(error)]:
                form.add_error(None, message)
        else:
            _log_and_add_message(model_admin, request, obj, done)
            return HttpResponseRedirect(change_url(obj))
    elif request.method == "POST" and not form.fields:
        form.is_valid()
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "original": obj,
        "form": form,
        "consequences": consequences,
        "button": button,
        "danger": danger,
        "back": change_url(obj),
    }
    return TemplateResponse(request, "admin/inventory/ask.html", context)


def _log_and_add_message(
    model_admin: ModelAdmin, request: HttpRequest, obj: Any, done: str
) -> None:
    if isinstance(done, NothingChanged):
        messages.warning(request, done.as_message())
    else:
        model_admin.log_change(request, obj, done)
        messages.success(request, done)


def ask_then_run_for_rows(
    model_admin: ModelAdmin,
    request: HttpRequest,
    queryset: QuerySet[Any],
    *,
    action: str,
    title: str,
    consequences: list[str],
    button: str,
    run: Callable[[Any], str | None],
    danger: bool = False,
    expected_errors: tuple[type[Exception], ...] = EXPECTED_ERRORS,
) -> HttpResponse | None:
    """Do as ``ask_then_run`` for the ticked rows of a list. An error at one row stops no other.

    ``run`` gets an object and returns a sentence on what it did, or None if it has already shown
    and logged that.
    """
    rows = list(queryset)
    if not rows:
        messages.warning(request, "Nothing was done: the ticked rows no longer exist.")
        return None
    if "confirmed" not in request.POST:
        return ask_about_rows(
            model_admin,
            request,
            rows,
            action=action,
            title=title,
            consequences=consequences,
            button=button,
            danger=danger,
        )
    successes, unchanged, errors = [], [], []
    for obj in rows:
        try:
            done = run(obj)
        except expected_errors as error:
            errors.append(f"{obj}: {error}")
            continue
        if done is None:
            continue
        if isinstance(done, NothingChanged):
            unchanged.append(done.as_message())
        else:
            model_admin.log_change(request, obj, done)
            successes.append(done)
    add_messages(request, messages.SUCCESS, successes)
    add_messages(request, messages.WARNING, unchanged)
    add_messages(request, messages.ERROR, errors)
    return None


def ask_about_rows(
    model_admin: ModelAdmin,
    request: HttpRequest,
    rows: list[Any],
    *,
    action: str,
    title: str,
    consequences: list[str],
    button: str,
    danger: bool = False,
) -> HttpResponse:
    """Show the form that asks about an action on the rows. Its button sends that action."""
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "rows": rows,
        "consequences": consequences,
        "button": button,
        "danger": danger,
        "action": action,
        "back": list_url(model_admin.model),
    }
    return TemplateResponse(request, "admin/inventory/ask_for_many.html", context)


def add_messages(request: HttpRequest, level: int, lines: list[str]) -> None:
    """Show the first few lines, and the number of the others: messages travel in a cookie."""
    for line in lines[:MOST_MESSAGES]:
        messages.add_message(request, level, line)
    if len(lines) > MOST_MESSAGES:
        messages.add_message(request, level, f"And {len(lines) - MOST_MESSAGES} more.")
