"""Shared by all imports and exports: CSV only, each file once, and all of its rows or none."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST
from import_export.admin import ExportMixin, ImportMixin
from import_export.formats.base_formats import CSV
from import_export.results import Result, RowResult
from import_export.tmp_storages import BaseStorage
from unfold.contrib.import_export.forms import ImportForm

from inventory import import_files
from inventory.admin.base import date_and_time, list_url, user_of
from inventory.database import alias, atomic
from inventory.models import ImportFile

CSV_ONLY = [CSV]


class CsvForm(ImportForm):
    """The form that uploads a file, with help on its columns."""

    help_of_file = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["import_file"].help_text = self.help_of_file


class ConfirmForm(forms.Form):
    """Names the previewed file. The database keeps the rest."""

    import_file_name = forms.CharField(widget=forms.HiddenInput)


class InMemoryStorage(BaseStorage):
    """Keeps the file while its preview is made. A preview without errors stores it for good."""

    def save(self, data: bytes) -> None:
        self.data = data

    def read(self) -> str:
        return self.data.decode(import_files.ENCODING)


class CsvAdmin(ImportMixin, ExportMixin):
    """Imports and exports CSV. A double click on "confirm" imports the file once."""

    tmp_storage_class = InMemoryStorage
    confirm_form_class = ConfirmForm

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_import_formats(self) -> list[Any]:
        return CSV_ONLY

    def get_export_formats(self) -> list[Any]:
        return CSV_ONLY

    def add_data_read_fail_error_to_form(self, form: Any, e: Exception) -> None:
        form.add_error(
            "import_file", "The file must be CSV in UTF-8, with commas between the cells."
        )

    def export_action(self, request: HttpRequest) -> HttpResponse:
        """Export the rows of the list. Go back to the list if its filters make no sense."""
        try:
            response: HttpResponse = super().export_action(request)
            return response
        except IncorrectLookupParameters:
            messages.error(request, "Nothing was exported: choose the filters in the list again.")
            return HttpResponseRedirect(list_url(self.model))

    def get_confirm_form_initial(self, request: HttpRequest, import_form: Any) -> dict[str, str]:
        """Store the file, and return its key. Called when the preview has found no errors."""
        upload: UploadedFile[bytes] = import_form.cleaned_data["import_file"]
        upload.seek(0)
        stored = import_files.store(
            upload.read(), upload.name or "", model=self.model, by=user_of(request)
        )
        return {"import_file_name": str(stored.pk)}

    @method_decorator(require_POST)
    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not self.has_import_permission(request):
            raise PermissionDenied
        key = request.POST.get("import_file_name", "")
        file = import_files.find(key, model=self.model, by=user_of(request))
        if file is None:
            messages.error(
                request,
                "Nothing was imported: this file isn’t yours, or you chose it more than a day ago. "
                "Choose it again.",
            )
            return HttpResponseRedirect(self._import_url())
        with atomic():
            if import_files.claim(file):
                return self._import(file, request)
        file.refresh_from_db()
        assert file.imported_at  # by the request that claimed the file
        messages.warning(
            request,
            f"{file.name} was imported at {date_and_time(file.imported_at)} already: "
            f"{file.outcome}. Nothing was imported this time. To import more, choose a file again.",
        )
        return HttpResponseRedirect(list_url(self.model))

    def _import(self, file: ImportFile, request: HttpRequest) -> HttpResponse:
        """Import the whole file. If that fails, import nothing, and show the errors."""
        text = bytes(file.content).decode(import_files.ENCODING)
        dataset = CSV().create_dataset(text)
        result = self.process_dataset(dataset, None, request, file_name=file.name)
        if problems := _problems(result):
            transaction.set_rollback(True, using=alias())
            messages.error(request, "Nothing was imported. " + " ".join(problems[:10]))
            return HttpResponseRedirect(list_url(self.model))
        file.outcome, file.content = _outcome(result), b""
        file.save(update_fields=["outcome", "content"])
        response: HttpResponse = self.process_result(result, request)
        return response

    def add_success_message(self, result: Result, request: HttpRequest) -> None:
        messages.success(request, f"The file was imported: {_outcome(result)}.")

    def _import_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_import")


def _problems(result: Result) -> list[str]:
    """The errors of the file, a sentence each."""
    problems = [
        f"Row {row.number}: {error}" for row in result.invalid_rows for error in row.error.messages
    ]
    problems += [
        f"Row {number}: {error.error}" for number, errors in result.row_errors() for error in errors
    ]
    return problems + [str(error.error) for error in result.base_errors]


def _outcome(result: Result) -> str:
    """The numbers of new, changed and unchanged rows, in words."""
    new, changed, same = (
        result.totals[kind]
        for kind in (
            RowResult.IMPORT_TYPE_NEW,
            RowResult.IMPORT_TYPE_UPDATE,
            RowResult.IMPORT_TYPE_SKIP,
        )
    )
    return f"{new} new, {changed} changed, {same} as before"
