"""Pictures of products: only formats and sizes that browsers can show.

An upload is judged by its content, never by its name or its Content-Type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files import File
from django.db import models
from PIL import Image

ENDINGS = {"JPEG": [".jpg", ".jpeg"], "PNG": [".png"], "WEBP": [".webp"], "GIF": [".gif"]}
MOST_PIXELS = 25_000_000
EXPECTED = "A JPEG, PNG, WebP or GIF that doesn’t move, of up to 25 megapixels (5,000 × 5,000)."


class PictureFormField(forms.ImageField):
    """A form field that takes only whole pictures of these formats, and names them accordingly."""

    default_validators = []  # Django's check of the name, which proves nothing

    def to_python(self, data: Any) -> Any:
        file = forms.FileField.to_python(self, data)
        if file is not None:
            check_picture(file)
        return super().to_python(data)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        accept = ",".join(ending for endings in ENDINGS.values() for ending in endings)
        return {**super().widget_attrs(widget), "accept": accept}


class PictureField(models.ImageField):
    """An ImageField whose forms check uploads. In migrations it is Django's own."""

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(
            **{"form_class": PictureFormField, "help_text": EXPECTED, **kwargs}
        )

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.ImageField", args, kwargs


def check_picture(file: File[Any]) -> None:
    """Raise ValidationError, which names the limits, unless browsers can show the file."""
    try:
        # Pillow reads dozens of formats, some by other programs. Let it try only ours.
        with Image.open(file, formats=tuple(ENDINGS)) as picture:
            _check_head(picture, Path(file.name or "").suffix.lower())
            picture.load()  # reads all of it
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValidationError(f"This picture has too many pixels. {EXPECTED}") from error
    except ValidationError:
        raise
    except Exception as error:  # Pillow raises errors of many types
        raise ValidationError(
            f"This is no picture that the shop shows, or not all of one. {EXPECTED}"
        ) from error
    finally:
        file.seek(0)


def _check_head(picture: Image.Image, ending: str) -> None:
    """Check format and size by the file's first bytes, before anything is decoded."""
    # Cameras put a second picture behind the first. Browsers ignore it.
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)
    if ending not in ENDINGS[kind]:
        raise ValidationError(
            f"This is a {kind}, but its name ends in “{ending}”: name it "
            f"{' or '.join(ENDINGS[kind])}."
        )
    if picture.width * picture.height > MOST_PIXELS:
        raise ValidationError(
            f"This picture has {picture.width:,} × {picture.height:,} pixels, too many. {EXPECTED}"
        )
    if kind != "JPEG" and getattr(picture, "is_animated", False):
        raise ValidationError(f"This picture moves. {EXPECTED}")
