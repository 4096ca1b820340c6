"""What imports and exports share: CSV alone, a file imported once, and all of it or nothing."""

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
from inventory.admin.base import clock, list_url, user_of
from inventory.database import alias, atomic
from inventory.models import ImportFile

CSV_ONLY = [CSV]


class CsvForm(ImportForm):
    """Says what is expected in the file."""

    expected = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["import_file"].help_text = self.expected


class ConfirmForm(forms.Form):
    """Names the file that was previewed; all else about it is in the database."""

    import_file_name = forms.CharField(widget=forms.HiddenInput)


class InMemory(BaseStorage):
    """Where the file is during its preview; a preview without errors keeps it (import_files)."""

    def save(self, data: bytes) -> None:
        self.data = data

    def read(self) -> str:
        return self.data.decode(import_files.ENCODING)


class CsvAdmin(ImportMixin, ExportMixin):
    """CSV alone. A double click on "confirm", or going back to it, imports the file once."""

    tmp_storage_class = InMemory
    confirm_form_class = ConfirmForm

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_import_formats(self) -> list[Any]:
        return CSV_ONLY

    def get_export_formats(self) -> list[Any]:
        return CSV_ONLY

    def add_data_read_fail_error_to_form(self, form: Any, e: Exception) -> None:
        form.add_error(
            "import_file", "This is no CSV file in UTF-8, with commas between the cells."
        )

    def export_action(self, request: HttpRequest) -> HttpResponse:
        """Export what the list shows; back to the list where its filters make no sense."""
        try:
            response: HttpResponse = super().export_action(request)
            return response
        except IncorrectLookupParameters:
            messages.error(request, "Nothing was exported: choose the filters in the list again.")
            return HttpResponseRedirect(list_url(self.model))

    def get_confirm_form_initial(self, request: HttpRequest, import_form: Any) -> dict[str, str]:
        """Asked for when the preview has found no errors."""
        upload: UploadedFile[bytes] = import_form.cleaned_data["import_file"]
        upload.seek(0)
        kept = import_files.keep(
            upload.read(), upload.name or "", model=self.model, by=user_of(request)
        )
        return {"import_file_name": str(kept.pk)}

    @method_decorator(require_POST)
    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not self.has_import_permission(request):
            raise PermissionDenied
        key = request.POST.get("import_file_name", "")
        file = import_files.find(key, model=self.model, by=user_of(request))
        if file is None:
            messages.error(
                request,
                "Nothing was imported: no file of yours waits here to be confirmed, or it was "
                "chosen more than a day ago. Choose it again.",
            )
            return HttpResponseRedirect(self._import_url())
        with atomic():
            if import_files.claim(file):
                return self._import(file, request)
        file.refresh_from_db()
        assert file.imported_at  # by whoever has claimed it
        messages.warning(
            request,
            f"{file.name} was imported at {clock(file.imported_at)} already: {file.outcome}. "
            "Nothing was imported this time; to import more, choose a file again.",
        )
        return HttpResponseRedirect(list_url(self.model))

    def _import(self, file: ImportFile, request: HttpRequest) -> HttpResponse:
        """Import all of the file, or say why nothing was, and leave it as it is."""
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
    """In words, why the file can't be imported."""
    problems = [
        f"Row {row.number}: {error}" for row in result.invalid_rows for error in row.error.messages
    ]
    problems += [
        f"Row {number}: {error.error}" for number, errors in result.row_errors() for error in errors
    ]
    return problems + [str(error.error) for error in result.base_errors]


def _outcome(result: Result) -> str:
    """In words, what the import did."""
    new, changed, same = (
        result.totals[kind]
        for kind in (
            RowResult.IMPORT_TYPE_NEW,
            RowResult.IMPORT_TYPE_UPDATE,
            RowResult.IMPORT_TYPE_SKIP,
        )
    )
    return f"{new} new, {changed} changed, {same} as before"
