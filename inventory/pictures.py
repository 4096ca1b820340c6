"""Pictures of products: what is taken is what browsers show, of a size that they can.

Nothing is believed of an upload but what is in it: neither its name nor its Content-Type.
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
    """Takes a file only if it is such a picture, whole, and named as what it is."""

    default_validators = []  # of its name alone, which says nothing

    def to_python(self, data: Any) -> Any:
        file = forms.FileField.to_python(self, data)
        if file is not None:
            check_picture(file)
        return super().to_python(data)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        accept = ",".join(ending for endings in ENDINGS.values() for ending in endings)
        return {**super().widget_attrs(widget), "accept": accept}


class PictureField(models.ImageField):
    """An ImageField whose forms check what is uploaded. In the database it is Django's own."""

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(
            **{"form_class": PictureFormField, "help_text": EXPECTED, **kwargs}
        )

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.ImageField", args, kwargs


def check_picture(file: File[Any]) -> None:
    """Raise ValidationError, which names the limits, unless the file is a picture to be shown."""
    try:
        # Pillow reads dozens of kinds, some by other programs: none but ours has a look at it.
        with Image.open(file, formats=tuple(ENDINGS)) as picture:
            _check_head(picture, Path(file.name or "").suffix.lower())
            picture.load()  # all of it is there
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValidationError(f"This picture has too many pixels. {EXPECTED}") from error
    except ValidationError:
        raise
    except Exception as error:  # Pillow raises many kinds, by what is wrong in the file
        raise ValidationError(
            f"This is no picture that the shop shows, or not all of one. {EXPECTED}"
        ) from error
    finally:
        file.seek(0)


def _check_head(picture: Image.Image, ending: str) -> None:
    """What the file says of itself in its first bytes: nothing is decoded yet."""
    # Cameras put a second view behind the first, which browsers don't look at.
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
