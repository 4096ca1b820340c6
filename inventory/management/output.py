"""What the commands share: exit codes, and files that results are written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

USAGE_ERROR = 2
INTERRUPTED = 130


def check_writable(option: str, file: str | None) -> None:
    """Before the work, not after it. Raises CommandError with the option's name."""
    if file in (None, "-"):
        return
    try:
        with Path(file).open("a"):
            pass
    except OSError as error:
        raise CommandError(f"{option}: {error}", returncode=USAGE_ERROR) from error


def write_json(file: str, results: dict[str, Any], standard_output: OutputWrapper) -> None:
    """Write it to that file; "-" is standard output."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    if file == "-":
        standard_output.write(text)
    else:
        Path(file).write_text(text + "\n")
